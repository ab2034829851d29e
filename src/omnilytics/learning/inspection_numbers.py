"""Sizes of published numbers, and what a model does with inputs; see `inspection`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
import torch
from numpy.typing import NDArray

from omnilytics.learning.datasets import Batch
from omnilytics.perturbation.artefact import Artefact
from omnilytics.perturbation.graph import Dtype, Graph, InputKind
from omnilytics.perturbation.interpreter import run_graph, run_values
from omnilytics.perturbation.operations import Relu, Scale

PROBES = 64
"""Random inputs, where there are no samples."""
MOST_SAMPLES = 512
_TINY = 1e-30


@dataclass(frozen=True)
class Grown:
    """The tensor or node that is furthest from what is usual: its factor, and in words."""

    tensor: str
    factor: float
    said: str


@dataclass(frozen=True)
class Sizes:
    """The largest weights, the scale that its weights justify least, the largest constant."""

    weight: Grown
    scale: Grown
    constant: Grown


@dataclass(frozen=True)
class Outputs:
    """What a model gives: whether it is finite, and the same for every input."""

    finite: bool
    constant: bool


def measure_scales(scales: Mapping[str, float]) -> tuple[float, str]:
    """Return the largest scale by the smallest, and the tensor of the smallest."""
    least = min(scales, key=lambda name: scales[name])
    return max(scales.values()) / scales[least], least


def measure_weights(artefact: Artefact, scales: Mapping[str, float]) -> Sizes:
    """Return how far weights and scales are from what is usual.

    A weight's entries are about 1/sqrt(inputs of a unit) large, whatever initialises them, and grow
    a few times in training. A scale is about the norm of a gradient, which is seldom much larger
    than that of such weights.
    """
    weights, growths = [], []
    for spec in (*artefact.graph.trained, *artefact.graph.frozen):
        name, tensor = spec.name, artefact.weights[spec.name]
        inputs = prod(tensor.shape[1:])
        usual = sqrt(tensor.size / inputs)  # norm of entries of 1/sqrt(inputs)
        norm = float(np.linalg.norm(tensor.astype(np.float64)))
        said = f"weights are {norm / usual:.3g} times as large as fresh ones"
        weights.append(Grown(name, norm / usual, said))
        if name in scales:
            factor = scales[name] / max(norm, usual)
            growths.append(Grown(name, factor, f"scale is {factor:.3g} times the weights' norm"))
    constants = [Grown("", 0.0, "nothing is multiplied by a constant")]
    for node in artefact.graph.nodes:
        if isinstance(node.operation, Scale):
            factor = abs(node.operation.factor)
            constants.append(Grown(node.name, factor, f"a value is multiplied by {factor:.3g}"))
    every = (weights, growths, constants)
    return Sizes(*(max(each, key=lambda one: one.factor) for each in every))


def measure_outputs(artefact: Artefact, samples: Batch | None) -> Outputs:
    """Run the model on samples, or on random inputs, and look at what comes out."""
    inputs = (
        _probes(artefact.graph) if samples is None else _inputs(artefact.graph, samples, PROBES)
    )
    with torch.no_grad():
        outputs = run_graph(artefact.graph, _tensors(artefact), inputs)
    finite = bool(torch.isfinite(outputs).all())
    return Outputs(finite=finite, constant=bool((outputs == outputs[:1]).all()))


def lonely_share(artefact: Artefact, samples: Batch) -> tuple[float, str | None]:
    """Return the share (0 to 1) of samples that a layer separates from all others, and the layer.

    A sample stands alone where it is the only one that switches a unit on (before a ReLU on vectors
    or tokens), or where two units differ in that sample alone: the unit's gradient, or the
    difference of two, is that sample's input to the layer. Of the layers the worst counts.

    Args:
        artefact: The model.
        samples: As many as are in a sum, say; the first 512 are used. In a sequence every token
            counts as one.
    """
    graph = artefact.graph
    with torch.no_grad():
        inputs = _inputs(graph, samples, MOST_SAMPLES)
        values = run_values(graph, _tensors(artefact), inputs)
    worst: tuple[float, str | None] = (0.0, None)
    for node in graph.nodes:
        if isinstance(node.operation, Relu) and len(graph.shapes[node.name]) < 3:
            share = _lonely((values[node.name] > 0).flatten(0, -2).numpy())
            worst = max(worst, (share, node.inputs[0]), key=lambda each: each[0])
    return worst


def _lonely(on: NDArray[np.bool_]) -> float:
    """Return the share of samples that are alone; `on` (samples, units) says who switches what."""
    by_count = on[:, np.argsort(on.sum(axis=0), kind="stable")]
    differences = by_count[:, 1:] ^ by_count[:, :-1]
    alone = np.concatenate([by_count, differences], axis=1)
    alone = alone[:, alone.sum(axis=0) == 1]
    return float(alone.any(axis=1).mean())


def _probes(graph: Graph) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (PROBES, *graph.input_shape)
    if graph.input_kind is InputKind.TOKENS:
        return torch.randint(graph.vocabulary, shape, generator=generator)
    return torch.randn(shape, generator=generator, dtype=_number(graph))


def _inputs(graph: Graph, samples: Batch, most: int) -> torch.Tensor:
    inputs = torch.from_numpy(samples.inputs[:most])
    return inputs.to(torch.int64 if graph.input_kind is InputKind.TOKENS else _number(graph))


def _number(graph: Graph) -> torch.dtype:
    return torch.float64 if graph.dtype is Dtype.FLOAT64 else torch.float32


def _tensors(artefact: Artefact) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(tensor) for name, tensor in artefact.weights.items()}
