"""Random sound graphs of all listed operations, for hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

from hypothesis import strategies as st

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation import operations as op
from omnilytics.perturbation.graph import (
    GRAPH_INPUT,
    Graph,
    InputKind,
    Node,
    TensorRole,
    TensorSpec,
)
from omnilytics.perturbation.operations import Operation, Shape

MAX_ELEMENTS = 400
"""Of one value: larger ones are not built further."""


class Builder:
    """Grows a graph: each operation reads the last value, and some an earlier one as well."""

    def __init__(self, input_shape: Shape, kind: InputKind = InputKind.NUMBERS) -> None:
        self.input_shape = input_shape
        self.kind = kind
        self.tensors: list[TensorSpec] = []
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {GRAPH_INPUT: input_shape}
        self.last = GRAPH_INPUT

    @property
    def shape(self) -> Shape:
        """Shape of the last value."""
        return self.shapes[self.last]

    def add(
        self,
        operation: Operation,
        *tensors: Shape,
        inputs: tuple[str, ...] | None = None,
    ) -> None:
        """Add a node; nothing happens if it does not fit."""
        name = f"n{len(self.nodes)}"
        inputs = inputs or (self.last,)
        try:
            shape = operation.output_shape([self.shapes[each] for each in inputs], tensors)
        except ModelError:
            return
        if prod(shape) > MAX_ELEMENTS:
            return
        first = len(tensors) - operation.statistics
        names = tuple(f"{name}.{place}" for place in range(len(tensors)))
        for place, (each, size) in enumerate(zip(names, tensors, strict=True)):
            role = TensorRole.STATISTIC if place >= first else TensorRole.TRAINED
            self.tensors.append(TensorSpec(each, size, role))
        self.shapes[name] = shape
        self.nodes.append(Node(name, operation, inputs, names))
        self.last = name

    def alike(self, same: Callable[[Shape], bool]) -> list[str]:
        """Return the values that a second input may be; the input where it is numbers."""
        names = [name for name, shape in self.shapes.items() if same(shape)]
        return names if self.kind is InputKind.NUMBERS else [n for n in names if n != GRAPH_INPUT]

    def graph(self) -> Graph:
        """Return what was built."""
        return Graph(self.input_shape, tuple(self.tensors), tuple(self.nodes), self.kind)


POINTWISE: tuple[Operation, ...] = (
    op.Relu(),
    op.LeakyRelu(0.2),
    op.Gelu(tanh=False),
    op.Silu(),
    op.Sigmoid(),
    op.Tanh(),
    op.Hardtanh(-0.5, 1.0),
    op.Hardswish(),
    op.Hardsigmoid(),
    op.Scale(-1.5),
)
ANY_RANK = ("pointwise", "prelu", "add", "multiply", "concatenate", "slice_channels", "pieces")
VECTORS = ("linear", "batch_norm", "group_norm", "layer_norm", "rms_norm")
TOKENS = ("linear", "layer_norm", "rms_norm", "attention", "self_attention", "rotary", "positions")
IMAGES = ("conv", "pool", "batch_norm", "group_norm", "slice_pixels", "pad")
LEAVE = {2: ("flatten", "mean_tokens", "select_token"), 3: ("flatten", "pixels_to_tokens")}
OF_RANK = {1: VECTORS, 2: TOKENS, 3: IMAGES}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a graph of up to ten steps from images, sequences, vectors or tokens."""
    builder = draw(st.sampled_from((_image, _sequence, _vector, _words)))(draw)
    for _ in range(draw(st.integers(0, 2))):  # nothing is hidden before the first layer
        STEPS["conv" if len(builder.shape) == 3 else "linear"](builder, draw)
    for _ in range(draw(st.integers(1, 10))):
        rank = len(builder.shape)
        step = draw(st.sampled_from((*ANY_RANK, *OF_RANK[rank], *OF_RANK[rank])))
        if rank > 1 and draw(st.integers(0, 7)) == 0:
            step = draw(st.sampled_from(LEAVE[rank]))
        STEPS[step](builder, draw)
    if len(builder.shape) == 3:
        builder.add(op.Flatten())
    builder.add(op.Linear(), (3, builder.shape[-1]), (3,))
    return draw(_with_frozen(builder.graph()))


@st.composite
def _with_frozen(draw: st.DrawFn, graph: Graph) -> Graph:
    if draw(st.integers(0, 3)):
        return graph
    tensors = [
        replace(each, role=TensorRole.FROZEN)
        if each.role is TensorRole.TRAINED and draw(st.integers(0, 3)) == 0
        else each
        for each in graph.tensors[:-1]
    ]
    return replace(graph, tensors=(*tensors, graph.tensors[-1]))


def _vector(draw: st.DrawFn) -> Builder:
    return Builder((draw(st.integers(1, 6)),))


def _sequence(draw: st.DrawFn) -> Builder:
    return Builder((draw(st.integers(1, 4)), draw(st.integers(1, 6))))


def _image(draw: st.DrawFn) -> Builder:
    return Builder((draw(st.integers(1, 3)), draw(st.integers(2, 4)), draw(st.integers(2, 4))))


def _words(draw: st.DrawFn) -> Builder:
    builder = Builder((draw(st.integers(1, 4)),), InputKind.TOKENS)
    builder.add(op.Embedding(), (5, draw(st.sampled_from((4, 6, 8)))))
    return builder


def _sizes(draw: st.DrawFn) -> int:
    return draw(st.sampled_from((1, 2, 3, 4, 6, 8)))


def _divisor(draw: st.DrawFn, number: int) -> int:
    return draw(st.sampled_from([each for each in range(1, number + 1) if number % each == 0]))


def _channels(builder: Builder) -> int:
    return op.channels_of(builder.shape)


def _linear(builder: Builder, draw: st.DrawFn) -> None:
    out = _sizes(draw)
    bias = [(out,)] if draw(st.booleans()) else []
    builder.add(op.Linear(), (out, builder.shape[-1]), *bias)


def _conv(builder: Builder, draw: st.DrawFn) -> None:
    channels = _channels(builder)
    groups = _divisor(draw, channels)
    out = groups * draw(st.integers(1, 2)) if groups > 1 else _sizes(draw)
    kernel = draw(st.sampled_from((1, 3)))
    bias = [(out,)] if draw(st.booleans()) else []
    operation = op.Conv2d((1, 1), (kernel // 2, kernel // 2), (1, 1), groups)
    builder.add(operation, (out, channels // groups, kernel, kernel), *bias)


def _pointwise(builder: Builder, draw: st.DrawFn) -> None:
    builder.add(draw(st.sampled_from(POINTWISE)))


def _prelu(builder: Builder, draw: st.DrawFn) -> None:
    size = 1 if len(builder.shape) == 2 or draw(st.booleans()) else _channels(builder)
    builder.add(op.Prelu(), (size,))


def _pieces(builder: Builder, draw: st.DrawFn, size: int = 6) -> None:
    """Two fresh layers of one value, joined: channels of unlike groups."""
    source = builder.last
    first = draw(st.integers(1, size - 1))
    names = []
    for out in (first, size - first):
        builder.last = source
        if len(builder.shape) == 3:
            weight = (out, _channels(builder), 1, 1)
            builder.add(op.Conv2d((1, 1), (0, 0), (1, 1)), weight, inputs=(source,))
        else:
            builder.add(op.Linear(), (out, builder.shape[-1]), inputs=(source,))
        if draw(st.booleans()):
            _pointwise(builder, draw)
        names.append(builder.last)
    builder.add(op.Concatenate(), inputs=(names[0], names[1]))


def _pairwise(operation: Operation) -> Callable[[Builder, st.DrawFn], None]:
    def step(builder: Builder, draw: st.DrawFn) -> None:
        shape = builder.shape
        other = draw(st.sampled_from(builder.alike(lambda each: each == shape)))
        pair = (builder.last, other) if draw(st.booleans()) else (other, builder.last)
        builder.add(operation, inputs=pair)

    return step


def _concatenate(builder: Builder, draw: st.DrawFn) -> None:
    shape, axis = builder.shape, op.channel_axis(builder.shape)

    def same(each: Shape) -> bool:
        rest = each[:axis] + each[axis + 1 :]
        return len(each) == len(shape) and rest == shape[:axis] + shape[axis + 1 :]

    other = draw(st.sampled_from(builder.alike(same)))
    pair = (builder.last, other) if draw(st.booleans()) else (other, builder.last)
    builder.add(op.Concatenate(), inputs=pair)


def _slice_channels(builder: Builder, draw: st.DrawFn) -> None:
    channels = _channels(builder)
    start = draw(st.integers(0, channels - 1))
    builder.add(op.SliceChannels(start, draw(st.integers(start + 1, channels))))


def _slice_pixels(builder: Builder, draw: st.DrawFn) -> None:
    _, height, width = builder.shape
    start = (draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1)))
    step = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    builder.add(op.SlicePixels(start, (height, width), step))


def _pad(builder: Builder, draw: st.DrawFn) -> None:
    few = st.tuples(st.integers(0, 1), st.integers(0, 2))
    builder.add(op.Pad2d(draw(few), draw(few), draw(few)))


def _pool(builder: Builder, draw: st.DrawFn) -> None:
    choices: Sequence[Operation] = (
        op.MaxPool2d((2, 2), (1, 1), (1, 1), (1, 1)),
        op.MaxPool2d((2, 2), (2, 2), (0, 0), (1, 1)),
        op.AvgPool2d((2, 2), (1, 1), (1, 1)),
        op.AdaptiveAvgPool2d((2, 1)),
    )
    builder.add(draw(st.sampled_from(choices)))


def _batch_norm(builder: Builder, draw: st.DrawFn) -> None:
    count = 4 if draw(st.booleans()) else 2
    builder.add(op.BatchNorm(0.1), *[(_channels(builder),)] * count)


def _group_norm(builder: Builder, draw: st.DrawFn) -> None:
    channels = _channels(builder)
    count = 2 if draw(st.booleans()) else 0
    builder.add(op.GroupNorm(0.1, _divisor(draw, channels)), *[(channels,)] * count)


def _layer_norm(builder: Builder, draw: st.DrawFn) -> None:
    builder.add(op.LayerNorm(0.1), *[(builder.shape[-1],)] * draw(st.integers(0, 2)))


def _rms_norm(builder: Builder, draw: st.DrawFn) -> None:
    builder.add(op.RmsNorm(0.1), *[(builder.shape[-1],)] * draw(st.integers(0, 1)))


def _attention(builder: Builder, draw: st.DrawFn) -> None:
    """Attention of fresh queries, keys and values, as people build it."""
    source, features = builder.last, builder.shape[-1]
    heads = draw(st.integers(1, 2))
    size = heads * draw(st.sampled_from((2, 4)))
    turns, in_pieces = draw(st.booleans()), draw(st.integers(0, 3)) == 0
    names = []
    for turned in (turns, turns, False):
        builder.last = source
        if in_pieces:
            _pieces(builder, draw, size)
        else:
            builder.add(op.Linear(), (size, features))
        if turned:
            builder.add(op.Rotary(heads, 50.0))
        names.append(builder.last)
    builder.add(op.Attention(heads, draw(st.booleans())), inputs=tuple(names))


def _self_attention(builder: Builder, draw: st.DrawFn) -> None:
    """Attention among values that are there, whatever their layout."""
    shape = builder.shape
    values = st.sampled_from(builder.alike(lambda each: each == shape))
    heads = _divisor(draw, shape[1])
    inputs = [builder.last, draw(values), draw(values)]
    builder.add(
        op.Attention(heads, draw(st.booleans())), inputs=tuple(draw(st.permutations(inputs)))
    )


def _rotary(builder: Builder, draw: st.DrawFn) -> None:
    builder.add(op.Rotary(_divisor(draw, builder.shape[1]), 50.0))


def _positions(builder: Builder, draw: st.DrawFn) -> None:
    builder.add(op.AddPositions(), builder.shape)


def _plain(operation: Operation) -> Callable[[Builder, st.DrawFn], None]:
    return lambda builder, draw: builder.add(operation)


STEPS: dict[str, Callable[[Builder, st.DrawFn], None]] = {
    "pointwise": _pointwise,
    "prelu": _prelu,
    "add": _pairwise(op.Add()),
    "multiply": _pairwise(op.Multiply()),
    "pieces": _pieces,
    "concatenate": _concatenate,
    "slice_channels": _slice_channels,
    "slice_pixels": _slice_pixels,
    "pad": _pad,
    "pool": _pool,
    "linear": _linear,
    "conv": _conv,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "attention": _attention,
    "self_attention": _self_attention,
    "rotary": _rotary,
    "positions": _positions,
    "flatten": _plain(op.Flatten()),
    "mean_tokens": _plain(op.MeanTokens()),
    "select_token": _plain(op.SelectToken(0)),
    "pixels_to_tokens": _plain(op.PixelsToTokens()),
}
