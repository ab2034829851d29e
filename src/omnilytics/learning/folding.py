"""From what a module computes to what is published: one tensor for every use, gains folded away.

Three rewritings, each exact, make a traced network's gauge larger or possible at all:

- a linear layer whose output is cut into pieces (packed queries, keys and values) becomes one layer
  for each piece;
- gain and shift of a layer or RMS normalisation go into the linear layers that read it, so that a
  secret orthogonal map may pass (perturbation.md section 2): W diag(g), and W s + b;
- a parameter that is used more than once (tied embeddings) travels once for every use.

A `Source` says how a published tensor comes from the module's parameters, and takes gradients back
by the chain rule: the map is linear in each parameter, so sums over data owners come back as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnilytics.perturbation.graph import Node, TensorRole, TensorSpec
from omnilytics.perturbation.operations import (
    LayerNorm,
    Linear,
    MeanTokens,
    Operation,
    RmsNorm,
    SelectToken,
    Shape,
    SliceChannels,
)

FloatArray = NDArray[np.floating[Any]]
Reals = NDArray[np.float64]
_LINEAR_OVER_TOKENS = (MeanTokens, SelectToken)
"""What may stand between a normalisation and a linear layer: its gain passes through."""


@dataclass(frozen=True)
class Shift:
    """A normalisation's shift, as a linear layer with this weight adds it to its bias."""

    weight: str
    rows: slice | None
    bias: str


@dataclass(frozen=True)
class Source:
    """How one published tensor comes from the module's parameters and buffers.

    Attributes:
        parameter: Its name in the module; None for a bias that is a shift alone.
        rows: Which rows of it; all for None.
        gain: A parameter that its columns are multiplied with.
        shift: What is added to a bias.
    """

    parameter: str | None
    rows: slice | None = None
    gain: str | None = None
    shift: Shift | None = None

    @property
    def parameters(self) -> list[str]:
        """Names of all parameters that it comes from."""
        names = [self.parameter, self.gain]
        if self.shift is not None:
            names += [self.shift.weight, self.shift.bias]
        return [name for name in names if name is not None]

    @property
    def is_plain(self) -> bool:
        """Whether it is a parameter as it is."""
        return self == Source(self.parameter)

    def value(self, parameters: Mapping[str, FloatArray]) -> Reals:
        """Return the published tensor's value, float64."""
        found: Reals = np.float64(0)  # type: ignore[assignment]
        if self.parameter is not None:
            found = _rows(parameters[self.parameter], self.rows)
        if self.gain is not None:
            found = found * parameters[self.gain].astype(np.float64)
        if self.shift is not None:
            weight = _rows(parameters[self.shift.weight], self.shift.rows)
            found = found + weight @ parameters[self.shift.bias].astype(np.float64)
        return found

    def add_gradients(
        self, gradient: Reals, parameters: Mapping[str, FloatArray], sums: Mapping[str, Reals]
    ) -> None:
        """Add to `sums` what the published tensor's gradient means for every parameter."""
        if self.parameter is not None:
            own = gradient
            if self.gain is not None:
                weight = _rows(parameters[self.parameter], self.rows)
                sums[self.gain][...] += (weight * gradient).sum(axis=0)
                own = gradient * parameters[self.gain].astype(np.float64)
            sums[self.parameter][self.rows or slice(None)] += own
        if self.shift is not None:
            bias = parameters[self.shift.bias].astype(np.float64)
            weight = _rows(parameters[self.shift.weight], self.shift.rows)
            sums[self.shift.weight][self.shift.rows or slice(None)] += np.outer(gradient, bias)
            sums[self.shift.bias][...] += weight.T @ gradient


def _rows(array: FloatArray, rows: slice | None) -> Reals:
    return array.astype(np.float64) if rows is None else array[rows].astype(np.float64)


@dataclass(frozen=True)
class TracedNode:
    """A node as it was traced: what each of its tensors comes from."""

    name: str
    operation: Operation
    inputs: tuple[str, ...]
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Published:
    """The nodes and tensors to be published, and where each tensor comes from."""

    nodes: tuple[Node, ...]
    tensors: tuple[TensorSpec, ...]
    sources: Mapping[str, Source]


def fold(
    nodes: Sequence[TracedNode], shapes: Mapping[str, Shape], roles: Mapping[str, TensorRole]
) -> Published:
    """Return what is published of a traced network.

    Args:
        nodes: In the order in which they run; the last one is the output.
        shapes: Of the module's parameters and buffers.
        roles: Of the module's parameters and buffers.
    """
    folded = _fold_norms(_split_linears(list(nodes), shapes), roles)
    return _name(folded, shapes, roles)


def _readers(nodes: Sequence[TracedNode]) -> dict[str, list[TracedNode]]:
    readers: dict[str, list[TracedNode]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    return readers


def _split_linears(nodes: list[TracedNode], shapes: Mapping[str, Shape]) -> list[TracedNode]:
    """Give each slice of a linear layer's output a layer of its own, where all of it is sliced."""
    readers = _readers(nodes)
    split = {
        node.name: node
        for node in nodes
        if isinstance(node.operation, Linear)
        and node is not nodes[-1]
        and all(isinstance(each.operation, SliceChannels) for each in readers[node.name])
        and _covers(readers[node.name], shapes[str(node.sources[0].parameter)][0])
    }
    found = []
    for node in nodes:
        layer = split.get(node.inputs[0])
        if layer is not None and isinstance(node.operation, SliceChannels):
            rows = slice(node.operation.start, node.operation.stop)
            sources = tuple(replace(source, rows=rows) for source in layer.sources)
            found.append(TracedNode(node.name, Linear(), layer.inputs, sources))
        elif node.name not in split:
            found.append(node)
    return found


def _covers(slices: Sequence[TracedNode], size: int) -> bool:
    """Tell whether slices share out all channels, so that every row gets a gradient."""
    parts = sorted({(each.operation.start, each.operation.stop) for each in slices})  # type: ignore[attr-defined]
    ends = [0, *(stop for _, stop in parts)]
    return ends[-1] == size and all(
        start == end for (start, _), end in zip(parts, ends, strict=False)
    )


def _fold_norms(nodes: list[TracedNode], roles: Mapping[str, TensorRole]) -> list[TracedNode]:
    readers = _readers(nodes)
    by_name = {node.name: node for node in nodes}
    for norm in nodes:
        if not (isinstance(norm.operation, (LayerNorm, RmsNorm)) and norm.sources):
            continue
        layers = list(_linear_readers(norm, readers))
        names = [
            name for each in [norm, *layers] for one in each.sources for name in one.parameters
        ]
        is_possible = all(isinstance(each.operation, Linear) for each in layers)
        if not is_possible or len({roles[name] for name in names}) > 1:
            continue
        for layer in layers:
            by_name[layer.name] = _with_norm(by_name[layer.name], norm.sources)
        by_name[norm.name] = replace(norm, sources=())
    return [by_name[node.name] for node in nodes]


def _linear_readers(
    node: TracedNode, readers: Mapping[str, list[TracedNode]]
) -> Iterator[TracedNode]:
    """Yield who reads a normalisation, behind means and selections of tokens."""
    for reader in readers.get(node.name, []):
        if isinstance(reader.operation, _LINEAR_OVER_TOKENS):
            yield from _linear_readers(reader, readers)
        else:
            yield reader
    if not readers.get(node.name):
        yield node  # the output itself: nothing takes the gain


def _with_norm(layer: TracedNode, norm: tuple[Source, ...]) -> TracedNode:
    weight = layer.sources[0]
    gained = replace(weight, gain=norm[0].parameter)
    if len(norm) == 1:
        return replace(layer, sources=(gained, *layer.sources[1:]))
    shift = Shift(str(weight.parameter), weight.rows, str(norm[1].parameter))
    bias = layer.sources[1] if len(layer.sources) == 2 else Source(None)
    return replace(layer, sources=(gained, replace(bias, shift=shift)))


def _name(
    nodes: Sequence[TracedNode], shapes: Mapping[str, Shape], roles: Mapping[str, TensorRole]
) -> Published:
    uses = Counter(
        source.parameter for node in nodes for source in node.sources if source.parameter
    )
    published: list[Node] = []
    tensors: list[TensorSpec] = []
    sources: dict[str, Source] = {}
    for node in nodes:
        names = []
        for source in node.sources:
            name = source.parameter or f"{source.shift.bias}.shift"  # type: ignore[union-attr]
            if source.parameter is None or uses[name] > 1:
                name = f"{name}.{node.name}"
            names.append(name)
            sources[name] = source
            tensors.append(TensorSpec(name, _shape(source, shapes), roles[source.parameters[0]]))
        published.append(Node(node.name, node.operation, node.inputs, tuple(names)))
    return Published(tuple(published), tuple(tensors), sources)


def _shape(source: Source, shapes: Mapping[str, Shape]) -> Shape:
    whole = shapes[source.parameter or source.shift.weight]  # type: ignore[union-attr]
    rows = source.rows if source.parameter is not None else source.shift.rows  # type: ignore[union-attr]
    size = whole[0] if rows is None else rows.stop - rows.start
    return (size, *whole[1:]) if source.parameter is not None else (size,)
