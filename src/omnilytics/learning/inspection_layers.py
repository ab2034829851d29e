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
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from omnilytics.perturbation.artefact import Array, Artefact
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node
from omnilytics.perturbation.operations import BatchNorm, Conv2d, Linear

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
_POLISHES = 3
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
        composed: The same of what it computes together with a linear layer just before it, or a
            batch normalisation just behind.
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
    composed: int
    pickers: int
    mirrored: int
    reads_input: bool
    copied_by: str | None


def measure_layers(artefact: Artefact, *, magnitudes: bool = False) -> list[Layer]:
    """Return what is to be known of every linear layer but the one that makes the output.

    Args:
        artefact: The published model.
        magnitudes: Whether its profile scales hidden units by secret factors.
    """
    graph, weights = artefact.graph, artefact.weights
    nodes = {node.name: node for node in graph.nodes}
    readers = {name: node for node in graph.nodes for name in node.inputs}
    found = []
    for node in graph.nodes[:-1]:
        if not isinstance(node.operation, Linear):
            continue
        reads, copier = _origin(node, nodes, weights)
        level = magnitudes and not reads
        affine = _judged_rows(_affine(node, weights), level=level)
        own = _measure(node, affine, weights, reads_input=reads, copied_by=copier)
        both = _composed(node, nodes, readers[node.name], weights)
        composed = max((_graded(_judged_rows(each, level=level)) for each in both), default=0)
        found.append(replace(own, composed=composed))
    return found


def copying_convolutions(graph: Graph, weights: Mapping[str, Array]) -> list[str]:
    """Return the names of the convolutions that carry each of their input's channels unchanged."""
    return [
        node.name
        for node in graph.nodes
        if isinstance(node.operation, Conv2d)
        and _copies(weights[node.tensors[0]], node.operation.groups)
    ]


@dataclass(frozen=True)
class _Affine:
    """What units of one layer, or of two without anything between them, compute: W x + b."""

    rows: Rows
    offsets: Rows


def _affine(node: Node, weights: Mapping[str, Array]) -> _Affine:
    rows = weights[node.tensors[0]].astype(np.float64)
    if len(node.tensors) == 1:
        return _Affine(rows, np.zeros(len(rows)))
    return _Affine(rows, weights[node.tensors[1]].astype(np.float64))


def _composed(
    node: Node, nodes: Mapping[str, Node], reader: Node, weights: Mapping[str, Array]
) -> list[_Affine]:
    """Return a layer behind the linear layer that it reads, and before its normalisation.

    Equal rows and the thresholds of bins may stand in two layers, of which neither looks odd.
    """
    own = _affine(node, weights)
    found = []
    before = nodes.get(node.inputs[0])
    if before is not None and isinstance(before.operation, Linear):
        first = _affine(before, weights)
        if len(first.rows) >= FEWEST_INPUTS:  # fewer rows cannot hold many samples apart
            offsets = own.rows @ first.offsets + own.offsets
            found.append(_Affine(own.rows @ first.rows, offsets))
    if isinstance(reader.operation, BatchNorm) and len(reader.tensors) == 4:
        gains, shifts = (weights[name].astype(np.float64) for name in reader.tensors[:2])
        # Of equal rows the normalised values are equal too: thresholds are shifts by gains.
        lengths = np.linalg.norm(own.rows, axis=1)
        thresholds = shifts / np.maximum(np.abs(gains), _TINY)
        found.append(_Affine(own.rows * np.sign(gains)[:, None], thresholds * lengths))
    return found


def _judged_rows(affine: _Affine, *, level: bool) -> _Affine:
    """Return the rows to compare; with `level`, as if all inputs were equally large.

    Secret factors of its inputs divide the columns of a layer's weight, and one column might then
    outweigh all others. Dividing by the usual size of a column's entries takes such factors out.
    """
    if affine.rows.shape[1] < FEWEST_INPUTS:
        return _Affine(affine.rows[:0], affine.offsets[:0])
    chosen = _chosen_rows(len(affine.rows))
    rows = affine.rows[chosen]
    if level:
        rows = rows / _column_sizes(rows)
    return _Affine(rows, affine.offsets[chosen])


def _column_sizes(rows: Rows) -> Rows:
    """Return the usual size of the entries of each column, by medians of logarithms.

    Rows have factors of their own: their medians and those of columns are taken out in turn.
    """
    sizes = np.log(np.maximum(np.abs(rows), _TINY))
    columns = np.zeros(rows.shape[1])
    for _ in range(_POLISHES):
        sizes -= np.median(sizes, axis=1, keepdims=True)
        medians = np.median(sizes, axis=0)
        sizes -= medians
        columns += medians
    found: Rows = np.exp(columns)
    return found


def _measure(
    node: Node,
    affine: _Affine,
    weights: Mapping[str, Array],
    *,
    reads_input: bool,
    copied_by: str | None,
) -> Layer:
    rows = affine.rows
    outputs, inputs = weights[node.tensors[0]].shape
    return Layer(
        node=node.name,
        tensor=node.tensors[0],
        inputs=inputs,
        outputs=outputs,
        graded=_graded(affine),
        composed=0,
        pickers=int((_entries(rows) < PICKER_ENTRIES).sum()),
        mirrored=sum(_is_mirrored(row) for row in rows),
        reads_input=reads_input,
        copied_by=copied_by,
    )


def _chosen_rows(count: int) -> NDArray[np.int64]:
    if count <= MOST_ROWS:
        return np.arange(count)
    return np.random.default_rng().choice(count, size=MOST_ROWS, replace=False)


def _graded(affine: _Affine) -> int:
    """Return the most distinct thresholds that rows of one direction have.

    Thresholds, bias by length of the row, count as distinct where they are further apart than a
    quarter of the mean gap: equally graded ones all do, and rows that training drove onto one
    another do not.
    """
    rows, offsets = affine.rows, affine.offsets
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
