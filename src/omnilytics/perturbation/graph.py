"""The typed graph that travels: named tensors, and nodes of listed operations in order.

A `Graph` that exists is sound: names are well formed and unique, every node reads only earlier
values, every shape fits, every tensor is used exactly once and every value reaches the output
(perturbation.md section 1). Building one costs integers only, whatever sizes it claims;
`check_limits` bounds those sizes before anyone allocates. The graph says nothing about whether
the network is useful or safe to train (a hostile first layer is still a graph).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation.limits import Limits
from omnilytics.perturbation.operations import Operation, Shape

GRAPH_INPUT = "input"
"""The name by which nodes read the network's input."""

MAX_DIMENSION = 1 << 24
MAX_RANK = 4

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,127}")


@dataclass(frozen=True)
class TensorSpec:
    """A float32 weight tensor: its name and shape."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Node:
    """One operation: the values it reads, the tensors it owns, the value it makes (its name)."""

    name: str
    operation: Operation
    inputs: tuple[str, ...]
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """A feed-forward network; `ModelError` names the node and operation that do not fit.

    Attributes:
        input_shape: Shape of one input sample: `(F,)` or `(C, H, W)`.
        tensors: Weights, in the order of the encoded gradient.
        nodes: In an order in which they can run; the last one makes the output, a vector.
        shapes: Shape of one sample of every value, by name (derived).
        multiply_adds: Work of one forward pass for one sample (derived).
        workspace: Most elements that one node may need for a moment, for one sample (derived).
    """

    input_shape: Shape
    tensors: tuple[TensorSpec, ...]
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape] = field(init=False, repr=False, compare=False)
    multiply_adds: int = field(init=False, repr=False, compare=False)
    workspace: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_input(self.input_shape)
        tensors = _tensor_shapes(self.tensors)
        shapes = _infer_shapes(self, tensors)
        _check_usage(self)
        if len(shapes[self.nodes[-1].name]) != 1:
            raise ModelError(
                "the network's output is not one vector per sample",
                got=shapes[self.nodes[-1].name],
                want="(outputs,)",
                hint="flatten before the last layer",
                node=self.nodes[-1].name,
            )
        costs = [_cost(node, shapes, tensors) for node in self.nodes]
        object.__setattr__(self, "shapes", shapes)
        object.__setattr__(self, "multiply_adds", sum(work for work, _ in costs))
        object.__setattr__(self, "workspace", max(space for _, space in costs))

    @property
    def output_shape(self) -> Shape:
        """Shape of one output sample."""
        return self.shapes[self.nodes[-1].name]

    @property
    def parameter_count(self) -> int:
        """Elements of all tensors: the length of the encoded gradient."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    def check_limits(self, limits: Limits) -> None:
        """Raise `ModelError` if this graph is larger or costlier than `limits` allow."""
        activations = sum(prod(shape) for shape in self.shapes.values()) + self.workspace
        for what, got, want in (
            ("nodes", len(self.nodes), limits.max_nodes),
            ("tensors", len(self.tensors), limits.max_tensors),
            ("parameters", self.parameter_count, limits.max_parameters),
            ("activation elements per sample", activations, limits.max_activation_elements),
            ("multiply-adds per sample", self.multiply_adds, limits.max_multiply_adds),
        ):
            if got > want:
                raise ModelError(f"the graph has too many {what}", got=got, want=f"<= {want}")


def check_name(name: object, what: str) -> None:
    """Raise `ModelError` unless `name` is well formed, hence safe to show."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ModelError(
            f"{what}: malformed name",
            got=repr(name)[:80],
            want="1 to 128 letters, digits, _ or ., not starting with .",
        )


def _check_shape(shape: Shape, what: str) -> None:
    fits = 1 <= len(shape) <= MAX_RANK and all(
        type(size) is int and 1 <= size <= MAX_DIMENSION for size in shape
    )
    if not fits:
        raise ModelError(
            f"{what} has an impossible shape",
            got=repr(shape)[:80],
            want=f"1 to {MAX_RANK} sizes between 1 and {MAX_DIMENSION}",
        )


def _check_input(shape: Shape) -> None:
    _check_shape(shape, "the network's input")
    if len(shape) not in {1, 3}:
        raise ModelError(
            "the network's input has the wrong number of dimensions",
            got=shape,
            want="(features,) or (channels, height, width)",
        )


def _tensor_shapes(tensors: tuple[TensorSpec, ...]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for tensor in tensors:
        check_name(tensor.name, "a tensor")
        _check_shape(tensor.shape, f"tensor {tensor.name}")
        if tensor.name in shapes:
            raise ModelError("two tensors have one name", tensor=tensor.name)
        shapes[tensor.name] = tensor.shape
    if not shapes:
        raise ModelError("the graph has no tensors", hint="a network without weights cannot learn")
    return shapes


def _infer_shapes(graph: Graph, tensors: Mapping[str, Shape]) -> dict[str, Shape]:
    if not graph.nodes:
        raise ModelError("the graph has no nodes")
    shapes: dict[str, Shape] = {GRAPH_INPUT: graph.input_shape}
    for node in graph.nodes:
        check_name(node.name, "a node")
        if node.name in shapes:
            raise ModelError("two values have one name", node=node.name)
        _check_reads(node, shapes, tensors)
        ins = [shapes[name] for name in node.inputs]
        owned = [tensors[name] for name in node.tensors]
        try:
            output = node.operation.output_shape(ins, owned)
            _check_shape(output, "the node's output")
        except ModelError as error:
            raise ModelError(
                error.message,
                got=error.got,
                want=error.want,
                hint=error.hint,
                node=node.name,
                operation=node.operation.name,
            ) from None
        shapes[node.name] = output
    return shapes


def _cost(node: Node, shapes: Mapping[str, Shape], tensors: Mapping[str, Shape]) -> tuple[int, int]:
    ins = [shapes[name] for name in node.inputs]
    owned = [tensors[name] for name in node.tensors]
    output = shapes[node.name]
    return (
        node.operation.multiply_adds(ins, owned, output),
        node.operation.workspace(ins, owned, output),
    )


def _check_reads(node: Node, values: Mapping[str, Shape], tensors: Mapping[str, Shape]) -> None:
    place = {"node": node.name, "operation": node.operation.name}
    if len(node.inputs) != node.operation.input_count:
        raise ModelError(
            "wrong number of inputs",
            got=len(node.inputs),
            want=node.operation.input_count,
            **place,
        )
    if len(node.tensors) not in node.operation.tensor_counts:
        raise ModelError(
            "wrong number of tensors",
            got=len(node.tensors),
            want=" or ".join(map(str, node.operation.tensor_counts)),
            **place,
        )
    for name in node.inputs:
        if name not in values:
            raise ModelError(
                "node reads a value that is not made before it",
                got=repr(name)[:80],
                hint="a graph has no cycles: list nodes in the order in which they run",
                **place,
            )
    for name in node.tensors:
        if name not in tensors:
            raise ModelError("node uses an unknown tensor", got=repr(name)[:80], **place)


def _check_usage(graph: Graph) -> None:
    # A value without a reader would leave its tensors without a gradient. If every value but the
    # last is read by a later node, every value reaches the output.
    used_tensors: set[str] = set()
    used_values: set[str] = set()
    for node in graph.nodes:
        used_values.update(node.inputs)
        for name in node.tensors:
            if name in used_tensors:
                raise ModelError(
                    "a tensor is used twice",
                    hint="give each layer its own weights; shared weights are not on the list",
                    tensor=name,
                    node=node.name,
                    operation=node.operation.name,
                )
            used_tensors.add(name)
    for tensor in graph.tensors:
        if tensor.name not in used_tensors:
            raise ModelError("a tensor is used by no node", tensor=tensor.name)
    for value in (GRAPH_INPUT, *(node.name for node in graph.nodes[:-1])):
        if value not in used_values:
            raise ModelError("a value takes no part in the output", node=value)
