"""Packages: what one server gets of one submission, sealed, and in clear when it is opened.

A sealed package is a clear header and chunks, each sealed by HPKE on its own, so that chunks can be
sent, stored and checked one at a time (wire.md, "Packages"). Chunk 0 begins with the blind. For the
first t servers the 32-byte seed follows that stands for the share; for the others the explicit
share, x then proof, 8 bytes little-endian an element, of which a chunk holds 512 KiB.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from omnilytics.foundation.units import Hash32
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.record import (
    MAX_CHUNKS,
    MAX_COMMITTEE,
    Bytes20,
    Bytes32,
    Count,
    Record,
    RoundNumber,
    ServerIndex,
    Signature,
    TaskNumber,
)

CHUNK_BYTES = 512 << 10
SEALING_OVERHEAD_BYTES = 48
"""HPKE adds the 32-byte encapsulated key and the 16-byte tag."""

Parts = Annotated[tuple[Bytes32, ...], Field(min_length=3, max_length=MAX_COMMITTEE)]
SealedChunk = Annotated[
    bytes, Field(strict=True, min_length=SEALING_OVERHEAD_BYTES, max_length=CHUNK_BYTES + 256)
]


class PackageHeader(Record):
    """The clear part of a package; every server of the committee gets the same two lists."""

    version: Literal[1] = 1
    task: TaskNumber
    round: RoundNumber
    owner: Bytes20
    server: ServerIndex
    commitment: Bytes32
    submission_signature: Signature
    x_parts: Parts
    proof_parts: Parts
    content_bytes: Count
    """Length of the explicit share, 0 where a seed stands for it."""


class SealedPackage(Record):
    """A header with its sealed chunks."""

    header: PackageHeader
    chunks: Annotated[tuple[SealedChunk, ...], Field(min_length=1, max_length=MAX_CHUNKS)]

    def hash(self) -> Hash32:
        """Return the content hash that `Held` messages name."""
        return content_hash(self.encode())


class Opening(Record):
    """A package in clear: enough for anyone to recompute the parts, J, C and the server's word."""

    header: PackageHeader
    blind: Annotated[bytes, Field(strict=True, min_length=32, max_length=32, repr=False)]
    seed: Annotated[bytes | None, Field(strict=True, min_length=32, max_length=32, repr=False)] = (
        None
    )
    content: Annotated[bytes, Field(strict=True, repr=False)] = b""

    def hash(self) -> Hash32:
        """Return the content hash under which the opening is published."""
        return content_hash(self.encode())


def chunk_count(content_bytes: int) -> int:
    """Return how many chunks a package with an explicit share of `content_bytes` has."""
    return max(1, -(-content_bytes // CHUNK_BYTES))
