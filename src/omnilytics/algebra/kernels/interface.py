"""What every implementation of the kernels offers.

All vectors are uint64, canonical (< p) unless said otherwise, contiguous, and of equal length;
vectors of E have shape (2, count). Lengths are at most 2^28 (delayed reductions rely on it).
Results in `out` are canonical. Inputs are not checked: that is done once, where data enters
(`field.require_canonical`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import FieldVector

MAX_LENGTH = 1 << 28
"""Longest vector a kernel takes."""


class Kernels(Protocol):
    """The kernels; `reference` says in plain Python what each computes."""

    def all_canonical(self, vector: FieldVector) -> bool:
        """Return whether every element is < p."""
        ...

    def add(self, left: FieldVector, right: FieldVector, out: FieldVector) -> None:
        """Write left + right to `out`, which may be an input."""
        ...

    def subtract(self, left: FieldVector, right: FieldVector, out: FieldVector) -> None:
        """Write left - right to `out`, which may be an input."""
        ...

    def multiply(self, left: FieldVector, right: FieldVector, out: FieldVector) -> None:
        """Write left * right, entry by entry, to `out`, which may be an input."""
        ...

    def axpy(self, factor: int, vector: FieldVector, out: FieldVector) -> None:
        """Add factor * vector to `out`."""
        ...

    def inner_product(self, left: FieldVector, right: FieldVector) -> int:
        """Return the sum of left_i * right_i."""
        ...

    def sum_of_squares(self, vector: FieldVector) -> int:
        """Return the sum of vector_i^2."""
        ...

    def extension_inner_product(
        self, weights: FieldVector, vector: FieldVector
    ) -> ExtensionElement:
        """Return the sum of weights_i * vector_i; weights in E, shape (2, count)."""
        ...

    def power_sum(
        self, powers: FieldVector, shift: ExtensionElement, vector: FieldVector
    ) -> ExtensionElement:
        """Return the sum over i = 0, 1, ... of g^(i+1) * vector_i.

        Args:
            powers: g, g^2, ..., g^size in E, shape (2, size), size at least 1.
            shift: g^size.
            vector: Any length.
        """
        ...

    def extension_powers(self, base: ExtensionElement, first: int, count: int) -> FieldVector:
        """Return base^first, base^(first+1), ... as a vector of E, shape (2, count)."""
        ...

    def extend_shares(self, table: FieldVector, out: FieldVector, column: int) -> None:
        """Continue polynomials by forward differences, from points 0..d to the points after.

        Args:
            table: Shape (d+1, count): column i holds a polynomial of degree <= d at 0..d. It is
                overwritten.
            out: Shape (points, columns): row k receives the values at point d+1+k.
            column: First of the `count` columns of `out` that are written.
        """
        ...

    def word_products(
        self,
        tests: npt.NDArray[np.uint8],
        tables: npt.NDArray[np.int64],
        weights: FieldVector,
        vector: FieldVector,
    ) -> tuple[ExtensionElement, ExtensionElement, int]:
        """Return what a server's word needs of a part of its share, in one pass.

        Args:
            tests: Shape (count, groups): the stream Z, four tests a byte.
            tables: Shape (groups, 256, 2): for a byte of a group the sum of its four signed
                weights, both limbs; all groups together sum to less than 2^63.
            weights: In E, shape (2, count).
            vector: Shape (count,).

        Returns:
            The sum of weights_i * vector_i; the sum of coefficient_i * vector_i, where a
            coefficient is the sum over the wraparound tests of weight times test; the sum of
            vector_i^2.
        """
        ...

    def projections(
        self, tests: npt.NDArray[np.uint8], values: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int64]:
        """Return <Z_k, values> for every test k, as signed integers.

        Args:
            tests: Shape (count, groups): the stream Z, four tests a byte.
            values: Shape (count,), each at most 2^24 in absolute value.

        Returns:
            Shape (4 * groups,).
        """
        ...

    def from_signed(self, values: npt.NDArray[np.int64], out: FieldVector) -> None:
        """Write signed integers, each above -p and below 2^63, as field elements to `out`."""
        ...

    def to_signed(self, vector: FieldVector, out: npt.NDArray[np.int64]) -> None:
        """Write field elements as signed integers in (-p/2, p/2) to `out`."""
        ...

    def squared_norm(self, values: npt.NDArray[np.int64], limit: int) -> int | None:
        """Return the exact sum of values_i^2, or None if a value exceeds the limit.

        Args:
            values: Any integers.
            limit: Largest absolute value, at most 2^25.
        """
        ...

    def round_stochastically(
        self,
        vector: npt.NDArray[np.float64],
        factor: float,
        draws: FieldVector,
        out: npt.NDArray[np.int64],
    ) -> None:
        """Write factor * vector, rounded without bias, to `out`.

        Args:
            vector: Finite; factor * vector below 2^53 in absolute value.
            factor: Multiplied with every entry.
            draws: 64 random bits an entry, of which 53 are used; any uint64.
            out: Receives floor(factor * entry), or one more where the draw says so: with a
                probability of the fraction.
        """
        ...

    def linear_combination(
        self, factors: Sequence[int], vectors: Sequence[FieldVector], out: FieldVector
    ) -> None:
        """Write the sum of factor_k * vector_k to `out`."""
        ...
