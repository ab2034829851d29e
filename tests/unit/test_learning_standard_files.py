"""MNIST's and CIFAR-10's files: small ones come back, damaged ones take no memory."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from omnilytics.foundation.errors import ConfigError
from omnilytics.learning.datasets import load_market_data
from omnilytics.learning.standard_files import cifar10_files, mnist_files

TRAIN, TEST = 200, 30
RECORD = 3073


def idx(magic: int, array: np.ndarray) -> bytes:
    sizes = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
    return sizes + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, *, packed: bool) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    arrays = {}
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        arrays[prefix] = generator.integers(0, 256, (count, 28, 28))
        arrays[f"{prefix} labels"] = np.arange(count) % 10
        for name, content in (
            (f"{prefix}-images-idx3-ubyte", idx(0x803, arrays[prefix])),
            (f"{prefix}-labels-idx1-ubyte", idx(0x801, arrays[f"{prefix} labels"])),
        ):
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return arrays


def write_cifar10(folder: Path) -> np.ndarray:
    generator = np.random.default_rng(2)
    records = generator.integers(0, 256, (6, 20, RECORD)).astype(np.uint8)
    records[:, :, 0] %= 10
    for number in range(5):
        (folder / f"data_batch_{number + 1}.bin").write_bytes(records[number].tobytes())
    (folder / "test_batch.bin").write_bytes(records[5].tobytes())
    return records


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_comes_back(packed: bool, tmp_path: Path) -> None:
    arrays = write_mnist(tmp_path, packed=packed)
    batch = mnist_files(tmp_path, "test")
    assert batch.inputs.shape == (TEST, 1, 28, 28)
    assert batch.inputs.dtype == np.float32
    assert batch.labels.dtype == np.int64
    np.testing.assert_allclose(batch.inputs[:, 0], arrays["t10k"] / 255, rtol=1e-6)
    np.testing.assert_array_equal(batch.labels, arrays["t10k labels"])
    assert len(mnist_files(tmp_path)) == TRAIN


def test_cifar10_comes_back(tmp_path: Path) -> None:
    inner = tmp_path / "cifar-10-batches-bin"
    inner.mkdir()
    records = write_cifar10(inner)
    batch = cifar10_files(tmp_path)
    assert batch.inputs.shape == (100, 3, 32, 32)
    np.testing.assert_array_equal(batch.labels, records[:5, :, 0].ravel())
    planes = records[0, 3, 1:].reshape(3, 32, 32)
    np.testing.assert_allclose(batch.inputs[3], planes / 255, rtol=1e-6)
    assert len(cifar10_files(inner, "test")) == 20


def test_a_market_keeps_the_test_set(tmp_path: Path) -> None:
    arrays = write_mnist(tmp_path, packed=True)
    data = load_market_data("mnist", owners=4, seed=1, folder=tmp_path)
    assert (data.input_shape, data.classes, len(data.test)) == ((1, 28, 28), 10, TEST)
    np.testing.assert_array_equal(data.test.labels, arrays["t10k labels"])
    assert len(data.sample) + sum(map(len, data.shards)) == TRAIN
    np.testing.assert_allclose(data.sample.inputs.std(), 1, atol=1e-4)
    rows = [row.tobytes() for part in (data.sample, *data.shards) for row in part.inputs]
    assert len(set(rows)) == TRAIN


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        load_market_data("mnist", owners=2, seed=1)
    with pytest.raises(ConfigError, match="train-images-idx3-ubyte") as caught:
        mnist_files(tmp_path)
    assert str(tmp_path) in str(caught.value.hint)
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(ConfigError, match=r"data_batch_4\.bin"):
        cifar10_files(tmp_path)


def header(*sizes: int, magic: int = 0x803) -> bytes:
    return struct.pack(">4I", magic, *sizes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda good: b"\x00\x00\x08\x01" + good[4:], "not an IDX file"),
        (lambda good: good[:-1], "not as long as its header says"),
        (lambda good: good + b"\x00", "not as long as its header says"),
        (lambda good: good[:10], "ends within its header"),
        (lambda good: b"", "ends within its header"),
        (lambda good: header(0, 28, 28) + good[16:], "impossible sizes"),
        (lambda good: header(2**32 - 1, 28, 28) + good[16:], "impossible sizes"),
        (lambda good: header(30, 28, 1025) + good[16:], "impossible sizes"),
        (lambda good: header(1_000_000, 1_024, 1_024) + good[16:], "too large"),
        (lambda good: header(1_000_000, 28, 28) + good[16:], "not as long as its header says"),
        (lambda good: header(29, 28, 28) + good[16 : 16 + 29 * 784], "differ in number"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_images(
    change: Callable[[bytes], bytes], message: str, packed: bool, tmp_path: Path
) -> None:
    write_mnist(tmp_path, packed=False)
    path = tmp_path / "t10k-images-idx3-ubyte"
    damaged = change(path.read_bytes())
    if packed:
        path.unlink()
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(damaged))
    else:
        path.write_bytes(damaged)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=message):
            mnist_files(tmp_path, "test")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000  # whatever the header says


def test_damaged_labels_and_gzip(tmp_path: Path) -> None:
    write_mnist(tmp_path, packed=True)
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    good = gzip.decompress(labels.read_bytes())
    labels.write_bytes(gzip.compress(good[:17] + b"\x0a" + good[18:]))
    with pytest.raises(ConfigError, match="a label is not a class") as caught:
        mnist_files(tmp_path)
    assert (caught.value.got, caught.value.ids["sample"]) == (10, 9)
    labels.write_bytes(gzip.compress(good)[:-12])
    with pytest.raises(ConfigError, match="cannot be read"):
        mnist_files(tmp_path)
    labels.write_bytes(good)
    with pytest.raises(ConfigError, match="cannot be read"):
        mnist_files(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not records"),
        (bytes(RECORD - 1), "not records"),
        (bytes(RECORD + 1), "not records"),
        (bytes(RECORD) + b"\x0a" + bytes(RECORD - 1), "a label is not a class"),
    ],
)
def test_damaged_cifar10(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        cifar10_files(tmp_path, "test")
