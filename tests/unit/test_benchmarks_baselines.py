"""The baselines do what they are compared for: the fit, the market on chain, SGD in the clear."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omnilytics.foundation.errors import ChainError
from omnilytics.learning.datasets import Batch
from omnilytics.learning.models import build_model
from omnilytics.perturbation.losses import Loss

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    for folder in (BENCHMARKS, BENCHMARKS / "experiments", BENCHMARKS / "baselines"):
        monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module


def test_fit(load: Any) -> None:
    fit = load("fitting").fit
    sizes = [(dimension, owners) for dimension in (64, 256, 1024) for owners in (2, 5)]

    def cost(dimension: int, owners: int) -> float:
        return 1e5 + 2e4 * owners + 3 * dimension + 7 * dimension * owners

    exact = fit([(*size, cost(*size)) for size in sizes])
    assert exact.coefficients == pytest.approx((1e5, 2e4, 3, 7), rel=1e-6)
    assert exact.r_squared == pytest.approx(1, abs=1e-12)
    assert exact.at(817_422, 4) == pytest.approx(cost(817_422, 4), rel=1e-6)
    curved = fit([(d, n, d**2 * n) for d, n in sizes])
    assert curved.r_squared < 0.99
    for too_few in (sizes[:4], [(64, owners) for owners in range(2, 9)]):
        with pytest.raises(ValueError, match="do not determine"):
            fit([(*size, cost(*size)) for size in too_few])


@pytest.mark.parametrize("lanes", [1, 4])
def test_words_on_chain(lanes: int, load: Any) -> None:
    market = load("onchain_market")
    vector = np.array([0, -1, 65_535, -65_535, 7, 8, -9, 10], dtype=np.int64)
    words = market.packed(vector, lanes)
    assert len(words) == 8 // lanes
    summed = [3 * word for word in words]
    np.testing.assert_array_equal(market.unpacked(summed, lanes, 3), 3 * vector)


def test_the_chain_sums_what_is_within_the_bound(load: Any) -> None:
    module = load("onchain_market")
    cost = module.measure_round(24, 2, 4)  # checks the sums
    assert cost.transactions == 4
    assert cost.gas > cost.largest > 22_100 * 6  # six fresh slots
    market = module.OnChainMarket(16, 1)
    vectors = [module.made_up_vector(16), module.made_up_vector(16) * 2]
    senders = [market.new_account() for _ in vectors]
    market.submit(senders[0], vectors[0])
    with pytest.raises(ChainError, match="too many"):
        market.submit(senders[0], vectors[0])
    market.submit(senders[1], vectors[1])
    market.accept(senders[0], senders[0].address)
    with pytest.raises(ChainError, match="norm"):
        market.accept(senders[0], senders[1].address)
    with pytest.raises(ChainError, match="too many"):
        market.accept(senders[0], senders[0].address)
    np.testing.assert_array_equal(market.total(), vectors[0])


def test_sgd_in_the_clear_is_pytorchs(load: Any) -> None:
    clear = load("clear_sgd")
    module = build_model("mlp", input_shape=(6,), outputs=3, seed=1)
    generator = np.random.default_rng(1)
    batch = Batch(generator.normal(size=(8, 6)).astype(np.float32), np.arange(8) % 3)
    halves = [batch.take(np.arange(4)), batch.take(np.arange(4, 8))]
    found = clear.mean([clear.gradient(module, half, Loss.CROSS_ENTROPY) for half in halves])
    outputs = module(torch.from_numpy(batch.inputs))
    value = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(batch.labels))
    for each, want in zip(
        found, torch.autograd.grad(value, list(module.parameters())), strict=True
    ):
        np.testing.assert_allclose(each, want.numpy(), rtol=1e-4, atol=1e-7)
    before = [each.detach().clone() for each in module.parameters()]
    clear.step(module, torch.optim.SGD(module.parameters(), lr=0.5), found)
    for old, parameter, each in zip(before, module.parameters(), found, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), old.numpy() - 0.5 * each, rtol=1e-5)


def test_every_phase_of_a_protected_round_runs(load: Any) -> None:
    overhead, parties = load("overhead"), load("overhead_parties")
    small = parties.Parties.of("cnn", samples=4, owners=3)
    seconds = overhead.measure(small, repeats=1) | overhead.chain_seconds()
    assert all(value > 0 for value in seconds.values())
    text = overhead.table(small, seconds, owners=3)
    for name in (*seconds, "an owner", "a server", "the model owner", "all parties together"):
        assert f"| {name} |" in text
