"""Reads an exported program call by call into a graph: values, constants, layouts, parameters."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn, cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind as SignatureKind
from torch.fx.node import map_arg

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.aten import (
    BATCH_SIZE,
    LAYOUTS,
    RULES,
    Call,
    Parameter,
    check_in_place,
    refuse,
)
from omnilytics.learning.folding import FloatArray, Reals, Source, TracedNode, fold
from omnilytics.learning.layouts import View, by_heads, plain_numbers
from omnilytics.learning.moves import recognise
from omnilytics.learning.rotary import Rotation, base_of, find_rotations
from omnilytics.learning.way_out import way_out
from omnilytics.perturbation.artefact import Tensors
from omnilytics.perturbation.graph import GRAPH_INPUT, Dtype, Graph, InputKind, TensorRole
from omnilytics.perturbation.operations import Operation, Rotary, Shape

_GET_ITEM = str(operator.getitem)


@dataclass(frozen=True)
class Traced:
    """A module as it will be published.

    Attributes:
        graph: The published graph.
        sources: How each of its tensors comes from the module's parameters and buffers.
        momentum: Of each running statistic, by tensor name: running + momentum * (batch - running).
    """

    graph: Graph
    sources: Mapping[str, Source]
    momentum: Mapping[str, float]

    def weights(self, state: Mapping[str, FloatArray], dtype: Dtype) -> Tensors:
        """Return the tensors to be published, from the module's parameters and buffers by name."""
        return {
            tensor.name: self.sources[tensor.name].value(state).astype(dtype.value)
            for tensor in self.graph.tensors
        }

    def parameter_gradients(
        self, gradients: Mapping[str, FloatArray], state: Mapping[str, FloatArray]
    ) -> dict[str, Reals]:
        """Return gradients by the names in `state` from those of the graph's trained tensors."""
        sums = {name: np.zeros(value.shape) for name, value in state.items()}
        for name, gradient in gradients.items():
            self.sources[name].add_gradients(gradient.astype(np.float64), state, sums)
        return sums


@dataclass(frozen=True)
class _Buffer(Parameter):
    """A buffer: a running statistic for a batch normalisation, a constant for all others."""

    content: Tensor


class Reader:
    """Reads one exported program.

    Args:
        program: What `torch.export` made of the module.
        module: The module, for its parameters' names and whether they are trained.
        input_shape: Shape of one sample.
        input_kind: Whether it is numbers or tokens.
    """

    def __init__(
        self,
        program: ExportedProgram,
        module: nn.Module,
        input_shape: Shape,
        input_kind: InputKind,
    ) -> None:
        self._program = program
        self._input_shape = input_shape
        self._input_kind = input_kind
        self._names = {id(each): name for name, each in module.named_parameters()}
        self._parameters = dict(module.named_parameters(remove_duplicate=False))
        self._buffers = dict(module.named_buffers())
        self._roles = {
            name: TensorRole.TRAINED if each.requires_grad else TensorRole.FROZEN
            for name, each in module.named_parameters()
        }
        self._rotations = find_rotations(program.graph)
        self._skipped = {each for found in self._rotations.values() for each in found.inner}
        self._values: dict[fx.Node, Any] = {}
        self._shapes: dict[str, Shape] = {}
        self._nodes: list[TracedNode] = []
        self._value_shapes: dict[str, Shape] = {GRAPH_INPUT: input_shape}
        self._moved: dict[tuple[str, tuple[int, ...], bytes], View] = {}
        self._momentum: dict[str, float] = {}
        self._current: fx.Node | None = None

    def read(self) -> Traced:
        """Return the graph and where its tensors come from; `ModelError` names what is refused."""
        kinds = {spec.arg.name: spec for spec in self._program.graph_signature.input_specs}
        for node in self._program.graph.nodes:
            self._current = node
            if node.op == "placeholder":
                self._values[node] = self._placeholder(kinds[node.name])
            elif node.op == "call_function":
                if node not in self._skipped:
                    self._values[node] = self._call(node)
                    self._check_sizes(node)
            elif node.op == "output":
                return self._finish(node)
            else:
                refuse(
                    node,
                    "is not an operation on the list",
                    "no torch.no_grad() and no branches in forward",
                )
        raise AssertionError("an exported program ends with its output")

    # what calls are given

    def _placeholder(self, spec: Any) -> Any:
        if spec.kind is SignatureKind.USER_INPUT:
            return View(GRAPH_INPUT, self._input_shape)
        if spec.kind is SignatureKind.PARAMETER:
            parameter = self._parameters[spec.target]
            name = self._names[id(parameter)]
            self._shapes[name] = tuple(parameter.shape)
            return Parameter(name, self._shapes[name])
        if spec.kind is SignatureKind.BUFFER:
            buffer = self._buffers[spec.target]
            self._shapes[spec.target] = tuple(buffer.shape)
            return _Buffer(spec.target, tuple(buffer.shape), buffer.detach().clone())
        if spec.kind is SignatureKind.CONSTANT_TENSOR:
            return self._program.constants[spec.target].detach().clone()
        raise ModelError(
            "the model reads something that is no tensor of it", got=str(spec.kind), want="tensors"
        )

    def _call(self, node: fx.Node) -> Any:
        name = str(node.target)
        arguments: Any
        named: Any
        if node in self._rotations:
            return self._rotary(node, self._rotations[node])
        for each in node.all_input_nodes:
            if each not in self._values:
                refuse(
                    node, "reads a part of a rotation of positions", "rotate queries and keys alone"
                )
        arguments = map_arg(node.args, self._values.__getitem__)
        named = map_arg(dict(node.kwargs), self._values.__getitem__)
        if name == BATCH_SIZE and isinstance(arguments[0], View):
            return arguments[0].sizes[cast("int", arguments[1])]
        if name == _GET_ITEM:
            return arguments[0][arguments[1]]
        inputs = [self._values[each] for each in node.all_input_nodes]
        if all(_is_constant(each) for each in inputs):
            return self._constant(node, arguments, named)
        if name in LAYOUTS:
            return self._layout(node, arguments, named)
        plain_name = name.replace("_.", ".")
        rule = RULES.get(plain_name)
        if rule is None:
            refuse(node, "is not on the list of operations", way_out(name))
        if plain_name != name:
            check_in_place(node)
        call = Call(node, arguments, named, self)
        found = rule(call)
        if plain_name == "aten.batch_norm.default":
            for buffer in call.parameters("running_mean", "running_var"):
                self._roles[buffer.name] = TensorRole.STATISTIC
                self._momentum[buffer.name] = float(call["momentum"])
        return found

    def _constant(self, node: fx.Node, arguments: Any, named: Any) -> Any:
        target = cast("Any", node.target)
        if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
            refuse(node, "is random", "only dropout may be random")

        def unwrapped(value: Any) -> Any:
            if isinstance(value, _Buffer):
                return value.content.clone()
            if isinstance(value, (list, tuple)):
                return type(value)(unwrapped(each) for each in value)
            return value

        with torch.no_grad():
            return target(*unwrapped(arguments), **named)

    def _layout(self, node: fx.Node, arguments: Any, named: Any) -> Any:
        target = cast("Any", node.target)
        source = arguments[0]
        if isinstance(source, Parameter):
            return self._parameter_layout(node, source, target, arguments, named)
        if not isinstance(source, View):
            refuse(
                node,
                "rearranges something that is not a value of the network",
                "one tensor of numbers",
            )
        found = target(source.laid_out(), *arguments[1:], **named)
        if isinstance(found, Tensor):
            return View(source.source, source.shape, found.contiguous())
        return [View(source.source, source.shape, each.contiguous()) for each in found]

    def _parameter_layout(
        self, node: fx.Node, source: Parameter, target: Any, arguments: Any, named: Any
    ) -> Parameter:
        numbers = torch.arange(prod(source.shape)).reshape(source.shape)
        found = target(numbers, *arguments[1:], **named)
        same_sizes = isinstance(found, Tensor) and [size for size in found.shape if size != 1] == [
            size for size in source.shape if size != 1
        ]
        if not same_sizes or not torch.equal(found.reshape(-1), numbers.reshape(-1)):
            refuse(node, "rearranges a parameter", "use parameters as they are")
        return source

    # what rules ask for: see aten.Emitter

    def emit(
        self,
        operation: Operation,
        inputs: Sequence[View],
        tensors: Sequence[Parameter] = (),
        *,
        keep_layout: bool = False,
    ) -> View:
        """Add a node of the graph; with `keep_layout`, of the layout of its first input."""
        try:
            shape = operation.output_shape(
                [each.shape for each in inputs], [self._shapes[each.name] for each in tensors]
            )
        except ModelError as error:
            self._refuse(f"does not fit: {error.message}", error.hint or f"want {error.want}")
        name = self._fresh_name()
        sources = tuple(Source(each.name) for each in tensors)
        node = TracedNode(name, operation, tuple(each.source for each in inputs), sources)
        self._nodes.append(node)
        self._value_shapes[name] = shape
        if not keep_layout or inputs[0].numbers is None:
            return View(name, shape)
        if shape == inputs[0].shape:
            return View(name, shape, inputs[0].numbers)
        return inputs[0].with_source(name, shape)

    def plain(self, view: View) -> View:
        """Return the same tensor in a value's own layout, by nodes that move entries."""
        if view.is_plain():
            return View(view.source, view.shape)
        numbers = view.laid_out()
        key = (view.source, view.sizes, numbers.numpy().tobytes())
        if key not in self._moved:
            moves = recognise(view)
            if moves is None:
                self._refuse(
                    f"reads entries of {view.source} in an order that no operation has",
                    "flatten, slices of channels, pixels or tokens, heads of attention",
                )
            found = View(view.source, view.shape)
            for move in moves:
                found = self.emit(move, [found])
            self._moved[key] = found
        return self._moved[key]

    def heads(self, view: View) -> tuple[View, int]:
        """Return the value whose heads stand in a tensor (B, h, T, d), and h."""
        features = view.head_features()
        if features is None:
            self._refuse("reads something that is not laid out as heads", "(B, h, T, d)")
        heads, size = features.shape
        first = int(features[0, 0])
        wanted = torch.arange(first, first + heads * size).reshape(heads, size)
        if not torch.equal(features, wanted):
            self._refuse("has heads whose features are scattered", "one head after another")
        if heads * size == view.shape[1]:
            return View(view.source, view.shape), heads
        numbers = plain_numbers(view.shape)[..., first : first + heads * size]
        return self.plain(View(view.source, view.shape, numbers.contiguous())), heads

    def _rotary(self, node: fx.Node, found: Rotation) -> View:
        value, first, second = (
            self._values.get(each) for each in (found.value, found.first, found.second)
        )
        tables = [self._table(each) for each in (found.cosine, found.sine)]
        if not all(isinstance(each, View) for each in (value, first, second)):
            refuse(node, "turns something that is not a value of the network", "queries and keys")
        value, first, second = cast("tuple[View, View, View]", (value, first, second))
        half = value.sizes[-1] // 2
        numbers = value.laid_out()
        halves = numbers[..., :half], numbers[..., half:]
        parts = first.laid_out(), second.laid_out()
        if first.source != value.source or not all(map(torch.equal, halves, parts)):
            refuse(node, "is not a rotation of halves", "cat(-x[d/2:], x[:d/2])")
        by_token = value.head_features() is None
        if by_token:  # (B, T, h, d)
            value = View(value.source, value.shape, numbers.transpose(1, 2).contiguous())
        source, heads = self.heads(value)
        base = None
        if tables[0] is not None and tables[1] is not None:
            base = base_of(tables[0], tables[1], source.shape[0], source.shape[1] // heads)
        if base is None:
            refuse(node, "has other tables", "angles t * base^(-2i/d), as constants")
        turned = self.emit(Rotary(heads=heads, base=base), [source])
        out = by_heads(plain_numbers(turned.shape), heads)
        out = out if by_token else out.transpose(1, 2)
        return View(turned.source, turned.shape, out.contiguous())

    def _table(self, node: fx.Node) -> Tensor | None:
        value = self._values.get(node)
        if isinstance(value, _Buffer):
            return value.content
        return value if isinstance(value, Tensor) else None

    def _under_way(self) -> fx.Node:
        assert self._current is not None, "rules run for a call"
        return self._current

    def _refuse(self, why: str, hint: str) -> NoReturn:
        """Refuse the call under way."""
        refuse(self._under_way(), why, hint)

    def _fresh_name(self) -> str:
        base = self._under_way().name
        name, count = base, 1
        while name in self._value_shapes:
            count += 1
            name = f"{base}_part{count}"
        return name

    # the end

    def _check_sizes(self, node: fx.Node) -> None:
        value = self._values[node]
        if not isinstance(value, View):
            return
        shape = node.meta["val"].shape
        wanted = [size if isinstance(size, int) else None for size in shape]
        fits = len(wanted) == len(value.sizes) and all(
            want in (None, got) for want, got in zip(wanted, value.sizes, strict=True)
        )
        if not fits:
            refuse(
                node,
                f"has shape {tuple(shape)}, read as {value.sizes}",
                "views that leave the batch alone",
            )

    def _finish(self, node: fx.Node) -> Traced:
        outputs = [self._values.get(each) for each in node.all_input_nodes]
        arguments = cast("tuple[Any, ...]", node.args[0])
        if len(arguments) != 1 or len(outputs) != 1 or not isinstance(outputs[0], View):
            refuse(node, "does not return one value alone", "return one tensor")
        if isinstance(arguments[0].meta["val"].shape[0], int):
            refuse(node, "changes the batch dimension", "one output for each sample")
        last = self.plain(outputs[0]).source
        nodes = _reaching(self._nodes, last)
        if not nodes or nodes[-1].name != last:
            refuse(node, "returns the input as it is", "a network has layers")
        published = fold(nodes, self._shapes, self._roles)
        graph = Graph(self._input_shape, published.tensors, published.nodes, self._input_kind)
        self._check_all_used(published.sources)
        momentum = {
            name: self._momentum[str(source.parameter)]
            for name, source in published.sources.items()
            if source.parameter in self._momentum
        }
        return Traced(graph, published.sources, momentum)

    def _check_all_used(self, sources: Mapping[str, Source]) -> None:
        used = {name for source in sources.values() for name in source.parameters}
        for name, role in self._roles.items():
            if role is TensorRole.TRAINED and name not in used:
                raise ModelError(
                    "a parameter takes no part in the output",
                    hint="remove the unused layer from the module, or freeze it",
                    tensor=name,
                )


def _is_constant(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_constant(each) for each in value)
    return isinstance(value, (int, float, bool, Tensor, _Buffer))


def _reaching(nodes: Sequence[TracedNode], last: str) -> list[TracedNode]:
    """Return the nodes that the last one needs."""
    needed = {last}
    found = []
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
            found.append(node)
    return found[::-1]
