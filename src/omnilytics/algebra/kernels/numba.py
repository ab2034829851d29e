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
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic, models, register_model

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

_SUM_BLOCK = 8192  # entries summed over all vectors before the next ones are
_POWER_BLOCK = 8192  # powers made by one multiplication each from those before
_BLOCK = 1024  # columns of a sharing block: a few rows of it stay in the first-level cache
_PROJECTION_BLOCK = 64  # entries summed in 32 bits: 64 * 2^24 = 2^30
_GROUPS = 32  # bytes of Z for an entry
_BITS = 8 * _GROUPS
_TABLE_BLOCK = 512  # entries whose sums stay in the first-level cache
_EIGHT_TABLES = 8 * 256 * 2  # numbers in eight tables, 32 KiB: these stay there as well

_WORD = types.uint64
_IN = types.Array(types.uint64, 1, "C", readonly=True)
_OUT = types.Array(types.uint64, 1, "C")
_OUT2 = types.Array(types.uint64, 2, "C")
_FOUR_WORDS = types.Tuple((types.uint64,) * 4)  # type: ignore[no-untyped-call]
_EIGHT_WORDS = types.Tuple((types.uint64,) * 8)  # type: ignore[no-untyped-call]
_INTEGERS = types.Array(types.int64, 1, "C", readonly=True)
_INTEGERS_OUT = types.Array(types.int64, 1, "C")


# --- vectors in registers, for the two loops that LLVM does not vectorise by itself --------------


_intrinsic: Any = intrinsic  # its stub knows neither the context nor what is generated


class _Lanes(types.Type):
    """A vector of `count` integers of `bits` bits; adding wraps around."""

    def __init__(self, bits: int, count: int) -> None:
        self.bits, self.count = bits, count
        super().__init__(f"Lanes({bits} bits, {count})")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Lanes) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            manager, kind, ir.VectorType(ir.IntType(kind.bits), kind.count)
        )


_LANES16, _LANES32, _PAIR = _Lanes(16, 32), _Lanes(32, 16), _Lanes(64, 2)


def _zeros_of(kind: _Lanes) -> Any:
    @_intrinsic
    def zeros(_context):  # type: ignore[no-untyped-def]
        def generate(context, _builder, signature, _arguments):  # type: ignore[no-untyped-def]
            return ir.Constant(context.get_value_type(signature.return_type), None)

        return kind(), generate

    return zeros


_no_lanes16, _no_lanes32, _no_pair = _zeros_of(_LANES16), _zeros_of(_LANES32), _zeros_of(_PAIR)


@_intrinsic
def _add_where(_context, lanes, bits, value):  # type: ignore[no-untyped-def]
    """Return lanes + value in the lanes whose bit is set: one masked instruction with AVX-512."""

    def generate(_context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        sums, mask, scalar = arguments
        count = sums.type.count
        nothing = ir.Constant(sums.type, None)
        first = builder.insert_element(nothing, scalar, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), count), None)
        spread = builder.shuffle_vector(first, nothing, everywhere)
        chosen = builder.bitcast(mask, ir.VectorType(ir.IntType(1), count))
        return builder.add(sums, builder.select(chosen, spread, nothing))

    return lanes(lanes, bits, value), generate


@_intrinsic
def _add_from(_context, lanes, array, offset):  # type: ignore[no-untyped-def]
    """Return lanes + the vector that begins `offset` bytes into the array; not checked."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        sums, memory, distance = arguments
        place = _place(context, builder, signature.args[1], memory, distance, sums.type)
        vector = builder.load(place)
        vector.align = 8
        return builder.add(sums, vector)

    return lanes(lanes, array, offset), generate


@_intrinsic
def _store_lanes(_context, array, offset, lanes):  # type: ignore[no-untyped-def]
    """Write the vector to the array, `offset` bytes from its start; not checked."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        memory, distance, sums = arguments
        place = _place(context, builder, signature.args[0], memory, distance, sums.type)
        builder.store(sums, place).align = 2
        return context.get_dummy_value()

    return types.void(array, offset, lanes), generate


def _place(context: Any, builder: Any, kind: Any, memory: Any, distance: Any, wanted: Any) -> Any:
    """Return the address `distance` bytes into an array, as that of a vector."""
    start = context.make_array(kind)(context, builder, memory).data
    byte = builder.gep(builder.bitcast(start, ir.IntType(8).as_pointer()), [distance])
    return builder.bitcast(byte, wanted.as_pointer())


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


@njit(_FOUR_WORDS(_WORD, _WORD), cache=True, nogil=True)
def _limbs_of_product(a, b):  # type: ignore[no-untyped-def]
    """Return what a * b adds to the four sums."""
    a_low, a_high = a & _MASK, a >> _SHIFT
    b_low, b_high = b & _MASK, b >> _SHIFT
    low = a_low * b_low
    # (2^32 - 1)^2 + 2 * (2^32 - 1) = 2^64 - 1: neither sum wraps.
    cross = a_low * b_high + (low >> _SHIFT)
    middle = a_high * b_low + (cross & _MASK)
    high = a_high * b_high
    carried = (high & _MASK) + (cross >> _SHIFT) + (middle >> _SHIFT)
    return low & _MASK, middle & _MASK, carried, high >> _SHIFT


@njit(_FOUR_WORDS(_IN, _IN), cache=True, nogil=True)
def _inner_product_loop(left, right):  # type: ignore[no-untyped-def]
    sum0 = sum1 = sum2 = sum3 = _ZERO
    for i in range(left.size):
        limb0, limb1, limb2, limb3 = _limbs_of_product(left[i], right[i])
        sum0 += limb0
        sum1 += limb1
        sum2 += limb2
        sum3 += limb3
    return sum0, sum1, sum2, sum3


@njit(_EIGHT_WORDS(_IN, _IN, _IN), cache=True, nogil=True)
def _two_inner_products_loop(left, other, right):  # type: ignore[no-untyped-def]
    """Return the sums of left_i * right_i and of other_i * right_i, in one pass over right."""
    left0 = left1 = left2 = left3 = other0 = other1 = other2 = other3 = _ZERO
    for i in range(right.size):
        limb0, limb1, limb2, limb3 = _limbs_of_product(left[i], right[i])
        left0 += limb0
        left1 += limb1
        left2 += limb2
        left3 += limb3
        limb0, limb1, limb2, limb3 = _limbs_of_product(other[i], right[i])
        other0 += limb0
        other1 += limb1
        other2 += limb2
        other3 += limb3
    return left0, left1, left2, left3, other0, other1, other2, other3


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


@njit(_WORD(_WORD, _WORD, _WORD, _WORD), cache=True, nogil=True)
def _joined(sum0, sum1, sum2, sum3):  # type: ignore[no-untyped-def]
    """Return the four sums, each below p, as one element: 2^64 = 2^32 - 1, 2^96 = -1 (mod p)."""
    total = _add(sum0, _multiply(sum1, np.uint64(1) << _SHIFT))
    return _subtract(_add(total, _multiply(sum2, _EPSILON)), sum3)


@njit(
    types.Tuple((types.uint64, types.uint64))(_IN, _IN, _WORD, _WORD, _IN),  # type: ignore[no-untyped-call]
    cache=True,
    nogil=True,
)
def _power_sum_loop(low_powers, high_powers, low_shift, high_shift, vector):  # type: ignore[no-untyped-def]
    """Horner's rule over blocks, from the last to the first; products in E by X^2 = 7."""
    size = low_powers.size
    low = high = _ZERO
    twisted = _multiply(np.uint64(extension.NON_RESIDUE), high_shift)
    for block in range((vector.size + size - 1) // size - 1, -1, -1):
        part = vector[block * size : min((block + 1) * size, vector.size)]
        sums = _two_inner_products_loop(low_powers[: part.size], high_powers[: part.size], part)
        shifted_low = _add(_multiply(low, low_shift), _multiply(high, twisted))
        shifted_high = _add(_multiply(low, high_shift), _multiply(high, low_shift))
        low = _add(shifted_low, _joined(sums[0], sums[1], sums[2], sums[3]))
        high = _add(shifted_high, _joined(sums[4], sums[5], sums[6], sums[7]))
    return low, high


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


# --- integers -----------------------------------------------------------------------------------


@njit(types.void(_IN, _INTEGERS_OUT), cache=True, nogil=True)
def _to_signed_loop(vector, out):  # type: ignore[no-untyped-def]
    half = _P >> np.uint64(1)
    for i in range(out.size):
        value = vector[i]
        out[i] = np.int64(value + (_EPSILON if value > half else _ZERO))  # 2^64 - p = epsilon


@njit(types.void(_INTEGERS, _OUT), cache=True, nogil=True)
def _from_signed_loop(values, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        value = values[i]
        out[i] = np.uint64(value) - (_EPSILON if value < 0 else _ZERO)  # 2^64 - epsilon = p


@njit(types.Tuple((types.int64, types.int64, types.uint64))(_INTEGERS), cache=True, nogil=True)  # type: ignore[no-untyped-call]
def _extent_loop(values):  # type: ignore[no-untyped-def]
    """Return the least and largest value, and the sum of squares of the low 32 bits."""
    least, largest, squares = np.int64(0), np.int64(0), _ZERO
    for i in range(values.size):
        value = values[i]
        least, largest = min(least, value), max(largest, value)
        short = np.int64(np.int32(value))
        squares += np.uint64(short * short)
    return least, largest, squares


@njit(
    types.void(
        types.Array(types.float64, 1, "C", readonly=True), types.float64, _IN, _INTEGERS_OUT
    ),
    cache=True,
    nogil=True,
)
def _round_loop(vector, factor, draws, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        scaled = vector[i] * factor
        floor = np.floor(scaled)
        # 53 bits and 2^-53: exact, a multiple of 2^-53 in [0, 1)
        uniform = np.float64(np.int64(draws[i] >> np.uint64(11))) * 2.0**-53
        out[i] = np.int64(floor) + np.int64(uniform < scaled - floor)


# --- wraparound tests: 32 bytes of Z an entry, fewer are padded -----------------------------------


@njit(_PAIR(_PAIR, _INTEGERS, _WORD), cache=True, nogil=True)
def _add_eight(sums, tables, word):  # type: ignore[no-untyped-def]
    """Add the rows of eight tables that the bytes of a word choose: 16 bytes a row, 4,096 a table.

    |sum| < 2^63: 128 weights below 2^56.
    """
    row = np.uint64(0xFF0)
    sums = _add_from(sums, tables, (word << np.uint64(4)) & row)
    sums = _add_from(sums, tables, np.uint64(4096) + ((word >> np.uint64(4)) & row))
    sums = _add_from(sums, tables, np.uint64(8192) + ((word >> np.uint64(12)) & row))
    sums = _add_from(sums, tables, np.uint64(12288) + ((word >> np.uint64(20)) & row))
    sums = _add_from(sums, tables, np.uint64(16384) + ((word >> np.uint64(28)) & row))
    sums = _add_from(sums, tables, np.uint64(20480) + ((word >> np.uint64(36)) & row))
    sums = _add_from(sums, tables, np.uint64(24576) + ((word >> np.uint64(44)) & row))
    return _add_from(sums, tables, np.uint64(28672) + ((word >> np.uint64(52)) & row))


@njit(
    types.void(types.Array(types.uint64, 2, "C", readonly=True), _INTEGERS, _INTEGERS_OUT, _OUT2),
    cache=True,
    nogil=True,
)
def _coefficients_loop(words, tables, sums, out):  # type: ignore[no-untyped-def]
    """Write each entry's combined weight to `out`, at most _TABLE_BLOCK entries."""
    count = np.uint64(words.shape[0])  # unsigned indices: signed ones are tested for < 0
    sums[:] = 0
    for eight in range(4):  # eight tables at a time: more of them leave the cache
        part = tables[eight * _EIGHT_TABLES : (eight + 1) * _EIGHT_TABLES]
        for i in range(_ZERO, count):
            pair = _add_from(_no_pair(), sums, i << np.uint64(4))
            _store_lanes(sums, i << np.uint64(4), _add_eight(pair, part, words[i, eight]))
    for i in range(_ZERO, count):
        low, high = sums[np.uint64(2) * i], sums[np.uint64(2) * i + np.uint64(1)]
        # |value| < 2^63 < p: one addition of p makes a negative canonical.
        out[0, i] = np.uint64(low) + (_P if low < 0 else _ZERO)
        out[1, i] = np.uint64(high) + (_P if high < 0 else _ZERO)


@njit(
    types.void(
        types.Array(types.uint64, 2, "C", readonly=True),
        _INTEGERS,
        _IN,
        _IN,
        _IN,
        _INTEGERS_OUT,
        _OUT2,
        _OUT,
    ),
    cache=True,
    nogil=True,
)
def _word_products_loop(  # type: ignore[no-untyped-def]
    words, tables, low_weights, high_weights, vector, sums, coefficients, out
):
    """Add the limb sums of the two products in E (8 words each) and of the squares (4) to `out`."""
    count = words.shape[0]
    for start in range(0, count, _TABLE_BLOCK):
        end = min(start + _TABLE_BLOCK, count)
        part = vector[start:end]
        size = end - start
        _coefficients_loop(words[start:end], tables, sums, coefficients)
        weighted = _two_inner_products_loop(low_weights[start:end], high_weights[start:end], part)
        projected = _two_inner_products_loop(coefficients[0][:size], coefficients[1][:size], part)
        squares = _sum_of_squares_loop(part)
        for k in range(8):
            out[k] += weighted[k]
            out[8 + k] += projected[k]
        for k in range(4):
            out[16 + k] += squares[k]


@njit(
    types.void(
        types.Array(types.uint32, 2, "C", readonly=True),
        types.Array(types.int32, 1, "C", readonly=True),
        types.Array(types.int16, 1, "C"),
        types.Array(types.int32, 1, "C"),
        _INTEGERS_OUT,
    ),
    cache=True,
    nogil=True,
)
def _projections_loop(bits, values, small, large, out):  # type: ignore[no-untyped-def]
    """Add <Z_k, values> to out_k for 128 tests k; test k has the bits 2k and 2k + 1 of an entry.

    A test is the sum of its two bits less one: -1, 0, 0 or 1.
    """
    for start in range(0, len(values), _PROJECTION_BLOCK):
        end = min(start + _PROJECTION_BLOCK, len(values))
        positive = negative = 0
        for i in range(start, end):
            positive += max(values[i], 0)
            negative += min(values[i], 0)
        if positive < 1 << 15 and negative >= -(1 << 15):  # so is the sum of any of the values
            for word in range(0, 8, 4):
                lanes0 = lanes1 = lanes2 = lanes3 = _no_lanes16()
                for i in range(start, end):
                    value = np.int16(values[i])
                    lanes0 = _add_where(lanes0, bits[i, word], value)
                    lanes1 = _add_where(lanes1, bits[i, word + 1], value)
                    lanes2 = _add_where(lanes2, bits[i, word + 2], value)
                    lanes3 = _add_where(lanes3, bits[i, word + 3], value)
                _store_lanes(small, 64 * word, lanes0)
                _store_lanes(small, 64 * (word + 1), lanes1)
                _store_lanes(small, 64 * (word + 2), lanes2)
                _store_lanes(small, 64 * (word + 3), lanes3)
            for k in range(_BITS // 2):
                both = np.int64(small[2 * k]) + np.int64(small[2 * k + 1])
                out[k] += both - positive - negative
        else:
            for word in range(8):
                wide0 = wide1 = _no_lanes32()
                for i in range(start, end):
                    wide0 = _add_where(wide0, np.uint16(bits[i, word]), values[i])
                    wide1 = _add_where(wide1, np.uint16(bits[i, word] >> np.uint32(16)), values[i])
                _store_lanes(large, 128 * word, wide0)
                _store_lanes(large, 128 * word + 64, wide1)
            for k in range(_BITS // 2):
                both = np.int64(large[2 * k]) + np.int64(large[2 * k + 1])
                out[k] += both - positive - negative


# --- the interface ------------------------------------------------------------------------------


def _words(vector: FieldVector) -> FieldVector:
    """Contiguous, aligned uint64: itself, unless it came from the middle of a message."""
    return np.require(vector, np.uint64, ["C", "A"])


def _same_length(*vectors: npt.NDArray[np.generic]) -> None:
    lengths = {vector.shape[0] for vector in vectors}
    if len(lengths) > 1 or max(lengths) > MAX_LENGTH:  # a kernel does not check its indices
        raise UsageError("vectors of unequal or excessive length", got=sorted(lengths))


def _join(sums: Sequence[int]) -> int:
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
    _same_length(weights[0], vector)
    sums = _two_inner_products_loop(_words(weights[0]), _words(weights[1]), _words(vector))
    return ExtensionElement(_join(sums[:4]), _join(sums[4:]))


def power_sum(
    powers: FieldVector, shift: ExtensionElement, vector: FieldVector
) -> ExtensionElement:
    """Return the sum over i = 0, 1, ... of g^(i+1) * vector_i."""
    rows = _words(powers[0]), _words(powers[1])
    low, high = _power_sum_loop(*rows, np.uint64(shift.low), np.uint64(shift.high), _words(vector))
    return ExtensionElement(int(low), int(high))


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


def word_products(
    tests: npt.NDArray[np.uint8],
    tables: npt.NDArray[np.int64],
    weights: FieldVector,
    vector: FieldVector,
) -> tuple[ExtensionElement, ExtensionElement, int]:
    """Return sum weights_i vector_i, sum coefficient_i vector_i, and sum vector_i^2."""
    _same_length(tests, weights[0], vector)
    groups = tests.shape[1]
    if tables.shape != (groups, 256, 2) or groups > _GROUPS:
        raise UsageError("tables do not fit the tests", got=tables.shape, want=(groups, 256, 2))
    sums = np.empty(2 * _TABLE_BLOCK, dtype=np.int64)
    coefficients = np.empty((2, _TABLE_BLOCK), dtype=np.uint64)
    out = np.zeros(20, dtype=np.uint64)
    words = _padded(tests, 1, _GROUPS).view(np.uint64)
    flat = _padded(tables, 0, _GROUPS).reshape(-1)
    rows = _words(weights[0]), _words(weights[1]), _words(vector)
    _word_products_loop(words, flat, *rows, sums, coefficients, out)
    parts = out.tolist()
    weighted = ExtensionElement(_join(parts[0:4]), _join(parts[4:8]))
    projected = ExtensionElement(_join(parts[8:12]), _join(parts[12:16]))
    return weighted, projected, _join(parts[16:20])


def projections(
    tests: npt.NDArray[np.uint8], values: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """Return <Z_k, values> for every test k, as signed integers."""
    _same_length(tests, values)
    groups = tests.shape[1]
    out = np.zeros(_BITS // 2, dtype=np.int64)
    small, large = np.empty(_BITS, dtype=np.int16), np.empty(_BITS, dtype=np.int32)
    bits = _padded(tests, 1, _GROUPS).view(np.uint32)
    _projections_loop(bits, np.ascontiguousarray(values), small, large, out)
    return out[: 4 * groups]


def from_signed(values: npt.NDArray[np.int64], out: FieldVector) -> None:
    """Write signed integers as field elements to `out`."""
    _same_length(values, out)
    _from_signed_loop(np.ascontiguousarray(values), out)


def to_signed(vector: FieldVector, out: npt.NDArray[np.int64]) -> None:
    """Write field elements as signed integers in (-p/2, p/2) to `out`."""
    _same_length(vector, out)
    _to_signed_loop(_words(vector), out)


def squared_norm(values: npt.NDArray[np.int64], limit: int) -> int | None:
    """Return the sum of squares, or None if a value exceeds the limit."""
    _same_length(values)
    total = 0
    for start in range(0, len(values), _SUM_BLOCK):  # 2^13 squares of at most 2^50: at most 2^63
        least, largest, squares = _extent_loop(
            np.ascontiguousarray(values[start : start + _SUM_BLOCK])
        )
        if least < -limit or largest > limit:
            return None
        total += squares
    return total


def round_stochastically(
    vector: npt.NDArray[np.float64],
    factor: float,
    draws: FieldVector,
    out: npt.NDArray[np.int64],
) -> None:
    """Write factor * vector, each rounded up or down by its draw, to `out`."""
    _same_length(vector, draws, out)
    _round_loop(np.ascontiguousarray(vector), factor, draws, out)


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
