"""Data sets, batches and models: the same for the same arguments, nothing shared between parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omnilytics.foundation.errors import ConfigError, ModelError
from omnilytics.learning.datasets import DATASET_NAMES, Layout, load_market_data, owner_batch
from omnilytics.learning.models import MODELS, build_model
from omnilytics.learning.presets import PRESETS, models_for, preset_for


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [("digits", (1, 8, 8), 10, 1797), ("breast-cancer", (30,), 2, 569)],
)
def test_split(name: str, shape: tuple[int, ...], classes: int, count: int) -> None:
    data = load_market_data(name, owners=10, seed=3)
    assert (data.input_shape, data.classes, len(data.shards)) == (shape, classes, 10)
    parts = [data.sample, data.test, *data.shards]
    assert sum(map(len, parts)) == count
    sizes = [len(shard) for shard in data.shards]
    assert max(sizes) - min(sizes) <= 1
    for part in parts:
        assert part.inputs.shape == (len(part), *shape)
        assert part.inputs.dtype == np.float32
        assert part.labels.dtype == np.int64
        assert np.isfinite(part.inputs).all()
    axes = (0,) if len(shape) == 1 else None
    np.testing.assert_allclose(data.sample.inputs.mean(axis=axes), 0, atol=1e-5)
    np.testing.assert_allclose(data.sample.inputs.std(axis=axes), 1, atol=1e-5)


def test_parts_are_disjoint() -> None:
    data = load_market_data("breast-cancer", owners=5, seed=1)
    rows = [row.tobytes() for p in (data.sample, data.test, *data.shards) for row in p.inputs]
    assert len(set(rows)) == len(rows) == 569


def test_same_arguments_same_data() -> None:
    first, again = (load_market_data("digits", owners=4, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.shards[3].inputs, again.shards[3].inputs)
    other = load_market_data("digits", owners=4, seed=6)
    assert not np.array_equal(first.test.labels, other.test.labels)
    flat = load_market_data("digits", owners=4, seed=5, layout=Layout.FLAT)
    assert flat.input_shape == (64,)
    np.testing.assert_array_equal(flat.test.inputs, first.test.inputs.reshape(-1, 64))


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="unknown data set") as caught:
        load_market_data("imagenet", owners=2, seed=1)
    assert all(name in str(caught.value) for name in DATASET_NAMES)
    for owners in (0, -1, 1000):
        with pytest.raises(ConfigError, match="cannot be split"):
            load_market_data("breast-cancer", owners=owners, seed=1)


def test_batches() -> None:
    shard = load_market_data("digits", owners=10, seed=3).shards[2]

    def batch(**changes: int) -> np.ndarray:
        arguments = {"owner": 2, "round_number": 7, "size": 16, "seed": 1, **changes}
        return owner_batch(shard, **arguments).inputs

    np.testing.assert_array_equal(batch(), batch())
    for changes in ({"owner": 3}, {"round_number": 8}, {"seed": 2}):
        assert not np.array_equal(batch(), batch(**changes))
    assert len({row.tobytes() for row in batch()}) == 16
    assert len(batch(size=10_000)) == len(shard)


def test_models_follow_their_seed_only() -> None:
    def first_weight(seed: int) -> torch.Tensor:
        model = build_model("mlp", input_shape=(30,), outputs=2, seed=seed)
        return next(model.parameters()).detach()

    state = torch.get_rng_state()
    one = first_weight(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, first_weight(1))
    assert not torch.equal(one, first_weight(2))


def test_model_refusals() -> None:
    with pytest.raises(ConfigError, match="unknown model") as caught:
        build_model("gpt", input_shape=(3,), outputs=2, seed=1)
    assert "mlp or cnn" in str(caught.value)
    with pytest.raises(ModelError, match="needs other samples"):
        build_model("cnn", input_shape=(30,), outputs=2, seed=1)


def test_presets_exist() -> None:
    assert set(PRESETS) == set(DATASET_NAMES)
    for preset in PRESETS.values():
        data = load_market_data(preset.dataset, owners=3, seed=1)
        build_model(preset.model, input_shape=data.input_shape, outputs=data.classes, seed=1)


def test_presets_of_all_networks_fit_their_data() -> None:
    assert models_for("digits")[0] == PRESETS["digits"].model == "cnn"
    for dataset in DATASET_NAMES:
        for model in models_for(dataset):
            preset = preset_for(dataset, model)
            assert (preset.dataset, preset.model) == (dataset, model)
            assert model in MODELS
    with pytest.raises(ConfigError, match="no settings are known") as caught:
        preset_for("breast-cancer", "cnn")
    assert caught.value.want == "mlp"


def test_rows_of_images_are_tokens() -> None:
    data = load_market_data("digits", owners=4, seed=5)
    rows = load_market_data("digits", owners=4, seed=5, layout=Layout.ROWS)
    assert rows.input_shape == (8, 8)
    np.testing.assert_array_equal(rows.test.inputs, data.test.inputs[:, 0])
    with pytest.raises(ConfigError, match="is not of images"):
        load_market_data("breast-cancer", owners=4, seed=5, layout=Layout.ROWS)
