"""Fixed point: from real vectors to field elements and back (protocol.md section 2).

A component is a slice of the vector whose honest L2 norm is at most 1. All components are
multiplied by one factor, so that each squared norm leaves room for rounding below
S = 2^(2f) - 1, and rounded to integers with f fractional bits by unbiased stochastic rounding:
the expectation of an entry is the scaled real number, so sums over owners do not drift.

What this does not guarantee: that a malicious owner rounds like this. The validity proof bounds
norms and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from omnilytics.algebra import kernels
from omnilytics.algebra.field import MODULUS, FieldVector
from omnilytics.algebra.streams import LABEL_ROUNDING, Stream
from omnilytics.foundation.errors import ModelError, UsageError
from omnilytics.foundation.randomness import Randomness

FloatVector = npt.NDArray[np.float64]
IntegerVector = npt.NDArray[np.int64]

MIN_FRACTIONAL_BITS: Final = 4
"""With 3 bits the rounding margin of 8 * 2^f would be larger than S."""
MAX_FRACTIONAL_BITS: Final = 24
"""More would break 81 W^2 <= p for any number of components (protocol.md section 3)."""
_MAX_ATTEMPTS: Final = 64
_BLOCK: Final = 8192
"""Entries handled at a time, in the processor's cache."""


@dataclass(frozen=True)
class FixedPointVector:
    """A rounded vector.

    Attributes:
        values: int64, every component's sum of squares <= S.
        factor: What all entries were multiplied by first, in (0, 1]; below 1 if clipped.
    """

    values: IntegerVector
    factor: float


def squared_norm_bound(fractional_bits: int) -> int:
    """Return S = 2^(2f) - 1, the bound of a component's squared norm."""
    return (1 << (2 * fractional_bits)) - 1


def check_parameters(*, dimension: int, fractional_bits: int, max_owners: int = 1) -> None:
    """Check that vectors can be rounded within the bound and sums decoded.

    Args:
        dimension: D, entries of all components together.
        fractional_bits: f.
        max_owners: Most owners a sum is taken over.

    Raises:
        UsageError: Unless 4 <= f <= 24, 1 <= D <= S/16 and 1 <= max_owners * 2^f <= p/2.
    """
    if not MIN_FRACTIONAL_BITS <= fractional_bits <= MAX_FRACTIONAL_BITS:
        want = f"{MIN_FRACTIONAL_BITS} to {MAX_FRACTIONAL_BITS}"
        raise UsageError("fractional bits out of range", got=fractional_bits, want=want)
    if not 1 <= dimension <= squared_norm_bound(fractional_bits) // 16:
        raise UsageError(
            "too many entries for the rounding margin",
            got=dimension,
            want=f"1 to {squared_norm_bound(fractional_bits) // 16}",
            hint="use more fractional bits",
        )
    if not 1 <= max_owners <= (MODULUS // 2) >> fractional_bits:
        raise UsageError(
            "a sum over the owners could wrap around the field",
            got=max_owners,
            want=f"1 to {(MODULUS // 2) >> fractional_bits} owners",
        )


def round_vector(
    vector: FloatVector,
    *,
    components: Sequence[int],
    fractional_bits: int,
    randomness: Randomness,
    locate: Callable[[int], str] | None = None,
) -> FixedPointVector:
    """Clip a real vector by one common factor and round it stochastically, without bias.

    Args:
        vector: float64, shape (D,), already divided by the task's scales.
        components: Lengths of the components in order; their sum is D.
        fractional_bits: f.
        randomness: Gives 32 bytes for each attempt (a second one is practically never needed).
        locate: Names the tensor that holds an index, for the error about NaN.

    Returns:
        The integers and the factor.

    Raises:
        ModelError: If an entry is NaN or infinite.
        UsageError: If lengths or parameters do not fit.
    """
    check_parameters(dimension=len(vector), fractional_bits=fractional_bits)
    if sum(components) != len(vector) or min(components) < 1:
        raise UsageError("components do not fit", got=list(components), want=len(vector))
    largest = max(float(vector.max()), -float(vector.min()))  # a NaN anywhere is the maximum
    if not isfinite(largest):
        raise _not_finite(vector, locate)
    bound = squared_norm_bound(fractional_bits)
    factor = _common_factor(vector, largest, components, fractional_bits)
    for _ in range(_MAX_ATTEMPTS):
        values = _round_stochastically(vector, factor * 2.0**fractional_bits, randomness)
        if max(squared_norms(values, components)) <= bound:
            return FixedPointVector(values, factor)
    raise UsageError("rounding exceeded the norm bound again and again")


def squared_norms(
    values: IntegerVector, components: Sequence[int], limit: int = 1 << 25
) -> list[int]:
    """Return each component's exact sum of squares.

    Raises:
        UsageError: If an entry exceeds the limit, at most 2^25, in absolute value.
    """
    norms, start = [], 0
    for length in components:
        norm = kernels.current().squared_norm(values[start : start + length], limit)
        if norm is None:
            raise UsageError("an entry exceeds the norm bound", want=f"at most {limit}")
        norms.append(norm)
        start += length
    return norms


def to_field(values: IntegerVector) -> FieldVector:
    """Return signed integers, each above -p and below 2^63, as field elements."""
    lifted = np.empty(len(values), dtype=np.uint64)
    kernels.current().from_signed(values, lifted)  # a negative v becomes p - |v|
    return lifted


def from_field(vector: FieldVector) -> IntegerVector:
    """Return field elements as signed integers in (-p/2, p/2)."""
    values = np.empty(len(vector), dtype=np.int64)
    kernels.current().to_signed(vector, values)
    return values


def to_float(values: IntegerVector, fractional_bits: int) -> FloatVector:
    """Return integers with f fractional bits as real numbers."""
    return values.astype(np.float64) * 2.0**-fractional_bits


def _not_finite(vector: FloatVector, locate: Callable[[int], str] | None) -> ModelError:
    index = int(np.argmin(np.isfinite(vector)))
    place = {"tensor": locate(index)} if locate else {}
    return ModelError(
        "an entry of the vector is not a finite number",
        got=float(vector[index]),
        hint="lower the learning rate, or look for a division by zero in the loss",
        index=index,
        **place,
    )


def _common_factor(
    vector: FloatVector, largest: float, components: Sequence[int], fractional_bits: int
) -> float:
    """Return the factor <= 1 that clips every squared norm to S - D/4 - 8 * 2^f."""
    room = squared_norm_bound(fractional_bits) - len(vector) / 4 - 8 * 2**fractional_bits
    if largest == 0.0:
        return 1.0
    start, norm = 0, 0.0  # in units of `largest`, lest squares overflow
    for length in components:
        norm = max(norm, sqrt(_scaled_squares(vector[start : start + length], largest)))
        start += length
    # A relative 1e-12 pays for the rounding errors of the sums.
    return min(1.0, sqrt(room) * 2.0**-fractional_bits * (1 - 1e-12) / norm / largest)


def _scaled_squares(vector: FloatVector, largest: float) -> float:
    """Return the sum of (entry / largest)^2."""
    parts = (vector[i : i + _BLOCK] / largest for i in range(0, len(vector), _BLOCK))
    return sum(float(np.dot(part, part)) for part in parts)


def _round_stochastically(
    vector: FloatVector, factor: float, randomness: Randomness
) -> IntegerVector:
    """Return factor * vector, rounded: below 2^24 + 1 in absolute value, so floor is exact."""
    stream = Stream(LABEL_ROUNDING, randomness.bytes(32))
    values = np.empty(len(vector), dtype=np.int64)
    draws = np.empty(min(len(vector), _BLOCK), dtype=np.uint64)
    for start in range(0, len(vector), _BLOCK):
        part = slice(start, start + _BLOCK)
        used = draws[: len(vector[part])]
        stream.read_into(8 * start, used.view(np.uint8))
        kernels.current().round_stochastically(vector[part], factor, used, values[part])
    return values
