"""Data sets from files: a table in CSV or Parquet, or images in one folder for each class.

Nothing is scaled or balanced: a task says in words how owners prepare their data, and
`transform=` of `submit` is where they do. Tables are read whole; images one at a time.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from omnilytics.foundation.errors import ConfigError
from omnilytics.learning.datasets import Batch, Labels

MAX_ROWS = 50_000_000
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def csv_file(path: Path | str, *, label: str, columns: Sequence[str] | None = None) -> Batch:
    """Return a table with a header line; every cell that is used is a number.

    Args:
        path: The file, UTF-8.
        label: Column of the labels: whole numbers are classes, others targets.
        columns: Columns of the inputs, in this order; all but the label by default.

    Raises:
        ConfigError: No such file or column, or a cell is no finite number; it names the line.
    """
    place = Path(path)
    try:
        with place.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            chosen = _chosen(header, label, columns, place)
            rows = [
                _numbers(row, chosen, len(header), reader.line_num, place)
                for row in islice(reader, MAX_ROWS)
                if row
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(place, error) from None
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(chosen))
    return _table(table[:, :-1], table[:, -1], place)


def parquet_file(path: Path | str, *, label: str, columns: Sequence[str] | None = None) -> Batch:
    """Return a table; arguments and errors are those of `csv_file`.

    Raises:
        ConfigError: Also where pyarrow is not installed; the hint installs it.
    """
    place = Path(path)
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ConfigError(
            "reading Parquet needs pyarrow",
            hint="pip install 'omnilytics[parquet]'",
        ) from None
    try:
        with parquet.ParquetFile(place) as file:
            chosen = _chosen(file.schema_arrow.names, label, columns, place)
            names = [file.schema_arrow.names[index] for index in chosen]
            table = file.read(columns=names)
            parts = [np.asarray(table.column(name).to_numpy(), dtype=np.float64) for name in names]
    except (OSError, ArrowException, ValueError, TypeError) as error:
        raise _unreadable(place, error) from None
    return _table(np.stack(parts[:-1], axis=1), parts[-1], place)


class ImageFolder(Dataset[tuple[NDArray[np.float32], int]]):
    """Images in sub-folders, one for each class; classes are numbered in the order of their names.

    A sample is float32 (channels, height, width) between 0 and 1, and its class.

    Args:
        path: Folder of the class folders.
        size: (height, width) that every image is resized to.
        channels: 1 for grey, 3 for colour.
        classes: Names of the class folders in the task's order; sorted by default.

    Raises:
        ConfigError: There are no class folders or images.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        size: tuple[int, int],
        channels: int = 3,
        classes: Sequence[str] | None = None,
    ) -> None:
        root = Path(path)
        if channels not in (1, 3):
            raise ConfigError("an image has 1 channel or 3", got=channels)
        if not root.is_dir():
            raise ConfigError("no such folder", got=root)
        found = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        self.classes = tuple(classes) if classes is not None else tuple(found)
        if unknown := sorted(set(found) - set(self.classes)):
            raise ConfigError(
                "a folder is not one of the classes", got=unknown[0], want=list(self.classes)[:8]
            )
        self._size = size
        self._mode = "L" if channels == 1 else "RGB"
        self._samples = [
            (image, number)
            for number, name in enumerate(self.classes)
            for image in sorted((root / name).glob("*"))
            if image.suffix.lower() in IMAGE_SUFFIXES
        ]
        if not self._samples:
            raise ConfigError(
                "no images in folders of classes", got=root, want=f"{root}/CLASS/IMAGE.png"
            )

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        from PIL import Image

        path, number = self._samples[index]
        height, width = self._size
        try:
            with Image.open(path) as image:
                resized = image.convert(self._mode).resize((width, height))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise _unreadable(path, error) from None
        pixels = np.asarray(resized, dtype=np.float32) / 255
        planes = pixels[None] if self._mode == "L" else pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(planes), number


def _chosen(
    header: Sequence[str], label: str, columns: Sequence[str] | None, place: Path
) -> list[int]:
    """Return where the columns of the inputs are, and last that of the label."""
    names = [name for name in header if name != label] if columns is None else list(columns)
    for name in (*names, label):
        if name not in header:
            raise ConfigError(
                "the table has no such column", got=name, want=list(header)[:16], file=place
            )
    if not names:
        raise ConfigError("the table has no column of inputs", file=place)
    return [list(header).index(name) for name in (*names, label)]


def _numbers(
    row: Sequence[str], chosen: Sequence[int], width: int, line: int, place: Path
) -> list[float]:
    if len(row) != width:
        raise ConfigError(
            "a line has another number of cells", got=len(row), want=width, file=place, line=line
        )
    try:
        return [float(row[index]) for index in chosen]
    except ValueError:
        raise ConfigError(
            "a cell is not a number",
            hint="name the columns of numbers in columns=",
            file=place,
            line=line,
        ) from None


def _table(inputs: NDArray[np.float64], labels: NDArray[np.float64], place: Path) -> Batch:
    if not len(labels):
        raise ConfigError("the table has no rows", file=place)
    if not (np.isfinite(inputs).all() and np.isfinite(labels).all()):
        rows = ~(np.isfinite(inputs).all(axis=1) & np.isfinite(labels))
        raise ConfigError(
            "a cell is empty, NaN or infinite", file=place, row=int(np.argmax(rows)) + 1
        )
    whole = bool((labels == np.floor(labels)).all() and np.abs(labels).max() < 2**53)
    kept: Labels = labels.astype(np.int64) if whole else labels.astype(np.float32)
    return Batch(inputs.astype(np.float32), kept)


def _unreadable(place: Path, error: Exception) -> ConfigError:
    lines: list[Any] = str(error).splitlines() or [type(error).__name__]
    reason = getattr(error, "strerror", None) or lines[0][:200]
    return ConfigError("the data cannot be read", got=f"{place}: {reason}")
