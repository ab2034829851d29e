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

import numpy as np

from omnilytics.learning.audit.structure import (
    NotApplicable,
    Reals,
    Side,
    Structure,
    draw_secret,
    read_structure,
    true_scales,
)
from omnilytics.learning.audit.subject import Subject
from omnilytics.perturbation.artefact import Tensors

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
    secret = draw_secret(subject.graph, subject.seed, 2, magnitude_bits=magnitude_bits)
    published = secret.perturb(subject.weights)
    true: dict[str, Reals] = {}
    estimated: dict[str, Reals] = {}
    for group, logarithms in balance(structure, published).items():
        drawn = np.log2(np.abs(true_scales(secret, structure, subject.weights, group)))
        if np.ptp(drawn) > 0:
            name = _name_of(structure, group)
            true[name], estimated[name] = drawn - drawn.mean(), logarithms
    if not true:
        raise NotApplicable("no unit of this network can be scaled, only reordered or turned")
    return ScaleRecovery(estimated, true)


def balance(structure: Structure, published: Tensors) -> dict[int, Reals]:
    """Return log2 of the scales that upset the balance, of mean 0, by group of scales.

    Groups whose units have no weights on one side are left out: there is nothing to balance.
    """
    squares = {name: _squares(published[name], sides) for name, sides in structure.tensors.items()}
    both = _two_sided(structure)
    found = {group: np.zeros(size) for group, size in enumerate(structure.stretched)}
    for _ in range(_SWEEPS):
        largest = 0.0
        for group in both:
            change = _imbalance(structure, squares, found, group)
            found[group] += change
            largest = max(largest, float(np.abs(change).max()))
        if largest < _SETTLED:
            break
    return {group: found[group] - found[group].mean() for group in both}


def _two_sided(structure: Structure) -> list[int]:
    powers: dict[int, set[int]] = {}
    for sides in structure.tensors.values():
        for side in sides:
            powers.setdefault(side.scale, set()).add(side.power)
    return [
        group
        for group, size in enumerate(structure.stretched)
        if size > 1 and powers.get(group) == {1, -1}
    ]


def _imbalance(
    structure: Structure, squares: Mapping[str, Reals], scales: Mapping[int, Reals], group: int
) -> Reals:
    """Return what must be added to log2 r of a group so that it alone is balanced."""
    size = structure.stretched[group]
    norms = {1: np.zeros(size), -1: np.zeros(size)}
    for name, sides in structure.tensors.items():
        for position, side in enumerate(sides):
            if side.scale == group:
                balanced = _divided(structure, squares[name], sides, scales)
                others = tuple(axis for axis in range(len(sides)) if axis != position)
                norms[side.power] += balanced.sum(axis=others)
    tiny = np.finfo(np.float64).tiny
    change: Reals = (np.log2(norms[1] + tiny) - np.log2(norms[-1] + tiny)) / 4
    dead = (norms[1] == 0) | (norms[-1] == 0)  # no side to balance it with
    return np.where(dead, 0.0, change)


def _divided(
    structure: Structure, squares: Reals, sides: tuple[Side, ...], scales: Mapping[int, Reals]
) -> Reals:
    """Return squares as they would be without the estimated scales."""
    for position, side in enumerate(sides):
        if structure.stretched[side.scale]:
            shape = [1] * len(sides)
            shape[position] = -1
            power = -2.0 * side.power
            squares = squares * 2.0 ** (power * scales[side.scale].reshape(shape))
    return squares


def _squares(tensor: np.ndarray, sides: tuple[Side, ...]) -> Reals:
    """Return sums of squares by channel of every side, in the sides' order."""
    found = np.moveaxis(
        tensor.astype(np.float64) ** 2, [side.axis for side in sides], range(len(sides))
    )
    found = found.reshape(*found.shape[: len(sides)], -1).sum(axis=-1)
    for position, side in enumerate(sides):
        starts = np.arange(0, found.shape[position], side.block)
        found = np.add.reduceat(found, starts, axis=position)
    return found


def _name_of(structure: Structure, group: int) -> str:
    return next(
        name
        for name, sides in structure.tensors.items()
        if any(side.scale == group and side.power == 1 for side in sides)
    )
