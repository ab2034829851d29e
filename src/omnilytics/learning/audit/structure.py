"""How tensors follow the gauge's groups, as the attacks need it, and seeded secrets to attack.

The one place where the audit reads `perturbation.gauge`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omnilytics.perturbation.artefact import Tensors
from omnilytics.perturbation.gauge import Axis, ScaleKind, analyse
from omnilytics.perturbation.graph import Graph
from omnilytics.perturbation.secret import GaugeSecret, sample_secret

Order = NDArray[np.int64]
Reals = NDArray[np.float64]


class NotApplicable(Exception):  # noqa: N818 - no error: it ends an attack with the reason
    """An attack that does not apply to a network; its text says why."""


class PublicRandomness:
    """Seeded bytes, for an audit that can be repeated; never for a secret that protects."""

    def __init__(self, *seed: int) -> None:
        self._draw = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        return self._draw.bytes(count)


@dataclass(frozen=True)
class Side:
    """One axis of a tensor: its group of permutations and of scales, entries per channel.

    Attributes:
        axis: Which axis.
        order: Index of its group of permutations.
        scale: Index of its group of scales.
        block: Consecutive entries that each channel stands for.
        power: 1 where the tensor is multiplied by the scales (outputs), -1 where it is divided.
    """

    axis: int
    order: int
    scale: int
    block: int
    power: int


@dataclass(frozen=True)
class Structure:
    """A graph's groups and how its tensors follow them.

    Attributes:
        channels: Size of every group of permutations.
        pinned: Whether that group keeps its order.
        names: The first tensor that makes the group's channels; "input" for the input's.
        signed: For every group of scales, whether a scale may be negative.
        stretched: For every group of scales, its size if a scale may be other than 1 or -1, or 0.
        tensors: The sides of every tensor.
    """

    channels: tuple[int, ...]
    pinned: tuple[bool, ...]
    names: tuple[str, ...]
    signed: tuple[bool, ...]
    stretched: tuple[int, ...]
    tensors: Mapping[str, tuple[Side, ...]]

    def hidden(self) -> list[int]:
        """Return the groups of permutations that a secret moves."""
        return [
            group
            for group, pinned in enumerate(self.pinned)
            if not pinned and self.channels[group] > 1
        ]


def read_structure(graph: Graph) -> Structure:
    """Return the structure of a graph."""
    found = analyse(graph)
    tensors = {
        tensor.name: (
            _side(0, tensor.outputs, 1),
            *([_side(1, tensor.inputs, -1)] if tensor.inputs is not None else []),
        )
        for tensor in found.tensors
    }
    names = ["input"] * len(found.permutation_groups)
    for name, sides in reversed(tensors.items()):
        names[sides[0].order] = name
    return Structure(
        channels=tuple(group.channels for group in found.permutation_groups),
        pinned=tuple(group.pinned for group in found.permutation_groups),
        names=tuple(names),
        signed=tuple(group.kind is ScaleKind.FREE for group in found.scale_groups),
        stretched=tuple(
            0 if group.kind is ScaleKind.ONE else group.channels for group in found.scale_groups
        ),
        tensors=tensors,
    )


def _side(index: int, axis: Axis, power: int) -> Side:
    return Side(index, axis.permutation_group, axis.scale_group, axis.block, power)


def draw_secret(graph: Graph, *seed: int, magnitude_bits: int = 0) -> GaugeSecret:
    """Return a secret that anyone can draw again.

    Args:
        graph: The network.
        *seed: Public.
        magnitude_bits: Scales are 2^u, u uniform in -magnitude_bits .. magnitude_bits, where the
            network allows other scales than 1 and -1.
    """
    structure = analyse(graph)
    randomness = PublicRandomness(*seed)
    drawn = sample_secret(structure, randomness)
    if not magnitude_bits:
        return drawn
    orders, signs = drawn.parts
    draw = np.random.default_rng([*seed, 1])
    scales = [
        sign
        if group.kind is ScaleKind.ONE
        else sign * 2.0 ** draw.integers(-magnitude_bits, magnitude_bits, len(sign), endpoint=True)
        for sign, group in zip(signs, structure.scale_groups, strict=True)
    ]
    return GaugeSecret(structure, orders, scales)


def true_order(secret: GaugeSecret, structure: Structure, weights: Tensors, group: int) -> Order:
    """Return, for every published channel of a group, the true one. Shape (channels,)."""
    name, side = _maker(structure, group, "order")
    marked = {each: np.ones(tensor.shape) for each, tensor in weights.items()}
    plain = secret.perturb(marked)[name]  # type: ignore[arg-type]
    shape = [1] * marked[name].ndim
    shape[side.axis] = -1
    entries = np.arange(marked[name].shape[side.axis]) // side.block
    marked[name] = marked[name] * entries.reshape(shape)
    ratio = secret.perturb(marked)[name] / plain  # type: ignore[arg-type]
    return first_entries(ratio, side).round().astype(np.int64)


def true_scales(secret: GaugeSecret, structure: Structure, weights: Tensors, group: int) -> Reals:
    """Return the scale of every published channel of a group, up to one common factor."""
    name, side = _maker(structure, group, "scale")
    ones = {each: np.ones(tensor.shape) for each, tensor in weights.items()}
    return first_entries(secret.perturb(ones)[name], side) ** side.power  # type: ignore[arg-type]


def first_entries(tensor: NDArray[np.floating], side: Side) -> Reals:
    """Return the first entry of every channel along a side. Shape (channels,)."""
    moved = np.moveaxis(tensor, side.axis, 0)
    return moved.reshape(len(moved), -1)[:: side.block, 0].astype(np.float64)


def _maker(structure: Structure, group: int, kind: str) -> tuple[str, Side]:
    """Return a tensor that has the group on one side, outputs if there are any."""
    found = [
        (name, side)
        for name, sides in structure.tensors.items()
        for side in sides
        if getattr(side, kind) == group
    ]
    return max(found, key=lambda each: each[1].power)
