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
from enum import StrEnum
from math import prod

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation.limits import Limits
from omnilytics.perturbation.operations import Embedding, Operation, Shape

GRAPH_INPUT = "input"
"""The name by which nodes read the network's input."""

MAX_DIMENSION = 1 << 24
MAX_RANK = 4

NAME_PATTERN = "[A-Za-z0-9_][A-Za-z0-9_.]{0,127}"

_NAME = re.compile(NAME_PATTERN)


class TensorRole(StrEnum):
    """What a tensor is for."""

    TRAINED = "trained"
    """Gets a gradient, and is perturbed anew in every round."""
    FROZEN = "frozen"
    """Stays as it is: published once for a task, without a gradient, not perturbed."""
    STATISTIC = "statistic"
    """A running statistic of a batch normalisation: owners send how their batches differ."""


class InputKind(StrEnum):
    """What a network reads."""

    NUMBERS = "numbers"
    TOKENS = "tokens"
    """Whole numbers from 0, which index the rows of an embedding."""


class Dtype(StrEnum):
    """In what numbers an artefact is computed."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


@dataclass(frozen=True)
class TensorSpec:
    """A tensor: its name, shape and role."""

    name: str
    shape: Shape
    role: TensorRole = TensorRole.TRAINED


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
        input_shape: Shape of one input sample: `(F,)`, `(T, F)` or `(C, H, W)`; `(T,)` for tokens.
        tensors: Those of each role in the order in which they are encoded.
        nodes: In an order in which they can run; the last one makes the output, a vector or one
            vector for each token.
        input_kind: Whether the input is numbers or tokens.
        dtype: The type of all numbers.
        shapes: Shape of one sample of every value, by name (derived).
        multiply_adds: Work of one forward pass for one sample (derived).
        workspace: Most elements that one node may need for a moment, for one sample (derived).
    """

    input_shape: Shape
    tensors: tuple[TensorSpec, ...]
    nodes: tuple[Node, ...]
    input_kind: InputKind = InputKind.NUMBERS
    dtype: Dtype = Dtype.FLOAT32
    shapes: Mapping[str, Shape] = field(init=False, repr=False, compare=False)
    multiply_adds: int = field(init=False, repr=False, compare=False)
    workspace: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_input(self.input_shape, self.input_kind)
        tensors = _tensor_shapes(self.tensors)
        shapes = _infer_shapes(self, tensors)
        _check_usage(self)
        _check_roles(self)
        if len(shapes[self.nodes[-1].name]) not in {1, 2}:
            raise ModelError(
                "the network's output is not one vector per sample or token",
                got=shapes[self.nodes[-1].name],
                want="(outputs,) or (tokens, outputs)",
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
    def trained(self) -> tuple[TensorSpec, ...]:
        """Tensors that get a gradient."""
        return self._of(TensorRole.TRAINED)

    @property
    def frozen(self) -> tuple[TensorSpec, ...]:
        """Tensors that stay as they are."""
        return self._of(TensorRole.FROZEN)

    @property
    def statistics(self) -> tuple[TensorSpec, ...]:
        """Running statistics."""
        return self._of(TensorRole.STATISTIC)

    @property
    def parameter_count(self) -> int:
        """Elements of the trained tensors: the length of the encoded gradient."""
        return sum(prod(tensor.shape) for tensor in self.trained)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are; 0 where the input is numbers."""
        rows = {tensor.name: tensor.shape[0] for tensor in self.tensors}
        tables = [node for node in self.nodes if isinstance(node.operation, Embedding)]
        return min((rows[node.tensors[0]] for node in tables), default=0)

    def _of(self, role: TensorRole) -> tuple[TensorSpec, ...]:
        return tuple(tensor for tensor in self.tensors if tensor.role is role)

    def check_limits(self, limits: Limits) -> None:
        """Raise `ModelError` if this graph is larger or costlier than `limits` allow."""
        activations = sum(prod(shape) for shape in self.shapes.values()) + self.workspace
        for what, got, want in (
            ("nodes", len(self.nodes), limits.max_nodes),
            ("tensors", len(self.tensors), limits.max_tensors),
            ("parameters", sum(prod(each.shape) for each in self.tensors), limits.max_parameters),
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


def _check_input(shape: Shape, kind: InputKind) -> None:
    _check_shape(shape, "the network's input")
    if len(shape) not in ({1} if kind is InputKind.TOKENS else {1, 2, 3}):
        raise ModelError(
            "the network's input has the wrong number of dimensions",
            got=shape,
            want="(tokens,)"
            if kind is InputKind.TOKENS
            else "(features,), (tokens, features) or (channels, height, width)",
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
        _check_tokens(node, graph.input_kind)
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
    least, most = node.operation.input_counts
    if not least <= len(node.inputs) <= most:
        raise ModelError(
            "wrong number of inputs",
            got=len(node.inputs),
            want=least if least == most else f"{least} to {most}",
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


def _check_tokens(node: Node, kind: InputKind) -> None:
    reads_tokens = kind is InputKind.TOKENS and GRAPH_INPUT in node.inputs
    if reads_tokens != isinstance(node.operation, Embedding):
        raise ModelError(
            "tokens are for an embedding, and an embedding for tokens",
            node=node.name,
            operation=node.operation.name,
        )


def _check_roles(graph: Graph) -> None:
    # Running statistics stand where an operation has them, and nowhere else.
    roles = {tensor.name: tensor.role for tensor in graph.tensors}
    for node in graph.nodes:
        first = len(node.tensors) - node.operation.statistics
        for position, name in enumerate(node.tensors):
            if (roles[name] is TensorRole.STATISTIC) != (position >= first):
                raise ModelError(
                    "a tensor has another role than its place",
                    got=roles[name],
                    tensor=name,
                    node=node.name,
                    operation=node.operation.name,
                )
    if not graph.trained:
        raise ModelError("no tensor is trained", hint="a network without weights cannot learn")


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
                    hint="give each use a tensor of its own",
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
