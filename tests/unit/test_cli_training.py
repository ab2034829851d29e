"""What a buyer's commands keep between runs, and the data that commands name."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from omnilytics.cli.sources import SourceOptions, read_samples
from omnilytics.foundation.errors import ConfigError, UsageError
from omnilytics.learning.checkpoints import export_weights, load_optimiser, save_checkpoint
from omnilytics.learning.sources import import_object, random_part


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))


def step(module: torch.nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
    torch.manual_seed(seed)
    optimiser.zero_grad()
    module(torch.randn(8, 3)).square().mean().backward()
    optimiser.step()


def values(module: torch.nn.Module) -> list[Any]:
    return [parameter.detach().numpy().copy() for parameter in module.parameters()]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_been(
    tmp_path: Path, kind: Any
) -> None:
    straight = network()
    optimiser = kind(straight.parameters(), lr=0.1)
    path = tmp_path / "folder" / "checkpoint-1.safetensors"
    step(straight, optimiser, 1)
    save_checkpoint(path, straight, optimiser, {"round": "1"})
    resumed = network(5)
    resumed.load_state_dict(straight.state_dict())
    step(straight, optimiser, 2)
    fresh = kind(resumed.parameters(), lr=0.1)
    load_optimiser(path, resumed, fresh)
    step(resumed, fresh, 2)
    for left, right in zip(values(straight), values(resumed), strict=True):
        assert np.array_equal(left, right)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # nothing half written


def test_a_checkpoint_of_another_model_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    wide = torch.nn.Linear(7, 7)
    save_checkpoint(path, wide, torch.optim.SGD(wide.parameters()), {})
    module = network()
    before = values(module)
    optimiser = torch.optim.Adam(module.parameters())
    with pytest.raises(ConfigError, match="another model"):
        load_optimiser(path, module, optimiser)
    path.write_bytes(b"\x80\x04K\x01.")  # a pickle is not executed, it is refused
    with pytest.raises(ConfigError, match="cannot be read"):
        load_optimiser(path, module, optimiser)
    for left, right in zip(before, values(module), strict=True):
        assert np.array_equal(left, right)


def test_exported_weights_have_the_modules_own_names(tmp_path: Path) -> None:
    module = network()
    path, target = tmp_path / "c.safetensors", tmp_path / "weights.safetensors"
    optimiser = torch.optim.Adam(module.parameters())
    step(module, optimiser, 1)
    save_checkpoint(path, module, optimiser, {"round": "3"})
    assert export_weights(path, target)["round"] == "3"
    module.load_state_dict({name: torch.from_numpy(x) for name, x in load_file(target).items()})


def test_the_users_own_code_is_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own_code.py").write_text("def make():\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert import_object("my_own_code:make")() == 7
    for wrong in ("my_own_code", ":make", "my_own_code:"):
        with pytest.raises(UsageError):
            import_object(wrong)
    for missing in ("my_own_code:take", "no_such_code:make"):
        with pytest.raises(ConfigError, match="cannot import"):
            import_object(missing)


def test_data_are_named_once_and_read(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("x,y,label\n1,2,0\n3,4,1\n")
    packed = tmp_path / "a.npz"
    np.savez(packed, inputs=np.array([[1, 2], [3, 4.0]]), labels=np.array([0, 1]))
    for options in (SourceOptions(csv=table), SourceOptions(npz=packed)):
        batch = read_samples(options)
        assert batch.inputs.tolist() == [[1, 2], [3, 4]]
        assert batch.labels.tolist() == [0, 1]
    for wrong in (SourceOptions(), SourceOptions(csv=table, npz=packed)):
        with pytest.raises(UsageError, match="named once"):
            read_samples(wrong)
    with pytest.raises(UsageError, match="images have a shape"):
        read_samples(SourceOptions(images=tmp_path))
    np.savez(packed, inputs=np.zeros((3, 2)), labels=np.zeros(2))
    with pytest.raises(ConfigError, match="NumPy"):
        read_samples(SourceOptions(npz=packed))
    np.savez(packed, inputs=np.array([{"a": 1}], dtype=object), labels=np.zeros(1))
    with pytest.raises(ConfigError, match="NumPy"):  # pickled objects are not opened
        read_samples(SourceOptions(npz=packed))


def test_a_random_part_is_of_the_data_and_changes() -> None:
    data = (np.arange(400, dtype=np.float32).reshape(200, 2), np.arange(200))
    parts = [random_part(data, 50) for _ in range(2)]
    for part in parts:
        assert len(part) == len(set(part.labels.tolist())) == 50
        assert np.array_equal(part.inputs[:, 0] / 2, part.labels)
    assert parts[0].labels.tolist() != parts[1].labels.tolist()
    assert random_part(data, None) is data
    assert len(random_part(data, 1_000)) == 200
