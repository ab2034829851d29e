"""Random networks: one encoding each, the same function under every secret, exact recovery."""

from __future__ import annotations

import numpy as np
import torch
from graphs import random_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from recovered import SeededRandomness

from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.perturbation.artefact import Artefact, decode_artefact, encode_artefact
from omnilytics.perturbation.draws import uniform_permutation
from omnilytics.perturbation.gauge import analyse
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node, TensorSpec
from omnilytics.perturbation.graph_json import decode_graph, encode_graph
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.losses import Loss, loss_value
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
    Shape,
)
from omnilytics.perturbation.secret import sample_secret


class Builder:
    """Grows a chain with residual additions, so that every value reaches the output."""

    def __init__(self, input_shape: Shape) -> None:
        self.input_shape = input_shape
        self.tensors: list[TensorSpec] = []
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {GRAPH_INPUT: input_shape}
        self.last = GRAPH_INPUT

    def add(
        self,
        operation: Operation,
        *tensors: Shape,
        inputs: tuple[str, ...] | None = None,
    ) -> None:
        name = f"n{len(self.nodes)}"
        inputs = inputs or (self.last,)
        names = tuple(f"{name}.{role}" for role in ("weight", "bias"))[: len(tensors)]
        self.shapes[name] = operation.output_shape([self.shapes[i] for i in inputs], tensors)
        self.tensors += map(TensorSpec, names, tensors)
        self.nodes.append(Node(name, operation, inputs, names))
        self.last = name

    def graph(self) -> Graph:
        return Graph(self.input_shape, tuple(self.tensors), tuple(self.nodes))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(4, 7))
    builder = Builder((draw(st.integers(1, 3)), size, size))
    small = st.integers(1, 5)
    for _ in range(draw(st.integers(1, 5))):
        channels = builder.shapes[builder.last][0]
        match draw(st.sampled_from(("conv", "relu", "max", "avg", "residual"))):
            case "conv":
                out = draw(small)
                bias = [(out,)] if draw(st.booleans()) else []
                dilation = draw(st.integers(1, 2))
                operation = Conv2d((1, 1), (dilation, dilation), (dilation, dilation))
                builder.add(operation, (out, channels, 3, 3), *bias)
            case "relu":
                builder.add(Relu())
            case "max":
                builder.add(MaxPool2d((2, 2), (1, 1), (1, 1), (1, 1)))
            case "avg":
                builder.add(AvgPool2d((3, 3), (1, 1), (1, 1)))
            case "residual":
                source = builder.last
                builder.add(Conv2d((1, 1), (0, 0), (1, 1)), (channels, channels, 1, 1))
                if draw(st.booleans()):
                    builder.add(Relu())
                builder.add(Add(), inputs=(builder.last, source))
    if draw(st.booleans()):
        builder.add(AdaptiveAvgPool2d((2, 1)))
    builder.add(Flatten())
    if draw(st.booleans()):
        hidden = draw(small)
        builder.add(Linear(), (hidden, builder.shapes[builder.last][0]), (hidden,))
        if draw(st.booleans()):
            builder.add(Relu())
    builder.add(Linear(), (3, builder.shapes[builder.last][0]))
    return builder.graph()


@given(graphs(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_function_kept_and_gradient_recovered(graph: Graph, seed: int) -> None:
    weights = random_weights(graph, seed, "float64")
    secret = sample_secret(analyse(graph), SeededRandomness(seed))
    draw = np.random.default_rng(seed + 1)
    inputs = torch.from_numpy(draw.normal(size=(4, *graph.input_shape)))
    labels = torch.from_numpy(draw.integers(0, 3, size=4))

    def run(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        tensors = {n: torch.from_numpy(a).requires_grad_() for n, a in arrays.items()}
        outputs = run_graph(graph, tensors, inputs)
        loss = loss_value(Loss.CROSS_ENTROPY, outputs, labels)
        gradients = torch.autograd.grad(loss, list(tensors.values()))
        return outputs.detach().numpy(), {
            n: g.numpy() for n, g in zip(tensors, gradients, strict=True)
        }

    want_outputs, want = run(weights)
    outputs, gradients = run(secret.perturb(weights))
    np.testing.assert_allclose(outputs, want_outputs, rtol=1e-9, atol=1e-9)
    for name, gradient in secret.recover(gradients).items():
        np.testing.assert_allclose(gradient, want[name], rtol=1e-9, atol=1e-9)


@given(graphs(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_round_trip(graph: Graph, seed: int) -> None:
    assert decode_graph(encode_graph(graph)) == graph
    artefact = Artefact(graph, random_weights(graph, seed))
    data = encode_artefact(artefact)
    decoded = decode_artefact(data)
    assert decoded.graph == graph
    assert encode_artefact(decoded) == data


@given(graphs(), st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_never_crash(graph: Graph, data: st.DataObject) -> None:
    encoded = bytearray(encode_artefact(Artefact(graph, random_weights(graph, 1))))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(encoded) - 1))
        encoded[position] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_artefact(bytes(encoded))
    except OmniLyticsError:
        return
    assert encode_artefact(decoded) == bytes(encoded)


@given(st.binary(max_size=200))
def test_noise_is_refused_with_our_errors(data: bytes) -> None:
    for parse in (decode_graph, decode_artefact):
        try:
            parse(data)
        except OmniLyticsError:
            continue
        raise AssertionError("noise was accepted")


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_permutation_is_one(size: int, seed: int) -> None:
    order = uniform_permutation(size, SeededRandomness(seed))
    assert sorted(order.tolist()) == list(range(size))
