"""Small graphs, their weights, and what they compute, for tests of the perturbation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from omnilytics.perturbation.graph import (
    GRAPH_INPUT,
    Dtype,
    Graph,
    InputKind,
    Node,
    TensorRole,
    TensorSpec,
)
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.losses import Loss, loss_value
from omnilytics.perturbation.operations import (
    AdaptiveAvgPool2d,
    Add,
    Attention,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Embedding,
    Flatten,
    Gelu,
    LayerNorm,
    Linear,
    MaxPool2d,
    Relu,
    RmsNorm,
    Rotary,
)

CONV = Conv2d((1, 1), (1, 1), (1, 1))
POINTWISE = Conv2d((1, 1), (0, 0), (1, 1))
Arrays = dict[str, NDArray[np.floating[Any]]]


def small_cnn() -> Graph:
    """One convolution and one linear layer: 18 + 2 + 96 parameters."""
    return Graph(
        (1, 4, 4),
        (
            TensorSpec("conv.weight", (2, 1, 3, 3)),
            TensorSpec("conv.bias", (2,)),
            TensorSpec("head.weight", (3, 32)),
        ),
        (
            Node("conv", CONV, (GRAPH_INPUT,), ("conv.weight", "conv.bias")),
            Node("relu", Relu(), ("conv",)),
            Node("flatten", Flatten(), ("relu",)),
            Node("head", Linear(), ("flatten",), ("head.weight",)),
        ),
    )


def mlp() -> Graph:
    """Two linear layers with a ReLU between."""
    return Graph(
        (6,),
        (
            TensorSpec("a.weight", (8, 6)),
            TensorSpec("a.bias", (8,)),
            TensorSpec("b.weight", (3, 8)),
            TensorSpec("b.bias", (3,)),
        ),
        (
            Node("a", Linear(), (GRAPH_INPUT,), ("a.weight", "a.bias")),
            Node("relu", Relu(), ("a",)),
            Node("b", Linear(), ("relu",), ("b.weight", "b.bias")),
        ),
    )


def linear_chain() -> Graph:
    """Two linear layers with nothing between: an orthogonal matrix may stand there."""
    graph = mlp()
    first, _, last = graph.nodes
    return Graph(
        graph.input_shape,
        graph.tensors,
        (first, Node("b", last.operation, ("a",), last.tensors)),
    )


def residual_cnn() -> Graph:
    """Strided conv, max pool, a residual block, average pools, conv -> flatten -> linear."""
    return Graph(
        (2, 9, 9),
        (
            TensorSpec("stem.weight", (4, 2, 3, 3)),
            TensorSpec("stem.bias", (4,)),
            TensorSpec("one.weight", (5, 4, 3, 3)),
            TensorSpec("two.weight", (4, 5, 3, 3)),
            TensorSpec("two.bias", (4,)),
            TensorSpec("mix.weight", (6, 4, 3, 3)),
            TensorSpec("hidden.weight", (7, 24)),
            TensorSpec("hidden.bias", (7,)),
            TensorSpec("head.weight", (3, 7)),
        ),
        (
            Node("stem", CONV, (GRAPH_INPUT,), ("stem.weight", "stem.bias")),
            Node("relu", Relu(), ("stem",)),
            Node("pool", MaxPool2d((2, 2), (1, 1), (1, 1), (1, 1)), ("relu",)),
            Node("one", Conv2d((1, 1), (2, 2), (2, 2)), ("pool",), ("one.weight",)),
            Node("relu_1", Relu(), ("one",)),
            Node("two", CONV, ("relu_1",), ("two.weight", "two.bias")),
            Node("add", Add(), ("two", "pool")),
            Node("relu_2", Relu(), ("add",)),
            Node("avg", AvgPool2d((3, 3), (2, 2), (1, 1)), ("relu_2",)),
            Node("mix", Conv2d((2, 2), (0, 0), (1, 1)), ("avg",), ("mix.weight",)),
            Node("adaptive", AdaptiveAvgPool2d((2, 2)), ("mix",)),
            Node("flatten", Flatten(), ("adaptive",)),
            Node("hidden", Linear(), ("flatten",), ("hidden.weight", "hidden.bias")),
            Node("relu_3", Relu(), ("hidden",)),
            Node("head", Linear(), ("relu_3",), ("head.weight",)),
        ),
    )


def mixed_addition() -> Graph:
    """Adds a flattened convolution to a linear layer's output: both are pinned."""
    return Graph(
        (1, 2, 2),
        (
            TensorSpec("conv.weight", (3, 1, 1, 1)),
            TensorSpec("side.weight", (12, 4)),
            TensorSpec("head.weight", (2, 12)),
        ),
        (
            Node("conv", POINTWISE, (GRAPH_INPUT,), ("conv.weight",)),
            Node("flat", Flatten(), ("conv",)),
            Node("raw", Flatten(), (GRAPH_INPUT,)),
            Node("side", Linear(), ("raw",), ("side.weight",)),
            Node("add", Add(), ("flat", "side")),
            Node("head", Linear(), ("add",), ("head.weight",)),
        ),
    )


def flattened_twice() -> Graph:
    """A convolution whose pixels are flattened, and flattened again."""
    return Graph(
        (1, 3, 3),
        (TensorSpec("conv.weight", (4, 1, 2, 2)), TensorSpec("head.weight", (3, 16))),
        (
            Node("conv", POINTWISE, (GRAPH_INPUT,), ("conv.weight",)),
            Node("flat", Flatten(), ("conv",)),
            Node("flat_again", Flatten(), ("flat",)),
            Node("head", Linear(), ("flat_again",), ("head.weight",)),
        ),
    )


def normalised_cnn() -> Graph:
    """A depthwise convolution and a batch normalisation, in float64."""
    running = [TensorSpec(f"norm.running_{each}", (2,), TensorRole.STATISTIC) for each in _RUNNING]
    return Graph(
        (2, 4, 4),
        (
            TensorSpec("conv.weight", (2, 1, 3, 3)),
            TensorSpec("norm.weight", (2,)),
            TensorSpec("norm.bias", (2,)),
            *running,
            TensorSpec("head.weight", (3, 2)),
        ),
        (
            Node("conv", replace(CONV, groups=2), (GRAPH_INPUT,), ("conv.weight",)),
            Node(
                "norm",
                BatchNorm(1e-5),
                ("conv",),
                ("norm.weight", "norm.bias", *(each.name for each in running)),
            ),
            Node("gate", Gelu(tanh=True), ("norm",)),
            Node("pool", AdaptiveAvgPool2d((1, 1)), ("gate",)),
            Node("flat", Flatten(), ("pool",)),
            Node("head", Linear(), ("flat",), ("head.weight",)),
        ),
        dtype=Dtype.FLOAT64,
    )


def transformer() -> Graph:
    """Tokens, two heads of attention with rotary positions, an output for each token."""
    return Graph(
        (5,),
        (
            TensorSpec("table", (7, 8)),
            *(TensorSpec(f"{name}.weight", (8, 8)) for name in ("q", "k", "v", "o")),
            TensorSpec("head.weight", (7, 8)),
            TensorSpec("head.bias", (7,)),
        ),
        (
            Node("embedded", Embedding(), (GRAPH_INPUT,), ("table",)),
            Node("norm", RmsNorm(1e-6), ("embedded",)),
            *(Node(name, Linear(), ("norm",), (f"{name}.weight",)) for name in ("q", "k", "v")),
            *(Node(f"{name}.turned", Rotary(2, 10_000.0), (name,)) for name in ("q", "k")),
            Node("heads", Attention(2, causal=True), ("q.turned", "k.turned", "v")),
            Node("o", Linear(), ("heads",), ("o.weight",)),
            Node("add", Add(), ("embedded", "o")),
            Node("last", LayerNorm(1e-5), ("add",)),
            Node("head", Linear(), ("last",), ("head.weight", "head.bias")),
        ),
        input_kind=InputKind.TOKENS,
    )


def frozen_cnn() -> Graph:
    """The small network with its convolution frozen."""
    graph = small_cnn()
    conv, bias, head = graph.tensors
    frozen = (replace(each, role=TensorRole.FROZEN) for each in (conv, bias))
    return replace(graph, tensors=(*frozen, head))


_RUNNING = ("mean", "var")

GRAPHS = {
    "flattened twice": flattened_twice(),
    "mlp": mlp(),
    "linear chain": linear_chain(),
    "residual cnn": residual_cnn(),
    "mixed addition": mixed_addition(),
}


def random_weights(graph: Graph, seed: int = 3, dtype: str = "float32") -> Arrays:
    """Return weights of about the size at which layers keep the size of their inputs."""
    draw = np.random.default_rng(seed)
    return {
        tensor.name: (
            draw.normal(size=tensor.shape) / np.sqrt(np.prod(tensor.shape[1:]) + 1)
        ).astype(dtype)
        for tensor in graph.tensors
    }


def outputs_and_gradients(graph: Graph, weights: Arrays, loss: Loss) -> tuple[Any, Arrays]:
    """Return a graph's outputs and loss gradients on made-up data, in the weights' type."""
    draw = np.random.default_rng(5)
    tensors = {name: torch.from_numpy(tensor).requires_grad_() for name, tensor in weights.items()}
    dtype = next(iter(tensors.values())).dtype
    inputs = torch.from_numpy(draw.normal(size=(7, *graph.input_shape))).to(dtype)
    labels = torch.from_numpy(draw.integers(0, graph.output_shape[0], size=7))
    outputs = run_graph(graph, tensors, inputs)
    if loss is Loss.BINARY_CROSS_ENTROPY:
        labels = torch.nn.functional.one_hot(labels, outputs.shape[1]).to(dtype)
    gradients = torch.autograd.grad(loss_value(loss, outputs, labels), list(tensors.values()))
    named = {name: each.numpy() for name, each in zip(tensors, gradients, strict=True)}
    return outputs.detach().numpy(), named
