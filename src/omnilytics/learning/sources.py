"""Reading samples from the user's own files, or from the user's own code.

Inputs are taken as they are: the task's preprocessing is the user's to do (images alone are brought
to 0 .. 1). Nothing is downloaded and nothing in a file is executed; `module:function` is the user's
own code and runs as such.
"""

from __future__ import annotations

import csv
import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnilytics.foundation.errors import ConfigError, UsageError
from omnilytics.learning.datasets import Batch

MAX_BYTES = 8 << 30
"""Most memory that the samples may take."""
IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})


def import_object(reference: str) -> Any:
    """Return what `module:name` names, looked for in the current folder first.

    Raises:
        UsageError: Not of that form.
        ConfigError: No such module or name.
    """
    module, separator, name = reference.partition(":")
    if not separator or not module or not name:
        raise UsageError("not a reference", got=reference[:80], want="module:function")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            "cannot import", got=f"{reference}: {error}", hint=f"run it in the folder of {module}"
        ) from None


def samples_from(value: Any) -> Batch:
    """Return the samples of (inputs, labels), or of a data set with length and items."""
    if isinstance(value, Batch):
        return value
    if isinstance(value, tuple) and len(value) == 2 and hasattr(value[0], "__array__"):
        return checked(value[0], value[1])
    try:
        items = [value[index] for index in range(len(value))]
        inputs = np.stack([np.asarray(item[0], dtype=np.float32) for item in items])
        return checked(inputs, [item[1] for item in items])
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ConfigError(
            "not a data set", got=str(error)[:200], want="(inputs, labels), or items (input, label)"
        ) from None


def read_npz(path: Path) -> Batch:
    """Return the samples of a NumPy file with arrays `inputs` and `labels`."""
    _check_size(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return checked(arrays["inputs"], arrays["labels"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            "no data set in NumPy's form", got=f"{path}: {error}", want="inputs and labels"
        ) from None


def read_csv(path: Path, label: str) -> Batch:
    """Return the samples of a CSV file with a header: numbers, and the column of labels."""
    _check_size(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            names = next(rows, [])
            table = np.array([[float(cell) for cell in row] for row in rows if row])
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError("the CSV file cannot be used", got=f"{path}: {error}") from None
    return _split(table, names, label, path)


def read_parquet(path: Path, label: str) -> Batch:
    """Return the samples of a Parquet file: columns of numbers, and the column of labels."""
    _check_size(path)
    try:
        from pyarrow import parquet
    except ImportError:
        raise ConfigError("Parquet needs pyarrow", hint="pip install pyarrow") from None
    try:
        table = parquet.read_table(path)
        columns = [column.to_numpy().astype(np.float64) for column in table.columns]
        names = list(table.column_names)
    except (OSError, ValueError) as error:
        raise ConfigError("the Parquet file cannot be used", got=f"{path}: {error}") from None
    return _split(np.column_stack(columns), names, label, path)


def read_images(folder: Path) -> Batch:
    """Return images as (channels, height, width) in 0 .. 1; each class has its own folder."""
    from PIL import Image

    try:
        classes = sorted(each for each in folder.iterdir() if each.is_dir())
        found = [
            (path, number)
            for number, place in enumerate(classes)
            for path in sorted(place.iterdir())
            if path.suffix.lower() in IMAGE_ENDINGS
        ]
        pictures = []
        for path, _ in found:
            with Image.open(path) as image:
                plain = image if image.mode in ("L", "RGB") else image.convert("RGB")
                pixels = np.asarray(plain, dtype=np.float32) / 255
            pictures.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
        inputs = np.stack(pictures)
    except (OSError, ValueError) as error:
        raise ConfigError(
            "the images cannot be used",
            got=f"{folder}: {error}",
            want="one folder for each class, all images of one size",
        ) from None
    return checked(inputs, [number for _, number in found])


def checked(inputs: Any, labels: Any) -> Batch:
    """Return samples as the market takes them: finite float32 and int64, as many of both."""
    values: NDArray[np.float32] = np.asarray(inputs, dtype=np.float32)
    marks: NDArray[np.int64] = np.asarray(labels).astype(np.int64)
    if marks.ndim != 1 or len(values) != len(marks) or not len(marks):
        raise ConfigError(
            "inputs and labels do not fit", got=(values.shape, marks.shape), want="as many of both"
        )
    if not np.isfinite(values).all():
        raise ConfigError("an input is missing or infinite", hint="clean the data first")
    return Batch(values, marks)


def chosen(samples: Batch, size: int | None) -> Batch:
    """Return `size` of the samples, at random by the system's generator; all where it is None."""
    if size is None or size >= len(samples):
        return samples
    seed = int.from_bytes(os.urandom(16), "big")
    rows = np.random.default_rng(seed).choice(len(samples), size=size, replace=False)
    return samples.take(rows.astype(np.int64))


def _split(table: NDArray[Any], names: Iterable[str], label: str, path: Path) -> Batch:
    columns = list(names)
    if label not in columns:
        raise ConfigError(
            "no such column", got=label, want=", ".join(columns)[:200], hint="--label COLUMN"
        )
    if table.ndim != 2 or not len(table):
        raise ConfigError("a table without rows", got=path)
    place = columns.index(label)
    return checked(np.delete(table, place, axis=1), table[:, place])


def _check_size(path: Path) -> None:
    try:
        size = os.stat(path).st_size  # noqa: PTH116 - an error names the path as given
    except OSError as error:
        raise ConfigError("cannot read", got=f"{path}: {error.strerror}") from None
    if size > MAX_BYTES:
        raise ConfigError("the file is too large", got=f"{size:,} bytes", want=f"<= {MAX_BYTES:,}")
