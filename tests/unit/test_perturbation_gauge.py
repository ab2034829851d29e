"""Gauge analysis and secrets: which groups exist, and exact perturbation and recovery."""

from __future__ import annotations

import inspect
from collections import Counter

import numpy as np
import pytest
import torch

from omnilytics.foundation.errors import MalformedError, ModelError
from omnilytics.perturbation import gauge, interpreter
from omnilytics.perturbation.gauge import GaugeStructure, ScaleKind, analyse
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node, TensorSpec
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.losses import Loss, loss_value
from omnilytics.perturbation.operations import (
    OPERATIONS,
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Relu,
)
from omnilytics.perturbation.secret import (
    restore_secret,
    sample_secret,
    uniform_permutation,
    uniform_signs,
)

CONV = Conv2d((1, 1), (1, 1), (1, 1))
Arrays = dict[str, np.ndarray]


class SeededRandomness:
    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        return self._draw.bytes(count)


def mlp() -> Graph:
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
    """Two linear layers without a ReLU between: the one place where signs are free."""
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
            Node("conv", Conv2d((1, 1), (0, 0), (1, 1)), (GRAPH_INPUT,), ("conv.weight",)),
            Node("flat", Flatten(), ("conv",)),
            Node("raw", Flatten(), (GRAPH_INPUT,)),
            Node("side", Linear(), ("raw",), ("side.weight",)),
            Node("add", Add(), ("flat", "side")),
            Node("head", Linear(), ("add",), ("head.weight",)),
        ),
    )


def flattened_twice() -> Graph:
    return Graph(
        (1, 3, 3),
        (TensorSpec("conv.weight", (4, 1, 2, 2)), TensorSpec("head.weight", (3, 16))),
        (
            Node("conv", Conv2d((1, 1), (0, 0), (1, 1)), (GRAPH_INPUT,), ("conv.weight",)),
            Node("flat", Flatten(), ("conv",)),
            Node("flat_again", Flatten(), ("flat",)),
            Node("head", Linear(), ("flat_again",), ("head.weight",)),
        ),
    )


GRAPHS = {
    "flattened twice": flattened_twice(),
    "mlp": mlp(),
    "linear chain": linear_chain(),
    "residual cnn": residual_cnn(),
    "mixed addition": mixed_addition(),
}


def random_weights(graph: Graph, seed: int = 3) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        t.name: (draw.normal(size=t.shape) / np.sqrt(np.prod(t.shape[1:]) + 1)).astype(np.float32)
        for t in graph.tensors
    }


def outputs_and_gradients(
    graph: Graph, weights: Arrays, dtype: torch.dtype, loss: Loss
) -> tuple[np.ndarray, Arrays]:
    draw = np.random.default_rng(5)
    inputs = torch.from_numpy(draw.normal(size=(7, *graph.input_shape))).to(dtype)
    labels = torch.from_numpy(draw.integers(0, graph.output_shape[0], size=7))
    tensors = {
        name: torch.from_numpy(tensor).to(dtype).requires_grad_()
        for name, tensor in weights.items()
    }
    outputs = run_graph(graph, tensors, inputs)
    if loss is Loss.BINARY_CROSS_ENTROPY:
        labels = torch.nn.functional.one_hot(labels, outputs.shape[1]).to(dtype)
    gradients = torch.autograd.grad(loss_value(loss, outputs, labels), list(tensors.values()))
    named = {name: g.numpy() for name, g in zip(tensors, gradients, strict=True)}
    return outputs.detach().numpy(), named


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", GRAPHS)
def test_same_function_and_exact_recovery(
    name: str, dtype: torch.dtype, tolerance: float, loss: Loss
) -> None:
    graph = GRAPHS[name]
    weights = random_weights(graph)
    want_outputs, want = outputs_and_gradients(graph, weights, dtype, loss)
    for seed in range(3):
        secret = sample_secret(analyse(graph), SeededRandomness(seed))
        perturbed = secret.perturb(weights)
        outputs, gradients = outputs_and_gradients(graph, perturbed, dtype, loss)
        np.testing.assert_allclose(outputs, want_outputs, rtol=tolerance, atol=tolerance)
        recovered = secret.recover(gradients)
        for tensor, gradient in want.items():
            assert recovered[tensor].dtype == gradient.dtype
            scale = np.abs(gradient).max()
            assert scale > 0
            np.testing.assert_allclose(recovered[tensor], gradient, rtol=0, atol=tolerance * scale)
            # Norm-preserving: a bound on the perturbed gradient bounds the true one.
            assert np.linalg.norm(gradients[tensor]) == pytest.approx(
                np.linalg.norm(gradient), rel=tolerance * 10
            )


@pytest.mark.parametrize("name", GRAPHS)
def test_perturbation_is_bit_exact_and_linear(name: str) -> None:
    graph = GRAPHS[name]
    weights = random_weights(graph)
    secret = sample_secret(analyse(graph), SeededRandomness(1))
    perturbed = secret.perturb(weights)
    for tensor, weight in weights.items():
        assert perturbed[tensor].dtype == np.float32
        # The same magnitudes, bit for bit, in other places and with other signs.
        np.testing.assert_array_equal(
            np.sort(np.abs(perturbed[tensor]), axis=None), np.sort(np.abs(weight), axis=None)
        )
    # Signs and permutations are orthogonal, so the gradient's map undoes the weights' map.
    restored = secret.recover(perturbed)
    for tensor, weight in weights.items():
        np.testing.assert_array_equal(restored[tensor], weight)


@pytest.mark.parametrize("name", ["mlp", "linear chain", "residual cnn"])
def test_every_hidden_tensor_changes(name: str) -> None:
    graph = GRAPHS[name]
    weights = random_weights(graph)
    perturbed = sample_secret(analyse(graph), SeededRandomness(2)).perturb(weights)
    pinned = {"b.bias"}  # the output's own bias cannot move
    for tensor, weight in weights.items():
        assert np.array_equal(perturbed[tensor], weight) == (tensor in pinned), tensor


def kinds(structure: GaugeStructure) -> Counter[tuple[int, ScaleKind]]:
    return Counter((group.channels, group.kind) for group in structure.scale_groups)


def test_groups_of_a_residual_network() -> None:
    structure = analyse(residual_cnn())
    assert kinds(structure) == {
        (2, ScaleKind.ONE): 1,  # input
        (4, ScaleKind.POSITIVE): 1,  # stem, tied to the second convolution by the addition
        (5, ScaleKind.POSITIVE): 1,
        (6, ScaleKind.FREE): 1,  # mix: only pools and flatten before the next linear layer
        (7, ScaleKind.POSITIVE): 1,
        (3, ScaleKind.ONE): 1,  # output
    }
    free = [group.channels for group in structure.permutation_groups if not group.pinned]
    assert sorted(free) == [4, 5, 6, 7]
    axes = {tensor.name: tensor for tensor in structure.tensors}
    hidden = axes["hidden.weight"].inputs
    assert hidden is not None
    assert hidden.block == 4
    assert hidden.permutation_group == axes["mix.weight"].outputs.permutation_group
    assert axes["two.weight"].outputs == axes["stem.weight"].outputs
    assert axes["two.bias"].inputs is None


def test_signs_need_a_linear_path() -> None:
    assert kinds(analyse(mlp()))[8, ScaleKind.POSITIVE] == 1
    assert kinds(analyse(linear_chain()))[8, ScaleKind.FREE] == 1
    weights = random_weights(linear_chain())
    perturbed = sample_secret(analyse(linear_chain()), SeededRandomness(4)).perturb(weights)
    assert not np.array_equal(np.sort(perturbed["a.bias"]), np.sort(weights["a.bias"]))


def test_additions_of_unlike_layouts_are_pinned() -> None:
    structure = analyse(mixed_addition())
    assert all(group.pinned for group in structure.permutation_groups)
    assert all(group.kind is ScaleKind.ONE for group in structure.scale_groups)
    assert structure.secret_bits() == 0


def test_secret_bits() -> None:
    assert analyse(mlp()).secret_bits() == pytest.approx(np.log2(40320))
    assert analyse(linear_chain()).secret_bits() == pytest.approx(np.log2(40320) + 8)


def test_secrets_are_fresh_and_silent() -> None:
    structure = analyse(residual_cnn())
    weights = random_weights(residual_cnn())
    draw = SeededRandomness(9)
    first, second = sample_secret(structure, draw), sample_secret(structure, draw)
    assert not np.array_equal(
        first.perturb(weights)["stem.weight"], second.perturb(weights)["stem.weight"]
    )
    assert repr(first) == "GaugeSecret(9 tensors)"


def test_secret_refuses_other_tensors() -> None:
    graph = mlp()
    secret = sample_secret(analyse(graph), SeededRandomness(1))
    weights = random_weights(graph)
    with pytest.raises(ModelError, match="not those of the graph"):
        secret.perturb({**weights, "c": weights["a.bias"]})
    with pytest.raises(ModelError, match="not those of the graph"):
        secret.recover({"a.bias": weights["a.bias"]})
    with pytest.raises(ModelError, match="another shape"):
        secret.recover({**weights, "a.bias": weights["b.bias"]})


def test_permutations_are_uniform() -> None:
    draw = SeededRandomness(11)
    counts = Counter(tuple(uniform_permutation(3, draw)) for _ in range(6000))
    assert len(counts) == 6
    # 1000 expected each, deviation 29: six of them.
    assert all(826 < count < 1174 for count in counts.values())


def test_tied_keys_are_drawn_again() -> None:
    class Tied:
        def __init__(self) -> None:
            self.answers = [b"\x07" * 16, bytes(8) + b"\x01" * 8]

        def bytes(self, count: int) -> bytes:
            assert count == 16
            return self.answers.pop(0)

    assert uniform_permutation(2, Tied()).tolist() == [0, 1]


def test_signs_are_uniform() -> None:
    signs = uniform_signs(10_001, SeededRandomness(12))
    assert signs.shape == (10_001,)
    assert set(signs) == {1.0, -1.0}
    assert abs(signs.sum()) < 600


def test_every_listed_operation_is_complete() -> None:
    assert set(interpreter._RUN) == set(OPERATIONS.values())
    rules = inspect.getsource(gauge._Analysis.output_axis)
    assert all(f"{operation.__name__}()" in rules for operation in OPERATIONS.values())


def test_a_kept_secret_is_the_same_and_of_its_model_alone() -> None:
    structure = analyse(GRAPHS["mlp"])
    secret = sample_secret(structure, SeededRandomness(4))
    permutations, scales = secret.parts
    weights = random_weights(GRAPHS["mlp"])
    again = restore_secret(structure, permutations, scales)
    for name, tensor in secret.perturb(weights).items():
        assert np.array_equal(again.perturb(weights)[name], tensor)
    for wrong in (
        (permutations[1:], scales),
        ([np.zeros_like(order) for order in permutations], scales),
        (permutations, [2 * part for part in scales]),
    ):
        with pytest.raises(MalformedError, match="not of this model"):
            restore_secret(structure, *wrong)
