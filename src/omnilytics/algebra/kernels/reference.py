"""The kernels in plain Python: slow, and meant to be read beside `numba.py`.

Each function says what its fast namesake computes; property tests hold them equal bit for bit.
Contracts are in `interface.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import numpy as np
import numpy.typing as npt

from omnilytics.algebra import extension
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS, FieldVector

_TEST_OF_TWO_BITS = (-1, 0, 0, 1)


def _ints(vector: npt.NDArray[np.generic]) -> list[int]:
    return [int(value) for value in vector]


def _store(out: FieldVector, values: Sequence[int]) -> None:
    out[:] = np.array([value % MODULUS for value in values], dtype=np.uint64)


def all_canonical(vector: FieldVector) -> bool:
    """Return whether every element is < p."""
    return all(value < MODULUS for value in _ints(vector))


def add(left: FieldVector, right: FieldVector, out: FieldVector) -> None:
    """Write left + right to `out`."""
    _store(out, [a + b for a, b in zip(_ints(left), _ints(right), strict=True)])


def subtract(left: FieldVector, right: FieldVector, out: FieldVector) -> None:
    """Write left - right to `out`."""
    _store(out, [a - b for a, b in zip(_ints(left), _ints(right), strict=True)])


def multiply(left: FieldVector, right: FieldVector, out: FieldVector) -> None:
    """Write left * right, entry by entry, to `out`."""
    _store(out, [a * b for a, b in zip(_ints(left), _ints(right), strict=True)])


def axpy(factor: int, vector: FieldVector, out: FieldVector) -> None:
    """Add factor * vector to `out`."""
    _store(out, [b + factor * a for a, b in zip(_ints(vector), _ints(out), strict=True)])


def inner_product(left: FieldVector, right: FieldVector) -> int:
    """Return the sum of left_i * right_i."""
    return sum(a * b for a, b in zip(_ints(left), _ints(right), strict=True)) % MODULUS


def sum_of_squares(vector: FieldVector) -> int:
    """Return the sum of vector_i^2."""
    return sum(value * value for value in _ints(vector)) % MODULUS


def extension_inner_product(weights: FieldVector, vector: FieldVector) -> ExtensionElement:
    """Return the sum of weights_i * vector_i; weights in E."""
    return ExtensionElement(inner_product(weights[0], vector), inner_product(weights[1], vector))


def power_sum(
    powers: FieldVector, shift: ExtensionElement, vector: FieldVector
) -> ExtensionElement:
    """Return the sum over i = 0, 1, ... of g^(i+1) * vector_i."""
    size = powers.shape[1]
    total, factor = extension.ZERO, extension.ONE
    for start in range(0, len(vector), size):
        part = vector[start : start + size]
        value = extension_inner_product(powers[:, : len(part)], part)
        total = extension.add(total, extension.multiply(factor, value))
        factor = extension.multiply(factor, shift)
    return total


def extension_powers(base: ExtensionElement, first: int, count: int) -> FieldVector:
    """Return base^first, base^(first+1), ... as a vector of E."""
    elements = extension.powers(base, first, count)
    return np.array(elements, dtype=np.uint64).reshape(count, 2).T.copy()


def extend_shares(table: FieldVector, out: FieldVector, column: int) -> None:
    """Continue polynomials, given at the points 0..d, to the points d+1, d+2, ..."""
    points, count = table.shape
    for i in range(count):
        differences = _ints(table[:, i])
        for level in range(1, points):  # Newton's forward differences at the last point
            for k in range(points - level):
                differences[k] = differences[k + 1] - differences[k]
        for row in range(len(out)):
            for k in range(1, points):
                differences[k] += differences[k - 1]
            out[row, column + i] = differences[points - 1] % MODULUS


def word_products(
    tests: npt.NDArray[np.uint8],
    tables: npt.NDArray[np.int64],
    weights: FieldVector,
    vector: FieldVector,
) -> tuple[ExtensionElement, ExtensionElement, int]:
    """Return sum weights_i vector_i, sum coefficient_i vector_i, and sum vector_i^2."""
    coefficients = [
        [
            sum(int(table[byte, limb]) for table, byte in zip(tables, row, strict=True))
            for row in tests
        ]
        for limb in range(2)
    ]
    low, high = (
        sum(c * v for c, v in zip(limb, _ints(vector), strict=True)) % MODULUS
        for limb in coefficients
    )
    weighted = extension_inner_product(weights, vector)
    return weighted, ExtensionElement(low, high), sum_of_squares(vector)


def projections(
    tests: npt.NDArray[np.uint8], values: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """Return <Z_k, values> for every test k, as signed integers."""
    count, groups = tests.shape
    out = [0] * (4 * groups)
    for i in range(count):
        for test in range(4 * groups):
            two_bits = int(tests[i, test // 4]) >> (2 * (test % 4)) & 3
            out[test] += _TEST_OF_TWO_BITS[two_bits] * int(values[i])
    return np.array(out, dtype=np.int64)


def from_signed(values: npt.NDArray[np.int64], out: FieldVector) -> None:
    """Write signed integers as field elements to `out`."""
    _store(out, _ints(values))


def to_signed(vector: FieldVector, out: npt.NDArray[np.int64]) -> None:
    """Write field elements as signed integers in (-p/2, p/2) to `out`."""
    out[:] = [value - MODULUS if value > MODULUS // 2 else value for value in _ints(vector)]


def squared_norm(values: npt.NDArray[np.int64], limit: int) -> int | None:
    """Return the sum of squares, or None if a value exceeds the limit."""
    if any(abs(value) > limit for value in _ints(values)):
        return None
    return sum(value * value for value in _ints(values))


def round_stochastically(
    vector: npt.NDArray[np.float64],
    factor: float,
    draws: FieldVector,
    out: npt.NDArray[np.int64],
) -> None:
    """Write factor * vector, each rounded up or down by its draw, to `out`."""
    for i, (entry, draw) in enumerate(zip(vector, draws, strict=True)):
        scaled = float(entry) * factor
        out[i] = floor(scaled) + ((int(draw) >> 11) * 2.0**-53 < scaled - floor(scaled))


def linear_combination(
    factors: Sequence[int], vectors: Sequence[FieldVector], out: FieldVector
) -> None:
    """Write the sum of factor_k * vector_k to `out`."""
    columns = zip(*(_ints(vector) for vector in vectors), strict=True)
    _store(out, [sum(f * v for f, v in zip(factors, column, strict=True)) for column in columns])
