"""Gradients, encoding, calibration and steps, up to a market-like run against a plain one."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from omnilytics.foundation.errors import (
    ConfigError,
    MalformedError,
    ModelError,
    VerificationError,
)
from omnilytics.learning.calibration import Calibration, calibrate, clipping_rate
from omnilytics.learning.datasets import Batch, load_market_data, owner_batch
from omnilytics.learning.encoding import Layout
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.models import build_model
from omnilytics.learning.presets import PRESETS
from omnilytics.learning.threads import pin_threads
from omnilytics.learning.training import OptimiserSettings, Trainer, mean_gradients, train_plain
from omnilytics.perturbation.artefact import Artefact, decode_artefact, encode_artefact
from omnilytics.perturbation.gauge import analyse
from omnilytics.perturbation.losses import Loss
from omnilytics.perturbation.secret import sample_secret

FRACTION_BITS = 16


class SeededRandomness:
    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        return self._draw.bytes(count)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    pin_threads()
    assert torch.get_num_threads() == 1


def small_trainer(optimiser: str = "adam", loss: Loss = Loss.CROSS_ENTROPY) -> Trainer:
    module = build_model("mlp", input_shape=(30,), outputs=2, seed=1)
    settings = OptimiserSettings(optimiser, 1e-2)
    return Trainer(module, input_shape=(30,), loss=loss, optimiser=settings)


def batch_of(count: int, features: int = 30, classes: int = 2) -> Batch:
    draw = np.random.default_rng(4)
    inputs = draw.normal(size=(count, features)).astype(np.float32)
    return Batch(inputs, draw.integers(0, classes, size=count))


@pytest.mark.parametrize("loss", list(Loss))
def test_gradients_are_those_of_the_module(loss: Loss) -> None:
    trainer = small_trainer(loss=loss)
    batch = batch_of(9)
    targets = np.random.default_rng(3).uniform(size=(9, 2)).astype(np.float32)
    if loss is Loss.BINARY_CROSS_ENTROPY:
        batch = Batch(batch.inputs, targets)
    got = compute_gradients(Artefact(trainer.graph, trainer.weights()), batch, loss)
    outputs = trainer.module(torch.from_numpy(batch.inputs))
    labels = torch.from_numpy(batch.labels)
    if loss is Loss.CROSS_ENTROPY:
        value = nn.functional.cross_entropy(outputs, labels)
    elif loss is Loss.BINARY_CROSS_ENTROPY:
        yes = torch.tensor(targets)
        value = nn.functional.binary_cross_entropy_with_logits(outputs, yes, reduction="sum") / 9
    else:
        value = ((outputs - nn.functional.one_hot(labels, 2)) ** 2).sum() / 2 / 9
    names, parameters = zip(*trainer.module.named_parameters(), strict=True)
    for name, want in zip(names, torch.autograd.grad(value, parameters), strict=True):
        np.testing.assert_allclose(got[name], want.numpy(), rtol=1e-5, atol=1e-7)
    assert list(got) == [tensor.name for tensor in trainer.graph.tensors]


def test_batches_that_do_not_fit() -> None:
    trainer = small_trainer()
    artefact = Artefact(trainer.graph, trainer.weights())
    good = batch_of(4)
    for batch, words in (
        (batch_of(0), "empty"),
        (batch_of(4, features=29), "does not fit"),
        (Batch(good.inputs, good.labels + 1), "label"),
        (Batch(good.inputs, good.labels - 2), "label"),
        (Batch(good.inputs, np.zeros((4, 1), dtype=np.int64)), "one int64 class"),
        (Batch(good.inputs, good.labels.astype(np.float32)), "one int64 class"),
        (Batch(good.inputs * np.float32(np.nan), good.labels), "not finite"),
        (Batch(cast("Any", good.inputs.astype(np.float64)), good.labels), "not finite float32"),
    ):
        with pytest.raises(ModelError, match=words):
            compute_gradients(artefact, batch, Loss.CROSS_ENTROPY)


def test_gradient_that_overflows_names_its_tensor() -> None:
    trainer = small_trainer()
    weights = {name: np.full_like(w, 1e30) for name, w in trainer.weights().items()}
    with pytest.raises(ModelError, match="gradient is NaN or infinite") as caught:
        compute_gradients(Artefact(trainer.graph, weights), batch_of(4), Loss.MSE)
    assert caught.value.ids["tensor"] in weights


def test_layout_there_and_back() -> None:
    graph = small_trainer().graph
    scales = {tensor.name: 0.5 + index for index, tensor in enumerate(graph.tensors)}
    layout = Layout.of(graph, scales)
    assert layout.length == graph.parameter_count
    draw = np.random.default_rng(2)
    gradients = {t.name: draw.normal(size=t.shape).astype(np.float32) for t in graph.tensors}
    vector = layout.flatten(gradients)
    assert vector.dtype == np.float64
    assert vector[0] == gradients[layout.names[0]].flat[0] / np.float64(0.5)
    for name, tensor in layout.unflatten(vector).items():
        np.testing.assert_allclose(tensor, gradients[name], rtol=1e-15)
    total = np.rint(3 * vector * 2**FRACTION_BITS).astype(np.int64)
    mean = layout.mean_of_sum(total, fraction_bits=FRACTION_BITS, accepted=3)
    for index, (name, tensor) in enumerate(mean.items()):
        np.testing.assert_allclose(tensor, gradients[name], atol=(0.5 + index) * 2**-17)
    layout.matches(graph)


def test_layout_refusals() -> None:
    graph = small_trainer().graph
    layout = Layout.of(graph, dict.fromkeys((t.name for t in graph.tensors), 1.0))
    gradients = {tensor.name: np.zeros(tensor.shape) for tensor in graph.tensors}
    first = layout.names[0]
    with pytest.raises(ModelError, match="no scale"):
        Layout.of(graph, {first: 1.0})
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(MalformedError, match="positive"):
            Layout.of(graph, dict.fromkeys(layout.names, scale))
    for changed, words in (
        ({first: gradients[first]}, "not those of the layout"),
        ({**gradients, "more": gradients[first]}, "not those of the layout"),
        ({**gradients, first: np.zeros(3)}, "another shape"),
        ({**gradients, first: gradients[first] * np.nan}, "NaN"),
    ):
        with pytest.raises(ModelError, match=words):
            layout.flatten(changed)
    with pytest.raises(ModelError, match="another length"):
        layout.unflatten(np.zeros(layout.length + 1))
    with pytest.raises(ModelError, match="no owners"):
        layout.mean_of_sum(np.zeros(layout.length, dtype=np.int64), fraction_bits=16, accepted=0)
    other = Layout(("x",), ((2,),), (1.0,))
    with pytest.raises(VerificationError, match="not those of the task"):
        other.matches(graph)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_step_is_the_optimisers(optimiser: str) -> None:
    trainer, other = small_trainer(optimiser), small_trainer(optimiser)
    batch = batch_of(8)
    for _ in range(2):
        artefact = Artefact(trainer.graph, trainer.weights())
        trainer.step(compute_gradients(artefact, batch, Loss.CROSS_ENTROPY))
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimiser]
    plain = kind(other.module.parameters(), lr=1e-2)
    for _ in range(2):
        plain.zero_grad()
        outputs = other.module(torch.from_numpy(batch.inputs))
        value = nn.functional.cross_entropy(outputs, torch.from_numpy(batch.labels))
        torch.autograd.backward(value)
        plain.step()
    for name, weight in trainer.weights().items():
        np.testing.assert_allclose(weight, other.weights()[name], atol=1e-6)
    with pytest.raises(ModelError, match="not the task's"):
        trainer.step({})
    with pytest.raises(ConfigError, match="unknown optimiser"):
        small_trainer("lion")


def test_weights_are_copies() -> None:
    trainer = small_trainer()
    name, weight = next(iter(trainer.weights().items()))
    weight += 1
    assert not np.array_equal(trainer.weights()[name], weight)


def test_mean_of_gradients() -> None:
    mean = mean_gradients([{"a": np.ones(2)}, {"a": np.array([3.0, 5.0])}])
    np.testing.assert_array_equal(mean["a"], [2, 3])


def test_calibration() -> None:
    trainer = small_trainer()
    before = trainer.weights()
    data = load_market_data("breast-cancer", owners=5, seed=2)

    def measure(sample: Batch) -> Calibration:
        return calibrate(trainer, sample, owners=5, batch_size=16, rounds=6, seed=2)

    result = measure(data.sample)
    assert result == measure(data.sample)
    for name, weight in trainer.weights().items():
        np.testing.assert_array_equal(weight, before[name])
    assert 0 < result.batches_measured <= 2 * 6 * (5 + 8)
    assert all(result.scales[name] > norm > 0 for name, norm in result.largest_norms.items())
    assert 0 <= result.clipping_rate < 0.2
    with pytest.raises(ConfigError, match="sample is too small"):
        measure(batch_of(3))


def test_prediction_is_made_on_data_that_the_scales_have_not_seen() -> None:
    # Scales are never too small for what they rest on, so an in-sample forecast would be 0.
    trainer = small_trainer()
    rates = []
    for seed in (5, 7, 9):
        sample = load_market_data("breast-cancer", owners=5, seed=seed).sample
        few = sample.take(np.arange(16))
        result = calibrate(trainer, few, owners=2, batch_size=4, rounds=6, seed=seed)
        rates.append(result.clipping_rate)
    assert 0 < max(rates) < 0.2


def test_rounds_of_overfitting_do_not_count() -> None:
    few = load_market_data("breast-cancer", owners=5, seed=5).sample.take(np.arange(16))
    result = calibrate(small_trainer(), few, owners=2, batch_size=4, rounds=40, seed=5)
    assert 0 < result.batches_measured < 2 * 40 * (2 + 8)


def test_calibration_needs_gradients() -> None:
    trainer = small_trainer(loss=Loss.MSE)
    with torch.no_grad():
        for parameter in trainer.module.parameters():
            parameter.zero_()
        trainer.module[2].bias[0] = 1.0  # type: ignore[index]
    perfect = Batch(np.zeros((8, 30), dtype=np.float32), np.zeros(8, dtype=np.int64))
    with pytest.raises(ModelError, match="all gradients are zero"):
        calibrate(trainer, perfect, owners=1, batch_size=4, rounds=1, seed=1)


def test_clipping_rate() -> None:
    norms = np.array([[3.0, 4.0], [0.3, 0.4]])
    one, two = [slice(0, 2)], [slice(0, 1), slice(1, 2)]
    assert clipping_rate(norms, np.array([5.01, 5.01]), one) == 0
    assert clipping_rate(norms, np.array([4.9, 4.9]), one) == 0.5
    assert clipping_rate(norms, np.array([4.9, 4.9]), two) == 0
    assert clipping_rate(norms, np.array([4.9, 3.9]), two) == 0.5


@pytest.mark.parametrize("name", PRESETS)
def test_market_run_equals_plain_run(name: str) -> None:
    """Perturbed, scaled, clipped, rounded and summed as integers: the accuracy is the plain one."""
    preset, seed = PRESETS[name], 7
    data = load_market_data(preset.dataset, owners=10, seed=seed)

    def fresh() -> Trainer:
        module = build_model(
            preset.model, input_shape=data.input_shape, outputs=data.classes, seed=seed
        )
        settings = OptimiserSettings("adam", preset.learning_rate)
        return Trainer(
            module, input_shape=data.input_shape, loss=Loss.CROSS_ENTROPY, optimiser=settings
        )

    trainer, plain = fresh(), fresh()
    rounds, size = preset.rounds, preset.batch_size
    calibration = calibrate(
        trainer, data.sample, owners=10, batch_size=size, rounds=rounds, seed=seed
    )
    layout = Layout.of(trainer.graph, calibration.scales)
    structure = analyse(trainer.graph)
    norms = []
    for number in range(1, rounds + 1):
        draw = SeededRandomness(number)
        secret = sample_secret(structure, draw)
        published = Artefact(trainer.graph, secret.perturb(trainer.weights()))
        data_bytes = encode_artefact(published)
        total = np.zeros(layout.length, dtype=np.int64)
        for owner, shard in enumerate(data.shards):
            artefact = decode_artefact(data_bytes)
            layout.matches(artefact.graph)
            batch = owner_batch(shard, owner=owner, round_number=number, size=size, seed=seed)
            gradients = compute_gradients(artefact, batch, Loss.CROSS_ENTROPY)
            vector = layout.flatten(gradients)
            norms.append(float(np.linalg.norm(vector)))
            clipped = vector / max(norms[-1], 1.0)
            total += np.rint(clipped * 2**FRACTION_BITS).astype(np.int64)
        mean = layout.mean_of_sum(total, fraction_bits=FRACTION_BITS, accepted=10)
        trainer.step(secret.recover(mean))
    want = train_plain(plain, data, rounds=rounds, batch_size=size, seed=seed)[-1]
    got = trainer.evaluate(data.test)
    assert want.accuracy > 0.93
    assert got.accuracy == pytest.approx(want.accuracy, abs=0.01)
    assert got.loss == pytest.approx(want.loss, abs=0.01)
    assert np.mean(np.array(norms) > 1) < 0.01
