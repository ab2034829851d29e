"""The graph: what is sound, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graphs import small_cnn

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node, TensorSpec
from omnilytics.perturbation.limits import Limits
from omnilytics.perturbation.operations import (
    Conv2d,
    Flatten,
    Linear,
    Relu,
)


def with_node(index: int, node: Node) -> Graph:
    graph = small_cnn()
    nodes = list(graph.nodes)
    nodes[index] = node
    return replace(graph, nodes=tuple(nodes))


def test_sound_graph_knows_its_shapes() -> None:
    graph = small_cnn()
    assert graph.shapes["conv"] == (2, 4, 4)
    assert graph.output_shape == (3,)
    assert graph.parameter_count == 18 + 2 + 96
    assert graph.multiply_adds > 2 * 16 * 9


@pytest.mark.parametrize(
    ("index", "node", "words"),
    [
        (1, Node("relu", Relu(), ("head",)), "not made before"),
        (1, Node("relu", Relu(), ("relu",)), "not made before"),
        (1, Node("conv", Relu(), ("conv",)), "one name"),
        (1, Node("input", Relu(), ("conv",)), "one name"),
        (1, Node("re lu", Relu(), ("conv",)), "malformed name"),
        (1, Node("relu", Relu(), ("conv", "conv")), "number of inputs"),
        (1, Node("relu", Relu(), ("conv",), ("head.weight",)), "number of tensors"),
        (3, Node("head", Linear(), ("flatten",), ("nowhere",)), "unknown tensor"),
        (3, Node("head", Linear(), ("relu",), ("head.weight",)), "dimensions"),
        (3, Node("head", Linear(), ("flatten",), ()), "number of tensors"),
        (2, Node("flatten", Flatten(), ("conv",)), "no part in the output"),
    ],
)
def test_unsound_node(index: int, node: Node, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        with_node(index, node)


def test_refusal_names_node_and_operation() -> None:
    with pytest.raises(ModelError) as caught:
        with_node(3, Node("head", Linear(), ("relu",), ("head.weight",)))
    assert caught.value.ids == {"node": "head", "operation": "linear"}
    assert caught.value.got == (2, 4, 4)


def test_tensor_refusals() -> None:
    graph = small_cnn()
    first, bias, head = graph.tensors
    for tensors, words in (
        ((first, bias, head, first), "two tensors have one name"),
        ((first, bias, head, TensorSpec("idle", (2,))), "used by no node"),
        ((first, bias, replace(head, shape=(3, 0))), "impossible shape"),
        ((first, bias, replace(head, shape=(3, 1 << 40))), "impossible shape"),
        ((first, bias, replace(head, shape=(3, 32, 1, 1, 1))), "impossible shape"),
        ((first, bias, replace(head, name="")), "malformed name"),
        ((), "no tensors"),
    ):
        with pytest.raises(ModelError, match=words):
            replace(graph, tensors=tensors)


def test_tensor_used_twice() -> None:
    specs = (TensorSpec("w", (2, 2)),)
    nodes = (
        Node("one", Linear(), (GRAPH_INPUT,), ("w",)),
        Node("two", Linear(), ("one",), ("w",)),
    )
    with pytest.raises(ModelError, match="used twice"):
        Graph((2,), specs, nodes)


def test_output_must_be_a_vector_and_graph_not_empty() -> None:
    graph = small_cnn()
    with pytest.raises(ModelError, match="one vector per sample"):
        replace(graph, tensors=graph.tensors[:2], nodes=graph.nodes[:2])
    with pytest.raises(ModelError, match="no nodes"):
        replace(graph, nodes=())
    with pytest.raises(ModelError, match="number of dimensions"):
        replace(graph, input_shape=(4, 4))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_nodes=3), "nodes"),
        (Limits(max_tensors=2), "tensors"),
        (Limits(max_parameters=100), "parameters"),
        (Limits(max_activation_elements=50), "activation"),
        (Limits(max_multiply_adds=100), "multiply-adds"),
    ],
)
def test_limits(limits: Limits, words: str) -> None:
    with pytest.raises(ModelError, match=f"too many {words}"):
        small_cnn().check_limits(limits)
    small_cnn().check_limits(Limits())


def test_workspace_of_a_convolution_counts() -> None:
    # One output channel, a large kernel: few activations, but unfolding the input is expensive.
    graph = Graph(
        (8, 64, 64),
        (TensorSpec("conv", (1, 8, 33, 33)), TensorSpec("head", (2, 32 * 32))),
        (
            Node("conv", Conv2d((1, 1), (0, 0), (1, 1)), (GRAPH_INPUT,), ("conv",)),
            Node("flatten", Flatten(), ("conv",)),
            Node("head", Linear(), ("flatten",), ("head",)),
        ),
    )
    assert graph.workspace == 8 * 33 * 33 * 32 * 32
    graph.check_limits(Limits(max_activation_elements=10_000_000))
    with pytest.raises(ModelError, match="too many activation"):
        graph.check_limits(Limits(max_activation_elements=1_000_000))
