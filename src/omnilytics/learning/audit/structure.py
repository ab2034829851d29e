"""How tensors follow the gauge's groups, as the attacks need it, and seeded secrets to attack.

The one place where the audit reads `perturbation.gauge`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnilytics.learning.public_randomness import PublicRandomness
from omnilytics.perturbation.gauge import AxisGauge, TensorGauge, analyse
from omnilytics.perturbation.graph import Graph
from omnilytics.perturbation.secret import GaugeSecret, sample_secret

Order = NDArray[np.int64]
Reals = NDArray[np.float64]


class NotApplicable(Exception):  # noqa: N818 - no error: it ends an attack with the reason
    """An attack that does not apply to a network; its text says why."""


@dataclass(frozen=True)
class Side:
    """One axis of a piece: its group of permutations and the scales along it.

    Attributes:
        axis: Which axis.
        order: Index of its group of permutations.
        block: Consecutive entries that each channel stands for.
        scales: Groups of scales, and 1 where entries are multiplied by them, -1 where divided.
    """

    axis: int
    order: int
    block: int
    scales: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Piece:
    """A part of a tensor whose every axis follows one group.

    Attributes:
        name: The tensor.
        cut: The part, by axis.
        sides: Axes that are permuted.
        rotated: Whether a secret orthogonal matrix mixes entries along another axis.
    """

    name: str
    cut: tuple[slice, ...]
    sides: tuple[Side, ...]
    rotated: bool

    def of(self, tensors: Mapping[str, NDArray[np.floating[Any]]]) -> Reals:
        """Return the part of these tensors."""
        return tensors[self.name][self.cut].astype(np.float64)

    def along(self, side: Side, values: Reals) -> Reals:
        """Return values by channel, shaped to be multiplied with the piece."""
        shape = [1] * len(self.cut)
        shape[side.axis] = -1
        return values.repeat(side.block).reshape(shape)


@dataclass(frozen=True)
class Structure:
    """A graph's groups and how its tensors follow them.

    Attributes:
        channels: Size of every group of permutations.
        hidden: The groups of permutations that a secret moves.
        names: The tensor that makes each group's channels; "input" for the input's.
        signed: For every group of scales, whether a scale may be negative.
        stretched: For every group of scales, its size if a scale may be other than 1 or -1, or 0.
        pieces: Of all tensors.
    """

    channels: tuple[int, ...]
    hidden: tuple[int, ...]
    names: tuple[str, ...]
    signed: tuple[bool, ...]
    stretched: tuple[int, ...]
    pieces: tuple[Piece, ...]


def read_structure(graph: Graph) -> Structure:
    """Return the structure of a graph."""
    found = analyse(graph)
    pieces = tuple(piece for tensor in found.tensors for piece in _pieces(tensor))
    names = ["input"] * len(found.order_groups)
    for piece in reversed(pieces):
        for side in piece.sides:
            if any(power > 0 for _, power in side.scales):
                names[side.order] = piece.name
    return Structure(
        channels=tuple(group.channels for group in found.order_groups),
        hidden=tuple(
            index
            for index, group in enumerate(found.order_groups)
            if not group.pinned and group.channels > 1
        ),
        names=tuple(names),
        signed=tuple(group.signed for group in found.scale_groups),
        stretched=tuple(group.channels * group.stretched for group in found.scale_groups),
        pieces=pieces,
    )


def _pieces(tensor: TensorGauge) -> Iterator[Piece]:
    """Cut a tensor where an axis goes from one group to the next (after a concatenation)."""
    for choice in product(*[range(len(axis.segments)) for axis in tensor.axes]):
        cut = [slice(None)] * len(tensor.shape)
        sides: list[Side] = []
        rotated = False
        for axis, index in zip(tensor.axes, choice, strict=True):
            cut[axis.axis] = _extent(axis, index)
            segment = axis.segments[index]
            if segment.rotation is not None:
                rotated = True
                continue
            scales = tuple((segments[index].scale, power) for segments, power in axis.scales)
            sides.append(Side(axis.axis, segment.order, segment.block, scales))
        yield Piece(tensor.name, tuple(cut), tuple(sides), rotated)


def _extent(axis: AxisGauge, index: int) -> slice:
    sizes = [segment.channels * segment.block for segment in axis.segments]
    return slice(sum(sizes[:index]), sum(sizes[: index + 1]))


@dataclass(frozen=True, repr=False)
class Published:
    """Weights under a secret that the audit knows, to judge attacks by.

    Attributes:
        weights: As published.
        orders: For every published channel of each group, the true one.
        scales: For every true channel of each group, its scale.
    """

    weights: dict[str, NDArray[np.floating[Any]]]
    orders: tuple[Order, ...]
    scales: tuple[Reals, ...]


def publish(
    graph: Graph,
    weights: Mapping[str, NDArray[np.floating[Any]]],
    *seed: int,
    magnitude_bits: int = 0,
) -> Published:
    """Return weights under a secret that anyone can draw again.

    Args:
        graph: The network.
        weights: The true ones.
        *seed: Public.
        magnitude_bits: Scales are 2^u, u uniform in -magnitude_bits .. magnitude_bits, where the
            network allows other scales than 1 and -1.
    """
    structure = analyse(graph)
    secret = sample_secret(structure, PublicRandomness(*seed), magnitude_bits=magnitude_bits)
    return Published(dict(secret.perturb(weights)), *_parts(secret))


def _parts(secret: GaugeSecret) -> tuple[tuple[Order, ...], tuple[Reals, ...]]:
    record = secret.record()
    return (
        tuple(np.frombuffer(part, dtype="<i8") for part in record["orders"]),
        tuple(np.frombuffer(part, dtype="<f8") for part in record["scales"]),
    )
