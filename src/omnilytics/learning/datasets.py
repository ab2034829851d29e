"""Data for a market in one process: a model owner's sample, a test set, and owners' shards.

Real data that scikit-learn carries, or MNIST and CIFAR-10 from their published files
(`standard_files`), so nothing is downloaded. The split and the batches follow from public seeds: a
plain training run can use exactly the batches of a market run. These seeds are no secrets; secret
randomness never comes from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnilytics.foundation.errors import ConfigError

_TEST_FRACTION = 0.2
_SAMPLE_FRACTION = 0.12
_SMALLEST_SHARD = 4

Reals = NDArray[np.float64] | NDArray[np.float32]
Rows = NDArray[np.int64]


class Layout(StrEnum):
    """How a sample is given to the network."""

    OWN = "own"
    """As the data set has it."""
    FLAT = "flat"
    """As a vector, for networks of linear layers."""
    ROWS = "rows"
    """As the rows of an image, (height, channels * width), for networks of sequences."""


Labels = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """Samples and their classes or targets.

    Attributes:
        inputs: float32 (n, *input_shape), or int64 tokens (n, tokens).
        labels: Classes, int64 (n,) or (n, tokens); or float32 targets.
    """

    inputs: NDArray[Any]
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """Return the samples at `rows`, in that order."""
        return Batch(self.inputs[rows], self.labels[rows])


@dataclass(frozen=True)
class MarketData:
    """One data set, split so that no two parts share a sample.

    Attributes:
        name: Name of the data set.
        input_shape: Shape of one sample.
        classes: Labels are 0..classes-1.
        sample: The model owner's own data, for calibration.
        test: For evaluation only.
        shards: One per data owner.
    """

    name: str
    input_shape: tuple[int, ...]
    classes: int
    sample: Batch
    test: Batch
    shards: tuple[Batch, ...]


@dataclass(frozen=True)
class _Source:
    """A data set as it is kept: inputs of any scale, and labels.

    Attributes:
        inputs: (n, *input_shape).
        labels: Classes, (n,).
        tests: How many of the last samples are its own test set; 0 where it has none.
    """

    inputs: Reals
    labels: NDArray[np.int64]
    tests: int = 0


def load_market_data(
    name: str,
    *,
    owners: int,
    seed: int,
    layout: Layout = Layout.OWN,
    folder: Path | None = None,
) -> MarketData:
    """Return a data set split for a market, the same for the same arguments.

    Inputs are standardised with the mean and deviation of the model owner's sample, which is
    what a task could publish without seeing anyone's data. A data set with a test set of its own
    keeps it; of others a fifth becomes one.

    Args:
        name: "digits" (1, 8, 8; 10 classes) or "breast-cancer" (30,; 2 classes); with a folder
            "mnist" (1, 28, 28; 10 classes) or "cifar10" (3, 32, 32; 10 classes).
        owners: Number of shards, at least 1.
        seed: Public seed of the split.
        layout: How every sample is given.
        folder: Where the published files of MNIST or CIFAR-10 are.

    Raises:
        ConfigError: If the data set is unknown or its files are missing or damaged, is not of
            images whose rows are asked for, or is too small for so many owners.
    """
    source = _source(name, folder)
    labels = source.labels
    test, sample, rest = _split(len(labels), source.tests, seed)
    if owners < 1 or len(rest) // owners < _SMALLEST_SHARD:
        raise ConfigError(
            f"data set {name} cannot be split among so many owners",
            got=owners,
            want=f"1 to {len(rest) // _SMALLEST_SHARD}",
        )
    whole = Batch(_laid_out(name, _standardise(source.inputs, sample), layout), labels)
    return MarketData(
        name=name,
        input_shape=whole.inputs.shape[1:],
        classes=int(labels.max()) + 1,
        sample=whole.take(sample),
        test=whole.take(test),
        shards=tuple(whole.take(rows) for rows in np.array_split(rest, owners)),
    )


def owner_batch(shard: Batch, *, owner: int, round_number: int, size: int, seed: int) -> Batch:
    """Return the batch that an owner uses in a round, the same for the same arguments.

    Args:
        shard: The owner's data.
        owner: Index of the owner.
        round_number: Number of the round.
        size: Samples, drawn without replacement; a smaller shard is used whole.
        seed: Public seed.
    """
    draw = np.random.default_rng([seed, 1, owner, round_number])
    return shard.take(draw.choice(len(shard), size=min(size, len(shard)), replace=False))


def _split(count: int, tests: int, seed: int) -> tuple[Rows, Rows, Rows]:
    """Return which samples are for tests, the model owner's, and the data owners'."""
    order = np.random.default_rng([seed, 0]).permutation(count - tests).astype(np.int64)
    own = round(_TEST_FRACTION * len(order)) if not tests else 0
    test, sample, rest = np.split(order, [own, own + round(_SAMPLE_FRACTION * len(order))])
    return (np.arange(count - tests, count) if tests else test), sample, rest


def _standardise(raw: Reals, sample: Rows) -> NDArray[np.float32]:
    # Images have one scale for all pixels (some are constant); table columns one each.
    axes = (0,) if raw.ndim == 2 else None
    part = raw[sample].astype(np.float64)
    # In the type of the data: float64 for all of CIFAR-10 would be 1.5 GB.
    mean = part.mean(axis=axes).astype(raw.dtype)
    deviation = part.std(axis=axes).astype(raw.dtype)
    standard: NDArray[Any] = (raw - mean) / deviation
    return standard.astype(np.float32, copy=False)


def _laid_out(name: str, inputs: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    if layout is Layout.ROWS:
        if inputs.ndim != 4:
            raise ConfigError(f"data set {name} is not of images", want="rows of images")
        rows = inputs.transpose(0, 2, 1, 3)
        return np.ascontiguousarray(rows.reshape(*rows.shape[:2], -1))
    return inputs.reshape(len(inputs), -1) if layout is Layout.FLAT else inputs


def _source(name: str, folder: Path | None) -> _Source:
    if name in _LOADERS:
        return _LOADERS[name]()
    if name not in FILE_DATASET_NAMES:
        known = (*DATASET_NAMES, *FILE_DATASET_NAMES)
        raise ConfigError("unknown data set", got=name, want=" or ".join(known))
    if folder is None:
        raise ConfigError(
            f"{name} is read from its published files",
            got="no folder",
            hint="name the folder that has them; nothing is downloaded",
        )
    return _from_files(name, folder)


def _from_files(name: str, folder: Path) -> _Source:
    from omnilytics.learning import standard_files

    read = {"mnist": standard_files.mnist_files, "cifar10": standard_files.cifar10_files}[name]
    train, test = read(folder, "train"), read(folder, "test")
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise ConfigError(
            "the test set has images of another size",
            got=test.inputs.shape[1:],
            want=train.inputs.shape[1:],
        )
    return _Source(
        np.concatenate([train.inputs, test.inputs]),
        np.concatenate([train.labels, test.labels]).astype(np.int64, copy=False),
        tests=len(test),
    )


def _digits() -> _Source:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return _Source(bunch.images[:, None, :, :], bunch.target.astype(np.int64))


def _breast_cancer() -> _Source:
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    return _Source(bunch.data, bunch.target.astype(np.int64))


_LOADERS: dict[str, Callable[[], _Source]] = {
    "digits": _digits,
    "breast-cancer": _breast_cancer,
}
DATASET_NAMES = tuple(sorted(_LOADERS))
"""What scikit-learn carries."""
FILE_DATASET_NAMES = ("cifar10", "mnist")
"""What is read from a folder."""
