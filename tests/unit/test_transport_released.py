"""A released share is opened as it is read, and refused where it is not what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from sums import BLOCK, released, sealed_sum
from test_transport_hpke import KEY, OTHER_KEY, ROOT
from wire_samples import CONTEXT

from omnilytics.algebra.field import MODULUS
from omnilytics.foundation.errors import MalformedError, UsageError, VerificationError
from omnilytics.transport.hpke import aggregate_binding
from omnilytics.transport.released import ReleasedShare, aggregate_bytes
from omnilytics.wire import cbor

D = 2 * BLOCK + 100
VECTOR = np.random.default_rng(7).integers(0, MODULUS, D, dtype=np.uint64)
CHUNKS = sealed_sum(VECTOR.tobytes(), KEY.public, CONTEXT, accepted_root=ROOT, server=2)
BINDING = aggregate_binding(CONTEXT, ROOT, 2)


def share(chunks: list[bytes], dimension: int = D) -> ReleasedShare:
    return released(chunks, KEY, CONTEXT, dimension, accepted_root=ROOT, server=2)


def test_elements_are_those_that_were_sealed() -> None:
    found = share(CHUNKS)
    assert found.length == D
    for start, count in ((0, BLOCK), (BLOCK, BLOCK), (2 * BLOCK, 100), (5, 7), (BLOCK + 3, 9)):
        assert (found.elements(start, count) == VECTOR[start : start + count]).all()
    for start, count in ((0, BLOCK + 1), (-1, 2), (D, 1), (2 * BLOCK, 101)):
        with pytest.raises(UsageError, match="beyond"):
            found.elements(start, count)


@pytest.mark.parametrize("dimension", [1, BLOCK, BLOCK + 1, D])
def test_the_bound_of_an_answer_holds(dimension: int) -> None:
    content = VECTOR[:dimension].tobytes()
    chunks = sealed_sum(content, KEY.public, CONTEXT, accepted_root=ROOT, server=2)
    size = len(cbor.encode(chunks))
    assert size <= aggregate_bytes(dimension) <= size + 32 + 16 * len(chunks)


def test_other_chunks_are_refused() -> None:
    a, b, c = CHUNKS
    for chunks in ([a, b], [a, b, c, c], []):
        with pytest.raises(MalformedError, match="number of chunks"):
            share(chunks)
    with pytest.raises(VerificationError, match="do not open"):
        share([b, a, c]).elements(0, 1)
    with pytest.raises(VerificationError, match="do not open"):
        ReleasedShare(cbor.encode(CHUNKS), OTHER_KEY, BINDING, D).elements(0, 1)
    with pytest.raises(VerificationError, match="another length"):
        share(CHUNKS, D - 1).elements(2 * BLOCK, 1)
    altered = bytearray(c)
    altered[-1] ^= 1
    found = share([a, b, bytes(altered)])
    assert (found.elements(0, 5) == VECTOR[:5]).all()
    with pytest.raises(VerificationError, match="do not open"):
        found.elements(2 * BLOCK, 5)


def test_what_is_no_array_of_chunks_is_refused() -> None:
    answer = cbor.encode(CHUNKS)
    for wrong in (b"", b"\xff", answer + b"\x00", answer[:-1], cbor.encode([1, 2, 3])):
        with pytest.raises(MalformedError):
            ReleasedShare(wrong, KEY, BINDING, D)


def test_an_element_that_is_not_canonical_is_refused() -> None:
    vector = VECTOR[:10].copy()
    vector[4] = MODULUS
    chunks = sealed_sum(vector.tobytes(), KEY.public, CONTEXT, accepted_root=ROOT, server=2)
    with pytest.raises(MalformedError, match="canonical"):
        share(chunks, 10).elements(0, 1)
