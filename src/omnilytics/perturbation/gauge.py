"""Which permutations and scales of hidden units leave a graph's function unchanged.

The analysis behind the `gauge` profile (perturbation.md section 2). Two union-finds over channel
groups, one for scales and one for permutations: an operation either makes a fresh group, passes
its input's group on, or ties two groups together. They are separate because some operations pin
one and not the other (batch normalisation, depthwise convolution). Only the model owner needs the
result, and derives it from its own graph once per task; it depends on no secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import lgamma, log, prod

from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node
from omnilytics.perturbation.operations import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Relu,
)


class ScaleKind(IntEnum):
    """What a group's scales r may be; tying two groups keeps the stricter kind."""

    FREE = 0
    """Any non-zero number; a sign in the `gauge` profile."""
    POSITIVE = 1
    """r > 0, because of a ReLU or a maximum; hence 1 in the norm-preserving `gauge` profile."""
    ONE = 2
    """r = 1: the network's input and output."""


@dataclass(frozen=True)
class ScaleGroup:
    """Channels that are scaled together: how many, and by what."""

    channels: int
    kind: ScaleKind


@dataclass(frozen=True)
class PermutationGroup:
    """Channels that are permuted together; pinned means not at all."""

    channels: int
    pinned: bool


@dataclass(frozen=True)
class Axis:
    """How one axis of a tensor follows the groups: each channel stands for `block` entries."""

    scale_group: int
    permutation_group: int
    block: int = 1


@dataclass(frozen=True)
class TensorGauge:
    """The axes of one tensor: outputs first; inputs for a weight, None for a bias."""

    name: str
    shape: tuple[int, ...]
    outputs: Axis
    inputs: Axis | None


@dataclass(frozen=True)
class GaugeStructure:
    """The groups of a graph and how its tensors follow them."""

    scale_groups: tuple[ScaleGroup, ...]
    permutation_groups: tuple[PermutationGroup, ...]
    tensors: tuple[TensorGauge, ...]

    def secret_bits(self) -> float:
        """Return log2 of the number of secrets of the `gauge` profile (not its strength)."""
        signs = sum(group.channels for group in self.scale_groups if group.kind is ScaleKind.FREE)
        orders = sum(
            lgamma(group.channels + 1) for group in self.permutation_groups if not group.pinned
        )
        return signs + orders / log(2)


def analyse(graph: Graph) -> GaugeStructure:
    """Return the gauge structure of `graph`.

    Input and output are pinned: r = 1, identity. A residual addition of values that lay their
    channels out differently (one flattened, one not) pins both, which is exact but hides less.
    """
    analysis = _Analysis()
    values = {GRAPH_INPUT: analysis.fresh(graph.input_shape[0])}
    tensors: list[TensorGauge] = []
    specs = {tensor.name: tensor.shape for tensor in graph.tensors}
    analysis.pin(values[GRAPH_INPUT])
    for node in graph.nodes:
        ins = [values[name] for name in node.inputs]
        output = analysis.output_axis(node, ins, graph.shapes)
        values[node.name] = output
        for position, name in enumerate(node.tensors):
            inputs = ins[0] if position == 0 else None
            tensors.append(TensorGauge(name, specs[name], output, inputs))
    analysis.pin(values[graph.nodes[-1].name])
    return analysis.result(tensors)


class _UnionFind:
    """Groups of channels, each with the strictest flag of its members."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._channels: list[int] = []
        self._flags: list[int] = []

    def fresh(self, channels: int) -> int:
        self._parents.append(len(self._parents))
        self._channels.append(channels)
        self._flags.append(0)
        return len(self._parents) - 1

    def find(self, item: int) -> int:
        while self._parents[item] != item:
            self._parents[item] = self._parents[self._parents[item]]
            item = self._parents[item]
        return item

    def unite(self, first: int, second: int) -> None:
        first, second = self.find(first), self.find(second)
        if self._channels[first] != self._channels[second]:
            raise AssertionError("values of one shape and block have groups of one size")
        self.restrict(first, self._flags[second])
        self._parents[second] = first

    def restrict(self, item: int, flag: int) -> None:
        root = self.find(item)
        self._flags[root] = max(self._flags[root], flag)

    def roots(self) -> list[tuple[int, int, int]]:
        """Return (root, channels, flag) of every group, in order of creation."""
        return [
            (item, self._channels[item], self._flags[item])
            for item, parent in enumerate(self._parents)
            if item == parent
        ]


class _Analysis:
    """The two union-finds and the rule of every operation."""

    def __init__(self) -> None:
        self._scales = _UnionFind()
        self._permutations = _UnionFind()

    def fresh(self, channels: int) -> Axis:
        return Axis(self._scales.fresh(channels), self._permutations.fresh(channels))

    def pin(self, axis: Axis) -> None:
        self._scales.restrict(axis.scale_group, ScaleKind.ONE)
        self._permutations.restrict(axis.permutation_group, True)

    def output_axis(
        self, node: Node, ins: Sequence[Axis], shapes: Mapping[str, tuple[int, ...]]
    ) -> Axis:
        """Apply the rule of `node` (the table of perturbation.md) to its inputs' axes."""
        match node.operation:
            case Linear() | Conv2d():
                return self.fresh(shapes[node.name][0])
            case Relu() | MaxPool2d():
                self._scales.restrict(ins[0].scale_group, ScaleKind.POSITIVE)
                return ins[0]
            case AvgPool2d() | AdaptiveAvgPool2d():
                return ins[0]
            case Flatten():
                # (C, H, W) becomes C blocks of H*W entries; a vector stays as it is.
                spatial = prod(shapes[node.inputs[0]][1:])
                return Axis(ins[0].scale_group, ins[0].permutation_group, ins[0].block * spatial)
            case Add():
                return self._tie(ins[0], ins[1])
            case _:
                raise AssertionError(f"operation {node.operation.name} is listed but has no rule")

    def _tie(self, first: Axis, second: Axis) -> Axis:
        if first.block == second.block:
            self._scales.unite(first.scale_group, second.scale_group)
            self._permutations.unite(first.permutation_group, second.permutation_group)
        else:
            self.pin(first)
            self.pin(second)
        return first

    def result(self, tensors: Sequence[TensorGauge]) -> GaugeStructure:
        scales, permutations = self._scales.roots(), self._permutations.roots()
        scale_index = {root: index for index, (root, _, _) in enumerate(scales)}
        permutation_index = {root: index for index, (root, _, _) in enumerate(permutations)}

        def settle(axis: Axis) -> Axis:
            return Axis(
                scale_index[self._scales.find(axis.scale_group)],
                permutation_index[self._permutations.find(axis.permutation_group)],
                axis.block,
            )

        return GaugeStructure(
            scale_groups=tuple(ScaleGroup(size, ScaleKind(flag)) for _, size, flag in scales),
            permutation_groups=tuple(
                PermutationGroup(size, bool(flag)) for _, size, flag in permutations
            ),
            tensors=tuple(
                TensorGauge(
                    tensor.name,
                    tensor.shape,
                    settle(tensor.outputs),
                    settle(tensor.inputs) if tensor.inputs is not None else None,
                )
                for tensor in tensors
            ),
        )
