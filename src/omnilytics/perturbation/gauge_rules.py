"""The rule of every operation: how its output's channels follow its inputs' (perturbation.md 2).

A rule returns the output's channels, restricts or ties groups, and says how the operation's tensors
follow them. The table of perturbation.md, in code; every rule is exact: the perturbed network
computes the same function. Where exactness would cost much, a rule pins, which hides less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from omnilytics.perturbation import operations as op
from omnilytics.perturbation.graph import Node
from omnilytics.perturbation.groups import (
    EVERYTHING,
    SCALE,
    Channels,
    Groups,
    Limit,
    Segment,
)

UP, DOWN = 1, -1


@dataclass(frozen=True)
class Moved:
    """How one axis of a tensor follows channels: their order, rotation, and scale if any.

    Attributes:
        axis: Which axis.
        channels: Whose order and rotation it follows.
        scales: Which channels' scales entries are multiplied with (`UP`) or divided by (`DOWN`).
    """

    axis: int
    channels: Channels
    scales: tuple[tuple[Channels, int], ...] = ()


@dataclass
class Call:
    """One node under analysis, and what its rule finds."""

    node: Node
    ins: Sequence[Channels]
    shapes: Sequence[op.Shape]
    """Of the inputs."""
    output_shape: op.Shape
    tensor_shapes: Sequence[op.Shape]
    groups: Groups
    parts: int
    """Heads or groups of channels that all readers of the output agree on; 1 where they do not."""
    moved: list[list[Moved]] = field(default_factory=list)
    """For each tensor in turn, the axes that move."""

    def restrict(self, limit: Limit, *inputs: int) -> None:
        """Restrict inputs, all unless some are named."""
        for index in inputs or range(len(self.ins)):
            self.groups.restrict(self.ins[index], limit, self.why)

    @property
    def why(self) -> str:
        """How reports name the node."""
        return f"{self.node.operation.name} {self.node.name}"


Rule = Callable[[Any, Call], Channels]


def _pass(operation: op.Operation, call: Call) -> Channels:
    return call.ins[0]


def _elementwise(limit: Limit) -> Rule:
    """Return the rule of an operation on entries, which no rotation commutes with."""

    def rule(operation: op.Operation, call: Call) -> Channels:
        call.restrict(limit | Limit.ROTATION)
        return call.ins[0]

    return rule


def _fresh(call: Call) -> Channels:
    channels = op.channels_of(call.output_shape)
    parts = call.parts if channels % call.parts == 0 else 1
    return tuple(call.groups.fresh(channels // parts) for _ in range(parts))


def _linear(operation: op.Linear, call: Call) -> Channels:
    return _weighted(call, _fresh(call))


def _weighted(call: Call, output: Channels) -> Channels:
    outputs = Moved(0, output, ((output, UP),))
    inputs = Moved(1, call.ins[0], ((call.ins[0], DOWN),))
    call.moved = [[outputs, inputs], [outputs]]
    return output


def _conv2d(operation: op.Conv2d, call: Call) -> Channels:
    # Kernels could be mixed exactly as well, but then no entry would be bit for bit what it was.
    call.restrict(Limit.ROTATION)
    channels = call.output_shape[0]
    if operation.groups == 1:
        output = _fresh(call)
        call.groups.restrict(output, Limit.ROTATION, call.why)
        return _weighted(call, output)
    if operation.groups == channels == call.shapes[0][0]:  # depthwise
        output = call.groups.rescaled(call.ins[0], call.why)
        kernels = Moved(0, output, ((output, UP), (call.ins[0], DOWN)))
        call.moved = [[kernels], [Moved(0, output, ((output, UP),))]]
        return output
    call.restrict(EVERYTHING)
    output = (call.groups.fresh(channels),)
    call.groups.restrict(output, Limit.ORDER | Limit.ROTATION, call.why)
    outputs = Moved(0, output, ((output, UP),))
    call.moved = [[outputs], [outputs]]
    return output


def _embedding(operation: op.Embedding, call: Call) -> Channels:
    output = _fresh(call)
    call.moved = [[Moved(1, output, ((output, UP),))]]
    return output


def _add_positions(operation: op.AddPositions, call: Call) -> Channels:
    last = len(call.tensor_shapes[0]) - 1
    call.moved = [[Moved(last, call.ins[0], ((call.ins[0], UP),))]]
    return call.ins[0]


def _prelu(operation: op.Prelu, call: Call) -> Channels:
    call.restrict(Limit.SIGN | Limit.ROTATION)
    call.moved = [[Moved(0, call.ins[0])] if call.tensor_shapes[0] != (1,) else []]
    return call.ins[0]


def _add(operation: op.Add, call: Call) -> Channels:
    call.groups.tie(call.ins[0], call.ins[1], call.why)
    return call.ins[0]


def _multiply(operation: op.Multiply, call: Call) -> Channels:
    call.restrict(SCALE | Limit.ROTATION)
    return _add(op.Add(), call)


def _flatten(operation: op.Flatten, call: Call) -> Channels:
    shape = call.shapes[0]
    if len(shape) == 2:  # token by token: the channels come again for each
        return call.ins[0] * shape[0]
    spatial = prod(shape[1:])  # channel by channel: each stands for all its pixels
    return tuple(
        Segment(each.scale, each.order, each.rotation, each.channels, each.block * spatial)
        for each in call.ins[0]
    )


def _concatenate(operation: op.Concatenate, call: Call) -> Channels:
    return tuple(segment for each in call.ins for segment in each)


def _slice_channels(operation: op.SliceChannels, call: Call) -> Channels:
    start = 0
    inside: list[Segment] = []
    for segment in call.ins[0]:
        stop = start + segment.channels * segment.block
        if operation.start <= start and stop <= operation.stop:
            inside.append(segment)
        start = stop
    if sum(each.channels * each.block for each in inside) == operation.stop - operation.start:
        return tuple(inside)
    call.restrict(EVERYTHING)  # it cuts through a group
    return _pinned(call, operation.stop - operation.start)


def _pad2d(operation: op.Pad2d, call: Call) -> Channels:
    before, after = operation.channels
    zeros = [_pinned(call, size) if size else () for size in (before, after)]
    return zeros[0] + call.ins[0] + zeros[1]


def _pinned(call: Call, size: int) -> Channels:
    channels = (call.groups.fresh(size),)
    call.groups.pin(channels, call.why)
    return channels


def _affine(call: Call, output: Channels) -> Channels:
    """Note the gains and shifts of a normalisation whose output has fresh scales."""
    gains = Moved(0, output, ((output, UP), (call.ins[0], DOWN)))
    call.moved = [[gains], [Moved(0, output, ((output, UP),))]]
    return output


def _batch_norm(operation: op.BatchNorm, call: Call) -> Channels:
    # Magnitudes are not exact, because of epsilon; signs and order are.
    call.restrict(Limit.MAGNITUDE | Limit.ROTATION)
    output = call.ins[0]
    if len(call.tensor_shapes) == 4:
        output = _affine(call, call.groups.rescaled(call.ins[0], call.why))
    mean = Moved(0, call.ins[0], ((call.ins[0], UP),))
    call.moved += [[mean], [Moved(0, call.ins[0])]]
    return output


def _group_norm(operation: op.GroupNorm, call: Call) -> Channels:
    channels = op.channels_of(call.shapes[0])
    alone = operation.groups == channels
    limit = Limit.ROTATION | (Limit.MAGNITUDE if alone else SCALE)
    sizes = {each.channels * each.block for each in call.ins[0]}
    by_groups = len(call.ins[0]) == operation.groups and len(sizes) == 1
    if not (alone or operation.groups == 1 or by_groups):
        limit |= Limit.ORDER
    call.restrict(limit)
    if not call.tensor_shapes:
        return call.ins[0]
    return _affine(call, call.groups.rescaled(call.ins[0], call.why))


def _layer_norm(operation: op.LayerNorm, call: Call) -> Channels:
    if not call.tensor_shapes:
        call.restrict(SCALE | Limit.ONES)
        return call.ins[0]
    call.restrict(SCALE | Limit.ROTATION)
    return _affine(call, call.groups.rescaled(call.ins[0], call.why))


def _rms_norm(operation: op.RmsNorm, call: Call) -> Channels:
    if not call.tensor_shapes:
        call.restrict(Limit.MAGNITUDE)
        return call.ins[0]
    call.restrict(Limit.MAGNITUDE | Limit.ROTATION)
    return _affine(call, call.groups.rescaled(call.ins[0], call.why))


def _attention(operation: op.Attention, call: Call) -> Channels:
    queries, keys, values = call.ins
    for index in range(3):
        _pin_unless_by_heads(operation.heads, call, index)
    # One orthogonal map for a head's queries and keys leaves their products as they are.
    call.restrict(Limit.MAGNITUDE, 0, 1)
    call.groups.tie(queries, keys, call.why)
    return values


def _rotary(operation: op.Rotary, call: Call) -> Channels:
    call.restrict(SCALE | Limit.ORDER | Limit.FREQUENCY)
    _pin_unless_by_heads(operation.heads, call, 0)
    return call.ins[0]


def _pin_unless_by_heads(heads: int, call: Call, index: int) -> None:
    """Pin an input whose groups of channels are not its heads one after another."""
    features = op.channels_of(call.shapes[index])
    if [each.channels for each in call.ins[index]] != [features // heads] * heads:
        call.restrict(EVERYTHING, index)


RULES: dict[type[op.Operation], Rule] = {
    op.Linear: _linear,
    op.Conv2d: _conv2d,
    op.Embedding: _embedding,
    op.AddPositions: _add_positions,
    op.Relu: _elementwise(Limit.SIGN),
    op.LeakyRelu: _elementwise(Limit.SIGN),
    op.Prelu: _prelu,
    op.Gelu: _elementwise(SCALE),
    op.Silu: _elementwise(SCALE),
    op.Sigmoid: _elementwise(SCALE),
    op.Tanh: _elementwise(SCALE),
    op.Hardtanh: _elementwise(SCALE),
    op.Hardswish: _elementwise(SCALE),
    op.Hardsigmoid: _elementwise(SCALE),
    op.Dropout: _elementwise(Limit.NOTHING),
    op.Scale: _pass,
    op.Add: _add,
    op.Multiply: _multiply,
    op.MaxPool2d: _elementwise(Limit.SIGN),
    op.AvgPool2d: _pass,
    op.AdaptiveAvgPool2d: _pass,
    op.Flatten: _flatten,
    op.Concatenate: _concatenate,
    op.SliceChannels: _slice_channels,
    op.SlicePixels: _pass,
    op.Pad2d: _pad2d,
    op.PixelsToTokens: _pass,
    op.MeanTokens: _pass,
    op.SelectToken: _pass,
    op.BatchNorm: _batch_norm,
    op.GroupNorm: _group_norm,
    op.LayerNorm: _layer_norm,
    op.RmsNorm: _rms_norm,
    op.Attention: _attention,
    op.Rotary: _rotary,
}
