"""From modules to graphs: what is carried, and what is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.models import build_model
from omnilytics.learning.tracing import trace
from omnilytics.perturbation.graph_json import decode_graph, encode_graph
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.operations import Conv2d

IMAGE = (2, 6, 6)


class Rich(nn.Module):
    """Every listed operation, in the spellings that people use."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding="same", bias=False)
        self.one = nn.Conv2d(4, 4, 3, stride=1, padding=(2, 2), dilation=2)
        self.two = nn.Conv2d(4, 4, 3, padding="valid")
        self.pool = nn.MaxPool2d(2, stride=1, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        x = functional.relu(self.stem(x))
        y = torch.relu(self.one(x))
        x = self.pool(x + y)
        x = functional.avg_pool2d(x, 2)
        x = self.two(x).relu()
        x = x + x
        x = functional.relu(x, inplace=True)
        x = functional.adaptive_avg_pool2d(x, (2, 2))
        return self.head(x.view(x.size(0), -1))


def test_rich_module_is_carried() -> None:
    module = Rich()
    module.eval()
    graph = trace(module, IMAGE)
    assert not module.training
    assert [tensor.name for tensor in graph.tensors] == [n for n, _ in module.named_parameters()]
    assert [node.operation.name for node in graph.nodes] == [
        *("conv2d", "relu", "conv2d", "relu", "add", "max_pool2d", "avg_pool2d", "conv2d"),
        *("relu", "add", "relu", "adaptive_avg_pool2d", "flatten", "linear"),
    ]
    convolutions = [node.operation for node in graph.nodes if isinstance(node.operation, Conv2d)]
    assert [c.padding for c in convolutions] == [(1, 1), (2, 2), (0, 0)]
    assert convolutions[1].dilation == (2, 2)
    assert decode_graph(encode_graph(graph)) == graph
    x = torch.randn(5, *IMAGE)
    got = run_graph(graph, dict(module.named_parameters()), x)
    assert torch.allclose(got, module(x), atol=1e-6)


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_built_models_are_carried(name: str) -> None:
    module = build_model(name, input_shape=(1, 8, 8), outputs=10, seed=1)
    graph = trace(module, (1, 8, 8))
    assert graph.output_shape == (10,)
    assert 1000 < graph.parameter_count < 10_000


def test_modes_are_restored_part_by_part() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    module[1].eval()
    trace(module, (3,))
    assert [part.training for part in module.modules()] == [True, True, False, True]


def test_flatten_of_a_vector_disappears() -> None:
    graph = trace(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), (3,))
    assert [node.operation.name for node in graph.nodes] == ["linear"]


class Function(nn.Module):
    """A linear layer after any function of the input."""

    def __init__(self, function: Callable[[Tensor], Tensor], features: int = 72) -> None:
        super().__init__()
        self.function = function
        self.head = nn.Linear(features, 2)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.function(x))


def in_place_used_elsewhere(x: Tensor) -> Tensor:
    y = x + x
    z = functional.relu(y, inplace=True)
    return (y + z).flatten(1)


def in_place_through_a_view(x: Tensor) -> Tensor:
    y = x + x
    z = y.flatten(1)
    functional.relu(z, inplace=True)
    return y.flatten(1) + z


def sign_by_data(x: Tensor) -> Tensor:
    return (x if x.sum() > 0 else -x).flatten(1)


@pytest.mark.parametrize(
    ("function", "features", "operation"),
    [
        (lambda x: torch.erf(x).flatten(1), 72, "aten.erf.default"),
        (lambda x: functional.dropout2d(x).flatten(1), 72, "aten.feature_dropout.default"),
        (lambda x: functional.max_pool2d(x, 4, ceil_mode=True).flatten(1), 8, "aten.max_pool2d"),
        (lambda x: functional.avg_pool2d(x, 4, ceil_mode=True).flatten(1), 8, "aten.avg_pool2d"),
        (
            lambda x: functional.avg_pool2d(x, 2, padding=1, count_include_pad=False).flatten(1),
            32,
            "aten.avg_pool2d",
        ),
        (
            lambda x: functional.avg_pool2d(x, 2, divisor_override=3).flatten(1),
            18,
            "aten.avg_pool2d",
        ),
        (lambda x: torch.add(x, x, alpha=2).flatten(1), 72, "aten.add.Tensor"),
        (lambda x: (x + 1.0).flatten(1), 72, "aten.add.Tensor"),
        (lambda x: x.flatten(1) + x.new_ones(72), 72, "aten.new_ones.default"),
        (lambda x: x.view(-1, 36), 36, "aten.linear.default"),
        (in_place_through_a_view, 72, "aten.relu_.default"),
    ],
)
def test_refusal_names_node_and_operation(
    function: Callable[[Tensor], Tensor], features: int, operation: str
) -> None:
    with pytest.raises(ModelError, match="cannot be carried") as caught:
        trace(Function(function, features), IMAGE)
    assert str(caught.value.ids["operation"]).startswith(operation)
    assert str(caught.value.ids["node"]) in caught.value.message


@pytest.mark.parametrize(
    ("module", "shape", "words"),
    [
        (Function(sign_by_data), IMAGE, "cannot trace"),
        (nn.Linear(4, 2), (3,), "cannot trace"),
        (nn.Linear(3, 2).double(), (3,), "not float32"),
        (nn.Linear(3, 2).requires_grad_(False), (3,), "no tensor is trained"),
        (nn.Conv2d(2, 2, 3), IMAGE, "one vector per sample"),
        (nn.Linear(6, 2), IMAGE, "dimensions"),
        (nn.ReLU(), (3,), "no tensors"),
    ],
)
def test_unsuitable_modules(module: nn.Module, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        trace(module, shape)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_lopsided_padding() -> None:
    with pytest.raises(ModelError, match="one side more"):
        trace(nn.Conv2d(2, 2, 2, padding="same"), IMAGE)


def test_in_place_value_read_again_is_the_new_value() -> None:
    module = Function(in_place_used_elsewhere)
    graph = trace(module, IMAGE)
    x = torch.randn(4, *IMAGE)
    got = run_graph(graph, dict(module.named_parameters()), x)
    assert torch.allclose(got, module.head((2 * (2 * x).relu()).flatten(1)), atol=1e-5)


def test_unused_and_returned_values() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Any:
            return self.used(x)

    class Two(Unused):
        def forward(self, x: Tensor) -> Any:
            return self.used(x), self.idle(x)

    class Doubled(Unused):
        def forward(self, x: Tensor) -> Any:
            return functional.linear(x, self.used.weight * 2) + self.idle(x) + self.used(x)

    for module, words in (
        (Unused(), "no part in the output"),
        (Two(), "return"),
        (Doubled(), "cannot be carried"),
    ):
        with pytest.raises(ModelError, match=words):
            trace(module, (3,))


def test_hooks_that_change_the_function_are_noticed() -> None:
    module = nn.Linear(3, 2)
    calls = []

    def hook(part: nn.Module, inputs: object, output: Tensor) -> Tensor:
        calls.append(1)
        return output if torch.compiler.is_exporting() else output * 3

    module.register_forward_hook(hook)
    with pytest.raises(ModelError, match="does not compute what the module"):
        trace(module, (3,))
    assert calls
