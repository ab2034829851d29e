"""Packages read where they lie: what the records take is taken, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_samples import explicit_opening, seeded_opening

from omnilytics.foundation.errors import MalformedError
from omnilytics.transport.hpke import seal_package
from omnilytics.wire import cbor
from omnilytics.wire.package import (
    CHUNK_BYTES,
    MAX_HEAD_BYTES,
    Opening,
    OpeningHead,
    SealedPackage,
    read_sealed,
)
from omnilytics.wire.record import MAX_CHUNKS

OPENINGS = [seeded_opening(), explicit_opening(), explicit_opening(bytes(70_000))]
LIMIT = 4 << 20


def _sealed() -> list[bytes]:
    from test_transport_hpke import KEY
    from wire_samples import CONTEXT

    contents = [*OPENINGS, explicit_opening(bytes(CHUNK_BYTES + 8))]
    return [seal_package(opening, KEY.public, CONTEXT).encode() for opening in contents]


SEALED = _sealed()


@pytest.mark.parametrize("opening", OPENINGS)
def test_the_head_of_an_opening_says_where_its_content_is(opening: Opening) -> None:
    data = opening.encode()
    head, offset = OpeningHead.read(data[:MAX_HEAD_BYTES])
    assert (head.header, head.blind, head.seed) == (opening.header, opening.blind, opening.seed)
    assert data[offset:] == opening.content
    assert head.encode() == data[:offset]
    assert opening.blind.hex() not in repr(head)


@pytest.mark.parametrize("opening", OPENINGS)
@given(place=st.integers(0, 1_500), to=st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_another_head_is_refused_or_is_another_opening(
    opening: Opening, place: int, to: int
) -> None:
    data = bytearray(opening.encode())
    data[place % len(data)] = to
    try:
        head, offset = OpeningHead.read(bytes(data[:MAX_HEAD_BYTES]))
    except MalformedError:
        return
    assert head.encode() == data[:offset]


@pytest.mark.parametrize("data", SEALED)
def test_a_sealed_package_is_read_in_place(data: bytes) -> None:
    record, view = SealedPackage.decode(data, max_bytes=LIMIT), read_sealed(data, max_bytes=LIMIT)
    assert view.header == record.header
    assert tuple(bytes(chunk) for chunk in view.chunks) == record.chunks
    assert view.hash() == record.hash()


def _taken(data: bytes) -> SealedPackage | None:
    try:
        return SealedPackage.decode(data, max_bytes=LIMIT)
    except MalformedError:
        return None


@given(which=st.sampled_from(range(2)), data=st.data())
@settings(max_examples=400, deadline=None)
def test_both_readers_take_the_same_bytes(which: int, data: st.DataObject) -> None:
    altered = bytearray(SEALED[which])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, 1_500)) % len(altered)
        kind = data.draw(st.sampled_from(("set", "delete", "insert", "cut")))
        if kind == "set":
            altered[place] = data.draw(st.integers(0, 255))
        elif kind == "delete":
            del altered[place]
        elif kind == "insert":
            altered.insert(place, data.draw(st.integers(0, 255)))
        else:
            del altered[len(altered) - place :]
        altered = altered or bytearray(b"\x00")
    record = _taken(bytes(altered))
    try:
        view = read_sealed(bytes(altered), max_bytes=LIMIT)
    except MalformedError:
        assert record is None
        return
    assert record is not None
    assert (view.header, tuple(map(bytes, view.chunks))) == (record.header, record.chunks)


def test_counts_and_sizes_are_bounded_before_anything_is_built() -> None:
    start = cbor.map_head(2) + cbor.encode("chunks")
    for count in (0, MAX_CHUNKS + 1, 2**40):
        with pytest.raises(MalformedError, match="number of chunks"):
            read_sealed(start + cbor.array_head(count), max_bytes=LIMIT)
    for size in (47, CHUNK_BYTES + 257):
        chunk = cbor.byte_string_head(size) + bytes(size)
        with pytest.raises(MalformedError, match="wrong size"):
            read_sealed(start + cbor.array_head(1) + chunk, max_bytes=LIMIT)
    with pytest.raises(MalformedError, match="cut short"):
        read_sealed(start + cbor.array_head(1) + cbor.byte_string_head(2**40), max_bytes=LIMIT)
    with pytest.raises(MalformedError, match="too large"):
        read_sealed(SEALED[0], max_bytes=len(SEALED[0]) - 1)
    with pytest.raises(MalformedError, match="deterministic"):  # a longer head than needed
        read_sealed(start + b"\x98\x01", max_bytes=LIMIT)
