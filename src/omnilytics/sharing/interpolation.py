"""Interpolation at 0 from any t+1 servers' points, scalars and vectors (protocol.md section 4).

Nothing here detects a wrong share: `codewords.py` and `recovery.py` do that first.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from omnilytics.algebra import kernels
from omnilytics.algebra.field import MODULUS, FieldVector, inverse
from omnilytics.foundation.errors import UsageError


@lru_cache(maxsize=1024)
def weights_at_zero(points: tuple[int, ...]) -> tuple[int, ...]:
    """Return the Lagrange weights that take values at `points` to the value at 0.

    Args:
        points: Distinct, non-zero.

    Raises:
        UsageError: If a point is zero or occurs twice.
    """
    if len(set(points)) != len(points) or any(point % MODULUS == 0 for point in points):
        raise UsageError("points must be distinct and not zero", got=points)
    weights = []
    for point in points:
        numerator = denominator = 1
        for other in points:
            if other != point:
                numerator = numerator * other % MODULUS
                denominator = denominator * (other - point) % MODULUS
        weights.append(numerator * inverse(denominator) % MODULUS)
    return tuple(weights)


def interpolate_at_zero(values: Mapping[int, int]) -> int:
    """Return the value at 0 of the polynomial through all given points (point -> value)."""
    points = tuple(sorted(values))
    weights = weights_at_zero(points)
    pairs = zip(points, weights, strict=True)
    return sum(weight * values[point] for point, weight in pairs) % MODULUS


def interpolate_vectors_at_zero(vectors: Mapping[int, FieldVector]) -> FieldVector:
    """Return, entry by entry, the value at 0 through all given points (point -> vector).

    Args:
        vectors: Equal length, canonical; t+1 of them for shares of degree t.
    """
    points = tuple(sorted(vectors))
    ordered = [vectors[point] for point in points]
    out = np.empty(len(ordered[0]), dtype=np.uint64)
    kernels.current().linear_combination(weights_at_zero(points), ordered, out)
    return out
