"""The imprint layer: a hostile model owner's network that gives samples away in an exact sum.

Fowl et al., Robbing the Fed (2022): all rows of the first layer measure the same thing, with biases
that are sorted thresholds, and the next layer weighs all units alike. The gradients of two
neighbouring units then differ by the samples whose measure lies between their thresholds; if it is
one sample alone, its input is that difference over the biases' difference, exactly. The graph is
sound, clipping whole messages changes nothing, and the number of owners does not help: what
helps is a policy on graphs, and noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from omnilytics.learning.audit.inversion import correlations, require_numbers
from omnilytics.learning.audit.structure import NotApplicable, Reals
from omnilytics.learning.audit.subject import Subject
from omnilytics.learning.datasets import Batch
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.inspection import Level, inspect_artefact
from omnilytics.learning.training import mean_gradients
from omnilytics.perturbation.artefact import Artefact, Tensors
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node, TensorSpec
from omnilytics.perturbation.operations import Flatten, Linear, Relu

WEIGHT, BIAS = "imprint.weight", "imprint.bias"
EXACT = 1e-2
"""A sample is reconstructed if the error's norm is at most this share of the sample's."""
FRACTION_BITS = 16
"""Of the market's fixed-point entries (docs/perturbation.md)."""


@dataclass(frozen=True)
class Imprinted:
    """What one sum over all owners gave away.

    Attributes:
        owners: In the sum.
        samples: Of all owners together.
        units: Of the imprint layer.
        reconstructed: Share of samples reconstructed, from float gradients.
        rounded: The same after clipping and rounding to the market's fixed point, counting a
            sample that correlates by 0.99 with a reconstruction.
        refused: The checks by which an owner's inspection refuses the network; none if it passes.
    """

    owners: int
    samples: int
    units: int
    reconstructed: float
    rounded: float
    refused: tuple[str, ...]


def imprint(subject: Subject, *, owners: int = 10, samples: int = 8, units: int = 160) -> Imprinted:
    """Publish an imprint layer for the task's data and read the owners' sum.

    Args:
        subject: Only its data, input shape, outputs and loss matter. The attacker chooses its
            thresholds on other samples than the owners'.
        owners: In the sum; fewer where there are too few data.
        samples: Of each owner.
        units: Of the layer.

    Raises:
        NotApplicable: Samples are tokens, or targets are one per token.
    """
    require_numbers(subject, "inputs to reconstruct")
    if len(subject.graph.output_shape) != 1:
        raise NotApplicable("targets are one per token, and this layer reads whole samples")
    half = len(subject.data) // 2
    own = subject.data.take(np.arange(half, len(subject.data)))
    samples = max(1, min(samples, half // owners))
    owners = min(owners, half)
    batches = [
        subject.data.take(np.arange(start, start + samples))
        for start in range(0, owners * samples, samples)
    ]
    artefact = imprint_artefact(subject, own, units)
    gradients = [compute_gradients(artefact, batch, subject.loss) for batch in batches]
    inputs = np.concatenate([batch.inputs for batch in batches])
    found = read_imprint(mean_gradients(gradients))
    rounded = read_imprint(mean_gradients([_through_market(each) for each in gradients]))
    return Imprinted(
        owners=owners,
        samples=len(inputs),
        units=units,
        reconstructed=share_reconstructed(inputs, found),
        rounded=_share_alike(inputs, rounded),
        refused=refusals(artefact, batches[0]),
    )


def refusals(artefact: Artefact, samples: Batch) -> tuple[str, ...]:
    """Return the checks by which a data owner's inspection refuses a network, if any."""
    scales = {tensor.name: 1.0 for tensor in artefact.graph.trained}
    found = inspect_artefact(artefact, scales, samples=samples)
    return tuple(dict.fromkeys(each.check for each in found if each.level is Level.REFUSE))


def imprint_artefact(subject: Subject, own: Batch, units: int) -> Artefact:
    """Return the hostile network, with thresholds after the attacker's own samples."""
    outputs, features = subject.graph.output_shape[0], prod(subject.graph.input_shape)
    draw = np.random.default_rng([subject.seed, 9])
    measure = draw.normal(size=features) / np.sqrt(features)
    # A sum of many features is about normal, which says more than the quantiles of few samples.
    measured = own.inputs.reshape(len(own), -1) @ measure
    levels = norm.ppf((np.arange(units) + 0.5) / units)
    thresholds = measured.mean() + measured.std() * levels
    # Small, so that outputs stay where the loss still has a slope.
    head = np.repeat(draw.normal(size=(outputs, 1)), units, axis=1) / units
    weights = {
        WEIGHT: np.repeat(measure[None, :], units, axis=0),
        BIAS: -thresholds,
        "head.weight": head,
        "head.bias": np.zeros(outputs),
    }
    graph = imprint_graph(subject.graph.input_shape, units, outputs)
    return Artefact(graph, {name: each.astype(np.float32) for name, each in weights.items()})


def imprint_graph(input_shape: tuple[int, ...], units: int, outputs: int) -> Graph:
    """Return the graph: two linear layers, like many honest ones."""
    nodes = [
        Node("imprint", Linear(), (GRAPH_INPUT,), (WEIGHT, BIAS)),
        Node("relu", Relu(), ("imprint",)),
        Node("head", Linear(), ("relu",), ("head.weight", "head.bias")),
    ]
    if len(input_shape) > 1:
        nodes[0] = Node("imprint", Linear(), ("flatten",), (WEIGHT, BIAS))
        nodes.insert(0, Node("flatten", Flatten(), (GRAPH_INPUT,)))
    tensors = (
        TensorSpec(WEIGHT, (units, prod(input_shape))),
        TensorSpec(BIAS, (units,)),
        TensorSpec("head.weight", (outputs, units)),
        TensorSpec("head.bias", (outputs,)),
    )
    return Graph(input_shape, tensors, tuple(nodes))


def read_imprint(total: Mapping[str, NDArray[np.floating]]) -> Reals:
    """Return one candidate per unit whose bin is not empty, (candidates, features)."""
    weight, bias = total[WEIGHT].astype(np.float64), total[BIAS].astype(np.float64)
    order = np.arange(len(bias))
    # Thresholds rise: each unit sees the samples of the next one and those of its own bin.
    differences = weight - np.where(order[:, None] + 1 < len(bias), np.roll(weight, -1, 0), 0.0)
    slopes = bias - np.where(order + 1 < len(bias), np.roll(bias, -1), 0.0)
    full = np.abs(slopes) > 1e-6 * np.abs(bias).max()
    candidates: Reals = differences[full] / slopes[full][:, None]
    return candidates


def share_reconstructed(inputs: NDArray[np.floating], found: Reals) -> float:
    """Return the share of samples that some candidate equals, up to `EXACT`."""
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    if not len(found):
        return 0.0
    errors = np.linalg.norm(flat[:, None, :] - found[None, :, :], axis=2).min(axis=1)
    return float((errors <= EXACT * np.linalg.norm(flat, axis=1)).mean())


def _share_alike(inputs: NDArray[np.floating], found: Reals) -> float:
    return float((correlations(inputs, found).max(axis=1) >= 0.99).mean()) if len(found) else 0.0


def _through_market(gradients: Tensors) -> dict[str, Reals]:
    """Return one owner's gradients as the market carries them: one norm, 16 fractional bits."""
    flat = np.concatenate([each.reshape(-1) for each in gradients.values()]).astype(np.float64)
    vector = flat / np.linalg.norm(flat)
    rounded = np.rint(vector * 2.0**FRACTION_BITS) / 2.0**FRACTION_BITS
    ends = np.cumsum([each.size for each in gradients.values()])[:-1]
    parts = np.split(rounded, ends)
    return {
        name: part.reshape(each.shape)
        for (name, each), part in zip(gradients.items(), parts, strict=True)
    }
