"""From a user's `nn.Module` to a `Graph`, by `torch.export`, or a refusal that says why.

The module is traced in training mode with a batch dimension of at least 2, each ATen call is read
as one listed operation, and the result is checked twice: every inferred shape must be the
tracer's, and on a probe batch the graph must compute what the module computes. Only names of
parameters and operations leave; no source lines, no archive of torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NoReturn, cast

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node, TensorSpec
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.operations import (
    OPERATIONS,
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Operation,
    Pair,
    Relu,
)

_PROBE_SAMPLES = 3


def trace(module: nn.Module, input_shape: tuple[int, ...]) -> Graph:
    """Return the graph of `module`, whose mode and weights are left as they were.

    Args:
        module: Takes one float32 tensor (batch, *input_shape), returns one (batch, outputs).
        input_shape: Shape of one sample.

    Raises:
        ModelError: If something is not on the list; it names the node, the operation and a way out.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.train()
    try:
        _check_parameters(module)
        graph = _Reader(_export(module, input_shape), input_shape).graph()
        _check_probe(module, graph)
    finally:
        for part, training in modes:
            part.training = training
    return graph


def _check_parameters(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise ModelError(
                "a parameter is not float32",
                got=parameter.dtype,
                hint="convert the module with .float()",
                tensor=name,
            )
        if not parameter.requires_grad:
            raise ModelError(
                "a parameter is frozen",
                hint="every parameter that travels is trained: set requires_grad",
                tensor=name,
            )


def _export(module: nn.Module, input_shape: tuple[int, ...]) -> ExportedProgram:
    example = torch.zeros(2, *input_shape)
    try:
        copy.deepcopy(module)(example.clone())  # a plain error, before the tracer's long one
        return torch.export.export(module, (example,), dynamic_shapes=({0: Dim("batch", min=2)},))
    except Exception as error:  # torch.export raises many kinds; all mean "cannot be traced"
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            "torch.export cannot trace the module",
            got=f"{type(error).__name__}: {lines[0][:200]}",
            hint="no branches on data, one tensor in, one out, any batch of 2 or more",
        ) from error


def _check_probe(module: nn.Module, graph: Graph) -> None:
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(_PROBE_SAMPLES, *graph.input_shape, generator=generator)
    with torch.no_grad():
        want = module(probe.clone())
        got = run_graph(graph, dict(module.named_parameters()), probe)
    if not torch.allclose(got, want, rtol=1e-4, atol=1e-5):
        raise ModelError(
            "the traced graph does not compute what the module computes",
            got=float((got - want).abs().max()),
            want="the same outputs on a probe batch",
            hint="hooks, randomness or state outside parameters cannot travel",
        )


class _Reader:
    """Reads an exported program node by node; `_refuse` locates every refusal."""

    def __init__(self, program: ExportedProgram, input_shape: tuple[int, ...]) -> None:
        self._program = program
        self._input_shape = input_shape
        self._values: dict[str, str] = {}  # fx name -> name of the value in the graph
        self._tensors: dict[str, str] = {}  # fx name -> parameter's name in the module
        self._specs: list[TensorSpec] = []
        self._nodes: list[Node] = []

    def graph(self) -> Graph:
        kinds = {spec.arg.name: spec for spec in self._program.graph_signature.input_specs}
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                self._read_placeholder(node, kinds[node.name])
            elif node.op == "call_function":
                self._read_call(node)
            elif node.op == "output":
                self._check_output(node)
            else:
                _refuse(node, "is not an operation on the list")
        graph = Graph(self._input_shape, tuple(self._specs), tuple(self._nodes))
        self._check_shapes(graph)
        return graph

    def _read_placeholder(self, node: fx.Node, spec: Any) -> None:
        if spec.kind is InputKind.USER_INPUT:
            self._values[node.name] = GRAPH_INPUT
            return
        if spec.kind is not InputKind.PARAMETER:
            if node.users:
                _refuse(node, "reads a buffer or constant", "only parameters travel")
            return
        if not node.users:
            raise ModelError(
                "a parameter takes no part in the output",
                hint="remove the unused layer from the module",
                tensor=spec.target,
            )
        self._tensors[node.name] = spec.target
        self._specs.append(TensorSpec(spec.target, tuple(node.meta["val"].shape)))

    def _read_call(self, node: fx.Node) -> None:
        name = str(node.target)
        if name == _BATCH_SIZE:
            return  # a batch size; whoever uses it is checked by its own rule
        rule = _RULES.get(name)
        if rule is None:
            _refuse(node, "is not on the list of operations", f"use {', '.join(OPERATIONS)}")
        if name in _IN_PLACE:
            _check_in_place(node)
        operation, inputs, tensors = rule(_Call(node))
        if operation is None:
            self._values[node.name] = self._value(node, inputs[0])
            return
        self._nodes.append(
            Node(
                node.name,
                operation,
                tuple(self._value(node, item) for item in inputs),
                tuple(self._tensor(node, item) for item in tensors if item is not None),
            )
        )
        self._values[node.name] = node.name

    def _value(self, node: fx.Node, argument: Any) -> str:
        name = self._values.get(getattr(argument, "name", ""))
        if name is None:
            _refuse(node, "has an input that is not a value of the network")
        return name

    def _tensor(self, node: fx.Node, argument: Any) -> str:
        name = self._tensors.get(getattr(argument, "name", ""))
        if name is None:
            _refuse(node, "has a weight that is not a parameter", "pass parameters unchanged")
        return name

    def _check_output(self, node: fx.Node) -> None:
        outputs = cast("tuple[Any, ...]", node.args[0])
        last = self._nodes[-1].name if self._nodes else None
        if len(outputs) != 1 or self._values.get(getattr(outputs[0], "name", "")) != last:
            _refuse(node, "does not return the last value alone", "return one tensor")

    def _check_shapes(self, graph: Graph) -> None:
        for node in self._program.graph.nodes:
            name = self._values.get(node.name)
            if name is None:
                continue
            shape = tuple(node.meta["val"].shape)
            if isinstance(shape[0], int) or shape[1:] != graph.shapes[name]:
                _refuse(node, f"changes the batch dimension or has shape {shape}")


class _Call:
    """The arguments of an ATen call by position or name, with the schema's defaults."""

    def __init__(self, node: fx.Node) -> None:
        self.node = node
        schema = cast("Any", node.target)._schema
        self._arguments: dict[str, Any] = {
            argument.name: argument.default_value
            for argument in schema.arguments
            if argument.has_default_value()
        }
        names = [argument.name for argument in schema.arguments]
        self._arguments.update(zip(names, node.args, strict=False))
        self._arguments.update(node.kwargs)

    def __getitem__(self, name: str) -> Any:
        return self._arguments[name]

    def pair(self, name: str) -> Pair:
        """Return two integers, from one or two."""
        value = self._arguments[name]
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        if len(items) not in {1, 2} or not all(type(item) is int for item in items):
            _refuse(self.node, f"has an argument {name} that is not two integers")
        return items[0], items[-1]

    def want(self, name: str, value: object) -> None:
        """Refuse the call unless argument `name` is `value`."""
        if self._arguments[name] != value:
            _refuse(self.node, f"has {name}={self._arguments[name]}", f"only {name}={value}")


def _refuse(node: fx.Node, why: str, hint: str | None = None) -> NoReturn:
    raise ModelError(
        f"the model cannot be carried: {node.name} {why}",
        hint=hint,
        node=node.name,
        operation=str(node.target),
    )


def _check_in_place(node: fx.Node) -> None:
    # An in-place operation becomes a plain one. That is the same only if nobody else reads the
    # memory that it overwrites, under this name or as the source of a view.
    overwritten = node.args[0]
    while isinstance(overwritten, fx.Node):
        readers = [user for user in overwritten.users if str(user.target) != _BATCH_SIZE]
        if len(readers) != 1:
            _refuse(node, "overwrites a value that is also used elsewhere", "use inplace=False")
        if str(overwritten.target) not in _VIEWS:
            return
        overwritten = overwritten.args[0]


# What a call becomes: an operation (None: its input unchanged), the values and tensors it reads.
_Read = tuple[Operation | None, list[Any], list[Any]]


def _linear(call: _Call) -> _Read:
    return Linear(), [call["input"]], [call["weight"], call["bias"]]


def _conv2d(call: _Call) -> _Read:
    call.want("groups", 1)
    stride, dilation = call.pair("stride"), call.pair("dilation")
    padding = _named_padding(call, dilation) if _is_text(call, "padding") else call.pair("padding")
    operation = Conv2d(stride=stride, padding=padding, dilation=dilation)
    return operation, [call["input"]], [call["weight"], call["bias"]]


def _is_text(call: _Call, name: str) -> bool:
    return isinstance(call[name], str)


def _named_padding(call: _Call, dilation: Pair) -> Pair:
    if call["padding"] == "valid":
        return 0, 0
    kernel = call["weight"].meta["val"].shape[2:]
    total_height, total_width = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    if total_height % 2 or total_width % 2:
        _refuse(call.node, "pads one side more than the other", "use kernels of odd size")
    return total_height // 2, total_width // 2


def _relu(call: _Call) -> _Read:
    return Relu(), [call["self"]], []


def _pool_stride(call: _Call) -> Pair:
    return call.pair("stride") if call["stride"] else call.pair("kernel_size")


def _max_pool2d(call: _Call) -> _Read:
    call.want("ceil_mode", False)
    operation = MaxPool2d(
        kernel=call.pair("kernel_size"),
        stride=_pool_stride(call),
        padding=call.pair("padding"),
        dilation=call.pair("dilation"),
    )
    return operation, [call["self"]], []


def _avg_pool2d(call: _Call) -> _Read:
    call.want("ceil_mode", False)
    call.want("divisor_override", None)
    padding = call.pair("padding")
    if padding != (0, 0):
        call.want("count_include_pad", True)
    operation = AvgPool2d(
        kernel=call.pair("kernel_size"), stride=_pool_stride(call), padding=padding
    )
    return operation, [call["self"]], []


def _adaptive_avg_pool2d(call: _Call) -> _Read:
    return AdaptiveAvgPool2d(output_size=call.pair("output_size")), [call["self"]], []


def _flatten(call: _Call) -> _Read:
    # Also a view or reshape to (batch, everything else): only the shapes decide.
    source, result = call["self"].meta["val"].shape, call.node.meta["val"].shape
    if result[0] != source[0] or len(result) != 2:
        _refuse(call.node, "does not flatten all but the batch", "use torch.flatten(x, 1)")
    return (Flatten() if len(source) != 2 else None), [call["self"]], []


def _add(call: _Call) -> _Read:
    call.want("alpha", 1)
    return Add(), [call["self"], call["other"]], []


_BATCH_SIZE = "aten.sym_size.int"
_VIEWS = {"aten.flatten.using_ints", "aten.view.default", "aten.reshape.default"}
_IN_PLACE = {"aten.relu_.default", "aten.add_.Tensor"}
_RULES: dict[str, Callable[[_Call], _Read]] = {
    "aten.linear.default": _linear,
    "aten.conv2d.default": _conv2d,
    "aten.conv2d.padding": _conv2d,
    "aten.relu.default": _relu,
    "aten.relu_.default": _relu,
    "aten.max_pool2d.default": _max_pool2d,
    "aten.avg_pool2d.default": _avg_pool2d,
    "aten.adaptive_avg_pool2d.default": _adaptive_avg_pool2d,
    "aten.flatten.using_ints": _flatten,
    "aten.view.default": _flatten,
    "aten.reshape.default": _flatten,
    "aten.add.Tensor": _add,
    "aten.add_.Tensor": _add,
}
