"""The kernels, compiled by Numba: contracts in `interface.py`, meaning in `reference.py`.

All compiled code of the project is in this one file: Numba's cache notices an edit of the file of
a function, but not of a file whose functions it inlined. Types are explicit, so everything is
compiled on import (or read from the cache) and nothing later.

What makes the loops vectorise (a test looks for it in the machine code):
- both factors of a product are split into 32-bit limbs; the compiler then finds a 32 x 32 -> 64
  bit multiply for each partial product, which exists for vectors;
- the high word of a product is never added up whole: LLVM 22 would recognise it and put the one
  scalar 64 x 64 -> 128 bit multiply in its place;
- `a < b` beside `a - b` (or `total < a` beside `a + b`) becomes an operation with an overflow flag,
  which has no vector form: borrows are found in other ways;
- masks or selects, never branches; contiguous rows; constants as uint64 (mixed with a signed
  integer, Numba would turn to floating point).

Threads: kernels release the GIL; callers split work into coarse blocks. Not constant time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit, types

from omnilytics.algebra import extension
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS, FieldVector
from omnilytics.algebra.kernels.interface import MAX_LENGTH
from omnilytics.foundation.errors import UsageError

_Array = TypeVar("_Array", npt.NDArray[np.uint8], npt.NDArray[np.int32], npt.NDArray[np.int64])

_P = np.uint64(MODULUS)
_EPSILON = np.uint64(2**32 - 1)  # 2^64 mod p, and the mask of a low limb
_MASK = np.uint64(2**32 - 1)
_SHIFT = np.uint64(32)
_SIGN = np.uint64(63)
_ZERO = np.uint64(0)
_TEST1, _TEST2, _TEST3 = np.int32(2), np.int32(4), np.int32(6)  # where a test's two bits start

_SUM_BLOCK = 8192  # entries summed over all vectors before the next ones are
_POWER_BLOCK = 8192  # powers made by one multiplication each from those before
_BLOCK = 1024  # columns of a sharing block: a few rows of it stay in the first-level cache
_PROJECTION_BLOCK = 64  # entries summed in 32 bits: 64 * 2^24 < 2^31
_GROUPS = 32  # bytes of Z for an entry
_TABLE_GROUPS = 8  # tables in use at once: 8 * 256 * 16 bytes stay in the first-level cache
_TABLE_BLOCK = 512

_WORD = types.uint64
_IN = types.Array(types.uint64, 1, "C", readonly=True)
_OUT = types.Array(types.uint64, 1, "C")
_OUT2 = types.Array(types.uint64, 2, "C")
_FOUR_WORDS = types.Tuple((types.uint64,) * 4)  # type: ignore[no-untyped-call]
_TESTS = types.Array(types.uint8, 2, "C", readonly=True)


# --- scalar arithmetic, inlined into every loop -------------------------------------------------


@njit(_WORD(_WORD, _WORD), cache=True, nogil=True)
def _add(a, b):  # type: ignore[no-untyped-def]
    room = _P - b  # in [1, p]
    return a - room if a >= room else a + b  # the sum is below p, or brought below it


@njit(_WORD(_WORD, _WORD), cache=True, nogil=True)
def _subtract(a, b):  # type: ignore[no-untyped-def]
    return a - b if a >= b else a + (_P - b)  # a + p - b < p since a < b


@njit(_WORD(_WORD, _WORD), cache=True, nogil=True)
def _multiply(a, b):  # type: ignore[no-untyped-def]
    """Return a * b mod p, for any 64-bit a and b, by 2^64 = 2^32 - 1 and 2^96 = -1 (mod p)."""
    a_low, a_high = a & _MASK, a >> _SHIFT
    b_low, b_high = b & _MASK, b >> _SHIFT
    low, left, right = a_low * b_low, a_low * b_high, a_high * b_low
    middle = (low >> _SHIFT) + (left & _MASK) + (right & _MASK)  # < 3 * 2^32
    # The high word without its carry from the middle: no larger than the true high word.
    high = a_high * b_high + (left >> _SHIFT) + (right >> _SHIFT)
    low = (middle << _SHIFT) | (low & _MASK)

    top = high >> _SHIFT
    rest = low - top
    # A borrow turns the sign bit on, and only a borrow does (top < 2^32). It leaves
    # rest >= 2^64 - 2^32, so epsilon can be taken off. Not `low < top`: the compiler would make
    # that a subtraction with a flag, which has no vector form.
    borrow = (~low & rest) >> _SIGN
    rest = rest - ((_ZERO - borrow) & _EPSILON)
    # (high & mask) + carry <= 2^32 + 1, and (2^32 + 1)(2^32 - 1) = 2^64 - 1 does not wrap.
    fold = ((high & _MASK) + (middle >> _SHIFT)) * _EPSILON
    total = rest + fold
    # If it wraps, epsilon can be added without wrapping again: fold > 2^64 - 2^32 needs
    # middle >= 2^33, hence a low word, and a rest, of at most 2^64 - 2^32.
    total = total + (_EPSILON if total < fold else _ZERO)
    return total - (_P if total >= _P else _ZERO)  # total < 2^64 < 2p


# --- entry by entry -----------------------------------------------------------------------------


@njit(types.boolean(_IN), cache=True, nogil=True)
def _all_canonical_loop(vector):  # type: ignore[no-untyped-def]
    excess = _ZERO
    for i in range(vector.size):
        excess |= np.uint64(vector[i] >= _P)
    return excess == _ZERO


@njit(types.void(_IN, _IN, _OUT), cache=True, nogil=True)
def _add_loop(left, right, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = _add(left[i], right[i])


@njit(types.void(_IN, _IN, _OUT), cache=True, nogil=True)
def _subtract_loop(left, right, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = _subtract(left[i], right[i])


@njit(types.void(_IN, _IN, _OUT), cache=True, nogil=True)
def _multiply_loop(left, right, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = _multiply(left[i], right[i])


@njit(types.void(_WORD, _IN, _OUT), cache=True, nogil=True)
def _scale_loop(factor, vector, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = _multiply(factor, vector[i])


@njit(types.void(_WORD, _IN, _OUT), cache=True, nogil=True)
def _axpy_loop(factor, vector, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = _add(out[i], _multiply(factor, vector[i]))


# --- sums with delayed reduction: four sums of 32-bit limbs, weights 1, 2^32, 2^64, 2^96 --------
# A limb sum grows by less than 2^34 an entry, so 2^28 entries stay below 2^62.


@njit(_FOUR_WORDS(_IN, _IN), cache=True, nogil=True)
def _inner_product_loop(left, right):  # type: ignore[no-untyped-def]
    sum0 = sum1 = sum2 = sum3 = _ZERO
    for i in range(left.size):
        a_low, a_high = left[i] & _MASK, left[i] >> _SHIFT
        b_low, b_high = right[i] & _MASK, right[i] >> _SHIFT
        low = a_low * b_low
        # (2^32 - 1)^2 + 2 * (2^32 - 1) = 2^64 - 1: neither sum wraps.
        cross = a_low * b_high + (low >> _SHIFT)
        middle = a_high * b_low + (cross & _MASK)
        high = a_high * b_high
        sum0 += low & _MASK
        sum1 += middle & _MASK
        sum2 += (high & _MASK) + (cross >> _SHIFT) + (middle >> _SHIFT)
        sum3 += high >> _SHIFT
    return sum0, sum1, sum2, sum3


@njit(_FOUR_WORDS(_IN), cache=True, nogil=True)
def _sum_of_squares_loop(vector):  # type: ignore[no-untyped-def]
    sum0 = sum1 = sum2 = sum3 = _ZERO
    for i in range(vector.size):
        a_low, a_high = vector[i] & _MASK, vector[i] >> _SHIFT
        low = a_low * a_low
        cross = a_low * a_high
        high = a_high * a_high
        sum0 += low & _MASK
        sum1 += (low >> _SHIFT) + ((cross & _MASK) << np.uint64(1))
        sum2 += (high & _MASK) + ((cross >> _SHIFT) << np.uint64(1))
        sum3 += high >> _SHIFT
    return sum0, sum1, sum2, sum3


# --- Shamir's polynomials -----------------------------------------------------------------------


@njit(types.void(_OUT2, _OUT2, types.intp), cache=True, nogil=True)
def _extend_shares_loop(table, out, column):  # type: ignore[no-untyped-def]
    points, count = table.shape
    last = points - 1
    for start in range(0, count, _BLOCK):
        end = min(start + _BLOCK, count)
        for level in range(1, points):
            for k in range(points - level):
                row = table[k][start:end]
                _subtract_loop(table[k + 1][start:end], row, row)
        value = table[last][start:end]
        for k in range(out.shape[0]):
            for order in range(1, last):
                row = table[order][start:end]
                _add_loop(row, table[order - 1][start:end], row)
            following = out[k][column + start : column + end]
            _add_loop(value, table[last - 1][start:end], following)
            value = following


# --- wraparound tests: 32 groups of four, fewer are padded --------------------------------------


@njit(
    types.void(
        _TESTS,
        types.Array(types.int64, 3, "C", readonly=True),
        types.Array(types.int64, 2, "C"),
        _OUT2,
    ),
    cache=True,
    nogil=True,
)
def _coefficients_loop(tests, tables, sums, out):  # type: ignore[no-untyped-def]
    count = np.uint64(tests.shape[0])  # unsigned indices: signed ones are tested for < 0
    for start in range(_ZERO, count, _TABLE_BLOCK):
        end = min(start + _TABLE_BLOCK, count)
        sums[:, :] = 0
        for first in range(_ZERO, _GROUPS, _TABLE_GROUPS):
            for i in range(start, end):  # type: ignore[call-overload]
                low, high = sums[i - start, 0], sums[i - start, 1]
                for k in range(_TABLE_GROUPS):
                    group = first + np.uint64(k)
                    byte = np.uint64(tests[i, group])
                    low += tables[group, byte, 0]  # 128 weights below 2^56: |sum| < 2^63
                    high += tables[group, byte, 1]
                sums[i - start, 0], sums[i - start, 1] = low, high
        for limb in range(2):
            for i in range(start, end):  # type: ignore[call-overload]
                value = sums[i - start, limb]
                # |value| < 2^63 < p: one addition of p makes a negative canonical.
                out[limb, i] = np.uint64(value) + (_P if value < 0 else _ZERO)


@njit(types.int32(types.int32, types.int32), cache=True, nogil=True)
def _signed(bits, value):  # type: ignore[no-untyped-def]
    """Return -value, 0, 0 or value as the lowest two bits are 00, 01, 10 or 11."""
    first = (np.int32(0) - (bits & np.int32(1))) & value
    second = (np.int32(0) - ((bits >> np.int32(1)) & np.int32(1))) & value
    return np.int32(first + second - value)


@njit(
    types.void(
        _TESTS,
        types.Array(types.int32, 1, "C", readonly=True),
        types.Array(types.int32, 2, "C"),
        types.Array(types.int64, 2, "C"),
    ),
    cache=True,
    nogil=True,
)
def _projections_loop(tests, values, lanes, out):  # type: ignore[no-untyped-def]
    lane0, lane1, lane2, lane3 = lanes[0], lanes[1], lanes[2], lanes[3]
    for start in range(0, len(values), _PROJECTION_BLOCK):
        lanes[:, :] = 0
        # Two entries at a time: one would wait for the lanes that the entry before it has stored.
        for i in range(start, min(start + _PROJECTION_BLOCK, len(values)), 2):
            value, other_value = values[i], values[i + 1]
            row, other_row = tests[i], tests[i + 1]
            for g in range(_GROUPS):
                byte, other = np.int32(row[g]), np.int32(other_row[g])
                lane0[g] += _signed(byte, value) + _signed(other, other_value)
                lane1[g] += _signed(byte >> _TEST1, value) + _signed(other >> _TEST1, other_value)
                lane2[g] += _signed(byte >> _TEST2, value) + _signed(other >> _TEST2, other_value)
                lane3[g] += _signed(byte >> _TEST3, value) + _signed(other >> _TEST3, other_value)
        for g in range(_GROUPS):
            for test in range(4):
                out[g, test] += lanes[test, g]


# --- the interface ------------------------------------------------------------------------------


def _words(vector: FieldVector) -> FieldVector:
    """Contiguous, aligned uint64: itself, unless it came from the middle of a message."""
    return np.require(vector, np.uint64, ["C", "A"])


def _same_length(*vectors: npt.NDArray[np.generic]) -> None:
    lengths = {vector.shape[0] for vector in vectors}
    if len(lengths) > 1 or max(lengths) > MAX_LENGTH:  # a kernel does not check its indices
        raise UsageError("vectors of unequal or excessive length", got=sorted(lengths))


def _join(sums: tuple[int, int, int, int]) -> int:
    sum0, sum1, sum2, sum3 = (int(part) for part in sums)
    return (sum0 + (sum1 << 32) + (sum2 << 64) + (sum3 << 96)) % MODULUS


def all_canonical(vector: FieldVector) -> bool:
    """Return whether every element is < p."""
    return bool(_all_canonical_loop(_words(vector)))


def add(left: FieldVector, right: FieldVector, out: FieldVector) -> None:
    """Write left + right to `out`."""
    _same_length(left, right, out)
    _add_loop(_words(left), _words(right), out)


def subtract(left: FieldVector, right: FieldVector, out: FieldVector) -> None:
    """Write left - right to `out`."""
    _same_length(left, right, out)
    _subtract_loop(_words(left), _words(right), out)


def multiply(left: FieldVector, right: FieldVector, out: FieldVector) -> None:
    """Write left * right, entry by entry, to `out`."""
    _same_length(left, right, out)
    _multiply_loop(_words(left), _words(right), out)


def axpy(factor: int, vector: FieldVector, out: FieldVector) -> None:
    """Add factor * vector to `out`."""
    _same_length(vector, out)
    _axpy_loop(np.uint64(factor % MODULUS), _words(vector), out)


def inner_product(left: FieldVector, right: FieldVector) -> int:
    """Return the sum of left_i * right_i."""
    _same_length(left, right)
    return _join(_inner_product_loop(_words(left), _words(right)))


def sum_of_squares(vector: FieldVector) -> int:
    """Return the sum of vector_i^2."""
    _same_length(vector)
    return _join(_sum_of_squares_loop(_words(vector)))


def extension_inner_product(weights: FieldVector, vector: FieldVector) -> ExtensionElement:
    """Return the sum of weights_i * vector_i; weights in E."""
    return ExtensionElement(inner_product(weights[0], vector), inner_product(weights[1], vector))


def _scale_extension(factor: ExtensionElement, vector: FieldVector, out: FieldVector) -> None:
    """Write factor * vector, both in E, to `out`; X^2 = 7 enters with the factor."""
    low, high = np.uint64(factor.low), np.uint64(factor.high)
    twisted = np.uint64(extension.NON_RESIDUE * factor.high % MODULUS)
    _scale_loop(low, vector[0], out[0])
    _axpy_loop(twisted, vector[1], out[0])
    _scale_loop(low, vector[1], out[1])
    _axpy_loop(high, vector[0], out[1])


def extension_powers(base: ExtensionElement, first: int, count: int) -> FieldVector:
    """Return base^first, base^(first+1), ... as a vector of E."""
    out = np.empty((2, count), dtype=np.uint64)
    if count == 0:
        return out
    out[:, 0] = extension.power(base, first)
    done, stride, factor = 1, 1, base  # factor = base^stride
    while done < count:
        take = min(stride, count - done)
        source = out[:, done - stride : done - stride + take]
        _scale_extension(factor, source, out[:, done : done + take])
        done += take
        if done < count and stride < _POWER_BLOCK:
            stride, factor = 2 * stride, extension.multiply(factor, factor)
    return out


def extend_shares(table: FieldVector, out: FieldVector, column: int) -> None:
    """Continue polynomials, given at the points 0..d, to the points d+1, d+2, ..."""
    points, count = table.shape
    if points < 2 or column < 0 or column + count > out.shape[1]:
        raise UsageError("shares do not fit", got=(table.shape, out.shape, column))
    _extend_shares_loop(table, out, column)


def _padded(array: _Array, axis: int, size: int) -> _Array:
    """Return the array, contiguous, with zeros after it up to `size` along `axis`."""
    missing = size - array.shape[axis]
    if missing:
        array = np.pad(array, [(0, missing if k == axis else 0) for k in range(array.ndim)])
    return np.ascontiguousarray(array)


def combined_coefficients(
    tests: npt.NDArray[np.uint8], tables: npt.NDArray[np.int64]
) -> FieldVector:
    """Return the sum over wraparound tests of weight times test, for each entry."""
    count, groups = tests.shape
    if tables.shape != (groups, 256, 2) or groups > _GROUPS:
        raise UsageError("tables do not fit the tests", got=tables.shape, want=(groups, 256, 2))
    out = np.empty((2, count), dtype=np.uint64)
    sums = np.empty((_TABLE_BLOCK, 2), dtype=np.int64)
    _coefficients_loop(_padded(tests, 1, _GROUPS), _padded(tables, 0, _GROUPS), sums, out)
    return out


def projections(
    tests: npt.NDArray[np.uint8], values: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """Return <Z_k, values> for every test k, as signed integers."""
    _same_length(tests, values)
    count, groups = tests.shape
    even = count + count % 2
    out = np.zeros((_GROUPS, 4), dtype=np.int64)
    lanes = np.empty((4, _GROUPS), dtype=np.int32)
    tests = _padded(_padded(tests, 1, _GROUPS), 0, even)
    _projections_loop(tests, _padded(values, 0, even), lanes, out)
    return out[:groups].reshape(-1)


def linear_combination(
    factors: Sequence[int], vectors: Sequence[FieldVector], out: FieldVector
) -> None:
    """Write the sum of factor_k * vector_k to `out`."""
    _same_length(out, *vectors)
    out[:] = 0
    for start in range(0, len(out), _SUM_BLOCK):
        part = slice(start, start + _SUM_BLOCK)
        for factor, vector in zip(factors, vectors, strict=True):
            _axpy_loop(np.uint64(factor % MODULUS), _words(vector[part]), out[part])
