"""Matching two rounds: whoever sees both artefacts finds which unit became which.

Fresh secrets reorder (and sign or scale) hidden units anew each round, but one optimiser step
changes their weights little. Layer by layer, from where the order is known (input, output, groups
already matched), units are assigned to each other by the cosine of their weights (Hungarian
method). Which *names* the true model gives its units stays hidden; that two published units are the
same does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from omnilytics.learning.audit.structure import (
    NotApplicable,
    Order,
    Reals,
    Side,
    Structure,
    draw_secret,
    read_structure,
    true_order,
)
from omnilytics.learning.audit.subject import Subject
from omnilytics.perturbation.artefact import Tensors


@dataclass(frozen=True)
class Matched:
    """Share of units matched rightly (0 to 1) and number of units, by the layer that makes them."""

    shares: Mapping[str, float]
    units: Mapping[str, int]

    @property
    def share(self) -> float:
        """Share over all layers."""
        total = sum(self.units.values())
        return sum(self.shares[name] * count for name, count in self.units.items()) / total


def match_rounds(first: Subject, second: Subject, *, magnitude_bits: int = 0) -> Matched:
    """Publish two models of one graph under fresh secrets, match them, and count what is right.

    Args:
        first: The model of one round.
        second: The model of a later one.
        magnitude_bits: As in `draw_secret`.

    Raises:
        NotApplicable: No group of units is reordered.
    """
    structure = read_structure(first.graph)
    if not structure.hidden():
        raise NotApplicable("no units of this network are reordered")
    secrets = [
        draw_secret(first.graph, first.seed, 3, number, magnitude_bits=magnitude_bits)
        for number in range(2)
    ]
    found = match_units(
        structure, secrets[0].perturb(first.weights), secrets[1].perturb(second.weights)
    )
    shares: dict[str, float] = {}
    units: dict[str, int] = {}
    for group in structure.hidden():
        name = structure.names[group]
        before, after = (true_order(secret, structure, first.weights, group) for secret in secrets)
        right = after[found[group]] == before if group in found else np.zeros(1)
        shares[name], units[name] = float(np.mean(right)), structure.channels[group]
    return Matched(shares, units)


def match_units(structure: Structure, first: Tensors, second: Tensors) -> dict[int, Order]:
    """Return, by group, for every unit of `first` the unit of `second` that it became.

    Groups that no chain of weights ties to input or output are left out.
    """
    aligned = _Aligned(structure, first, second)
    waiting = structure.hidden()
    while True:
        ready = [group for group in waiting if aligned.can_match(group)]
        if not ready:
            return {
                group: aligned.orders[group]
                for group in structure.hidden()
                if group in aligned.orders
            }
        aligned.match(ready[0])
        waiting.remove(ready[0])


class _Aligned:
    """Groups whose order and scales, second relative to first, are known."""

    def __init__(self, structure: Structure, first: Tensors, second: Tensors) -> None:
        self._structure = structure
        self._first = first
        self._second = second
        hidden = set(structure.hidden())
        self.orders: dict[int, Order] = {
            group: np.arange(channels)
            for group, channels in enumerate(structure.channels)
            if group not in hidden
        }
        self._scales: dict[int, Reals] = {}

    def can_match(self, group: int) -> bool:
        return any(len(sides) > 1 for _, _, sides in self._usable(group))

    def match(self, group: int) -> None:
        """Assign the units of a group, then estimate their relative scales."""
        usable = self._usable(group)
        similar: Reals = np.zeros((self._structure.channels[group],) * 2)
        for power in (1, -1):
            views = [self._views(*each) for each in usable if each[1].power == power]
            if views:
                one, other = (np.concatenate(parts, axis=1) for parts in zip(*views, strict=True))
                cosine = _unit(one) @ _unit(other).T
                signed = self._structure.signed[usable[0][1].scale]
                similar += np.abs(cosine) if signed else cosine
        self.orders[group] = linear_sum_assignment(-similar)[1].astype(np.int64)
        for each in usable:
            if each[1].power == 1 and each[1].scale not in self._scales:
                one, other = self._views(*each)
                self._scales[each[1].scale] = _ratio(one, other[self.orders[group]])

    def _usable(self, group: int) -> list[tuple[str, Side, tuple[Side, ...]]]:
        """Return the tensors that have the group on one side and only known ones on others."""
        return [
            (name, side, sides)
            for name, sides in self._structure.tensors.items()
            for side in sides
            if side.order == group
            and all(other.order in self.orders for other in sides if other is not side)
        ]

    def _views(self, name: str, side: Side, sides: tuple[Side, ...]) -> tuple[Reals, Reals]:
        """Return both tensors as (units, features), the second's features in the first's terms."""
        one, other = self._first[name].astype(float), self._second[name].astype(float)
        for each in sides:
            if each is not side:
                other = self._undone(other, each)
        return _rows(one, side), _rows(other, side)

    def _undone(self, tensor: Reals, side: Side) -> Reals:
        order = self.orders[side.order]
        entries = (order[:, None] * side.block + np.arange(side.block)).reshape(-1)
        tensor = tensor.take(entries, axis=side.axis)
        scales = self._scales.get(side.scale)
        if scales is None:
            return tensor
        shape = [1] * tensor.ndim
        shape[side.axis] = -1
        undone: Reals = tensor * (scales.repeat(side.block) ** -side.power).reshape(shape)
        return undone


def _rows(tensor: Reals, side: Side) -> Reals:
    moved = np.moveaxis(tensor, side.axis, 0)
    return moved.reshape(len(moved) // side.block, -1)


def _unit(rows: Reals) -> Reals:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)


def _ratio(one: Reals, other: Reals) -> Reals:
    """Return the factor that takes each row of `one` closest to that of `other`; 1 if none does."""
    products, squares = (one * other).sum(axis=1), (one * one).sum(axis=1)
    usable = (squares > 0) & (products != 0)
    return np.where(usable, products / np.where(usable, squares, 1.0), 1.0)
