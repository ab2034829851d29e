"""Matching two rounds: whoever sees both artefacts finds which unit became which.

Fresh secrets reorder, sign, scale and turn hidden units anew each round, but one optimiser step
changes their weights little. Layer by layer, from where the order is known (input, output, groups
already matched), units are assigned to each other by the cosine of their weights (Hungarian
method). Where a secret orthogonal matrix mixes the other side of the weights, the cosines of a
layer's units with each other are as they were, and each unit is known by those it has, sorted.
Which *names* the true model gives its units stays hidden; that two published units are the same
does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from omnilytics.learning.audit.structure import (
    NotApplicable,
    Order,
    Piece,
    Reals,
    Side,
    Structure,
    publish,
    read_structure,
)
from omnilytics.learning.audit.subject import Subject

Weights = Mapping[str, NDArray[np.floating[Any]]]


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
        magnitude_bits: As in `publish`.

    Raises:
        NotApplicable: No group of units is reordered.
    """
    structure = read_structure(first.graph)
    if not structure.hidden:
        raise NotApplicable("no units of this network are reordered")
    before, after = (
        publish(first.graph, each.weights, first.seed, 3, number, magnitude_bits=magnitude_bits)
        for number, each in enumerate((first, second))
    )
    found = match_units(structure, before.weights, after.weights, stretched=bool(magnitude_bits))
    shares: dict[str, float] = {}
    units: dict[str, int] = {}
    for group in structure.hidden:
        name = structure.names[group]
        if name in shares:
            name = f"{name} ({group})"
        right = (
            after.orders[group][found[group]] == before.orders[group]
            if group in found
            else np.zeros(1)
        )
        shares[name], units[name] = float(np.mean(right)), structure.channels[group]
    return Matched(shares, units)


def match_units(
    structure: Structure, first: Weights, second: Weights, *, stretched: bool
) -> dict[int, Order]:
    """Return, by group, for every unit of `first` the unit of `second` that it became.

    Groups that no chain of weights ties to input or output are left out.

    Args:
        structure: Of both.
        first: Weights of the one, as published.
        second: Of the other.
        stretched: Whether scales may be other than 1 and -1, which is public.
    """
    aligned = _Aligned(structure, first, second, stretched)
    waiting = list(structure.hidden)
    while True:
        ready = [group for group in waiting if aligned.can_match(group)]
        if not ready:
            return {
                group: aligned.orders[group] for group in structure.hidden if group not in waiting
            }
        aligned.match(ready[0])
        waiting.remove(ready[0])


@dataclass(frozen=True, repr=False)
class _View:
    """Both models' weights at the units of a group, (units, features), in the same terms."""

    side: Side
    rotated: bool
    one: Reals
    other: Reals


class _Aligned:
    """Groups whose order and scales, second relative to first, are known."""

    def __init__(
        self, structure: Structure, first: Weights, second: Weights, stretched: bool
    ) -> None:
        self._structure = structure
        self._first = first
        self._second = second
        self._stretched = stretched
        self.orders: dict[int, Order] = {
            group: np.arange(channels)
            for group, channels in enumerate(structure.channels)
            if group not in structure.hidden
        }
        self._scales: dict[int, Reals] = {}

    def can_match(self, group: int) -> bool:
        return any(view.one.shape[1] > 1 for view in self._views(group))

    def match(self, group: int) -> None:
        """Assign the units of a group, then estimate their relative scales."""
        views = self._views(group)
        plain = [view for view in views if not view.rotated]
        if any(view.one.shape[1] > 1 for view in plain):
            similar = self._by_weights(plain)
        else:
            similar = sum(
                (self._by_cosines(view) for view in views if view.one.shape[1] > 1),
                np.zeros((self._structure.channels[group],) * 2),
            )
        order = linear_sum_assignment(-similar)[1].astype(np.int64)
        self.orders[group] = order
        for view in plain:
            self._keep_scales(view, order)

    def _keep_scales(self, view: _View, order: Order) -> None:
        """Estimate the relative scales of a group of scales that only this view speaks of."""
        if len(view.side.scales) != 1 or view.one.shape[1] < 2:
            return
        scale, power = view.side.scales[0]
        if scale in self._scales or not (self._structure.signed[scale] or self._stretched):
            return
        ratio = _ratio(view.one, view.other[order]) ** power
        self._scales[scale] = ratio if self._stretched else np.sign(ratio)

    def _by_weights(self, views: list[_View]) -> Reals:
        """Return cosines of weights; those that are scaled alike count as one vector."""
        similar = np.zeros((len(views[0].one),) * 2)
        for scales in dict.fromkeys(view.side.scales for view in views):
            alike = [view for view in views if view.side.scales == scales]
            one = np.concatenate([view.one for view in alike], axis=1)
            other = np.concatenate([view.other for view in alike], axis=1)
            cosine = _unit(one) @ _unit(other).T
            similar += np.abs(cosine) if self._is_signed(scales) else cosine
        return similar

    def _by_cosines(self, view: _View) -> Reals:
        """Return how alike units' cosines with all others are, which no rotation changes."""
        one, other = (
            np.sort(np.abs(each @ each.T) if self._is_signed(view.side.scales) else each @ each.T)
            for each in (_unit(view.one), _unit(view.other))
        )
        squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)
        distances: Reals = squares - 2 * one @ other.T
        return -distances

    def _is_signed(self, scales: tuple[tuple[int, int], ...]) -> bool:
        return any(self._structure.signed[scale] for scale, _ in scales)

    def _views(self, group: int) -> list[_View]:
        """Return the pieces that have the group on one side and only known ones on others."""
        return [
            self._view(piece, side)
            for piece in self._structure.pieces
            for side in piece.sides
            if side.order == group
            and all(other.order in self.orders for other in piece.sides if other is not side)
        ]

    def _view(self, piece: Piece, side: Side) -> _View:
        one, other = piece.of(self._first), piece.of(self._second)
        for each in piece.sides:
            if each is not side:
                other = self._undone(other, piece, each)
        return _View(side, piece.rotated, _rows(one, side), _rows(other, side))

    def _undone(self, tensor: Reals, piece: Piece, side: Side) -> Reals:
        order = self.orders[side.order]
        entries = (order[:, None] * side.block + np.arange(side.block)).reshape(-1)
        tensor = tensor.take(entries, axis=side.axis)
        for scale, power in side.scales:
            if scale in self._scales:
                tensor = tensor * piece.along(side, self._scales[scale] ** -power)
        return tensor


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
