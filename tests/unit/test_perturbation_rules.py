"""Every rule of the gauge analysis alone: what it frees, what it pins, and that both are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from modules import Composed, attend, rotary_tables, rotate, split_heads
from recovered import Carried, freedom, scrambled
from rule_cases import CASES, FREE, SEQUENCE, VECTOR, carried
from torch import Tensor, nn

from omnilytics.perturbation import interpreter
from omnilytics.perturbation import operations as op
from omnilytics.perturbation.gauge import analyse
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node, TensorSpec
from omnilytics.perturbation.secret import sample_secret


@pytest.mark.parametrize("name", CASES)
def test_rule_is_exact_and_frees_what_it_should(name: str) -> None:
    case, found = CASES[name], carried(name)
    assert freedom(found.structure, found.model.graph) == sorted(case.freedom)
    for seed, magnitude_bits in ((0, 0), (1, 4)):
        recovery = found.recover(seed, magnitude_bits)
        assert recovery.worst < 1e-10
        assert recovery.kept == set(case.kept)
        # A bound on what is shared is a bound on the true gradient, without magnitudes.
        assert magnitude_bits or recovery.norms < 1e-10


def test_rotary_turns_by_frequency() -> None:
    cosine, sine = rotary_tables()

    def function(m: Any, x: Tensor) -> Any:
        queries, keys = (
            rotate(split_heads(layer(x)), cosine, sine) for layer in (m.queries, m.keys)
        )
        return m.head(attend(queries, keys, split_heads(m.values(x))))

    layers = {name: nn.Linear(6, 8) for name in ("queries", "keys", "values")}
    module = Composed(function, **layers, head=nn.Linear(8, 3))
    turned = Carried(scrambled(module), SEQUENCE)
    assert freedom(turned.structure, turned.model.graph) == [
        *["4 rotation"] * 2,
        *["4 rotation by frequency"] * 2,
    ]
    recovery = turned.recover()
    assert max(recovery.outputs, recovery.gradients) < 1e-10
    assert recovery.module < 1e-6  # the module's tables are float32
    assert recovery.kept == {"head.bias"}


def test_all_operations_have_a_case() -> None:
    dropped = {"dropout", "rotary"}  # below and above
    used = {
        operation for name in CASES for operation in op.OPERATIONS if name.startswith(operation)
    }
    assert used | dropped == set(op.OPERATIONS)


def test_dropout_is_exact_for_masks_that_are_moved_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    # Masks are the data owner's own draws, independent of the place of a unit: the distribution of
    # gradients is the same. For one mask, moved with the units, outputs are.
    graph = Graph(
        VECTOR,
        tuple(
            TensorSpec(name, shape)
            for name, shape in (("a", (8, 6)), ("bias", (8,)), ("head", (3, 8)))
        ),
        (
            Node("a", op.Linear(), (GRAPH_INPUT,), ("a", "bias")),
            Node("dropped", op.Dropout(0.5), ("a",)),
            Node("head", op.Linear(), ("dropped",), ("head",)),
        ),
    )
    structure = analyse(graph)
    assert freedom(structure, graph) == [FREE]
    draw = np.random.default_rng(1)
    weights = {each.name: draw.normal(size=each.shape) for each in graph.tensors}

    class Randomness:
        def bytes(self, count: int) -> bytes:
            return draw.bytes(count)

    secret = sample_secret(structure, Randomness())
    places = {**weights, "bias": np.arange(1.0, 9.0)}  # says where each unit goes
    order = np.abs(secret.perturb(places)["bias"]).astype(int) - 1
    assert (order != np.arange(8)).any()
    inputs = torch.from_numpy(draw.normal(size=(5, 6)))
    mask = torch.from_numpy(draw.integers(0, 2, size=(5, 8)) * 2.0)

    def run(arrays: dict[str, np.ndarray], mask: Tensor) -> Tensor:
        runners: dict[Any, Any] = interpreter._RUN
        monkeypatch.setitem(runners, op.Dropout, lambda operation, ins, owned: ins[0] * mask)
        tensors = {name: torch.from_numpy(each) for name, each in arrays.items()}
        return interpreter.run_graph(graph, tensors, inputs)

    want = run(weights, mask)
    torch.testing.assert_close(run(secret.perturb(weights), mask[:, order]), want)
    assert not torch.allclose(run(secret.perturb(weights), mask), want)
