"""From modules to graphs: what is carried, and as what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from modules import Composed, attend, split_heads
from torch import Tensor, nn
from torch.nn import functional

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.models import build_model
from omnilytics.learning.tracing import trace, trace_module
from omnilytics.perturbation.graph import InputKind
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


def test_in_place_value_read_again_is_the_new_value() -> None:
    def function(m: Any, x: Tensor) -> Any:
        y = x + x
        z = functional.relu(y, inplace=True)
        return m.head((y + z).flatten(1))

    head = nn.Linear(72, 2)
    module = Composed(function, head=head)
    graph = trace(module, IMAGE)
    x = torch.randn(4, *IMAGE)
    got = run_graph(graph, dict(module.named_parameters()), x)
    assert torch.allclose(got, head((2 * (2 * x).relu()).flatten(1)), atol=1e-5)


def slices(packed: Tensor) -> list[Tensor]:
    return [packed[:, :, start : start + 8] for start in (0, 8, 16)]


SPELLINGS: dict[str, Callable[[Any, Tensor], Any]] = {
    "chunk and view": lambda m, x: attend(*(split_heads(each) for each in m.packed(x).chunk(3, 2))),
    "five axes": lambda m, x: attend(
        *m.packed(x).reshape(x.shape[0], -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    ),
    "split and unflatten": lambda m, x: attend(
        *(each.unflatten(-1, (2, 4)).transpose(1, 2) for each in m.packed(x).split(8, dim=-1))
    ),
    "slices": lambda m, x: attend(*map(split_heads, slices(m.packed(x)))),
    "moved axes": lambda m, x: attend(
        *(each.view(x.shape[0], -1, 2, 4).movedim(2, 1) for each in m.packed(x).chunk(3, -1))
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_however_heads_are_laid_out_it_is_one_attention(spelling: str) -> None:
    def function(m: Any, x: Tensor) -> Any:
        return m.head(SPELLINGS[spelling](m, x))

    module = Composed(function, packed=nn.Linear(6, 24), head=nn.Linear(8, 3))
    graph = trace(module, (5, 6))
    names = [node.operation.name for node in graph.nodes]
    assert names == [*["linear"] * 3, "attention", "linear"]


def test_a_table_of_positions_may_be_an_embedding() -> None:
    def function(m: Any, tokens: Tensor) -> Any:
        return m.head(m.table(tokens) + m.positions(torch.arange(tokens.shape[1])))

    parts = {"table": nn.Embedding(7, 8), "positions": nn.Embedding(5, 8)}
    module = Composed(function, **parts, head=nn.Linear(8, 3))
    found = trace_module(module, (5,), input_kind=InputKind.TOKENS).graph
    assert [node.operation.name for node in found.nodes] == ["embedding", "add_positions", "linear"]
    assert {tensor.name for tensor in found.tensors} >= {"positions.weight"}
    with pytest.raises(ModelError, match="has 5 positions for 4 tokens") as caught:
        trace_module(module, (4,), input_kind=InputKind.TOKENS)
    assert "a table of 4 positions" in str(caught.value.hint)


def test_parameters_used_twice_are_published_for_every_use() -> None:
    def function(m: Any, x: Tensor) -> Any:
        return m.one(torch.relu(m.one(x))) + m.two(x)

    module = Composed(function, one=nn.Linear(3, 3), two=nn.Linear(3, 3))
    names = [tensor.name for tensor in trace(module, (3,)).tensors]
    assert names == [
        *("one.weight.linear", "one.bias.linear", "one.weight.linear_1", "one.bias.linear_1"),
        *("two.weight", "two.bias"),
    ]


def test_what_nobody_trains_is_frozen_or_not_there() -> None:
    parts = {name: nn.Linear(3, 3) for name in ("frozen", "idle")}
    for part in parts.values():
        part.requires_grad_(False)

    def function(m: Any, x: Tensor) -> Any:
        return m.head(torch.relu(m.frozen(x)))

    graph = trace(Composed(function, **parts, head=nn.Linear(3, 2)), (3,))
    assert [tensor.name for tensor in graph.frozen] == ["frozen.weight", "frozen.bias"]
    assert [tensor.name for tensor in graph.trained] == ["head.weight", "head.bias"]
