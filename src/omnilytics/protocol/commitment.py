"""Parts, joint randomness and commitment of a submission (protocol.md section 5).

A bulk share enters by its BLAKE3 hash; a seed enters as the seed, tagged apart from a hash. The
blinds keep the parts, which every server sees, from revealing anything about the shares.
"""

from __future__ import annotations

from collections.abc import Sequence

from omnilytics.foundation.units import Hash32
from omnilytics.wire.hashing import tagged_hash

_SEED, _EXPLICIT, _COVERED = b"seed", b"hash", b"none"


def x_part(
    context: Hash32, server: int, blind: bytes, *, seed: bytes | None, x_hash: Hash32 | None
) -> Hash32:
    """Return x_part_j: commits to server j's share of x by its seed or by its hash."""
    tag, content = (_SEED, seed) if seed is not None else (_EXPLICIT, x_hash)
    assert content is not None
    return tagged_hash("x", context, _point(server), blind, tag, content)


def proof_part(context: Hash32, server: int, blind: bytes, proof_hash: Hash32 | None) -> Hash32:
    """Return proof_part_j: commits to the explicit share of bits and masks, if there is one."""
    tag, content = (_COVERED, b"") if proof_hash is None else (_EXPLICIT, proof_hash)
    return tagged_hash("proof", context, _point(server), blind, tag, content)


def joint_randomness(context: Hash32, x_parts: Sequence[Hash32]) -> Hash32:
    """Return J, which seeds the wraparound tests."""
    return tagged_hash("joint", context, *x_parts)


def submission_commitment(
    context: Hash32, x_parts: Sequence[Hash32], proof_parts: Sequence[Hash32], joint: Hash32
) -> Hash32:
    """Return C, the commitment that the owner signs."""
    return tagged_hash("submission", context, *x_parts, *proof_parts, joint)


def _point(server: int) -> bytes:
    return server.to_bytes(1, "big")
