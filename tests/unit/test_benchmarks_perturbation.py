"""The benchmark of perturbation measures what it says, on small networks and few seeds."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


@pytest.mark.parametrize("network", ["cnn", "transformer-lora"])
def test_gradients_come_back_as_exactly_as_their_type_allows(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = benchmark("perturbation_recovery", monkeypatch).measure_recovery(
        network, seeds=2, samples=3
    )
    noisy = [] if network == "transformer-lora" else ["noise"]
    assert [row["profile"] for row in rows] == ["gauge", "scales", *noisy]
    for row in rows:
        assert row["largest"]["float64"] < 1e-10
        assert row["median"]["float64"] <= row["largest"]["float64"]
        assert 1e-8 < row["largest"]["yardstick"] < 1e-4
        assert 0 <= row["median"]["kernels"] <= row["largest"]["kernels"] < 1e-4
        if row["profile"] != "noise":
            assert row["largest"]["float32"] < 1e-5


def test_a_wrong_tensor_is_seen_and_rounding_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    worst_error = benchmark("perturbation_recovery", monkeypatch).worst_error
    want = {"weight": np.array([3.0, 4.0]), "bias": np.array([1e-9])}
    assert worst_error(want, want) == 0
    assert worst_error(want | {"weight": np.array([3.0, 3.0])}, want) == pytest.approx(0.2)
    assert worst_error(want | {"bias": np.array([2e-9])}, want) == pytest.approx(2e-4)


def test_every_way_is_timed_against_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = benchmark("perturbation_times", monkeypatch).measure_times("mlp", samples=8, repeats=1)
    ways = [row["way"] for row in rows]
    assert [way for way in ways if "owner" in way] == [
        f"an owner's step, {profile}" for profile in ("gauge", "scales", "noise")
    ]
    for row in rows:
        if row["way"] == "PyTorch, 1 part":
            assert row["times"] == 1
        assert row["times_best"] >= row["times"] > 0


def test_the_section_of_the_document_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    main = benchmark("perturbation", monkeypatch)
    document = f"before\n{main.BEGIN}\nold\n{main.END}\nafter\n"
    once = main.with_section(document, "new")
    assert once == f"before\n{main.BEGIN}\n\nnew\n\n{main.END}\nafter\n"
    assert main.with_section(once, "new") == once
    text = main.DOCUMENT.read_text()
    assert text.count(main.BEGIN) == text.count(main.END) == 1


def test_tables_have_a_row_for_every_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"network": "mlp", "parameters": 2410, "profile": "noise"}
    found = {
        "machine": "here",
        "recovery": [
            row
            | {
                "largest": {"float64": 0.0, "yardstick": 2e-7, "kernels": 3e-7},
                "median": {"yardstick": 1e-7, "kernels": 2e-7},
            }
        ],
        "times": [],
    }
    text = benchmark("perturbation", monkeypatch).tables(found)
    assert text.startswith("here\n\n| network |")
    assert "| mlp | 2,410 | noise | 0 |  | 1.0e-07, 2.0e-07 | 2.0e-07, 3.0e-07 |" in text
