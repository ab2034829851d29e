"""A data owner's step: what it sends of its samples, computed on the perturbed model.

Samples may come in parts, such as a DataLoader gives: the messages are means over all of them, and
only one part and one sum are held at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.datasets import Batch
from omnilytics.learning.labels import fitting_labels
from omnilytics.perturbation.artefact import Artefact, Tensors
from omnilytics.perturbation.graph import Dtype, Graph, InputKind
from omnilytics.perturbation.interpreter import run_graph, run_values
from omnilytics.perturbation.losses import Loss, loss_value
from omnilytics.perturbation.profiles import (
    GAUGE,
    LastLayer,
    Profile,
    ProfileName,
    last_layer,
    messages,
)
from omnilytics.perturbation.round_secret import noise_groups

_PART_ELEMENTS = {Dtype.FLOAT32: 1 << 22, Dtype.FLOAT64: 1 << 19}
"""Activations of one part: LeNet's step on 256 samples is fastest whole, in float64 in 8 parts."""
_FEWEST_SAMPLES = 2
"""A batch normalisation has no variance of one sample."""


def compute_gradients(
    artefact: Artefact, data: Batch | Iterable[Batch], loss: Loss, profile: Profile = GAUGE
) -> Tensors:
    """Return what an owner sends: gradients of the mean loss, and what the profile asks for.

    Args:
        artefact: A decoded artefact; nothing in it is executed.
        data: At least one sample, at once or in parts of any sizes.
        loss: The task's loss; the profile `noise` needs MSE.
        profile: The task's profile.

    Returns:
        Arrays of the artefact's type by the names of `profiles.messages`, all finite.

    Raises:
        ModelError: If a batch does not fit the graph, or a gradient is NaN or infinite (it
            names the tensor).
    """
    graph = artefact.graph
    if profile.name is ProfileName.NOISE and loss is not Loss.MSE:
        raise ModelError("noise needs another loss", got=loss, want=Loss.MSE)
    trained = {tensor.name for tensor in graph.trained}
    weights = {
        name: torch.tensor(value, requires_grad=name in trained)
        for name, value in artefact.weights.items()
    }
    shapes = [each for part in messages(graph, profile).values() for each in part.items()]
    # Float64: one part alone comes out exactly as its own gradient.
    sums = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes}
    samples = 0
    for batch in _parts(graph, data):
        for name, value in _one_part(graph, weights, batch, loss, profile).items():
            sums[name].add_(value.double().reshape(sums[name].shape), alpha=len(batch))
        samples += len(batch)
    if not samples:
        raise ModelError("there is no data", want="at least one sample")
    dtype = getattr(torch, graph.dtype.value)
    named = {name: total.div_(samples).to(dtype).numpy() for name, total in sums.items()}
    for name, mean in named.items():
        if not np.isfinite(mean).all():
            raise ModelError(
                "the gradient is NaN or infinite",
                hint="the model may have diverged: a smaller learning rate helps",
                tensor=name,
            )
    return named


def _parts(graph: Graph, data: Batch | Iterable[Batch]) -> Iterator[Batch]:
    """Yield the data in parts of as many activations as is fastest: half the time in float64.

    Batch normalisation sees the parts as they were given.
    """
    activations = sum(prod(shape) for shape in graph.shapes.values())
    size = max(1, _PART_ELEMENTS[graph.dtype] // activations)
    for batch in [data] if isinstance(data, Batch) else data:
        if graph.statistics or len(batch) <= size:
            yield batch
            continue
        for start in range(0, len(batch), size):
            yield batch.take(np.arange(start, min(start + size, len(batch))))


def _one_part(
    graph: Graph, weights: Mapping[str, Tensor], batch: Batch, loss: Loss, profile: Profile
) -> dict[str, Tensor]:
    labels = torch.from_numpy(fitting_labels(graph, batch, loss))
    if graph.statistics and len(batch) < _FEWEST_SAMPLES:
        raise ModelError(
            "batch normalisation needs more samples at once",
            got=len(batch),
            want=f">= {_FEWEST_SAMPLES}",
            hint="drop a last part that is smaller",
        )
    inputs = torch.from_numpy(batch.inputs)
    if graph.input_kind is InputKind.NUMBERS:
        inputs = inputs.to(getattr(torch, graph.dtype.value))
    statistics: dict[str, Tensor] = {}
    if profile.name is ProfileName.NOISE:
        values = run_values(graph, weights, inputs, statistics=statistics)
        found = _noise_messages(graph, weights, values, labels, profile)
    else:
        outputs = run_graph(graph, weights, inputs, statistics=statistics)
        names = [tensor.name for tensor in graph.trained]
        gradients = torch.autograd.grad(
            loss_value(loss, outputs, labels), [weights[name] for name in names]
        )
        found = dict(zip(names, gradients, strict=True))
    differences = {name: weights[name] - value for name, value in statistics.items()}
    return found | differences


def _noise_messages(
    graph: Graph,
    weights: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    labels: Tensor,
    profile: Profile,
) -> dict[str, Tensor]:
    """Return the messages of `round_secret` by one forward pass and one pass back for each."""
    last = last_layer(graph)
    features = values[last.inputs]
    h = features.detach()
    with torch.no_grad():
        weight, outputs = weights[last.weight], values[graph.nodes[-1].name]
        if labels.dim() == 1:
            labels = functional.one_hot(labels, outputs.shape[1])
        distance, alpha = outputs - labels, h.sum(dim=1, keepdim=True)
        found = _sums(last, h, distance, alpha)
        factors = torch.tensor(profile.noise_factors, dtype=weight.dtype)
        groups = torch.from_numpy(noise_groups(profile))
        cotangents = {"": distance @ weight}
        for group in range(profile.noise_groups):
            own = torch.where(groups == group, factors, 0.0)
            product = distance @ own[:, None]
            found[f"sums/alpha_d{group + 1}"] = (alpha * product).mean()
            cotangents[f"sigma{group + 1}/"] = product + alpha * (own @ weight)
        cotangents["beta/"] = alpha.expand_as(h)
    hidden = [each.name for each in graph.trained if each.name not in {last.weight, last.bias}]
    tensors = [weights[name] for name in hidden]
    for prefix, cotangent in cotangents.items():
        gradients = torch.autograd.grad(
            features, tensors, cotangent / len(h), retain_graph=prefix != "beta/"
        )
        found |= {prefix + name: each for name, each in zip(hidden, gradients, strict=True)}
    return found


def _sums(last: LastLayer, h: Tensor, distance: Tensor, alpha: Tensor) -> dict[str, Tensor]:
    """Return the last layer's gradients and the sums that do not depend on groups, as means."""
    found = {
        last.weight: distance.T @ h / len(h),
        "sums/alpha_h": (alpha * h).mean(dim=0),
        "sums/alpha": alpha.mean(),
        "sums/alpha_squared": alpha.square().mean(),
        "sums/loss": 0.5 * distance.square().sum(dim=1).mean(),
    }
    if last.bias is not None:
        found[last.bias] = distance.mean(dim=0)
    return found
