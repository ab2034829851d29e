"""What a data owner's step costs beside PyTorch's own gradient of the same network."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import nn

from omnilytics.learning.datasets import Batch
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.public_randomness import PublicRandomness
from omnilytics.perturbation.artefact import Artefact
from omnilytics.perturbation.graph import Dtype
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.losses import Loss, loss_value
from omnilytics.perturbation.profiles import ProfileName
from omnilytics.perturbation.round_secret import sample_round_secret
from perturbation_recovery import Subject, made_up_batch, profile_of

_PARTS = (1, 2, 4, 8)
_WARM_UP = 3


def measure_times(name: str, *, samples: int, repeats: int) -> list[dict[str, Any]]:
    """Return a row for every way of computing a gradient, run in turn.

    The unit is processor time of this process, with one thread. `times` divides by PyTorch's own
    gradient of the whole batch, `times_best` by the fastest of it in 1, 2, 4 and 8 parts; both in
    the same type and with the same loss.

    Args:
        name: A network of `MODELS` that can have the profile noise.
        samples: Samples of the batch.
        repeats: How often each is run.
    """
    subject = Subject.of(name)
    ways = _ways(subject, made_up_batch(name, samples, 0))
    seconds: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for turn in range(_WARM_UP + repeats):
        for way, run in ways.items():
            start = time.process_time()
            run()
            if turn >= _WARM_UP:
                seconds[way].append(time.process_time() - start)
    medians = {way: median(found) for way, found in seconds.items()}
    plain = {key: medians[key, "PyTorch, 1 part"] for key, _ in ways}
    best = {
        key: min(medians[key, way] for other, way in ways if other == key and "PyTorch" in way)
        for key in plain
    }
    return [
        {
            "network": name,
            "samples": samples,
            "setting": key,
            "way": way,
            "milliseconds": 1e3 * medians[key, way],
            "times": medians[key, way] / plain[key],
            "times_best": medians[key, way] / best[key],
        }
        for key, way in ways
    ]


def _ways(subject: Subject, batch: Batch) -> dict[tuple[str, str], Callable[[], object]]:
    single, double = "float32, cross-entropy", "float64, MSE"
    module, model = subject.model.module.train(), subject.model
    ways: dict[tuple[str, str], Callable[[], object]] = {}
    for parts in _PARTS:
        way = f"PyTorch, {parts} part{'s' if parts > 1 else ''}"
        ways[single, way] = _of_module(module, batch, Loss.CROSS_ENTROPY, parts)
        ways[double, way] = _of_module(copy.deepcopy(module).double(), batch, Loss.MSE, parts)
    for key, dtype, loss in (
        (single, Dtype.FLOAT32, Loss.CROSS_ENTROPY),
        (double, Dtype.FLOAT64, Loss.MSE),
    ):
        ways[key, "the interpreter, 1 part"] = _of_graph(model.artefact(dtype=dtype), batch, loss)
    for name in ProfileName:
        key, loss = single, Loss.CROSS_ENTROPY
        if name is ProfileName.NOISE:
            key, loss = double, Loss.MSE
        ways[key, f"an owner's step, {name}"] = _of_owner(subject, batch, loss, name)
    return ways


def _of_module(module: nn.Module, batch: Batch, loss: Loss, parts: int) -> Callable[[], object]:
    dtype = next(module.parameters()).dtype
    inputs = torch.from_numpy(batch.inputs).to(dtype).chunk(parts)
    labels = torch.from_numpy(batch.labels).chunk(parts)
    trained = list(module.parameters())

    def run() -> object:
        sums = [torch.zeros_like(each) for each in trained]
        for part, wanted in zip(inputs, labels, strict=True):
            found = torch.autograd.grad(loss_value(loss, module(part), wanted), trained)
            for total, each in zip(sums, found, strict=True):
                total.add_(each, alpha=len(part) / len(batch))
        return sums

    def whole() -> object:
        return torch.autograd.grad(loss_value(loss, module(inputs[0]), labels[0]), trained)

    return run if parts > 1 else whole


def _of_graph(artefact: Artefact, batch: Batch, loss: Loss) -> Callable[[], object]:
    weights = {
        name: torch.tensor(value, requires_grad=True) for name, value in artefact.weights.items()
    }
    inputs = torch.from_numpy(batch.inputs).to(getattr(torch, artefact.graph.dtype.value))
    labels = torch.from_numpy(batch.labels)

    def run() -> object:
        outputs = run_graph(artefact.graph, weights, inputs)
        return torch.autograd.grad(loss_value(loss, outputs, labels), list(weights.values()))

    return run


def _of_owner(
    subject: Subject, batch: Batch, loss: Loss, name: ProfileName
) -> Callable[[], object]:
    profile = profile_of(name)
    secret = sample_round_secret(
        subject.model.graph, subject.structure, profile, PublicRandomness(0, 4)
    )
    artefact = subject.model.artefact(secret)
    return lambda: compute_gradients(artefact, batch, loss, profile)
