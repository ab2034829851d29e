"""Which maps of hidden units leave a graph's function unchanged.

The analysis behind the profiles (perturbation.md section 2): groups of channels (`groups`), the
rule of every operation (`gauge_rules`), and how each tensor follows them. Only the model owner
needs the result, and derives it from its own graph once per task; it depends on no secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import lgamma, log

from omnilytics.perturbation import operations as op
from omnilytics.perturbation.gauge_rules import RULES, Call, Moved
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, InputKind, TensorRole
from omnilytics.perturbation.groups import Channels, Groups, Limit, Segment, UnionFind


@dataclass(frozen=True)
class ScaleGroup:
    """Channels that are scaled together, and what their scales may be."""

    channels: int
    signed: bool
    """Whether a scale may be negative."""
    stretched: bool
    """Whether a scale may be other than 1 or -1."""
    why: str = ""
    """What restricts it most, for people."""

    @property
    def bits(self) -> float:
        """log2 of the number of signs."""
        return float(self.channels) if self.signed else 0.0


@dataclass(frozen=True)
class OrderGroup:
    """Channels that are permuted together; pinned means not at all."""

    channels: int
    pinned: bool
    why: str = ""

    @property
    def bits(self) -> float:
        """log2 of the number of orders."""
        return 0.0 if self.pinned else lgamma(self.channels + 1) / log(2)


@dataclass(frozen=True)
class RotationGroup:
    """Channels that one secret orthogonal matrix mixes; it replaces their order and scales."""

    channels: int
    keeps_ones: bool
    """The vector of ones stays as it is (for a layer normalisation)."""
    by_frequency: bool
    """Channels i and i + channels/2 turn in their plane (for rotary positions)."""


@dataclass(frozen=True)
class Placed:
    """Where a segment's groups are in a structure; None for a rotation means there is none."""

    scale: int
    order: int
    rotation: int | None
    channels: int
    block: int


@dataclass(frozen=True)
class AxisGauge:
    """How one axis of a tensor follows the groups, and which scales multiply or divide it."""

    axis: int
    segments: tuple[Placed, ...]
    scales: tuple[tuple[tuple[Placed, ...], int], ...]


@dataclass(frozen=True)
class TensorGauge:
    """The axes of one tensor that move."""

    name: str
    shape: tuple[int, ...]
    axes: tuple[AxisGauge, ...]


@dataclass(frozen=True)
class GaugeStructure:
    """The groups of a graph and how its tensors follow them.

    Attributes:
        scale_groups: Of channels that no rotation mixes, and others, which stay 1.
        order_groups: Likewise.
        rotation_groups: The orthogonal matrices.
        tensors: All tensors but frozen ones, in the graph's order.
        values: The channels of every node's output.
    """

    scale_groups: tuple[ScaleGroup, ...]
    order_groups: tuple[OrderGroup, ...]
    rotation_groups: tuple[RotationGroup, ...]
    tensors: tuple[TensorGauge, ...]
    values: Mapping[str, tuple[Placed, ...]]

    def secret_bits(self) -> float:
        """Return log2 of the number of signs and orders (no strength; rotations not counted)."""
        signs = sum(group.bits for group in self.scale_groups)
        return signs + sum(group.bits for group in self.order_groups)


def analyse(graph: Graph) -> GaugeStructure:
    """Return the gauge structure of `graph`.

    Input, output and whatever touches a frozen tensor are pinned: scale 1, order kept.
    """
    groups = Groups()
    values: dict[str, Channels] = {GRAPH_INPUT: ()}
    if graph.input_kind is InputKind.NUMBERS:
        values[GRAPH_INPUT] = (groups.fresh(op.channels_of(graph.input_shape)),)
        groups.pin(values[GRAPH_INPUT], "the network's input")
    specs = {tensor.name: tensor for tensor in graph.tensors}
    parts = _parts(graph)
    moved: dict[str, list[Moved]] = {}
    for node in graph.nodes:
        call = Call(
            node=node,
            ins=[values[name] for name in node.inputs],
            shapes=[graph.shapes[name] for name in node.inputs],
            output_shape=graph.shapes[node.name],
            tensor_shapes=[specs[name].shape for name in node.tensors],
            groups=groups,
            parts=parts[node.name],
        )
        values[node.name] = RULES[type(node.operation)](node.operation, call)
        for name, axes in zip(node.tensors, call.moved, strict=False):
            moved[name] = axes
            if specs[name].role is TensorRole.FROZEN:
                _freeze(groups, name, axes)
    groups.pin(values[graph.nodes[-1].name], "the network's output")
    return _settle(graph, groups, values, moved)


def _freeze(groups: Groups, name: str, axes: list[Moved]) -> None:
    for moved in axes:
        groups.pin(moved.channels, f"frozen {name}")
        for channels, _ in moved.scales:
            groups.pin(channels, f"frozen {name}")


def _parts(graph: Graph) -> dict[str, int]:
    """Return in how many parts of its channels all who read a value take it, if they agree.

    Heads of an attention, groups of a normalisation: within a part the channels are alike.
    """
    wanted: dict[str, set[int]] = {node.name: set() for node in graph.nodes}
    wanted[GRAPH_INPUT] = set()
    for node in reversed(graph.nodes):
        match node.operation:
            case op.Attention(heads=heads):
                through = {heads}
            case op.Rotary(heads=heads):
                through = wanted[node.name] | {heads}
            case op.GroupNorm(groups=groups) if groups < op.channels_of(graph.shapes[node.name]):
                through = {groups}
            case _:
                through = {1}
        for name in node.inputs:
            wanted[name] |= through
    return {name: found.pop() if len(found) == 1 else 1 for name, found in wanted.items()}


def _settle(
    graph: Graph, groups: Groups, values: Mapping[str, Channels], moved: Mapping[str, list[Moved]]
) -> GaugeStructure:
    """Number the groups and place every segment in them."""
    scales, orders = _Numbering(groups.scales), _Numbering(groups.orders)
    rotating = [root for root in groups.rotations.roots() if _rotates(groups.rotations, root)]
    rotation_of = {root: index for index, root in enumerate(rotating)}
    mixed_scales: set[int] = set()
    mixed_orders: set[int] = set()

    def place(segment: Segment) -> Placed:
        rotation = rotation_of.get(groups.rotations.find(segment.rotation))
        placed = Placed(
            scales[segment.scale],
            orders[segment.order],
            rotation,
            segment.channels,
            segment.block,
        )
        if rotation is not None:
            mixed_scales.add(placed.scale)
            mixed_orders.add(placed.order)
        return placed

    def place_all(channels: Channels) -> tuple[Placed, ...]:
        return tuple(place(segment) for segment in channels)

    placed_values = {name: place_all(channels) for name, channels in values.items()}
    tensors = tuple(
        TensorGauge(
            spec.name,
            spec.shape,
            tuple(
                AxisGauge(
                    each.axis,
                    place_all(each.channels),
                    tuple((place_all(channels), power) for channels, power in each.scales),
                )
                for each in moved[spec.name]
            ),
        )
        for spec in graph.tensors
        if spec.role is not TensorRole.FROZEN
    )
    return GaugeStructure(
        scale_groups=tuple(
            _scale_group(groups.scales, root, index in mixed_scales)
            for index, root in enumerate(scales.roots)
        ),
        order_groups=tuple(
            _order_group(groups.orders, root, index in mixed_orders)
            for index, root in enumerate(orders.roots)
        ),
        rotation_groups=tuple(_rotation_group(groups.rotations, root) for root in rotating),
        tensors=tensors,
        values=placed_values,
    )


class _Numbering:
    """Numbers the groups of a union-find in order of creation."""

    def __init__(self, found: UnionFind) -> None:
        self._found = found
        self.roots = found.roots()
        self._index = {root: index for index, root in enumerate(self.roots)}

    def __getitem__(self, item: int) -> int:
        return self._index[self._found.find(item)]


def _rotates(rotations: UnionFind, root: int) -> bool:
    limit, channels = rotations.limits[root], rotations.channels[root]
    both = Limit.ONES | Limit.FREQUENCY
    return not limit & Limit.ROTATION and limit & both != both and channels > 1


def _scale_group(scales: UnionFind, root: int, mixed: bool) -> ScaleGroup:
    limit, reasons = scales.limits[root], scales.reasons[root]
    why = reasons.get(Limit.SIGN) or reasons.get(Limit.MAGNITUDE) or ""
    return ScaleGroup(
        channels=scales.channels[root],
        signed=not mixed and not limit & Limit.SIGN,
        stretched=not mixed and not limit & Limit.MAGNITUDE,
        why="mixed by a rotation" if mixed else why,
    )


def _order_group(orders: UnionFind, root: int, mixed: bool) -> OrderGroup:
    why = "mixed by a rotation" if mixed else orders.reasons[root].get(Limit.ORDER, "")
    pinned = mixed or bool(orders.limits[root] & Limit.ORDER)
    return OrderGroup(orders.channels[root], pinned, why)


def _rotation_group(rotations: UnionFind, root: int) -> RotationGroup:
    limit = rotations.limits[root]
    return RotationGroup(
        channels=rotations.channels[root],
        keeps_ones=bool(limit & Limit.ONES),
        by_frequency=bool(limit & Limit.FREQUENCY),
    )
