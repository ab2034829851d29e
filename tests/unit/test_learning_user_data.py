"""What users have of data: parts, tables, images; labels of every loss."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from omnilytics.foundation.errors import ConfigError, ModelError
from omnilytics.learning.carried import CarriedModel, fill_gradients
from omnilytics.learning.datasets import Batch
from omnilytics.learning.files import ImageFolder, csv_file, parquet_file
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.user_data import PART_SAMPLES, batches_of, collect
from omnilytics.perturbation.artefact import Artefact
from omnilytics.perturbation.graph import InputKind
from omnilytics.perturbation.losses import Loss


def model(outputs: int = 2) -> CarriedModel:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, outputs))
    return CarriedModel(net, input_shape=(3,))


def data(count: int = 11) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(4)
    return draw.normal(size=(count, 3)), draw.integers(0, 2, size=count)


def test_parts_of_any_sizes_give_the_gradient_of_all_samples() -> None:
    carried, (inputs, labels) = model(), data()
    artefact = Artefact(carried.graph, carried.weights())
    whole = Batch(inputs.astype(np.float32), labels)
    want = compute_gradients(artefact, whole, Loss.CROSS_ENTROPY)
    tensors = TensorDataset(torch.tensor(inputs), torch.tensor(labels))
    for given in (
        (inputs, labels),
        tensors,
        DataLoader(tensors, batch_size=4),
        [(inputs[:1], labels[:1]), (inputs[1:], labels[1:].astype(np.int32))],
    ):
        got = compute_gradients(artefact, batches_of(given), Loss.CROSS_ENTROPY)
        for name, gradient in want.items():
            np.testing.assert_allclose(got[name], gradient, rtol=1e-5, atol=1e-7)
    uneven = compute_gradients(artefact, batches_of([(inputs[:9], labels[:9])]), Loss.CROSS_ENTROPY)
    assert not np.allclose(uneven["0.weight"], want["0.weight"])


def test_tokens_stay_whole_numbers() -> None:
    tokens = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.uint8)
    labels = np.array([0, 1, 0])
    for given in (tokens, torch.tensor(tokens)):
        (part,) = batches_of((given, labels), input_kind=InputKind.TOKENS)
        assert part.inputs.dtype == np.int64
        np.testing.assert_array_equal(part.inputs, tokens)
    assert collect((tokens, labels), most=9).inputs.dtype == np.float32, "images are numbers"
    with pytest.raises(ModelError, match="tokens are not whole numbers"):
        collect((tokens.astype(float), labels), most=9, input_kind=InputKind.TOKENS)


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 258, 512, 513, 65_281])
def test_no_part_is_a_single_sample(count: int) -> None:
    inputs, labels = np.zeros((count, 1), np.float32), np.zeros(count, np.int64)
    tensors = TensorDataset(torch.tensor(inputs), torch.tensor(labels))
    for given in ((inputs, labels), tensors) if count < 1000 else ((inputs, labels),):
        sizes = [len(part) for part in batches_of(given)]
        assert sum(sizes) == count
        assert max(sizes) <= PART_SAMPLES
        assert count == 1 or min(sizes) > 1


def test_targets_that_are_numbers() -> None:
    carried, (inputs, _) = model(outputs=1), data()
    artefact = Artefact(carried.graph, carried.weights())
    targets = inputs.sum(axis=1)
    outputs = carried.module(torch.tensor(inputs, dtype=torch.float32))
    value = 0.5 * ((outputs[:, 0] - torch.tensor(targets).float()) ** 2).mean()
    want = torch.autograd.grad(value, carried.module[2].weight)[0]  # type: ignore[index]
    got = compute_gradients(artefact, batches_of((inputs, targets)), Loss.MSE)
    np.testing.assert_allclose(got["2.weight"], want.numpy(), rtol=1e-4, atol=1e-6)
    ages = np.arange(11)
    whole = compute_gradients(artefact, batches_of((inputs, ages)), Loss.MSE)
    same = compute_gradients(artefact, batches_of((inputs, ages.astype(float))), Loss.MSE)
    assert all(np.array_equal(whole[name], same[name]) for name in same)
    for loss, labels, words in (
        (Loss.BINARY_CROSS_ENTROPY, ages, "between 0 and 1"),
        (Loss.MSE, np.full(11, np.nan), "NaN"),
        (Loss.MSE, np.zeros((11, 2)), "do not fit"),
        (Loss.CROSS_ENTROPY, targets, "one int64 class"),
    ):
        with pytest.raises(ModelError, match=words):
            compute_gradients(artefact, batches_of((inputs, labels)), loss)


def test_what_is_no_data() -> None:
    inputs, labels = data()
    for given, words in (
        (7, "no data set"),
        ([inputs], "not a pair"),
        ((inputs, labels[1:]), "one for one"),
        ([(np.array(["a"]), np.array([1]))], "not numbers"),
        ([], "no data"),
    ):
        with pytest.raises(ModelError, match=words):
            collect(given, most=100)
    assert len(collect((inputs, labels), most=5)) == 5
    doubled = collect((inputs, labels), most=99, transform=lambda part: part * 2)
    np.testing.assert_allclose(doubled.inputs, (inputs * 2).astype(np.float32))


def test_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "table.csv"
    place.write_text("a,b,y\n1,2.5,0\n3,4,1\n")
    table = csv_file(place, label="y")
    assert table.inputs.tolist() == [[1, 2.5], [3, 4]]
    assert table.labels.dtype == np.int64
    assert table.labels.tolist() == [0, 1]
    assert csv_file(place, label="b", columns=["y", "a"]).labels.dtype == np.float32
    for text, words in (
        ("a,y\n1\n", "number of cells"),
        ("a,y\nx,1\n", "not a number"),
        ("a,y\nnan,1\n", "NaN"),
        ("a,y\n", "no rows"),
        ("a,b\n1,2\n", "no such column"),
    ):
        place.write_text(text)
        with pytest.raises(ConfigError, match=words):
            csv_file(place, label="y")
    with pytest.raises(ConfigError, match="cannot be read"):
        csv_file(tmp_path / "none.csv", label="y")
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"a": [1.0, 3.0], "y": [0, 1]}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    read = parquet_file(tmp_path / "t.parquet", label="y")
    assert (read.inputs.tolist(), read.labels.tolist()) == ([[1], [3]], [0, 1])
    place.write_text("no parquet")
    with pytest.raises(ConfigError, match="cannot be read"):
        parquet_file(place, label="y")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="needs pyarrow") as caught:
        parquet_file(tmp_path / "t.parquet", label="y")
    assert caught.value.hint == "pip install 'omnilytics[parquet]'"


def test_images(tmp_path: Path) -> None:
    from PIL import Image

    for name, colour in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 6), colour).save(tmp_path / name / "one.png")
    images = ImageFolder(tmp_path, size=(4, 5))
    assert (len(images), images.classes) == (2, ("cat", "dog"))
    pixels, label = images[1]
    assert (pixels.shape, label, pixels[2].min(), pixels[0].max()) == ((3, 4, 5), 1, 1, 0)
    batch = collect(images, most=10)
    assert (batch.inputs.shape, batch.labels.tolist()) == ((2, 3, 4, 5), [0, 1])
    with pytest.raises(ConfigError, match="not one of the classes"):
        ImageFolder(tmp_path, size=(4, 5), classes=["cat"])
    (tmp_path / "cat" / "one.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match="cannot be read"):
        images[0]


def test_gradients_are_filled_where_they_fit_alone() -> None:
    carried = model()
    gradients = {name: np.ones_like(value) for name, value in carried.weights().items()}
    fill_gradients(carried.module, gradients)
    for each in carried.module.parameters():
        assert each.grad is not None
        assert bool(torch.all(each.grad == 1))
    with pytest.raises(ModelError, match="not the task's"):
        fill_gradients(nn.Linear(2, 2), gradients)
