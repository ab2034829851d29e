"""MNIST and CIFAR-10 from the files in which they are published.

MNIST is in IDX files (a magic number, big-endian sizes, bytes; LeCun, Cortes, Burges), as they are
or compressed by gzip; so are data sets made in its form. CIFAR-10 is its binary version, records of
a label and 3 x 32 x 32 bytes (Krizhevsky, 2009). Nothing is downloaded. Sizes are bounded before
anything of that size is allocated, and a file must be exactly as long as it says.

Not guaranteed: that the images are those that were published; no digest is compared.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from omnilytics.foundation.errors import ConfigError
from omnilytics.learning.datasets import Batch

Part = Literal["train", "test"]
Bytes = NDArray[np.uint8]

CLASSES: Final = 10
MAX_SAMPLES: Final = 1_000_000
"""Of one file; MNIST has 60,000."""
MAX_SIDE: Final = 1_024
"""Pixels; MNIST has 28."""
MAX_BYTES: Final = 1 << 30
"""Of the pixels of one file; MNIST has 47 million."""

_PIECE_BYTES: Final = 1 << 20
_IMAGES_MAGIC: Final = 0x0803  # unsigned bytes, three dimensions
_LABELS_MAGIC: Final = 0x0801  # unsigned bytes, one dimension
_MNIST_PREFIX: Final = {"train": "train", "test": "t10k"}
_CIFAR_SHAPE: Final = (3, 32, 32)
_CIFAR_RECORD: Final = 1 + prod(_CIFAR_SHAPE)
_CIFAR_FILES: Final = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
_CIFAR_FOLDER: Final = "cifar-10-batches-bin"


def mnist_files(folder: Path | str, part: Part = "train") -> Batch:
    """Return MNIST, or what else is in files of its names: float32 (n, 1, height, width), 0 to 1.

    Args:
        folder: Has `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or for the test set
            `t10k-...`; each may end in `.gz`.
        part: Which set.

    Raises:
        ConfigError: A file is missing, is not of that form, is truncated or too large, or a label
            is not a class from 0 to 9.
    """
    prefix = _MNIST_PREFIX[part]
    images = _find(Path(folder), f"{prefix}-images-idx3-ubyte", "MNIST")
    labels = _find(Path(folder), f"{prefix}-labels-idx1-ubyte", "MNIST")
    pixels, classes = _idx(images, _IMAGES_MAGIC), _idx(labels, _LABELS_MAGIC)
    if len(pixels) != len(classes):
        raise ConfigError(
            "images and labels differ in number",
            got=f"{len(pixels)} and {len(classes)}",
            file=labels,
        )
    return Batch(_scaled(pixels[:, None]), _classes(classes, labels))


def cifar10_files(folder: Path | str, part: Part = "train") -> Batch:
    """Return CIFAR-10: float32 (n, 3, 32, 32), 0 to 1.

    Args:
        folder: Has `data_batch_1.bin` to `data_batch_5.bin`, or for the test set
            `test_batch.bin`; or the folder `cifar-10-batches-bin` that has them.
        part: Which set.

    Raises:
        ConfigError: A file is missing, is no whole number of records or too large, or a label is
            not a class from 0 to 9.
    """
    place = Path(folder)
    if (place / _CIFAR_FOLDER).is_dir():
        place = place / _CIFAR_FOLDER
    inputs, labels = [], []
    for name in _CIFAR_FILES[part]:
        path = _find(place, name, "CIFAR-10's binary version")
        records = _records(path)
        labels.append(_classes(records[:, 0], path))
        inputs.append(records[:, 1:].reshape(-1, *_CIFAR_SHAPE))
    return Batch(_scaled(np.concatenate(inputs)), np.concatenate(labels))


def _find(folder: Path, name: str, what: str) -> Path:
    """Return a file under its name, or compressed; the error says where to put it."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise ConfigError(
        f"a file of {what} is missing",
        got=folder / name,
        hint=f"put the published files of {what} into {folder}, compressed by gzip or not",
    )


def _idx(path: Path, magic: int) -> Bytes:
    """Return the array of an IDX file: (n, height, width) of images, (n,) of labels."""
    rank = magic & 0xFF
    with _opened(path) as file:
        header = _read(file, 4 * (1 + rank))
        if len(header) < 4 * (1 + rank):
            raise ConfigError("a file ends within its header", got=len(header), file=path)
        found, *sizes = (int(value) for value in np.frombuffer(header, dtype=">u4"))
        if found != magic:
            raise ConfigError(
                "not an IDX file of this kind",
                got=f"0x{found:08x}",
                want=f"0x{magic:08x}",
                file=path,
            )
        _check_sizes(sizes, path)
        content = _exactly(file, prod(sizes), len(header), path)
    return np.frombuffer(content, dtype=np.uint8).reshape(sizes)


def _check_sizes(sizes: list[int], path: Path) -> None:
    count, sides = sizes[0], sizes[1:]
    if not 1 <= count <= MAX_SAMPLES or not all(1 <= side <= MAX_SIDE for side in sides):
        raise ConfigError(
            "impossible sizes in a header",
            got=sizes,
            want=f"1 to {MAX_SAMPLES:,} samples, sides of 1 to {MAX_SIDE:,}",
            file=path,
        )
    if prod(sizes) > MAX_BYTES:
        raise ConfigError("a file is too large", got=prod(sizes), want=MAX_BYTES, file=path)


def _records(path: Path) -> Bytes:
    """Return the records of a file of CIFAR-10, uint8 (n, 3073)."""
    most = MAX_BYTES // _CIFAR_RECORD * _CIFAR_RECORD
    with _opened(path) as file:
        content = _read(file, most + 1)
    if not content or len(content) % _CIFAR_RECORD or len(content) > most:
        raise ConfigError(
            "not records of CIFAR-10's binary version",
            got=f"{len(content):,} bytes",
            want=f"a multiple of {_CIFAR_RECORD:,}, at most {most:,}",
            file=path,
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, _CIFAR_RECORD)


@contextmanager
def _opened(path: Path) -> Iterator[gzip.GzipFile]:
    """Open a file, compressed or not; what is wrong with it becomes a `ConfigError`."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield cast(gzip.GzipFile, file)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError("the data cannot be read", got=f"{path}: {error}") from None


def _read(file: gzip.GzipFile, count: int) -> bytes:
    """Return up to `count` bytes, read in pieces: a file that is short takes no more memory."""
    pieces = []
    while count > 0 and (piece := file.read(min(count, _PIECE_BYTES))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _exactly(file: gzip.GzipFile, count: int, before: int, path: Path) -> bytes:
    """Return the rest of a file, which must have `count` bytes."""
    size = os.fstat(file.fileno()).st_size
    if path.suffix != ".gz" and size != before + count:  # known before anything is read
        raise _wrong_length(size - before, count, path)
    content = _read(file, count + 1)
    if len(content) != count:
        raise _wrong_length(len(content), count, path)
    return content


def _wrong_length(got: int, want: int, path: Path) -> ConfigError:
    return ConfigError(
        "a file is not as long as its header says",
        got=f"{got:,} bytes or more" if got > want else f"{got:,} bytes",
        want=f"{want:,} bytes",
        hint="copy it again: it may be truncated",
        file=path,
    )


def _scaled(pixels: Bytes) -> NDArray[np.float32]:
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def _classes(labels: Bytes, path: Path) -> NDArray[np.int64]:
    if int(labels.max()) >= CLASSES:
        row = int(np.argmax(labels >= CLASSES))
        raise ConfigError(
            "a label is not a class",
            got=int(labels[row]),
            want=f"0 to {CLASSES - 1}",
            file=path,
            sample=row,
        )
    return labels.astype(np.int64)
