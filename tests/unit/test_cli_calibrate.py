"""`omnilytics task calibrate`, and the file of it that `task publish` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from omnilytics.cli.main import application
from omnilytics.cli.task_calibrate import read_scales
from omnilytics.cli.terms import TermsOptions
from omnilytics.foundation.errors import ConfigError
from omnilytics.learning.datasets import load_market_data

NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(30, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sample = load_market_data("breast-cancer", owners=2, seed=0).sample
    np.savez(tmp_path / "mine.npz", inputs=sample.inputs, labels=sample.labels)
    (tmp_path / "nets_to_calibrate.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def calibrate(*options: str) -> Result:
    asked = ("task", "calibrate", "nets_to_calibrate:make", "--npz", "mine.npz", "--rounds", "5")
    return CliRunner().invoke(application, [*asked, *options])


def test_what_it_proposes_is_what_publish_takes(folder: Path) -> None:
    done = calibrate("--json", "--batch-size", "8")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["scales"].keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert all(found["scales"][name] >= norm for name, norm in found["largest_norms"].items())
    assert 0 <= found["clipping_rate"] <= 1
    assert found["enough"]
    chosen = next(each for each in found["choices"] if each["enough"] and not each["refusal"])
    assert chosen["fractional_bits"] == found["fractional_bits"]
    path = folder / "scales.json"
    path.write_text(done.stdout)
    given = TermsOptions(servers=5, scales=path).given()
    assert given["scales"] == found["scales"]
    assert given["fractional_bits"] == found["fractional_bits"]


def test_people_get_a_table(folder: Path) -> None:
    text = calibrate("--batch-size", "8").stdout
    assert text.count("<- proposed") == 1
    for phrase in ("0.weight ", "largest norm", "too many entries", "sampling noise", "shortened"):
        assert phrase in text


def test_what_cannot_be_calibrated_says_so(folder: Path) -> None:
    done = calibrate("--loss", "hinge")
    assert done.exit_code == 2
    assert "unknown loss" in done.stderr
    done = calibrate("--optimiser", "lion", "--json")
    assert done.exit_code == 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"scales": {"a": 1.0}}',
        '{"format": "other", "scales": {"a": 1.0}, "fractional_bits": 12}',
        '{"format": "omnilytics/scales", "scales": {"a": "x"}, "fractional_bits": 12}',
        '{"format": "omnilytics/scales", "scales": {"a": 1.0}, "fractional_bits": 12.5}',
        '{"format": "omnilytics/scales", "scales": [1.0], "fractional_bits": 12}',
    ],
)
def test_other_files_are_no_scales(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scales.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="no file of scales"):
        read_scales(path)
    with pytest.raises(ConfigError, match="no file of scales"):
        read_scales(tmp_path / "missing.json")
