"""Whatever a user has of data becomes batches: Dataset, DataLoader, arrays, (inputs, labels) parts.

Inputs become float32, or int64 where they are tokens. Labels that are whole numbers stay classes
and become int64; others become float32. Whether they fit the task's loss and model is
`labels.fitting_labels`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.datasets import Batch, Labels
from omnilytics.perturbation.graph import InputKind

PART_SAMPLES = 256
"""Samples that are worked on at a time where the user does not say."""
Transform = Callable[[Any], Any]


def batches_of(
    data: object,
    *,
    transform: Transform | None = None,
    input_kind: InputKind = InputKind.NUMBERS,
) -> Iterator[Batch]:
    """Yield the user's data in parts; nothing is held but one of them.

    Args:
        data: A Dataset or a pair (inputs, labels) of arrays or tensors, cut into parts of
            about `PART_SAMPLES`, none of a single sample but where there is no other; or a
            DataLoader or other iterable of such pairs, one part each.
        transform: Applied to the inputs of every part before they are converted.
        input_kind: What the task's model reads.

    Raises:
        ModelError: Something is not a pair, inputs and labels differ in number, or tokens are not
            whole numbers.
    """
    for part in _parts(data):
        yield part if isinstance(part, Batch) else _batch(part, transform, input_kind)


def collect(
    data: object,
    *,
    most: int,
    transform: Transform | None = None,
    input_kind: InputKind = InputKind.NUMBERS,
) -> Batch:
    """Return the first samples of the user's data, at most `most`, as one batch.

    Raises:
        ModelError: There is no sample, or samples differ in shape.
    """
    found: list[Batch] = []
    for batch in batches_of(data, transform=transform, input_kind=input_kind):
        found.append(batch)
        if sum(map(len, found)) >= most:
            break
    if not found:
        raise ModelError("there is no data", want="at least one sample")
    try:
        inputs = np.concatenate([batch.inputs for batch in found])[:most]
        labels: Labels = np.concatenate([batch.labels for batch in found])[:most]
    except ValueError:
        raise ModelError("samples differ in shape", hint="resize them in transform=") from None
    return Batch(inputs, labels)


def _parts(data: object) -> Iterable[Any]:
    if isinstance(data, Batch):
        return _cut(data.inputs, data.labels)
    if isinstance(data, DataLoader):
        return data
    if isinstance(data, Dataset):
        return DataLoader(data, batch_size=_part_size(data))
    if (
        isinstance(data, (tuple, list))
        and len(data) == 2
        and all(isinstance(entry, (np.ndarray, torch.Tensor)) for entry in data)
    ):
        return _cut(data[0], data[1])
    if isinstance(data, Iterable):
        return data
    raise ModelError(
        "this is no data set",
        got=type(data).__name__,
        want="a Dataset, a DataLoader, or (inputs, labels)",
    )


def _cut(inputs: Any, labels: Any) -> Iterator[tuple[Any, Any]]:
    _check_lengths(inputs, labels)
    size = _part_size(inputs)
    for start in range(0, len(inputs), size):
        rows = slice(start, start + size)
        yield inputs[rows], labels[rows]


def _part_size(data: Any) -> int:
    """Return the size of parts of which the last is no single sample: those have no variance."""
    try:
        count = len(data)
    except TypeError:  # data that are streamed
        return PART_SAMPLES
    size = PART_SAMPLES
    while count > 1 and count % size == 1:
        size -= 1
    return size


def _batch(part: Any, transform: Transform | None, input_kind: InputKind) -> Batch:
    try:
        inputs, labels = islice(part, 3)
    except (TypeError, ValueError):
        raise ModelError(
            "a part of the data is not a pair of inputs and labels",
            got=type(part).__name__,
            hint="give a Dataset or DataLoader that yields (inputs, labels)",
        ) from None
    if transform is not None:
        inputs = transform(inputs)
    _check_lengths(inputs, labels)
    return Batch(_inputs(inputs, input_kind), _labels(labels))


def _inputs(inputs: Any, input_kind: InputKind) -> np.ndarray[Any, Any]:
    values = _array(inputs, "inputs")
    if input_kind is InputKind.NUMBERS:
        return np.ascontiguousarray(values.astype(np.float32, copy=False))
    if values.dtype.kind not in "iu":
        raise ModelError(
            "tokens are not whole numbers",
            got=values.dtype,
            want="an array or tensor of an integer type",
        )
    return np.ascontiguousarray(values.astype(np.int64, copy=False))


def _labels(labels: Any) -> Labels:
    values = _array(labels, "labels")
    kind = np.int64 if values.dtype.kind in "iu" else np.float32
    converted: Labels = np.ascontiguousarray(values.astype(kind))
    return converted


def _array(values: Any, what: str) -> np.ndarray[Any, Any]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ModelError(f"the {what} are not numbers", got=array.dtype)
    return array


def _check_lengths(inputs: Any, labels: Any) -> None:
    try:
        sizes = len(inputs), len(labels)
    except TypeError:
        sizes = (-1, -2)
    if sizes[0] != sizes[1]:
        raise ModelError("inputs and labels are not one for one", got=sizes)
