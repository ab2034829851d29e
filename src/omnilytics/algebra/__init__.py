"""Goldilocks and its quadratic extension, streams, fixed point (protocol.md section 2)."""
