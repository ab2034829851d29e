"""Packages: what one server gets of one submission, sealed, and in clear when it is opened.

A sealed package is a clear header and chunks, each sealed by HPKE on its own, so that chunks can be
sent, stored and checked one at a time (wire.md, "Packages"). Chunk 0 begins with the blind. For the
first t servers the 32-byte seed follows that stands for the share; for the others the explicit
share, x then proof, 8 bytes little-endian an element, of which a chunk holds 512 KiB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field

from omnilytics.algebra.field import ELEMENT_BYTES
from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.units import Hash32
from omnilytics.sharing.shamir import Share
from omnilytics.wire import cbor
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
CHUNK_ELEMENTS = CHUNK_BYTES // ELEMENT_BYTES
"""Elements of a share in a chunk, whether of a package or of a released sum."""
SEALING_OVERHEAD_BYTES = 48
"""HPKE adds the 32-byte encapsulated key and the 16-byte tag."""

MAX_HEAD_BYTES: Final = 4_096
"""More than the clear part, blind and seed of any package."""
_CHUNKS, _HEADER = cbor.encode("chunks"), cbor.encode("header")
_SEED, _BLIND, _CONTENT = cbor.encode("seed"), cbor.encode("blind"), cbor.encode("content")

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

    def verify(self) -> Opening:
        """Return this opening: what is in memory needs no comparison with what was stored."""
        return self

    def share(self, length: int) -> Share:
        """Return the share, of so many elements; raises MalformedError for another form."""
        if self.seed is not None:
            return Share(length, seed=self.seed)
        explicit = np.frombuffer(self.content, dtype="<u8").astype(np.uint64, copy=False)
        return Share(length, explicit=explicit)

    def hash(self) -> Hash32:
        """Return the content hash under which the opening is published."""
        return content_hash(self.encode())


@dataclass(frozen=True, eq=False)
class SealedView:
    """A sealed package that is read where it lies, such as in a mapped file.

    Attributes:
        header: The clear part.
        chunks: The sealed chunks, parts of `body`.
        body: The whole, as it travels.
    """

    header: PackageHeader
    chunks: tuple[memoryview, ...]
    body: memoryview

    def hash(self) -> Hash32:
        """Return the content hash that `Held` messages name."""
        return content_hash(self.body)


@dataclass(frozen=True)
class OpeningHead:
    """All of an opening but its content; the repr shows nothing of it.

    Attributes:
        header: The clear part.
        blind: 32 bytes.
        seed: 32 bytes, or None.
    """

    header: PackageHeader
    blind: bytes = field(repr=False)
    seed: bytes | None = field(repr=False)

    def encode(self) -> bytes:
        """Return what comes before the content in the encoded `Opening`."""
        seed = b"\xf6" if self.seed is None else _byte_string(self.seed)
        return b"".join(
            (
                cbor.map_head(4),
                *(_SEED, seed, _BLIND, _byte_string(self.blind)),
                *(_HEADER, self.header.encode(), _CONTENT),
                cbor.byte_string_head(self.header.content_bytes),
            )
        )

    @classmethod
    def read(cls, data: bytes) -> tuple[OpeningHead, int]:
        """Return the head of an encoded opening, and where its content begins.

        Args:
            data: The first `MAX_HEAD_BYTES` of it, or more.

        Raises:
            MalformedError: These are not the bytes that `encode` gives.
        """
        place = _after(data, 0, cbor.map_head(4) + _SEED)
        seed = None
        if data[place : place + 1] == b"\xf6":
            place += 1
        else:
            start, place = cbor.byte_string_at(data, place)
            seed = bytes(data[start:place])
        start, place = cbor.byte_string_at(data, _after(data, place, _BLIND))
        blind = bytes(data[start:place])
        start = _after(data, place, _HEADER)
        place = cbor.item_end(data, start)
        header = PackageHeader.decode(bytes(data[start:place]), max_bytes=MAX_HEAD_BYTES)
        head = cls(header, blind, seed)
        start = _after(data, place, _CONTENT + cbor.byte_string_head(header.content_bytes))
        if len(blind) != 32 or (seed is not None and len(seed) != 32):
            raise MalformedError("blind or seed of wrong size")
        return head, start


def read_sealed(body: bytes | memoryview, *, max_bytes: int) -> SealedView:
    """Return a sealed package in place of a copy; takes what `SealedPackage.decode` takes.

    Raises:
        MalformedError: Not a sealed package in its only form, or too large.
    """
    data = memoryview(body)
    if len(data) > max_bytes:
        raise MalformedError("message too large", got=f"{len(data)} bytes", want=f"<= {max_bytes}")
    count, place = cbor.array_at(data, _after(data, 0, cbor.map_head(2) + _CHUNKS))
    if not 1 <= count <= MAX_CHUNKS:
        raise MalformedError("wrong number of chunks", got=count, want=f"1 to {MAX_CHUNKS}")
    chunks, place = cbor.byte_strings_at(data, place, count)
    for chunk in chunks:
        if not SEALING_OVERHEAD_BYTES <= len(chunk) <= CHUNK_BYTES + 256:
            raise MalformedError("chunk of wrong size", got=len(chunk))
    start = _after(data, place, _HEADER)
    header = PackageHeader.decode(bytes(data[start:]), max_bytes=MAX_HEAD_BYTES)
    return SealedView(header, tuple(chunks), data)


def _after(data: bytes | memoryview, position: int, expected: bytes) -> int:
    """Return where what follows `expected` begins; raises MalformedError unless it is there."""
    end = position + len(expected)
    if data[position:end] != expected:
        raise MalformedError("not a package in its only form")
    return end


def _byte_string(content: bytes) -> bytes:
    return cbor.byte_string_head(len(content)) + content


def chunk_count(content_bytes: int) -> int:
    """Return how many chunks a package with an explicit share of `content_bytes` has."""
    return max(1, -(-content_bytes // CHUNK_BYTES))
