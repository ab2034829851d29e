"""Scale recovery: a data owner finds the secret scales by balancing norms.

In a network that was trained from the usual initial weights, the weights into a unit and those out
of it have related norms. Secret scales r (W' = R o W, R_ij = r_out_i / r_in_j) upset that, and the
scales that restore the balance estimate r. Balanced are all groups together, one after another
until nothing moves; the sum of squares over both sides of all units is convex in log r, so there is
one answer. It finds r only up to one factor a group, which hides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnilytics.learning.audit.structure import (
    NotApplicable,
    Piece,
    Reals,
    Structure,
    publish,
    read_structure,
)
from omnilytics.learning.audit.subject import Subject

_SWEEPS = 200
_SETTLED = 1e-9


@dataclass(frozen=True, repr=False)
class ScaleRecovery:
    """Estimated and true log2 |r| of every unit, by the name of the layer that makes the units."""

    estimated: Mapping[str, Reals]
    true: Mapping[str, Reals]

    def correlations(self) -> dict[str, float]:
        """Return the correlation of estimated with true log |r|, by layer."""
        return {
            name: float(np.corrcoef(self.estimated[name], true)[0, 1])
            if np.ptp(self.estimated[name])
            else 0.0
            for name, true in self.true.items()
        }


def recover_scales(subject: Subject, *, magnitude_bits: int = 4) -> ScaleRecovery:
    """Publish the model under secret scales and estimate them from what is published.

    Args:
        subject: What is audited.
        magnitude_bits: Scales are 2^u, u uniform in -magnitude_bits .. magnitude_bits.

    Raises:
        NotApplicable: No unit of the network may be scaled.
    """
    structure = read_structure(subject.graph)
    published = publish(
        subject.graph, subject.weights, subject.seed, 2, magnitude_bits=magnitude_bits
    )
    true: dict[str, Reals] = {}
    estimated: dict[str, Reals] = {}
    for group, logarithms in balance(structure, published.weights).items():
        name, order = _maker(structure, group)
        drawn = np.log2(np.abs(published.scales[group]))[published.orders[order]]
        if np.ptp(drawn) > 0:
            true[name], estimated[name] = drawn - drawn.mean(), logarithms
    if not true:
        raise NotApplicable("no unit of this network can be scaled, only reordered or turned")
    return ScaleRecovery(estimated, true)


def balance(
    structure: Structure, published: Mapping[str, NDArray[np.floating[Any]]]
) -> dict[int, Reals]:
    """Return log2 of the scales that upset the balance, of mean 0, by group of scales.

    Groups whose units have no weights on one side are left out: there is nothing to balance.
    """
    parts = [_Part(piece, _squares(piece, published)) for piece in structure.pieces]
    both = _two_sided(structure)
    found = {group: np.zeros(size) for group, size in enumerate(structure.stretched)}
    for _ in range(_SWEEPS):
        largest = 0.0
        for group in both:
            change = _imbalance(structure, parts, found, group)
            found[group] += change
            largest = max(largest, float(np.abs(change).max()))
        if largest < _SETTLED:
            break
    return {group: found[group] - found[group].mean() for group in both}


@dataclass(frozen=True, repr=False)
class _Part:
    """A piece and its sums of squares by channel of every side, in the sides' order."""

    piece: Piece
    squares: Reals


def _two_sided(structure: Structure) -> list[int]:
    powers: dict[int, set[int]] = {}
    for piece in structure.pieces:
        for side in piece.sides:
            for group, power in side.scales:
                powers.setdefault(group, set()).add(power)
    return [
        group
        for group, size in enumerate(structure.stretched)
        if size > 1 and powers.get(group) == {1, -1}
    ]


def _imbalance(
    structure: Structure, parts: list[_Part], scales: Mapping[int, Reals], group: int
) -> Reals:
    """Return what must be added to log2 r of a group so that it alone is balanced."""
    size = structure.stretched[group]
    norms = {1: np.zeros(size), -1: np.zeros(size)}
    for part in parts:
        for position, side in enumerate(part.piece.sides):
            for each, power in side.scales:
                if each == group:
                    others = tuple(
                        axis for axis in range(len(part.piece.sides)) if axis != position
                    )
                    norms[power] += _divided(structure, part, scales).sum(axis=others)
    dead = (norms[1] == 0) | (norms[-1] == 0)  # no side to balance it with
    safe = {power: np.where(dead, 1.0, norm) for power, norm in norms.items()}
    change: Reals = (np.log2(safe[1]) - np.log2(safe[-1])) / 4
    return change


def _divided(structure: Structure, part: _Part, scales: Mapping[int, Reals]) -> Reals:
    """Return squares as they would be without the estimated scales."""
    squares = part.squares
    for position, side in enumerate(part.piece.sides):
        shape = [1] * len(part.piece.sides)
        shape[position] = -1
        for group, power in side.scales:
            if structure.stretched[group]:
                squares = squares * 2.0 ** (-2.0 * power * scales[group].reshape(shape))
    return squares


def _squares(piece: Piece, tensors: Mapping[str, NDArray[np.floating[Any]]]) -> Reals:
    count = len(piece.sides)
    found = np.moveaxis(piece.of(tensors) ** 2, [side.axis for side in piece.sides], range(count))
    found = found.reshape(*found.shape[:count], -1).sum(axis=-1)
    for position, side in enumerate(piece.sides):
        starts = np.arange(0, found.shape[position], side.block)
        found = np.add.reduceat(found, starts, axis=position)
    return found


def _maker(structure: Structure, group: int) -> tuple[str, int]:
    """Return the first tensor that is multiplied by a group's scales, and their order's group."""
    return next(
        (piece.name, side.order)
        for piece in structure.pieces
        for side in piece.sides
        if (group, 1) in side.scales
    )
