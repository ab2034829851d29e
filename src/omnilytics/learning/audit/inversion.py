"""Gradient inversion: inputs that would have given the gradient that was seen.

Deep leakage (Zhu et al., 2019) in the form of Geiping et al. (2020): inputs are optimised by the
signs of Adam's steps until their gradient points where the seen one does (cosine distance, total
variation for images), labels being known, which favours the attacker. What is seen is one
message, or the mean of many; nothing but the number of samples in it matters, not whose they are.
The attacker works on the published pair; the true pair is for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from omnilytics.learning.audit.structure import draw_secret
from omnilytics.learning.audit.subject import Subject, as_torch
from omnilytics.learning.datasets import Batch
from omnilytics.learning.gradients import compute_gradients, fitting_labels
from omnilytics.perturbation.artefact import Artefact, Tensors
from omnilytics.perturbation.graph import Graph
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.losses import Loss, loss_value

_LEARNING_RATE = 0.1
_VARIATION = 1e-2
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


def invert_means(subject: Subject, *, samples: int, steps: int, published: bool = True) -> Inverted:
    """Attack means over `samples` samples and compare with the samples.

    Args:
        subject: What is audited; the first of its samples are attacked.
        samples: In each mean.
        steps: Of the optimisation.
        published: Attack the published model and gradient; otherwise the true ones.
    """
    weights = subject.weights
    if published:
        weights = draw_secret(subject.graph, subject.seed, 8).perturb(weights)
    attacks = max(1, _SAMPLES_ATTACKED // samples)
    true, found, guessed = [], [], []
    for number in range(attacks):
        rows = np.arange(number * samples, (number + 1) * samples)
        batch = subject.data.take(rows)
        gradient = compute_gradients(Artefact(subject.graph, weights), batch, subject.loss)
        made = invert(
            subject.graph,
            weights,
            gradient,
            batch,
            subject.loss,
            steps=steps,
            seed=subject.seed + number,
        )
        order = linear_sum_assignment(-correlations(batch.inputs, made))[1]
        true.append(batch.inputs)
        found.append(made[order])
        guessed.append(_guesses(subject, batch, attacks * samples))
    return _compared(samples, np.concatenate(true), np.concatenate(found), np.concatenate(guessed))


def invert(
    graph: Graph,
    weights: Tensors,
    gradient: Mapping[str, NDArray[np.floating]],
    known: Batch,
    loss: Loss,
    *,
    steps: int,
    seed: int,
) -> Inputs:
    """Return inputs whose mean gradient points where `gradient` does.

    Args:
        graph: The network.
        weights: As published.
        gradient: What was seen.
        known: Its labels are known to the attacker, its inputs are not read.
        loss: The task's.
        steps: Of the optimisation.
        seed: Of the first guess.

    Returns:
        Shape (len(known), *input_shape), in no particular order.
    """
    parameters = {name: each.requires_grad_() for name, each in as_torch(weights).items()}
    wanted = [torch.from_numpy(gradient[name]) for name in parameters]
    labels = torch.from_numpy(fitting_labels(graph, known, loss))
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(len(known), *graph.input_shape, generator=generator).requires_grad_()
    optimiser = torch.optim.Adam([inputs], lr=_LEARNING_RATE)
    decays = [int(steps * part) for part in _DECAYS]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, decays, gamma=0.1)
    for _ in range(steps):
        value = loss_value(loss, run_graph(graph, parameters, inputs), labels)
        made = torch.autograd.grad(value, list(parameters.values()), create_graph=True)
        distance = _cosine_distance(made, wanted) + _VARIATION * _variation(inputs)
        inputs.grad = torch.autograd.grad(distance, inputs)[0].sign()
        optimiser.step()
        schedule.step()
    return np.asarray(inputs.detach().numpy())


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


def correlations(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the correlation of every sample of `one` with every one of `other`."""

    def normal(samples: NDArray[np.floating]) -> NDArray[np.float64]:
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
        alike = inputs[labels == label] if labels.dtype == np.int64 else inputs[:0]
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
