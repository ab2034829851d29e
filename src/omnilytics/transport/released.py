"""A server's released share of the sum, read from its sealed form (protocol.md section 6.8).

The answer is a CBOR array of sealed chunks. It is opened chunk by chunk as elements are read, so
that a model owner holds neither the shares of all servers in memory nor any of them in clear on
disk.
"""

from __future__ import annotations

from omnilytics.algebra.field import ELEMENT_BYTES, FieldVector, from_bytes
from omnilytics.foundation.errors import MalformedError, UsageError, VerificationError
from omnilytics.transport.hpke import HpkeKey, open_chunk
from omnilytics.wire import cbor
from omnilytics.wire.package import CHUNK_ELEMENTS, SEALING_OVERHEAD_BYTES, chunk_count


def aggregate_bytes(dimension: int) -> int:
    """Return the most bytes that an answer of D elements may have."""
    content = ELEMENT_BYTES * dimension
    return content + (SEALING_OVERHEAD_BYTES + 16) * chunk_count(content) + 16


class ReleasedShare:
    """One server's share of the sum, shape (D,).

    Args:
        answer: The server's whole answer, such as a mapped file.
        key: The model owner's key.
        binding: What the chunks are bound to (`hpke.aggregate_binding`).
        dimension: D.

    Raises:
        MalformedError: The answer is not an array of as many chunks as D elements take.
    """

    def __init__(
        self, answer: bytes | memoryview, key: HpkeKey, binding: bytes, dimension: int
    ) -> None:
        self._key, self._binding, self._length = key, binding, dimension
        data = memoryview(answer)
        count, place = cbor.array_at(data, 0)
        if count != chunk_count(ELEMENT_BYTES * dimension):
            raise MalformedError(
                "wrong number of chunks", got=count, want=chunk_count(ELEMENT_BYTES * dimension)
            )
        self._chunks, place = cbor.byte_strings_at(data, place, count)
        if place != len(data):
            raise MalformedError("bytes after the message", got=len(data) - place, want=0)
        self._open_chunk = -1
        self._elements = from_bytes(b"")

    @property
    def length(self) -> int:
        """Elements of the share."""
        return self._length

    def elements(self, start: int, count: int) -> FieldVector:
        """Return elements start, start+1, ..., `count` of them, all of one chunk.

        Raises:
            VerificationError: The chunk does not open, or has another length.
            MalformedError: An element of the chunk is not canonical.
            UsageError: They reach beyond the share or one chunk.
        """
        index, first = divmod(start, CHUNK_ELEMENTS)
        if not 0 <= start <= start + count <= self._length or first + count > CHUNK_ELEMENTS:
            raise UsageError("beyond the share or a chunk", got=(start, count), want=self._length)
        if index != self._open_chunk:
            self._elements = self._opened(index)
            self._open_chunk = index
        return self._elements[first : first + count]

    def _opened(self, index: int) -> FieldVector:
        sealed, count = self._chunks[index], len(self._chunks)
        content = open_chunk(self._key, sealed, self._binding, index, count)
        elements = min(CHUNK_ELEMENTS, self._length - index * CHUNK_ELEMENTS)
        if len(content) != ELEMENT_BYTES * elements:
            raise VerificationError(
                "share has another length", got=len(content), want=ELEMENT_BYTES * elements
            )
        return from_bytes(content)
