"""Removing the additive noise of the `noise` profile (perturbation.md section 3).

Published is W' = W + rho 1^T for the last layer, its bias unchanged; rho_i = gamma_s(i) ra_i with
ra public and gamma secret, so output i is off by rho_i alpha, alpha the sum of the layer's inputs.
Two estimates of gamma, each by least squares: from samples whose outputs are about their targets
(the profile's loss is MSE), and from the weights alone, whose rows have a mean near zero.
The noise here is the audit's own; `gauge` runs below it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from omnilytics.learning.audit.function import FunctionSeen, compare_function
from omnilytics.learning.audit.structure import NotApplicable, Order, Reals, publish
from omnilytics.learning.audit.subject import Subject, as_torch
from omnilytics.learning.gradients import fitting_labels
from omnilytics.perturbation.artefact import Tensors
from omnilytics.perturbation.graph import Graph, Node
from omnilytics.perturbation.interpreter import run_values
from omnilytics.perturbation.losses import Loss
from omnilytics.perturbation.operations import Linear

_SMALLEST_GAMMA, _LARGEST_GAMMA = 0.1, 1.0


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
        from_one_sample: Largest error of a gamma, from one labelled sample.
        from_samples: The same from all labelled samples.
        from_weights: The same from the weights alone.
        smallest_gamma: Least true |gamma|, to compare these with.
        noisy: The published model as it is.
        cleaned: The published model without the noise that one sample gave away.
    """

    from_one_sample: float
    from_samples: float
    from_weights: float
    smallest_gamma: float
    noisy: FunctionSeen
    cleaned: FunctionSeen


def draw_noise(outputs: int, *seed: int, groups: int = 2) -> Noise:
    """Return noise that anyone can draw again: |gamma| in 0.1 .. 1, |ra| in 0.5 .. 1.5."""
    draw = np.random.default_rng(seed)
    groups = min(groups, outputs)

    def signed(low: float, high: float, size: int) -> Reals:
        values: Reals = draw.choice([-1.0, 1.0], size) * draw.uniform(low, high, size)
        return values

    return Noise(
        groups=np.arange(outputs, dtype=np.int64) % groups,
        directions=signed(0.5, 1.5, outputs),
        gammas=signed(_SMALLEST_GAMMA, _LARGEST_GAMMA, groups),
    )


def remove_noise(subject: Subject) -> NoiseRemoved:
    """Publish the model with noise and take it off again, knowing what a data owner knows.

    Args:
        subject: Trained under MSE; its data are the attacker's.

    Raises:
        NotApplicable: The loss is another, or the network does not end in a linear layer.
    """
    if subject.loss is not Loss.MSE:
        raise NotApplicable(f"the noise profile takes the loss mse alone, not {subject.loss}")
    last = last_layer(subject.graph)
    noise = draw_noise(subject.graph.output_shape[0], subject.seed, 5)
    published = publish(subject.graph, subject.weights, subject.seed, 6).weights
    noisy = add_to_rows(published, last, noise.rho())
    alphas, residuals = _residuals(subject, noisy)
    best = np.array([np.abs(alphas).argmax()])
    known = replace(noise, gammas=np.zeros_like(noise.gammas))
    one = gammas_from_samples(known, alphas[best], residuals[best])
    found = {
        "one": one,
        "all": gammas_from_samples(known, alphas, residuals),
        "weights": gammas_from_weights(known, noisy[last.tensors[0]]),
    }
    errors = {name: float(np.abs(each - noise.gammas).max()) for name, each in found.items()}
    cleaned = add_to_rows(noisy, last, -replace(noise, gammas=one).rho())
    return NoiseRemoved(
        from_one_sample=errors["one"],
        from_samples=errors["all"],
        from_weights=errors["weights"],
        smallest_gamma=float(np.abs(noise.gammas).min()),
        noisy=compare_function(subject, noisy),
        cleaned=compare_function(subject, cleaned),
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


def last_layer(graph: Graph) -> Node:
    """Return the linear layer that makes the output of `graph`; raises NotApplicable."""
    last = graph.nodes[-1]
    if not isinstance(last.operation, Linear) or len(graph.output_shape) != 1:
        raise NotApplicable(f"the network ends in {last.operation.name}, not in one linear layer")
    return last


def add_to_rows(weights: Tensors, layer: Node, rho: Reals) -> Tensors:
    """Return weights with rho_i added to row i of a layer's weight."""
    name = layer.tensors[0]
    return {**weights, name: (weights[name] + rho[:, None]).astype(np.float32)}


def _residuals(subject: Subject, weights: Tensors) -> tuple[Reals, Reals]:
    """Return alpha (samples,) and output less target (samples, outputs)."""
    last = last_layer(subject.graph)
    inputs = torch.from_numpy(subject.data.inputs)
    with torch.no_grad():
        values = run_values(subject.graph, as_torch(weights), inputs)
    outputs, features = values[last.name], values[last.inputs[0]]
    labels = torch.from_numpy(fitting_labels(subject.graph, subject.data, subject.loss))
    if labels.dtype == torch.int64:
        labels = functional.one_hot(labels, outputs.shape[1])
    return features.double().sum(dim=1).numpy(), (outputs - labels).double().numpy()
