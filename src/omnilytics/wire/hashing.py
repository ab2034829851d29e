"""Domain-separated SHA-256, content hashes and Merkle trees (protocol.md sections 5 and 6).

`tagged_hash` is the H of protocol.md: SHA-256 over a domain string and length-prefixed parts, so
that no two different lists of parts share an input. Merkle trees use keccak-256 because the
contract walks them; leaves and nodes are tagged apart, siblings are hashed in sorted order (proofs
need no directions), and an odd node moves up unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from blake3 import blake3
from eth_hash.auto import keccak

from omnilytics.foundation.units import Hash32

_DOMAIN = b"omnilytics/1/"
EMPTY_ROOT = Hash32(keccak(b"\x02"))
"""Root of a tree without leaves; tagged apart from leaves (0x00) and nodes (0x01)."""


def tagged_hash(tag: str, *parts: bytes) -> Hash32:
    """Return H(tag, parts): SHA-256 of the domain, the tag and every part with its length."""
    pieces = [_DOMAIN]
    for part in (tag.encode(), *parts):
        pieces += (len(part).to_bytes(8, "big"), part)
    return Hash32(hashlib.sha256(b"".join(pieces)).digest())


def content_hash(content: bytes | memoryview) -> Hash32:
    """Return the BLAKE3 hash under which bulk content is stored, served and committed to."""
    return Hash32(blake3(content).digest())


def merkle_leaf(*words: bytes) -> Hash32:
    """Return the tagged hash of an ABI-encoded leaf of 32-byte words (shorter ones left-padded)."""
    return Hash32(keccak(b"\x00" + b"".join(word.rjust(32, b"\x00") for word in words)))


def merkle_root(leaves: Sequence[Hash32]) -> Hash32:
    """Return the root over `leaves` in the given order; `EMPTY_ROOT` for none."""
    level = list(leaves)
    while len(level) > 1:
        level = _next_level(level)
    return level[0] if level else EMPTY_ROOT


def merkle_proof(leaves: Sequence[Hash32], index: int) -> tuple[Hash32, ...]:
    """Return the siblings from leaf `index` up to the root."""
    level, proof = list(leaves), []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        level, index = _next_level(level), index // 2
    return tuple(proof)


def _next_level(level: list[Hash32]) -> list[Hash32]:
    pairs = [_node(*level[i : i + 2]) for i in range(0, len(level) - 1, 2)]
    return pairs + level[-1:] if len(level) % 2 else pairs


def _node(left: Hash32, right: Hash32) -> Hash32:
    return Hash32(keccak(b"\x01" + min(left, right) + max(left, right)))
