"""From a user's `nn.Module` to a `Graph`, by `torch.export`, or a refusal that says why.

The module is traced in training mode with a batch dimension of at least 2, each ATen call is read
as one listed operation, and the result is checked twice: every inferred shape must be the
tracer's, and on a probe batch the graph must compute what the module computes. Only names of
parameters and operations leave; no source lines, no archive of torch.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.aten import BATCH_SIZE, IN_PLACE, RULES, Call, check_in_place, refuse
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node, TensorSpec
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.operations import OPERATIONS

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
        with torch.no_grad():
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
    """Reads an exported program node by node into a graph."""

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
                refuse(node, "is not an operation on the list")
        graph = Graph(self._input_shape, tuple(self._specs), tuple(self._nodes))
        self._check_shapes(graph)
        return graph

    def _read_placeholder(self, node: fx.Node, spec: Any) -> None:
        if spec.kind is InputKind.USER_INPUT:
            self._values[node.name] = GRAPH_INPUT
            return
        if spec.kind is not InputKind.PARAMETER:
            if node.users:
                refuse(node, "reads a buffer or constant", "only parameters travel")
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
        if name == BATCH_SIZE:
            return
        rule = RULES.get(name)
        if rule is None:
            refuse(node, "is not on the list of operations", f"use {', '.join(OPERATIONS)}")
        if name in IN_PLACE:
            check_in_place(node)
        operation, inputs, tensors = rule(Call(node))
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
            refuse(node, "has an input that is not a value of the network")
        return name

    def _tensor(self, node: fx.Node, argument: Any) -> str:
        name = self._tensors.get(getattr(argument, "name", ""))
        if name is None:
            refuse(node, "has a weight that is not a parameter", "pass parameters unchanged")
        return name

    def _check_output(self, node: fx.Node) -> None:
        outputs = cast("tuple[Any, ...]", node.args[0])
        last = self._nodes[-1].name if self._nodes else None
        if len(outputs) != 1 or self._values.get(getattr(outputs[0], "name", "")) != last:
            refuse(node, "does not return the last value alone", "return one tensor")

    def _check_shapes(self, graph: Graph) -> None:
        for node in self._program.graph.nodes:
            name = self._values.get(node.name)
            if name is None:
                continue
            shape = tuple(node.meta["val"].shape)
            if isinstance(shape[0], int) or shape[1:] != graph.shapes[name]:
                refuse(node, f"changes the batch dimension or has shape {shape}")
