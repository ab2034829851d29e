"""Versioned messages, canonical encoding, EIP-712 types (wire.md)."""
