"""Shares of a sum in memory, and answers that hold one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from omnilytics.algebra.field import FieldVector
from omnilytics.foundation.units import Hash32
from omnilytics.protocol.context import RoundContext
from omnilytics.sharing.recovery import VectorReader
from omnilytics.transport.hpke import HpkeKey, aggregate_binding, open_chunks, seal_aggregate
from omnilytics.transport.released import ReleasedShare
from omnilytics.wire import cbor

BLOCK = 1 << 16


class InMemory:
    """A vector that is read like a share; its elements may be anything."""

    def __init__(self, vector: npt.NDArray[np.uint64]) -> None:
        self.vector = vector

    @property
    def length(self) -> int:
        return len(self.vector)

    def elements(self, start: int, count: int) -> FieldVector:
        return self.vector[start : start + count]


def readers(vectors: Mapping[int, npt.NDArray[np.uint64]]) -> dict[int, VectorReader]:
    return {point: InMemory(vector) for point, vector in vectors.items()}


def sealed_sum(
    content: bytes, public_key: bytes, context: RoundContext, *, accepted_root: Hash32, server: int
) -> list[bytes]:
    """Return the sealed chunks of a server's answer; the content is whole elements."""
    vector = np.frombuffer(content, dtype="<u8").astype(np.uint64)
    blocks = (vector[start : start + BLOCK] for start in range(0, len(vector), BLOCK))
    pieces = seal_aggregate(
        blocks, len(vector), public_key, context, accepted_root=accepted_root, server=server
    )
    answer = b"".join(pieces)
    chunks: list[bytes] = cbor.decode(answer, max_bytes=len(answer))
    return chunks


def open_sum(
    chunks: Sequence[bytes],
    key: HpkeKey,
    context: RoundContext,
    *,
    accepted_root: Hash32,
    server: int,
) -> bytes:
    """Return what an answer of these chunks holds."""
    binding = aggregate_binding(context, accepted_root, server)
    return b"".join(open_chunks(key, chunks, binding))


def released(
    chunks: Sequence[bytes],
    key: HpkeKey,
    context: RoundContext,
    dimension: int,
    *,
    accepted_root: Hash32,
    server: int,
) -> ReleasedShare:
    binding = aggregate_binding(context, accepted_root, server)
    return ReleasedShare(cbor.encode(list(chunks)), key, binding, dimension)
