"""Whatever a user has of data becomes batches: Dataset, DataLoader, arrays, (inputs, labels) parts.

Whole numbers stay classes and become int64; everything else becomes float32. Whether they fit the
task's loss and model is `gradients.fitting_labels`'s to say.
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

PART_SAMPLES = 256
"""Samples that are worked on at a time where the user does not say."""
Transform = Callable[[Any], Any]


def batches_of(data: object, *, transform: Transform | None = None) -> Iterator[Batch]:
    """Yield the user's data in parts; nothing is held but one of them.

    Args:
        data: A Dataset or a pair (inputs, labels) of arrays or tensors, cut into parts of
            `PART_SAMPLES`; or a DataLoader or other iterable of such pairs, one part each.
        transform: Applied to the inputs of every part before they become float32.

    Raises:
        ModelError: Something is not a pair, or inputs and labels differ in number.
    """
    for part in _parts(data):
        yield part if isinstance(part, Batch) else _batch(part, transform)


def collect(data: object, *, most: int, transform: Transform | None = None) -> Batch:
    """Return the first samples of the user's data, at most `most`, as one batch.

    Raises:
        ModelError: There is no sample, or samples differ in shape.
    """
    found: list[Batch] = []
    for batch in batches_of(data, transform=transform):
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
        return DataLoader(data, batch_size=PART_SAMPLES)
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
    for start in range(0, len(inputs), PART_SAMPLES):
        rows = slice(start, start + PART_SAMPLES)
        yield inputs[rows], labels[rows]


def _batch(part: Any, transform: Transform | None) -> Batch:
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
    values = _array(inputs, "inputs").astype(np.float32, copy=False)
    return Batch(np.ascontiguousarray(values), _labels(labels))


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
