"""The whitelist interpreter: runs a graph with PyTorch, one listed operation after another.

This is how a data owner computes with a model it does not trust: nothing can run but the functions
of `_RUN`, with attributes and shapes that `Graph` has checked. Autograd works through it. It does
not judge what the network computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from omnilytics.perturbation.graph import GRAPH_INPUT, Graph
from omnilytics.perturbation.operations import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Operation,
    Relu,
)

_Ins = Sequence[Tensor]


def run_graph(graph: Graph, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return the network's outputs.

    Args:
        graph: A sound graph.
        weights: A tensor for every name in `graph.tensors`, of that shape.
        inputs: Shape (batch, *graph.input_shape), the weights' dtype.

    Returns:
        Shape (batch, *graph.output_shape).
    """
    return run_values(graph, weights, inputs)[graph.nodes[-1].name]


def run_values(graph: Graph, weights: Mapping[str, Tensor], inputs: Tensor) -> dict[str, Tensor]:
    """Return all values of a run by name, the inputs among them; see `run_graph`."""
    values = {GRAPH_INPUT: inputs}
    for node in graph.nodes:
        ins = [values[name] for name in node.inputs]
        owned = [weights[name] for name in node.tensors]
        values[node.name] = _RUN[type(node.operation)](node.operation, ins, owned)
    return values


def _linear(operation: Linear, ins: _Ins, owned: _Ins) -> Tensor:
    return functional.linear(ins[0], *owned)


def _conv2d(operation: Conv2d, ins: _Ins, owned: _Ins) -> Tensor:
    bias = owned[1] if len(owned) == 2 else None
    return functional.conv2d(
        ins[0], owned[0], bias, operation.stride, operation.padding, operation.dilation
    )


def _relu(operation: Relu, ins: _Ins, owned: _Ins) -> Tensor:
    return functional.relu(ins[0])


def _max_pool2d(operation: MaxPool2d, ins: _Ins, owned: _Ins) -> Tensor:
    return functional.max_pool2d(
        ins[0], operation.kernel, operation.stride, operation.padding, operation.dilation
    )


def _avg_pool2d(operation: AvgPool2d, ins: _Ins, owned: _Ins) -> Tensor:
    return functional.avg_pool2d(ins[0], operation.kernel, operation.stride, operation.padding)


def _adaptive_avg_pool2d(operation: AdaptiveAvgPool2d, ins: _Ins, owned: _Ins) -> Tensor:
    return functional.adaptive_avg_pool2d(ins[0], operation.output_size)


def _flatten(operation: Flatten, ins: _Ins, owned: _Ins) -> Tensor:
    return ins[0].flatten(1)


def _add(operation: Add, ins: _Ins, owned: _Ins) -> Tensor:
    return ins[0] + ins[1]


_RUN: dict[type[Operation], Callable[[Any, _Ins, _Ins], Tensor]] = {
    Linear: _linear,
    Conv2d: _conv2d,
    Relu: _relu,
    MaxPool2d: _max_pool2d,
    AvgPool2d: _avg_pool2d,
    AdaptiveAvgPool2d: _adaptive_avg_pool2d,
    Flatten: _flatten,
    Add: _add,
}
