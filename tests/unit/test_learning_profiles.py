"""Profiles end to end but for the market: what owners send, and what comes back of it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from recovered import SeededRandomness
from torch import nn

from omnilytics.foundation.errors import MalformedError, ModelError
from omnilytics.learning.calibration import calibrate
from omnilytics.learning.carried import CarriedModel
from omnilytics.learning.datasets import Batch
from omnilytics.learning.encoding import Layout
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.training import OptimiserSettings, Trainer
from omnilytics.perturbation.artefact import (
    Artefact,
    decode_artefact,
    encode_artefact,
    frozen_hash_of,
)
from omnilytics.perturbation.gauge import analyse
from omnilytics.perturbation.graph import Dtype
from omnilytics.perturbation.losses import Loss
from omnilytics.perturbation.profiles import GAUGE, Profile, ProfileName, messages
from omnilytics.perturbation.round_secret import (
    RoundSecret,
    restore_round_secret,
    sample_round_secret,
)
from omnilytics.wire.hashing import content_hash

SCALES = Profile(ProfileName.SCALES, magnitude_bits=3)


def noise(groups: int = 2, scale: float = 0.5, outputs: int = 3) -> Profile:
    factors = tuple(0.5 + index / 4 for index in range(outputs))
    return Profile(ProfileName.NOISE, noise_groups=groups, noise_factors=factors, noise_scale=scale)


def convolutional(*, batch_norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    norm: list[nn.Module] = [nn.BatchNorm2d(4)] if batch_norm else []
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), *norm, nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.ReLU(),
        nn.Linear(5, 3),
    )  # fmt: skip


def batch_of(count: int, seed: int = 1) -> Batch:
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(count, 1, 6, 6)).astype(np.float32)
    return Batch(inputs, draw.integers(0, 3, size=count))


def secret_of(model: CarriedModel, profile: Profile, seed: int) -> RoundSecret:
    return sample_round_secret(model.graph, analyse(model.graph), profile, SeededRandomness(seed))


def plain(model: CarriedModel, data: Batch, loss: Loss) -> dict[str, np.ndarray]:
    graph = replace(model.graph, dtype=Dtype.FLOAT64)
    return dict(compute_gradients(Artefact(graph, model.weights(Dtype.FLOAT64)), data, loss))


def worst(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> float:
    return max(
        float(np.linalg.norm(got[name] - want[name]) / np.linalg.norm(want[name])) for name in got
    )


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_noise_comes_off_exactly(groups: int) -> None:
    model, data = CarriedModel(convolutional(), input_shape=(1, 6, 6)), batch_of(9)
    want = plain(model, data, Loss.MSE)
    outputs = copy.deepcopy(model.module).double()(torch.from_numpy(data.inputs).double())
    targets = nn.functional.one_hot(torch.from_numpy(data.labels), 3)
    for seed in range(20):
        profile = noise(groups)
        secret = secret_of(model, profile, seed)
        artefact = decode_artefact(encode_artefact(model.artefact(secret)))
        sent = compute_gradients(artefact, data, Loss.MSE, profile)
        assert [name for part in messages(model.graph, profile).values() for name in part] == list(
            sent
        )
        assert worst({name: sent[name] for name in want}, want) > 0.1, "nothing was hidden"
        found = secret.recover(sent)
        assert worst(found.gradients, want) < 1e-10
        loss = 0.5 * (outputs - targets).square().sum(dim=1).mean()
        assert found.loss == pytest.approx(loss.item(), rel=1e-10)
        again = restore_round_secret(model.graph, analyse(model.graph), profile, secret.record())
        assert again.recover(sent).loss == found.loss


def test_noise_of_a_sum_comes_off_as_well() -> None:
    model, profile = CarriedModel(convolutional(), input_shape=(1, 6, 6)), noise()
    secret = secret_of(model, profile, 4)
    artefact = model.artefact(secret)
    parts = [batch_of(5, seed) for seed in range(4)]
    sent = [compute_gradients(artefact, part, Loss.MSE, profile) for part in parts]
    mean = {name: np.mean([each[name] for each in sent], axis=0) for name in sent[0]}
    singles = [plain(model, part, Loss.MSE) for part in parts]
    want = {name: np.mean([each[name] for each in singles], axis=0) for name in singles[0]}
    assert worst(secret.recover(mean).gradients, want) < 1e-10


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_magnitudes_come_off_bit_for_bit(dtype: str) -> None:
    model = CarriedModel(convolutional(), input_shape=(1, 6, 6))
    draw = np.random.default_rng(2)
    gradients = {
        each.name: draw.normal(size=each.shape).astype(dtype) for each in model.graph.trained
    }
    ones = {name: np.ones_like(value) for name, value in gradients.items()}
    ratios: set[float] = set()
    for seed in range(20):
        gauge = secret_of(model, SCALES, seed)._gauge
        ratio = gauge.perturb(ones)  # R, moved
        # The gradient of the perturbed network is the true one, moved and divided by R.
        sent = {name: each / ratio[name] ** 2 for name, each in gauge.perturb(gradients).items()}
        for name, back in gauge.recover(sent).items():
            assert back.dtype == dtype
            np.testing.assert_array_equal(back, gradients[name])
        ratios |= {float(each) for value in ratio.values() for each in value.ravel()}
    assert {0.125, 1.0, 8.0, 64.0} < ratios


def test_scales_hide_norms_and_come_back() -> None:
    model, data = CarriedModel(convolutional(), input_shape=(1, 6, 6)), batch_of(9)
    want = plain(model, data, Loss.CROSS_ENTROPY)
    secret = secret_of(model, SCALES, 1)
    sent = compute_gradients(model.artefact(secret), data, Loss.CROSS_ENTROPY, SCALES)
    norms = [np.linalg.norm(sent[name]) / np.linalg.norm(want[name]) for name in want]
    assert max(norms) / min(norms) > 2
    assert worst(secret.recover(sent).gradients, want) < 1e-5


def test_running_statistics_are_the_means_over_owners() -> None:
    trainer = Trainer(
        convolutional(batch_norm=True),
        input_shape=(1, 6, 6),
        loss=Loss.CROSS_ENTROPY,
        optimiser=OptimiserSettings("sgd", 0.1),
    )
    assert list(messages(trainer.graph, GAUGE)) == ["gradient", "statistics"]
    norm = trainer.module[1]  # type: ignore[index]
    with torch.no_grad():
        norm.running_mean.copy_(torch.randn(4))
        norm.running_var.copy_(torch.rand(4) + 0.5)
    parts = [batch_of(6, seed) for seed in range(3)]
    after = []
    for part in parts:  # what each owner's own step would make of the running values
        twin = copy.deepcopy(trainer.module).train()
        twin(torch.from_numpy(part.inputs))
        after.append([value.numpy() for value in (twin[1].running_mean, twin[1].running_var)])
    secret = secret_of(trainer, GAUGE, 3)
    artefact = decode_artefact(encode_artefact(trainer.artefact(secret)))
    sent = [compute_gradients(artefact, part, Loss.CROSS_ENTROPY) for part in parts]
    mean = {name: np.mean([each[name] for each in sent], axis=0) for name in sent[0]}
    found = secret.recover(mean)
    trainer.step(found.gradients | found.differences)
    for got, want in zip(
        (norm.running_mean, norm.running_var), np.mean(after, axis=0), strict=True
    ):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-6)


def test_one_sample_is_too_few_for_batch_normalisation() -> None:
    model = CarriedModel(convolutional(batch_norm=True), input_shape=(1, 6, 6))
    with pytest.raises(ModelError, match="needs more samples at once"):
        compute_gradients(model.artefact(), batch_of(1), Loss.CROSS_ENTROPY)


def test_frozen_weights_travel_once_and_untouched() -> None:
    module = convolutional()
    for parameter in module[0].parameters():  # type: ignore[index]
        parameter.requires_grad = False
    model = CarriedModel(module, input_shape=(1, 6, 6))
    content = model.frozen_content()
    assert content is not None
    names = {tensor.name for tensor in model.graph.frozen}
    assert names == {"0.weight", "0.bias"}
    first, second = (
        encode_artefact(model.artefact(secret_of(model, GAUGE, seed))) for seed in (1, 2)
    )
    assert first != second
    assert frozen_hash_of(first) == frozen_hash_of(second) == content_hash(content)
    artefact = decode_artefact(first, frozen=content)
    np.testing.assert_array_equal(artefact.weights["0.weight"], model.weights()["0.weight"])
    sent = compute_gradients(artefact, batch_of(4), Loss.CROSS_ENTROPY)
    assert not names & sent.keys()
    found = secret_of(model, GAUGE, 1).recover(sent).gradients
    parameters = model.parameter_gradients(found)
    value = nn.functional.cross_entropy(
        module(torch.from_numpy(batch_of(4).inputs)), torch.from_numpy(batch_of(4).labels)
    )
    trained = {name: each for name, each in module.named_parameters() if each.requires_grad}
    wanted = torch.autograd.grad(value, list(trained.values()))
    for name, want in zip(trained, wanted, strict=True):
        np.testing.assert_allclose(parameters[name], want.numpy(), rtol=1e-4, atol=1e-6)
    for damaged, words in (
        (None, "not here"),
        (content[:-4], "another length"),
        (b"x" + content, "known version"),
    ):
        with pytest.raises(MalformedError, match=words):
            decode_artefact(first, frozen=damaged)


@pytest.mark.parametrize("profile", [SCALES, noise()])
def test_calibration_fits_the_profile(profile: Profile) -> None:
    loss = Loss.MSE if profile.name is ProfileName.NOISE else Loss.CROSS_ENTROPY
    trainer = Trainer(
        convolutional(), input_shape=(1, 6, 6), loss=loss, optimiser=OptimiserSettings()
    )
    found = calibrate(
        trainer, batch_of(40), owners=3, batch_size=8, rounds=3, seed=1, profile=profile
    )
    layout = Layout.of(trainer.graph, found.scales, profile)
    layout.matches(trainer.graph, profile)
    secret = secret_of(trainer, profile, 9)
    sent = compute_gradients(trainer.artefact(secret), batch_of(8, 5), loss, profile)
    start = 0
    for part in messages(trainer.graph, profile).values():
        size = sum(int(np.prod(shape)) for shape in part.values())
        assert 0.01 < np.linalg.norm(layout.flatten(sent)[start : start + size]) < 1.5
        start += size


def test_refusals() -> None:
    model, data = CarriedModel(convolutional(), input_shape=(1, 6, 6)), batch_of(4)
    for settings, words in (
        ({"name": ProfileName.SCALES}, "magnitudes are for"),
        ({"magnitude_bits": 1}, "magnitudes are for"),
        ({"name": ProfileName.SCALES, "magnitude_bits": 9}, "magnitudes are for"),
        ({"name": ProfileName.NOISE}, "needs groups"),
        ({"noise_scale": 1.0}, "is for the profile noise"),
    ):
        with pytest.raises(ModelError, match=words):
            Profile(**settings)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="a factor for each output"):
        messages(model.graph, noise(outputs=4))
    with pytest.raises(ModelError, match="another loss"):
        compute_gradients(model.artefact(), data, Loss.CROSS_ENTROPY, noise())
    ends = nn.Sequential(convolutional(), nn.ReLU())
    with pytest.raises(ModelError, match="a linear layer of one vector at the end"):
        messages(CarriedModel(ends, input_shape=(1, 6, 6)).graph, noise())
    shallow = nn.Linear(4, 3)
    with pytest.raises(ModelError, match="there is nothing"):
        messages(CarriedModel(shallow, input_shape=(4,)).graph, noise())
    record = secret_of(model, noise(), 1).record()
    with pytest.raises(MalformedError):
        restore_round_secret(model.graph, analyse(model.graph), noise(1), record)
