"""Removing the additive noise of the `noise` profile (perturbation.md section 3).

Published is W' = W + rho 1^T for the last layer, its bias unchanged; rho_i = gamma_s(i) ra_i with
ra public and gamma secret, so output i is off by rho_i alpha, alpha the sum of the layer's inputs.
Two estimates of gamma, each by least squares: from samples whose outputs are about their targets
(the profile's loss is MSE), and from the weights alone, whose rows have a mean near zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.audit.function import FunctionSeen, compare_function
from omnilytics.learning.audit.structure import NotApplicable, Order, Reals
from omnilytics.learning.audit.subject import Subject, as_torch
from omnilytics.learning.labels import fitting_labels
from omnilytics.learning.public_randomness import PublicRandomness
from omnilytics.perturbation import profiles
from omnilytics.perturbation.artefact import Tensors
from omnilytics.perturbation.gauge import analyse
from omnilytics.perturbation.graph import Graph
from omnilytics.perturbation.interpreter import run_values
from omnilytics.perturbation.losses import Loss
from omnilytics.perturbation.profiles import LastLayer, Profile, ProfileName
from omnilytics.perturbation.round_secret import noise_groups, sample_round_secret

_GROUPS = 2


@dataclass(frozen=True, repr=False)
class Noise:
    """The noise of one artefact.

    Attributes:
        groups: Group s(i) of every output, shape (outputs,).
        directions: ra, public, shape (outputs,).
        gammas: Secret, one for each group.
    """

    groups: Order
    directions: Reals
    gammas: Reals

    def rho(self) -> Reals:
        """Return what is added to every row of the last weight, shape (outputs,)."""
        return self.gammas[self.groups] * self.directions


@dataclass(frozen=True)
class NoiseRemoved:
    """What a data owner finds of the noise, and what it then has.

    Attributes:
        noise_scale: Of the profile: |gamma| is 0.5 to 1.5 times as large.
        from_one_sample: Largest error of a gamma, from one labelled sample.
        from_samples: The same from all labelled samples.
        from_weights: The same from the weights alone.
        noisy: The published model as it is.
        without_one: The same less the noise that one sample gave away.
        without_all: The same less the noise that all samples gave away.
        without_weights: The same less the noise that the weights gave away.
    """

    noise_scale: float
    from_one_sample: float
    from_samples: float
    from_weights: float
    noisy: FunctionSeen
    without_one: FunctionSeen
    without_all: FunctionSeen
    without_weights: FunctionSeen


def draw_noise(outputs: int, *seed: int, noise_scale: float, groups: int = _GROUPS) -> Noise:
    """Return noise that anyone can draw again, distributed as that of the profile."""
    draw = np.random.default_rng(seed)
    groups = min(groups, outputs)
    factors = draw.uniform(0.5, 1.5, outputs)
    signs = draw.choice([-1.0, 1.0], groups)
    profile = _profile(factors, groups, noise_scale)
    return Noise(
        noise_groups(profile), factors, signs * noise_scale * draw.uniform(0.5, 1.5, groups)
    )


def _profile(factors: Reals, groups: int, noise_scale: float) -> Profile:
    return Profile(
        ProfileName.NOISE,
        noise_groups=groups,
        noise_factors=tuple(map(float, factors)),
        noise_scale=noise_scale,
    )


def publish_noisy(subject: Subject, noise_scale: float) -> tuple[Tensors, Noise]:
    """Return the weights that the profile publishes, as float32, and the noise in them."""
    outputs = subject.graph.output_shape[0]
    factors = draw_noise(outputs, subject.seed, 5, noise_scale=noise_scale).directions
    profile = _profile(factors, min(_GROUPS, outputs), noise_scale)
    secret = sample_round_secret(
        subject.graph, analyse(subject.graph), profile, PublicRandomness(subject.seed, 6)
    )
    published = {
        name: each.astype(np.float32) for name, each in secret.perturb(subject.weights).items()
    }
    gammas = np.frombuffer(secret.record()["gammas"], dtype="<f8")
    return published, Noise(noise_groups(profile), factors, gammas)


def remove_noise(subject: Subject, noise_scale: float) -> NoiseRemoved:
    """Publish the model under noise and take it off again, knowing what a data owner knows.

    Args:
        subject: Trained under MSE; its data are the attacker's.
        noise_scale: Of the profile.

    Raises:
        NotApplicable: The loss is another, or the profile does not take the network.
    """
    if subject.loss is not Loss.MSE:
        raise NotApplicable(f"the noise profile takes the loss mse alone, not {subject.loss}")
    last = last_layer(subject.graph)
    noisy, noise = publish_noisy(subject, noise_scale)
    alphas, residuals = _residuals(subject, last, noisy)
    best = np.array([np.abs(alphas).argmax()])
    known = replace(noise, gammas=np.zeros_like(noise.gammas))
    found = (
        gammas_from_samples(known, alphas[best], residuals[best]),
        gammas_from_samples(known, alphas, residuals),
        gammas_from_weights(known, noisy[last.weight]),
    )
    one, every, weights = (float(np.abs(each - noise.gammas).max()) for each in found)
    cleaned = [
        compare_function(subject, add_to_rows(noisy, last, -replace(noise, gammas=gammas).rho()))
        for gammas in found
    ]
    return NoiseRemoved(
        noise_scale=noise_scale,
        from_one_sample=one,
        from_samples=every,
        from_weights=weights,
        noisy=compare_function(subject, noisy),
        without_one=cleaned[0],
        without_all=cleaned[1],
        without_weights=cleaned[2],
    )


def gammas_from_samples(noise: Noise, alphas: Reals, residuals: Reals) -> Reals:
    """Return the gammas that explain how far outputs are from their targets.

    Args:
        noise: Groups and directions; its gammas are not read.
        alphas: Sum of the last layer's inputs, shape (samples,).
        residuals: Published output less target, shape (samples, outputs).
    """
    along = (residuals * noise.directions).T @ alphas
    return _by_group(noise, along) / (_by_group(noise, noise.directions**2) * (alphas @ alphas))


def gammas_from_weights(noise: Noise, weight: np.ndarray) -> Reals:
    """Return the gammas that explain the means of the published last weight's rows."""
    along = weight.astype(np.float64).mean(axis=1) * noise.directions
    return _by_group(noise, along) / _by_group(noise, noise.directions**2)


def _by_group(noise: Noise, values: Reals) -> Reals:
    sums: Reals = np.zeros(len(noise.gammas))
    np.add.at(sums, noise.groups, values)
    return sums


def last_layer(graph: Graph) -> LastLayer:
    """Return the layer that the profile adds noise to; raises NotApplicable if there is none."""
    try:
        return profiles.last_layer(graph)
    except ModelError as error:
        raise NotApplicable(error.message) from None


def add_to_rows(weights: Tensors, layer: LastLayer, rho: Reals) -> Tensors:
    """Return weights with rho_i added to row i of a layer's weight."""
    weight = weights[layer.weight] + rho[:, None]
    return {**weights, layer.weight: weight.astype(np.float32)}


def _residuals(subject: Subject, last: LastLayer, weights: Tensors) -> tuple[Reals, Reals]:
    """Return alpha (samples,) and output less target (samples, outputs)."""
    inputs = torch.from_numpy(subject.data.inputs)
    with torch.no_grad():
        values = run_values(subject.graph, as_torch(weights), inputs)
    outputs, features = values[subject.graph.nodes[-1].name], values[last.inputs]
    labels = torch.from_numpy(fitting_labels(subject.graph, subject.data, subject.loss))
    if labels.dtype == torch.int64:
        labels = functional.one_hot(labels, outputs.shape[1])
    return features.double().sum(dim=1).numpy(), (outputs - labels).double().numpy()
