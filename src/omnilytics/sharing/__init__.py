"""Shamir sharing with seeded shares, interpolation and joint decoding (protocol.md section 4)."""
