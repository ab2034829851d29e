"""Every fast kernel equals its reference, bit for bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnilytics.algebra import kernels
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS

EDGES = (
    0,
    1,
    2,
    7,
    2**32 - 2,
    2**32 - 1,
    2**32,
    2**32 + 1,
    2**63 - 1,
    2**63,
    MODULUS - 2**32,
    MODULUS - 2**32 + 1,
    MODULUS // 2,
    MODULUS // 2 + 1,
    MODULUS - 2,
    MODULUS - 1,
)
Vector = npt.NDArray[np.uint64]

elements = st.one_of(st.sampled_from(EDGES), st.integers(0, MODULUS - 1))
lengths = st.integers(0, 70)


def _vector(length: int) -> st.SearchStrategy[Vector]:
    listed = st.lists(elements, min_size=length, max_size=length)
    return listed.map(lambda values: np.array(values, dtype=np.uint64))


pairs = lengths.flatmap(lambda length: st.tuples(_vector(length), _vector(length)))
extensions = st.builds(ExtensionElement, elements, elements)

FAST = kernels.load("numba")
SLOW = kernels.load("reference")


def test_all_pairs_of_edges() -> None:
    left = np.array([a for a in EDGES for _ in EDGES], dtype=np.uint64)
    right = np.array([b for _ in EDGES for b in EDGES], dtype=np.uint64)
    for name in ("add", "subtract", "multiply"):
        fast, slow = np.empty_like(left), np.empty_like(left)
        getattr(FAST, name)(left, right, fast)
        getattr(SLOW, name)(left, right, slow)
        assert (fast == slow).all(), name


def test_products_where_every_carry_matters() -> None:
    # Limbs next to 0 and 2^32 reach all branches of the reduction, also those of 2^-32 odds.
    limbs = (0, 1, 2, 2**31, 2**32 - 3, 2**32 - 2, 2**32 - 1)
    values = [high << 32 | low for high in limbs for low in limbs if high << 32 | low < MODULUS]
    values = [value for value in values if value < MODULUS]
    left = np.array([a for a in values for _ in values], dtype=np.uint64)
    right = np.array([b for _ in values for b in values], dtype=np.uint64)
    fast, slow = np.empty_like(left), np.empty_like(left)
    FAST.multiply(left, right, fast)
    SLOW.multiply(left, right, slow)
    assert (fast == slow).all()


@given(pairs)
@settings(deadline=None)
def test_entrywise(pair: tuple[Vector, Vector]) -> None:
    left, right = pair
    for name in ("add", "subtract", "multiply"):
        fast, slow = np.empty_like(left), np.empty_like(left)
        getattr(FAST, name)(left, right, fast)
        getattr(SLOW, name)(left, right, slow)
        assert (fast == slow).all(), name
        in_place = left.copy()
        getattr(FAST, name)(in_place, right, in_place)
        assert (in_place == slow).all(), name


@given(pairs, elements)
@settings(deadline=None)
def test_axpy(pair: tuple[Vector, Vector], factor: int) -> None:
    vector, out = pair
    fast, slow = out.copy(), out.copy()
    FAST.axpy(factor, vector, fast)
    SLOW.axpy(factor, vector, slow)
    assert (fast == slow).all()


@given(pairs)
@settings(deadline=None)
def test_sums(pair: tuple[Vector, Vector]) -> None:
    left, right = pair
    assert FAST.inner_product(left, right) == SLOW.inner_product(left, right)
    assert FAST.sum_of_squares(left) == SLOW.sum_of_squares(left)
    weights = np.stack([left, right])
    assert FAST.extension_inner_product(weights, left) == SLOW.extension_inner_product(
        weights, left
    )


def test_sums_of_the_largest_terms() -> None:
    largest = np.full(100_000, MODULUS - 1, dtype=np.uint64)
    assert FAST.inner_product(largest, largest) == 100_000
    assert FAST.sum_of_squares(largest) == 100_000
    limbs = np.full(100_000, 2**32 - 1, dtype=np.uint64)
    assert FAST.sum_of_squares(limbs) == 100_000 * (2**32 - 1) ** 2 % MODULUS


@given(st.lists(st.integers(0, 2**64 - 1), max_size=70), st.booleans())
@settings(deadline=None)
def test_all_canonical(values: list[int], exceed: bool) -> None:
    vector = np.array([*values, *([MODULUS] if exceed else [])], dtype=np.uint64)
    assert FAST.all_canonical(vector) == SLOW.all_canonical(vector)


@given(extensions, st.integers(0, 2**30), st.integers(0, 40))
@settings(deadline=None)
def test_powers(base: ExtensionElement, first: int, count: int) -> None:
    fast = FAST.extension_powers(base, first, count)
    assert fast.shape == (2, count)
    assert (fast == SLOW.extension_powers(base, first, count)).all()


@given(extensions, st.integers(1, 9), st.data(), lengths)
@settings(deadline=None)
def test_power_sum(base: ExtensionElement, size: int, data: st.DataObject, length: int) -> None:
    powers = SLOW.extension_powers(base, 1, size)
    vector = data.draw(_vector(length))
    shift = ExtensionElement(int(powers[0, -1]), int(powers[1, -1]))
    fast = FAST.power_sum(powers, shift, vector)
    assert fast == SLOW.power_sum(powers, shift, vector)
    assert fast == SLOW.extension_inner_product(SLOW.extension_powers(base, 1, length), vector)


def test_power_sum_of_the_largest_elements() -> None:
    top = MODULUS - 1
    powers = np.full((2, 8192), top, dtype=np.uint64)
    vector = np.full(40_000, top, dtype=np.uint64)
    shift = ExtensionElement(top, top)
    assert FAST.power_sum(powers, shift, vector) == SLOW.power_sum(powers, shift, vector)


def test_many_powers() -> None:
    base = ExtensionElement(MODULUS - 3, 2**63 + 5)
    fast = FAST.extension_powers(base, 3, 20_000)
    slow = SLOW.extension_powers(base, 3, 20_000)
    assert (fast == slow).all()


@given(st.data(), st.integers(2, 9), st.integers(1, 5), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_extend_shares(data: st.DataObject, points: int, rows: int, count: int) -> None:
    table = np.stack([data.draw(_vector(count)) for _ in range(points)])
    fast = np.full((rows, count + 3), 5, dtype=np.uint64)
    slow = fast.copy()
    FAST.extend_shares(table.copy(), fast, 2)
    SLOW.extend_shares(table.copy(), slow, 2)
    assert (fast == slow).all()


def test_extend_shares_over_several_blocks() -> None:
    table = np.random.default_rng(3).integers(0, MODULUS, (4, 2500), dtype=np.uint64)
    fast, slow = np.empty((3, 2500), dtype=np.uint64), np.empty((3, 2500), dtype=np.uint64)
    FAST.extend_shares(table.copy(), fast, 0)
    SLOW.extend_shares(table.copy(), slow, 0)
    assert (fast == slow).all()


@given(st.integers(0, 2**32), st.integers(1, 32), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_word_products(seed: int, groups: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    tests = generator.integers(0, 256, (count, groups), dtype=np.uint8)
    tables = generator.integers(-(2**58) + 4, 2**58 - 3, (groups, 256, 2))
    weights = generator.integers(0, MODULUS, (2, count + 5), dtype=np.uint64)[:, :count]
    vector = generator.integers(0, MODULUS, count, dtype=np.uint64)
    inputs = (tests, tables, weights, vector)
    assert FAST.word_products(*inputs) == SLOW.word_products(*inputs)


def test_word_products_over_several_blocks_at_their_bounds() -> None:
    tests = np.zeros((1200, 32), dtype=np.uint8)
    largest = np.full((2, 1200), MODULUS - 1, dtype=np.uint64)
    for extreme in (4 * (2**56 - 1), -4 * (2**56 - 1)):
        tables = np.full((32, 256, 2), extreme, dtype=np.int64)
        weighted, projected, squares = FAST.word_products(tests, tables, largest, largest[0])
        assert weighted == ExtensionElement(1200, 1200)
        assert projected == ExtensionElement(*2 * [-1200 * 32 * extreme % MODULUS])
        assert squares == 1200


@given(st.integers(0, 2**32), st.integers(1, 32), st.integers(0, 150), st.integers(0, 24))
@settings(max_examples=60, deadline=None)
def test_projections(seed: int, groups: int, count: int, bits: int) -> None:
    generator = np.random.default_rng(seed)
    tests = generator.integers(0, 256, (count, groups), dtype=np.uint8)
    values = generator.integers(-(2**bits), 2**bits + 1, count).astype(np.int32)
    assert (FAST.projections(tests, values) == SLOW.projections(tests, values)).all()


def test_projections_at_their_bounds() -> None:
    for byte, sign in ((0x00, -1), (0xFF, 1), (0x55, 0), (0xAA, 0)):
        tests = np.full((1000, 32), byte, dtype=np.uint8)
        values = np.full(1000, 2**24, dtype=np.int32)
        assert (FAST.projections(tests, values) == sign * 1000 * 2**24).all()


@pytest.mark.parametrize("extreme", [511, 512, -512, -513, 2**24, -(2**24)])
def test_projections_where_64_entries_just_fit_16_bits_or_do_not(extreme: int) -> None:
    tests = np.full((64, 32), 0xFF, dtype=np.uint8)
    values = np.full(64, extreme, dtype=np.int32)
    assert (FAST.projections(tests, values) == 64 * extreme).all()


@given(st.data(), lengths)
@settings(deadline=None)
def test_to_signed(data: st.DataObject, length: int) -> None:
    vector = data.draw(_vector(length))
    fast, slow = np.empty(length, dtype=np.int64), np.empty(length, dtype=np.int64)
    FAST.to_signed(vector, fast)
    SLOW.to_signed(vector, slow)
    assert (fast == slow).all()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=70))
@settings(deadline=None)
def test_from_signed(values: list[int]) -> None:
    kept = np.array([value for value in values if value > -MODULUS], dtype=np.int64)
    fast, slow = np.empty(len(kept), dtype=np.uint64), np.empty(len(kept), dtype=np.uint64)
    FAST.from_signed(kept, fast)
    SLOW.from_signed(kept, slow)
    assert (fast == slow).all()


@given(
    st.lists(
        st.one_of(st.integers(-(2**25), 2**25), st.integers(-(2**63), 2**63 - 1)), max_size=70
    ),
    st.sampled_from((0, 2**16, 2**24, 2**25)),
)
@settings(deadline=None)
def test_squared_norm(values: list[int], limit: int) -> None:
    vector = np.array(values, dtype=np.int64)
    assert FAST.squared_norm(vector, limit) == SLOW.squared_norm(vector, limit)


def test_squared_norm_of_the_largest_entries() -> None:
    for extreme in (2**25, -(2**25)):
        vector = np.full(20_000, extreme, dtype=np.int64)
        assert FAST.squared_norm(vector, 2**25) == 20_000 * 2**50
        vector[12_345] = 2**25 + 1
        assert FAST.squared_norm(vector, 2**25) is None


@given(
    st.lists(st.tuples(st.floats(-(2.0**24), 2.0**24), st.integers(0, 2**64 - 1)), max_size=70),
    st.floats(0.0, 1.0),
)
@settings(deadline=None)
def test_round_stochastically(pairs: list[tuple[float, int]], factor: float) -> None:
    vector = np.array([pair[0] for pair in pairs], dtype=np.float64)
    draws = np.array([pair[1] for pair in pairs], dtype=np.uint64)
    fast, slow = np.empty(len(pairs), dtype=np.int64), np.empty(len(pairs), dtype=np.int64)
    FAST.round_stochastically(vector, factor, draws, fast)
    SLOW.round_stochastically(vector, factor, draws, slow)
    assert (fast == slow).all()


@given(st.data(), st.integers(1, 6), lengths)
@settings(deadline=None)
def test_linear_combination(data: st.DataObject, terms: int, length: int) -> None:
    factors = [data.draw(elements) for _ in range(terms)]
    vectors = [data.draw(_vector(length)) for _ in range(terms)]
    fast, slow = np.empty(length, dtype=np.uint64), np.empty(length, dtype=np.uint64)
    FAST.linear_combination(factors, vectors, fast)
    SLOW.linear_combination(factors, vectors, slow)
    assert (fast == slow).all()
