"""Running statistics of batch norms after a round: those that the layers themselves would have."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from graphs import Arrays
from modules import Composed, Residual
from recovered import SeededRandomness, scrambled
from torch import Tensor, nn

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.carried import CarriedModel
from omnilytics.perturbation.gauge import analyse
from omnilytics.perturbation.graph import Dtype
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.secret import sample_secret


def twice(m: Any, x: Tensor) -> Any:
    return m.head(torch.relu(m.norm(m.b(torch.relu(m.norm(m.a(x)))))))


def shared_norm() -> nn.Module:
    norm = nn.BatchNorm1d(8, momentum=0.4)
    return Composed(twice, a=nn.Linear(6, 8), b=nn.Linear(8, 8), norm=norm, head=nn.Linear(8, 3))


def plain_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8, momentum=0.3, affine=False), nn.Linear(8, 3)
    )


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (lambda: Residual(padded=False), (2, 5, 5)),
    "zero-padded": (lambda: Residual(padded=True), (2, 6, 6)),
    "without gain": (plain_norm, (6,)),
    "called twice": (shared_norm, (6,)),
}


def differences(model: CarriedModel, weights: Arrays, inputs: Tensor) -> Arrays:
    """Return what one owner sends: the published running values less its batch's."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in weights.items()}
    found: dict[str, Tensor] = {}
    run_graph(model.graph, tensors, inputs, statistics=found)
    return {name: weights[name] - each.numpy() for name, each in found.items()}


def buffers_after(module: nn.Module, inputs: Tensor) -> Arrays:
    """Return a module's running statistics after one batch in training."""
    twin = copy.deepcopy(module).double().train()
    twin(inputs)
    names = ("running_mean", "running_var")
    return {name: each.numpy() for name, each in twin.named_buffers() if name.endswith(names)}


def mean(arrays: list[Arrays]) -> Arrays:
    return {name: np.mean([each[name] for each in arrays], axis=0) for name in arrays[0]}


@pytest.mark.parametrize("magnitude_bits", [None, 0, 4])
@pytest.mark.parametrize("name", MODULES)
def test_statistics_are_the_mean_of_what_the_layers_do(
    name: str, magnitude_bits: int | None
) -> None:
    build, shape = MODULES[name]
    module = scrambled(build())
    model = CarriedModel(module, input_shape=shape)
    weights: Arrays = model.weights(Dtype.FLOAT64)
    structure = analyse(model.graph)
    secret = sample_secret(structure, SeededRandomness(1), magnitude_bits=magnitude_bits or 0)
    published = weights if magnitude_bits is None else secret.perturb(weights)
    generator = torch.Generator().manual_seed(3)
    batches = [
        torch.randn(size, *shape, generator=generator, dtype=torch.float64) for size in (4, 7, 5)
    ]
    sent = mean([differences(model, published, each) for each in batches])
    if magnitude_bits is not None:
        changed = {each for each in sent if not np.array_equal(published[each], weights[each])}
        assert changed
        zeros = {each.name: np.zeros(each.shape) for each in model.graph.trained}
        recovered = secret.recover(zeros | sent)
        sent = {each: recovered[each] for each in sent}
    found = model.statistics_after(sent)
    want = mean([buffers_after(module, each) for each in batches])
    assert found.keys() == want.keys()
    for buffer, value in want.items():
        np.testing.assert_allclose(found[buffer], value, rtol=1e-6, atol=1e-7)
        assert not np.allclose(found[buffer], model.state()[buffer], rtol=1e-3)


def test_a_variance_stays_one() -> None:
    # Fixed-point rounding of a sum may make it slightly negative.
    model = CarriedModel(plain_norm(), input_shape=(6,))
    state = model.state()
    sent = {tensor.name: np.full(tensor.shape, 10.0) for tensor in model.graph.statistics}
    found = model.statistics_after(sent)
    np.testing.assert_array_equal(found["1.running_var"], np.zeros(8))
    np.testing.assert_allclose(found["1.running_mean"], state["1.running_mean"] - 3.0, rtol=1e-6)


def test_other_statistics_are_refused() -> None:
    model = CarriedModel(plain_norm(), input_shape=(6,))
    with pytest.raises(ModelError, match="not the task's"):
        model.statistics_after({"1.running_mean": np.zeros(8)})
