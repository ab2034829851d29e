"""The forecast of rounding errors, against rounding as owners round."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from omnilytics.algebra.fixed_point import round_vector, to_float
from omnilytics.foundation.errors import ConfigError, UsageError
from omnilytics.learning.calibration import calibrate
from omnilytics.learning.datasets import load_market_data, owner_batch
from omnilytics.learning.encoding import Layout
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.models import build_model
from omnilytics.learning.precision import (
    BITS,
    FINEST,
    SHARE,
    Forecast,
    Precision,
    forecast_precision,
)
from omnilytics.learning.threads import pin_threads
from omnilytics.learning.training import OptimiserSettings, Trainer
from omnilytics.perturbation.artefact import Artefact
from omnilytics.perturbation.losses import Loss

OWNERS, SIZE = 8, 16


class SeededRandomness:
    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        return self._draw.bytes(count)


DATA = load_market_data("breast-cancer", owners=OWNERS, seed=0)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    pin_threads()
    module = build_model("mlp", input_shape=(30,), outputs=2, seed=1)
    settings = OptimiserSettings("adam", 1e-2)
    return Trainer(module, input_shape=(30,), loss=Loss.CROSS_ENTROPY, optimiser=settings)


@pytest.fixture(scope="module")
def scales(trainer: Trainer) -> dict[str, float]:
    measured = calibrate(trainer, DATA.sample, owners=OWNERS, batch_size=SIZE, rounds=10, seed=0)
    return measured.scales


def forecast(trainer: Trainer, scales: dict[str, float], rounds: int, **changes: int) -> Forecast:
    numbers = {"owners": OWNERS, "most_owners": OWNERS, "batch_size": SIZE, "seed": 0, **changes}
    return forecast_precision(trainer, DATA.sample, scales, rounds=rounds, **numbers)


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_rounding_is_as_far_off_as_was_forecast(
    trainer: Trainer, scales: dict[str, float], bits: int
) -> None:
    found = forecast(trainer, scales, 1).precisions[bits - BITS.start]
    assert found.fractional_bits == bits
    artefact = Artefact(trainer.graph, trainer.weights())
    layout = Layout.of(trainer.graph, scales)
    order = np.random.default_rng([0, 3]).permutation(len(DATA.sample))
    held_out = DATA.sample.take(order[1::2])
    vectors = []
    for owner in range(OWNERS):
        batch = owner_batch(held_out, owner=owner, round_number=1, size=SIZE, seed=0)
        vectors.append(layout.flatten(compute_gradients(artefact, batch, trainer.loss)))
    pairs = zip(layout.shapes, layout.scales, strict=True)
    steps = np.concatenate([np.full(np.prod(shape), scale) for shape, scale in pairs])
    mean = np.mean(vectors, axis=0) * steps
    squares = []
    for seed in range(20):
        rounded = [
            to_float(
                round_vector(
                    vector,
                    components=(len(vector),),
                    fractional_bits=bits,
                    randomness=SeededRandomness(100 * seed + owner),
                ).values,
                bits,
            )
            for owner, vector in enumerate(vectors)
        ]
        squares.append(((np.mean(rounded, axis=0) * steps - mean) ** 2).sum())
    measured = np.sqrt(np.mean(squares)) / np.linalg.norm(mean)
    assert found.rounding_error == pytest.approx(measured, rel=0.1)


def test_the_fewest_bits_that_are_enough_are_proposed(
    trainer: Trainer, scales: dict[str, float]
) -> None:
    found = forecast(trainer, scales, 10)
    proposed = found.proposed()
    assert proposed.refusal is None
    assert proposed.of_noise <= SHARE
    coarser = found.precisions[proposed.fractional_bits - 1 - BITS.start]
    assert coarser.refusal is not None or coarser.of_noise > SHARE
    assert 8 <= proposed.fractional_bits <= 14
    errors = [each.rounding_error for each in found.precisions]
    assert errors == sorted(errors, reverse=True)
    assert 0.01 < found.sampling_noise < 2


def test_what_a_statement_or_a_sum_cannot_have_is_not_proposed(
    trainer: Trainer, scales: dict[str, float]
) -> None:
    refused = {
        each.fractional_bits: each.refusal for each in forecast(trainer, scales, 1).precisions
    }
    assert "too many entries" in (refused[4] or "")  # 1,058 entries, S / 16 = 15
    assert refused[8] is None
    crowded = forecast(trainer, scales, 1, most_owners=1 << 40).precisions
    assert "wrap around" in (crowded[-1].refusal or "")


def test_a_proposal_without_a_perfect_choice() -> None:
    def precision(bits: int, noise: float, refusal: str | None = None) -> Precision:
        return Precision(bits, rounding_error=noise, of_noise=noise, refusal=refusal)

    coarse = [precision(4, 9.0), precision(5, 3.0), precision(6, 0.01, "too large")]
    chosen = Forecast(0.1, tuple(coarse)).proposed()
    assert (chosen.fractional_bits, chosen.enough) == (5, False)
    with pytest.raises(UsageError, match="no number"):
        Forecast(0.1, (precision(4, 1.0, "too small"),)).proposed()
    assert Precision(20, rounding_error=FINEST, of_noise=float("inf"), refusal=None).enough


def test_without_sampling_noise_a_small_error_is_asked_for(
    trainer: Trainer, scales: dict[str, float]
) -> None:
    found = forecast(trainer, scales, 1, batch_size=10_000)  # every owner has all there is
    assert found.sampling_noise < 1e-6  # sums in another order differ by that much
    proposed = found.proposed()
    assert proposed.rounding_error <= FINEST
    coarser = found.precisions[proposed.fractional_bits - 1 - BITS.start]
    assert coarser.rounding_error > FINEST


def test_a_sample_that_is_too_small_is_refused(trainer: Trainer, scales: dict[str, float]) -> None:
    few = DATA.sample.take(np.arange(3))
    with pytest.raises(ConfigError, match="too small"):
        forecast_precision(
            trainer, few, scales, owners=2, most_owners=2, batch_size=1, rounds=1, seed=0
        )


def test_running_statistics_are_shared_but_no_part_of_the_gradient() -> None:
    def forecast_of(running_mean: float) -> Forecast:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(30, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
        module[1].running_mean.fill_(running_mean)  # type: ignore[operator]
        trainer = Trainer(
            module, input_shape=(30,), loss=Loss.CROSS_ENTROPY, optimiser=OptimiserSettings()
        )
        names = [tensor.name for tensor in trainer.graph.trained + trainer.graph.statistics]
        return forecast(trainer, dict.fromkeys(names, 1e4), 1)

    near, far = forecast_of(0.0), forecast_of(1e3)
    assert near.sampling_noise == pytest.approx(far.sampling_noise)
    for bits in (8, 16):
        one, other = (each.precisions[bits - BITS.start] for each in (near, far))
        assert one.rounding_error == pytest.approx(other.rounding_error)
