"""Least squares for costs that are linear in products of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fit:
    """A cost as constant + per_vector * owners + per_sum * D + per_entry * D * owners.

    Attributes:
        constant: Of a round.
        per_vector: Of each owner.
        per_sum: Of each entry of the sum.
        per_entry: Of each entry of each owner.
        r_squared: Share of the variance that it explains, at most 1.
    """

    constant: float
    per_vector: float
    per_sum: float
    per_entry: float
    r_squared: float

    def at(self, dimension: int, owners: int) -> float:
        """Return the cost that the fit gives for sizes, measured or not."""
        return float(_terms(dimension, owners) @ np.array(self.coefficients))

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        """The four of them, in order."""
        return self.constant, self.per_vector, self.per_sum, self.per_entry


def fit(points: Sequence[tuple[int, int, float]]) -> Fit:
    """Return the least-squares fit.

    Args:
        points: (D, owners, cost), at least five, of two dimensions and two numbers of owners or
            more.

    Raises:
        ValueError: The points do not determine the four coefficients.
    """
    terms = np.array([_terms(dimension, owners) for dimension, owners, _ in points])
    costs = np.array([cost for *_, cost in points], dtype=np.float64)
    sizes = np.abs(terms).max(axis=0)  # columns of one size, or rank is lost to rounding
    found, _, rank, _ = np.linalg.lstsq(terms / sizes, costs, rcond=None)
    if len(points) <= terms.shape[1] or rank < terms.shape[1]:
        raise ValueError("the points do not determine the fit")
    coefficients = found / sizes
    left = costs - terms @ coefficients
    spread = costs - costs.mean()
    r_squared = 1.0 - float(left @ left) / float(spread @ spread)
    constant, per_vector, per_sum, per_entry = map(float, coefficients)
    return Fit(constant, per_vector, per_sum, per_entry, r_squared)


def _terms(dimension: int, owners: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([1.0, owners, dimension, dimension * owners])
