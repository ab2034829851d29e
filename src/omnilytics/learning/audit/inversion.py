"""Gradient inversion: inputs that would have given the gradient that was seen.

Deep leakage (Zhu et al., 2019) in the form of Geiping et al. (2020): inputs are optimised by the
signs of Adam's steps until their gradient points where the seen one does (cosine distance, total
variation for images), the best of a few starts by that distance. Labels are known to the
attacker, which favours it. What is seen is one
message, or the mean of many; nothing but the number of samples in it matters, not whose they are.
The attacker works on the published pair; the true pair is for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch.nn.attention import SDPBackend, sdpa_kernel

from omnilytics.learning.audit.structure import NotApplicable, publish
from omnilytics.learning.audit.subject import Subject, as_torch, mean_gradient
from omnilytics.learning.datasets import Batch
from omnilytics.learning.labels import fitting_labels
from omnilytics.perturbation.artefact import Tensors
from omnilytics.perturbation.graph import InputKind
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.losses import loss_value

_LEARNING_RATE = 0.1
_VARIATION = 1e-3
STARTS = 4
_FOUND = 3e-3
"""Cosine distance at which no other start is tried."""
_DECAYS = (3 / 8, 5 / 8, 7 / 8)
_SAMPLES_ATTACKED = 4
"""At least so many samples are attacked for one figure, in several attacks if need be."""

Inputs = NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class Inverted:
    """What came of inverting means over some number of samples.

    Attributes:
        samples: In each mean.
        correlation: Mean correlation of a sample with its reconstruction (-1 to 1).
        best: The largest of them.
        psnr: Mean peak signal-to-noise ratio in dB, of the data's range.
        best_psnr: The largest of them.
        baseline: Mean correlation with a guess that uses no gradient: the mean of the sample's
            class over other samples, or of all.
        true: The samples, (k, *input_shape).
        found: Their reconstructions.
    """

    samples: int
    correlation: float
    best: float
    psnr: float
    best_psnr: float
    baseline: float
    true: Inputs
    found: Inputs


def invert_means(
    subject: Subject, *, samples: int, steps: int, starts: int = STARTS, published: bool = True
) -> Inverted:
    """Attack means over `samples` samples and compare with the samples.

    Args:
        subject: What is audited; the first of its samples are attacked.
        samples: In each mean.
        steps: Of each start.
        starts: At most so many.
        published: Attack the published model and gradient; otherwise the true ones.
    """
    require_numbers(subject, "inputs to optimise")
    weights: Tensors = subject.weights
    if published:
        weights = publish(subject.graph, weights, subject.seed, 8).weights
    attacks = max(1, _SAMPLES_ATTACKED // samples)
    true, found, guessed = [], [], []
    for number in range(attacks):
        batch = subject.data.take(np.arange(number * samples, (number + 1) * samples))
        gradient = mean_gradient(subject, weights, batch)
        seed = subject.seed + number
        made = invert(subject, weights, gradient, batch, steps=steps, starts=starts, seed=seed)
        order = linear_sum_assignment(-correlations(batch.inputs, made))[1]
        true.append(batch.inputs)
        found.append(made[order])
        guessed.append(_guesses(subject, batch, attacks * samples))
    return _compared(samples, *(np.concatenate(each) for each in (true, found, guessed)))


def require_numbers(subject: Subject, what: str) -> None:
    """Raise NotApplicable where the network reads tokens."""
    if subject.graph.input_kind is InputKind.TOKENS:
        raise NotApplicable(f"the network reads tokens, which are no {what}")


def invert(
    subject: Subject,
    weights: Tensors,
    gradient: Mapping[str, NDArray[np.floating[Any]]],
    known: Batch,
    *,
    steps: int,
    starts: int,
    seed: int,
) -> Inputs:
    """Return inputs whose mean gradient points where `gradient` does, the best of a few starts.

    Args:
        subject: Its graph and loss; the weights are not read.
        weights: As published.
        gradient: What was seen, by trained tensor.
        known: Its labels are known to the attacker, its inputs are not read.
        steps: Of each start.
        starts: At most so many.
        seed: Of the first guesses.

    Returns:
        Shape (len(known), *input_shape), in no particular order.
    """
    found: list[tuple[float, Inputs]] = []
    for start in range(starts):
        generator = torch.Generator().manual_seed(1000 * seed + start)
        found.append(_descend(subject, weights, gradient, known, steps, generator))
        if found[-1][0] < _FOUND:
            break
    return min(found, key=lambda each: each[0])[1]


def _descend(
    subject: Subject,
    weights: Tensors,
    gradient: Mapping[str, NDArray[np.floating[Any]]],
    known: Batch,
    steps: int,
    generator: torch.Generator,
) -> tuple[float, Inputs]:
    """Return the distance that was reached, and the inputs."""
    parameters = as_torch(weights)
    trained = [parameters[tensor.name].requires_grad_() for tensor in subject.graph.trained]
    wanted = [torch.from_numpy(gradient[tensor.name]) for tensor in subject.graph.trained]
    labels = torch.from_numpy(fitting_labels(subject.graph, known, subject.loss))
    inputs = torch.randn(len(known), *subject.graph.input_shape, generator=generator)
    inputs.requires_grad_()
    optimiser = torch.optim.Adam([inputs], lr=_LEARNING_RATE)
    decays = [int(steps * part) for part in _DECAYS]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, decays, gamma=0.1)
    distance = torch.ones(())
    for _ in range(steps):
        with sdpa_kernel(
            SDPBackend.MATH
        ):  # the fast kernels of attention have no second derivative
            outputs = run_graph(subject.graph, parameters, inputs)
        value = loss_value(subject.loss, outputs, labels)
        made = torch.autograd.grad(value, trained, create_graph=True)
        distance = _cosine_distance(made, wanted)
        goal = distance + _VARIATION * _variation(inputs)
        inputs.grad = torch.autograd.grad(goal, inputs)[0].sign()
        optimiser.step()
        schedule.step()
    return float(distance.detach()), np.asarray(inputs.detach().numpy())


def _cosine_distance(made: tuple[torch.Tensor, ...], wanted: list[torch.Tensor]) -> torch.Tensor:
    pairs = list(zip(made, wanted, strict=True))
    product = torch.stack([(one * other).sum() for one, other in pairs]).sum()
    norms = [torch.stack([(each**2).sum() for each in side]).sum() for side in (made, wanted)]
    return 1 - product / (norms[0] * norms[1] + torch.finfo(torch.float32).tiny).sqrt()


def _variation(images: torch.Tensor) -> torch.Tensor:
    if images.dim() != 4:
        return torch.zeros(())
    rows = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
    columns = (images[..., 1:] - images[..., :-1]).abs().mean()
    return rows + columns


def correlations(
    one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return the correlation of every sample of `one` with every one of `other`."""

    def normal(samples: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        flat: NDArray[np.float64] = samples.reshape(len(samples), -1).astype(np.float64)
        flat = flat - flat.mean(axis=1, keepdims=True)
        norms: NDArray[np.float64] = np.linalg.norm(flat, axis=1, keepdims=True)
        return flat / np.where(norms > 0, norms, 1.0)

    found: NDArray[np.float64] = normal(one) @ normal(other).T
    return found


def _guesses(subject: Subject, batch: Batch, attacked: int) -> Inputs:
    """Return what one would guess of each sample from its label and others' data."""
    inputs, labels = subject.data.inputs[attacked:], subject.data.labels[attacked:]
    guesses = []
    for label in batch.labels:
        by_class = labels.dtype == np.int64 and labels.ndim == 1
        alike = inputs[labels == label] if by_class else inputs[:0]
        guesses.append((alike if len(alike) else inputs).mean(axis=0))
    return np.stack(guesses)


def _compared(samples: int, true: Inputs, found: Inputs, guessed: Inputs) -> Inverted:
    correlation = correlations(true, found).diagonal()
    axes = tuple(range(1, true.ndim))
    errors = ((true - found).astype(np.float64) ** 2).mean(axis=axes)
    ratios = 20 * np.log10(np.ptp(true)) - 10 * np.log10(errors + np.finfo(np.float64).tiny)
    return Inverted(
        samples=samples,
        correlation=float(correlation.mean()),
        best=float(correlation.max()),
        psnr=float(ratios.mean()),
        best_psnr=float(ratios.max()),
        baseline=float(correlations(true, guessed).diagonal().mean()),
        true=true,
        found=found,
    )
