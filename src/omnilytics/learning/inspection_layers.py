"""What a layer's weights say about its purpose: shapes that copy samples into a gradient.

A unit of a linear layer that one sample alone switches on has that sample as its gradient.
"Imprint" layers are built so that nearly every sample has such a unit, or a pair of units, and a
sum over many owners then holds their samples in clear. The kinds known are looked for: equal rows
with graded biases (Fowl et al., "Robbing the Fed", 2022), rows that pick one input each, rows whose
positive part is a shrunk copy of the negative one (Boenisch et al., "trap weights", 2023), and
convolutions that only carry the input to such a layer. Order, signs and factors of units change
none of these measures; a rotation of a layer's inputs hides all but the equal rows.

What this does not do: find every hostile network. A layer can copy samples and look like none of
these; privacy comes from the number of owners and samples in a sum, and from noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from omnilytics.perturbation.artefact import Array, Artefact
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node
from omnilytics.perturbation.operations import Conv2d, Linear

FEWEST_INPUTS = 16
"""Rows of fewer entries are too often alike by chance to be judged."""
TWIN_COSINE = 0.98
"""Rows of a smaller angle have one direction. With the noise that this allows, a fifth of a row's
length, bins blur and no longer separate more samples than honest layers do."""
MOST_ROWS = 4096
"""Rows of a layer that are compared with one another; of a wider layer a random choice."""
PICKER_ENTRIES = 1.5
"""A row that counts as fewer entries than this picks one input."""
COPY_ENTRIES = 1.05
_MIRROR = 1e-6
_SAME_LENGTH = 1e-4
_CARRYING = {
    *("relu", "leaky_relu", "prelu", "scale", "dropout", "add", "concatenate", "batch_norm"),
    *("max_pool2d", "avg_pool2d", "flatten", "pad2d", "slice_pixels", "pixels_to_tokens"),
}
"""Operations through which an input comes almost as it was."""
_TINY = 1e-30

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """A linear layer whose output goes on to other layers.

    Attributes:
        node: Its name.
        tensor: Name of its weight.
        inputs: Entries of a row.
        outputs: Units.
        graded: Most units of one direction whose thresholds are all different.
        pickers: Units that read one input.
        mirrored: Units whose positive weights are a shrunk copy of the negative ones.
        reads_input: Whether only layers that change no value stand between it and the input.
        copied_by: A convolution before it that only copies its input, or None.
    """

    node: str
    tensor: str
    inputs: int
    outputs: int
    graded: int
    pickers: int
    mirrored: int
    reads_input: bool
    copied_by: str | None


def measure_layers(artefact: Artefact) -> list[Layer]:
    """Return what is to be known of every linear layer but the one that makes the output."""
    graph, weights = artefact.graph, artefact.weights
    nodes = {node.name: node for node in graph.nodes}
    found = []
    for node in graph.nodes[:-1]:
        if not isinstance(node.operation, Linear):
            continue
        weight = weights[node.tensors[0]]
        bias = weights[node.tensors[1]] if len(node.tensors) > 1 else None
        reads, copier = _origin(node, nodes, weights)
        found.append(_measure(node, weight, bias, reads_input=reads, copied_by=copier))
    return found


def copying_convolutions(graph: Graph, weights: Mapping[str, Array]) -> list[str]:
    """Return the names of the convolutions that carry each of their input's channels unchanged."""
    return [
        node.name
        for node in graph.nodes
        if isinstance(node.operation, Conv2d)
        and _copies(weights[node.tensors[0]], node.operation.groups)
    ]


def _measure(
    node: Node, weight: Array, bias: Array | None, *, reads_input: bool, copied_by: str | None
) -> Layer:
    outputs, inputs = weight.shape
    graded = pickers = mirrored = 0
    if inputs >= FEWEST_INPUTS:
        chosen = _chosen_rows(outputs)
        rows = weight[chosen].astype(np.float64)
        offsets = np.zeros(len(rows)) if bias is None else bias[chosen].astype(np.float64)
        graded = _graded(rows, offsets)
        pickers = int((_entries(rows) < PICKER_ENTRIES).sum())
        mirrored = sum(_is_mirrored(row) for row in rows)
    return Layer(
        node=node.name,
        tensor=node.tensors[0],
        inputs=inputs,
        outputs=outputs,
        graded=graded,
        pickers=pickers,
        mirrored=mirrored,
        reads_input=reads_input,
        copied_by=copied_by,
    )


def _chosen_rows(count: int) -> NDArray[np.int64]:
    if count <= MOST_ROWS:
        return np.arange(count)
    return np.random.default_rng().choice(count, size=MOST_ROWS, replace=False)


def _graded(rows: Rows, offsets: Rows) -> int:
    """Return the most distinct thresholds that rows of one direction have.

    Thresholds, bias by length of the row, count as distinct where they are further apart than a
    quarter of the mean gap: equally graded ones all do, and rows that training drove onto one
    another do not.
    """
    lengths = np.linalg.norm(rows, axis=1)
    alive = lengths > 1e-6 * max(float(lengths.max(initial=0.0)), _TINY)
    units, thresholds = rows[alive] / lengths[alive, None], offsets[alive] / lengths[alive]
    near = units @ units.T > TWIN_COSINE
    most = 0
    while near.size:
        together = near[near.sum(axis=1).argmax()]
        count = int(together.sum())
        if count <= most:
            break
        graded = np.sort(thresholds[together])
        gap = (graded[-1] - graded[0]) / (4 * count)
        most = max(most, 1 + int((np.diff(graded) > max(gap, _TINY)).sum()))
        near, thresholds = near[~together][:, ~together], thresholds[~together]
    return most


def _entries(rows: Rows) -> Rows:
    """Return the number of entries that rows count as: sum(w^2)^2 / sum(w^4), from 1 to all."""
    squares = (rows / np.maximum(np.abs(rows).max(axis=1, keepdims=True), _TINY)) ** 2
    entries: Rows = squares.sum(axis=1) ** 2 / np.maximum((squares**2).sum(axis=1), _TINY)
    return np.where(squares.any(axis=1), entries, rows.shape[1])


def _is_mirrored(row: Rows) -> bool:
    positive, negative = np.sort(row[row > 0]), np.sort(-row[row < 0])
    if len(positive) != len(negative) or len(row) < FEWEST_INPUTS or not len(positive):
        return False
    lengths = float(np.linalg.norm(positive)), float(np.linalg.norm(negative))
    cosine: float = float(positive @ negative) / (lengths[0] * lengths[1])
    return bool(abs(lengths[0] / lengths[1] - 1) > _SAME_LENGTH and 1 - cosine < _MIRROR)


def _origin(
    node: Node, nodes: dict[str, Node], weights: Mapping[str, Array]
) -> tuple[bool, str | None]:
    """Tell whether a node reads the input as it is, and which convolution copies it on the way."""
    waiting, copier, reads = list(node.inputs), None, False
    while waiting:
        name = waiting.pop()
        if name == GRAPH_INPUT:
            reads = True
            continue
        before = nodes[name]
        operation = before.operation
        if isinstance(operation, Conv2d) and _copies(weights[before.tensors[0]], operation.groups):
            copier = before.name
        elif operation.name not in _CARRYING:
            continue
        waiting += before.inputs
    return reads, copier if reads else None


def _copies(weight: Array, groups: int) -> bool:
    """Tell whether for every input channel there is an output channel that copies it."""
    outputs, channels, *kernel = weight.shape
    if prod(kernel) == 1 and channels < FEWEST_INPUTS:
        return False
    rows = weight.reshape(outputs, -1).astype(np.float64)
    copying = np.flatnonzero(_entries(rows) < COPY_ENTRIES)
    read = np.abs(rows[copying]).argmax(axis=1) // prod(kernel)
    group = copying // (outputs // groups)
    copied = set(zip(group.tolist(), read.tolist(), strict=True))
    return len(copied) == int(channels) * groups
