"""What the audit finds of additive noise, where it must and where it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_subjects import images, linear_alone, of_module, subject
from torch import nn

from omnilytics.learning.audit.amplify import ROOM, amplification, hidden_messages
from omnilytics.learning.audit.noise import (
    draw_noise,
    gammas_from_weights,
    last_layer,
    remove_noise,
)
from omnilytics.learning.audit.structure import NotApplicable
from omnilytics.learning.audit.subject import Subject, mean_gradient, outputs_of
from omnilytics.learning.datasets import Batch
from omnilytics.perturbation.losses import Loss


def perfect(one: Subject) -> Subject:
    """Return the subject with targets that its model hits exactly."""
    targets = outputs_of(one.graph, one.weights, one.data)
    return replace(one, data=Batch(one.data.inputs, targets))


def with_row_means(one: Subject, mean: float) -> Subject:
    name = last_layer(one.graph).weight
    weight = one.weights[name]
    moved = weight - weight.mean(axis=1, keepdims=True) + np.float32(mean)
    return one.with_weights({**one.weights, name: moved.astype(np.float32)})


@pytest.mark.parametrize("module", ["mlp", "residual"])
def test_one_sample_gives_the_noise_of_a_perfect_model_away(module: str) -> None:
    found = remove_noise(perfect(subject(module, loss=Loss.MSE)), 1.0)
    assert found.from_one_sample < 1e-4
    assert found.noisy.difference > 1
    for cleaned in (found.without_one, found.without_all):
        assert cleaned.difference < 1e-3


def test_samples_say_nothing_of_the_noise_of_a_model_that_misses_its_targets() -> None:
    one = perfect(subject(loss=Loss.MSE))
    draw = np.random.default_rng(0)
    targets = one.data.labels + draw.normal(scale=5, size=one.data.labels.shape)
    found = remove_noise(replace(one, data=Batch(one.data.inputs, targets.astype(np.float32))), 1.0)
    assert found.from_one_sample > 0.1


@pytest.mark.parametrize(("mean", "found"), [(0.0, True), (0.5, False)])
def test_weights_give_the_noise_away_if_their_rows_have_no_mean(mean: float, found: bool) -> None:
    one = perfect(with_row_means(subject(loss=Loss.MSE), mean))
    removed = remove_noise(one, 1.0)
    error, left = removed.from_weights, removed.without_weights.difference
    assert (error < 1e-6 and left < 1e-3) if found else (error > 0.05 and left > 0.1)


def test_groups_of_outputs_have_their_own_gammas() -> None:
    noise = draw_noise(7, 3, noise_scale=0.1, groups=3)
    weight = np.repeat(noise.rho()[:, None], 5, axis=1)
    assert gammas_from_weights(noise, weight) == pytest.approx(noise.gammas)
    assert len(set(noise.gammas)) == 3


def test_other_losses_and_networks_say_why() -> None:
    with pytest.raises(NotApplicable, match="mse alone"):
        remove_noise(subject(), 0.01)
    ends_in_relu = of_module(
        nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.ReLU()), images(), loss=Loss.MSE
    )
    with pytest.raises(NotApplicable, match="linear layer"):
        remove_noise(ends_in_relu, 0.01)
    with pytest.raises(NotApplicable, match="nothing"):
        remove_noise(linear_alone(Loss.MSE), 0.01)


@pytest.mark.parametrize("module", ["mlp", "residual"])
def test_messages_of_an_honest_owner_give_the_true_gradient(module: str) -> None:
    one = perfect(subject(module, loss=Loss.MSE))
    shifted = replace(one.data, labels=one.data.labels + np.float32(0.5))
    one = replace(one, data=shifted.take(np.arange(64)))
    noise = draw_noise(3, 5, noise_scale=1.0)
    ghat, sigmas, beta = hidden_messages(one, noise)
    recovered = ghat + float((noise.rho() ** 2).sum()) * beta
    for sigma, gamma in zip(sigmas, noise.gammas, strict=True):
        recovered = recovered - gamma * sigma
    last = last_layer(one.graph)
    true = mean_gradient(one, one.weights, one.data)
    hidden = [
        gradient.reshape(-1)
        for name, gradient in true.items()
        if name not in {last.weight, last.bias}
    ]
    # The loss is a mean; messages are sums over samples.
    assert recovered.numpy() / 64 == pytest.approx(np.concatenate(hidden), rel=1e-3, abs=1e-5)
    assert float(ghat.norm()) > 2 * float(recovered.norm())


def test_noise_weakens_the_bound_as_its_square_and_without_it_the_bound_holds() -> None:
    one = perfect(subject(loss=Loss.MSE))
    one = replace(one, data=replace(one.data, labels=one.data.labels + np.float32(0.5)))
    reached = [amplification(one, gamma) for gamma in (0.0, 1.0, 10.0, 100.0)]
    assert reached[0] == pytest.approx(ROOM)
    assert reached[1] > 2 * ROOM
    assert reached[3] / reached[2] == pytest.approx(100, rel=0.1)


def test_a_single_layer_has_no_hidden_gradient_to_move() -> None:
    with pytest.raises(NotApplicable, match="nothing"):
        amplification(perfect(linear_alone(Loss.MSE)), 0.1)
