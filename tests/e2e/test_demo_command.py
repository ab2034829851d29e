"""The command as its user runs it: a process of its own, its output, its files, its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DRAW_FEE_WEI = 10**15
OMNILYTICS = [str(Path(sys.executable).parent / "omnilytics")]


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*OMNILYTICS, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )


def _demo(folder: Path, *arguments: str) -> dict[str, Any]:
    outcome = _run(folder, "demo", "--json", *arguments)
    assert outcome.returncode == 0, outcome.stderr
    result: dict[str, Any] = json.loads(outcome.stdout)
    return result


def _check_outcome(result: dict[str, Any], *, rounds: int, honest: int, servers: int) -> None:
    assert result["rounds_settled"] == rounds
    assert result["accepted"] == [f"owner {number}" for number in range(1, honest + 1)]
    assert set(result["rejected"]) == {f"owner {honest + number}" for number in (1, 2, 3)}
    for report in result["rounds"]:
        assert len(report["accepted"]) == honest
        assert report["exact_sum"]
    committee = result["committee_servers"]
    assert len(committee) == servers
    assert set(result["named_servers"]) == {committee[-1]}
    assert result["exact_sums"]
    assert result["balance_check"]
    for balance in result["balances"]:
        left = balance["before_wei"] + balance["earned_wei"] - balance["gas_wei"]
        assert left == balance["after_wei"]
    kept = result["contract_wei"] + result["burnt_wei"]
    assert sum(balance["earned_wei"] for balance in result["balances"]) == -kept
    misdealer, liar = f"owner {honest + 2}", committee[-1]
    slashes = {(slash["party"], slash["round"], slash["kind"]) for slash in result["slashes"]}
    assert slashes == {(misdealer, 1, "owner"), (liar, 2, "server")}
    taken = sum(slash["amount_wei"] - slash["share_wei"] for slash in result["slashes"])
    assert taken > 0
    assert set(result["refused"]) == {misdealer}
    drawn = result["committee_mode"] == "drawn"
    assert result["burnt_wei"] == taken + (DRAW_FEE_WEI if drawn else 0)
    assert abs(result["accuracy"] - result["plain_accuracy"]) <= 0.01
    assert {"open_round", "seal", "settle", "claim"} <= set(result["gas"])
    assert result["seconds"]
    assert result["bytes"]


def test_a_short_demo_tells_the_whole_story(tmp_path: Path) -> None:
    result = _demo(tmp_path, "--dataset", "breast-cancer", "--owners", "5", "--rounds", "3")
    _check_outcome(result, rounds=3, honest=2, servers=5)
    assert json.loads((tmp_path / "omnilytics-demo" / "report.json").read_text()) == result
    page = (tmp_path / "omnilytics-demo" / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "<script" not in page
    assert "slashed in round" in page


def test_a_demo_with_a_drawn_committee(tmp_path: Path) -> None:
    options = ("--dataset", "breast-cancer", "--owners", "5", "--rounds", "2")
    result = _demo(tmp_path, *options, "--committee-mode", "drawn")
    _check_outcome(result, rounds=2, honest=2, servers=5)
    servers = {f"server {number}" for number in range(1, 8)}
    spares = {entry["party"] for entry in result["balances"] if entry["note"] == "was not drawn"}
    assert len(spares) == 2
    assert set(result["committee_servers"]) == servers - spares
    assert {"create_drawn_task", "reveal_draw", "draw_committee"} <= set(result["gas"])
    assert (
        "drawn from those that offered"
        in (tmp_path / "omnilytics-demo" / "report.html").read_text()
    )


@pytest.mark.slow
def test_the_default_demo_reaches_what_it_promises(tmp_path: Path) -> None:
    result = _demo(tmp_path)
    _check_outcome(result, rounds=40, honest=7, servers=5)
    assert result["accuracy"] > 0.92
    reasons = result["rejected"]
    assert "norm statement" in reasons["owner 8"]
    assert "dealt server 2 a share" in reasons["owner 9"]
    assert "norm statement" in reasons["owner 10"]
    assert "(in 20 of 40 rounds)" in result["named_servers"]["server 5"]
    assert result["gas_per_round"] <= 235_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "parameters"),
    [("resnet20", 272_186), ("transformer-lora", 3_912)],
    ids=["running statistics", "frozen weights"],
)
def test_a_demo_of_a_deeper_network(tmp_path: Path, model: str, parameters: int) -> None:
    result = _demo(tmp_path, "--model", model, "--owners", "5", "--rounds", "2")
    _check_outcome(result, rounds=2, honest=2, servers=5)
    assert result["parameters"] == parameters
    for report in result["rounds"]:
        assert abs(report["accuracy"] - report["plain_accuracy"]) <= 0.01


@pytest.mark.slow
def test_gas_of_a_round_depends_neither_on_owners_nor_on_the_model(tmp_path: Path) -> None:
    few = _demo(tmp_path, "--dataset", "breast-cancer", "--owners", "5", "--rounds", "5")
    many = _demo(tmp_path, "--owners", "24", "--rounds", "5")
    assert many["parameters"] > 3 * few["parameters"]
    for call in ("open_round", "seal", "settle"):
        small, large = (
            # Odd rounds from the second on: all five servers post their words.
            [report["gas"][call] for report in result["rounds"] if report["round"] in (3, 5)]
            for result in (few, many)
        )
        assert max(small + large) <= 1.005 * min(small + large), call


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("demo", "--dataset", "mnist"), 2, "unknown data set"),
        (
            ("demo", "--dataset", "breast-cancer", "--model", "cnn"),
            2,
            "no such model for this data set",
        ),
        (("demo", "--owners", "4"), 2, "two honest"),
        (("demo", "--servers", "4"), 2, "no such committee"),
        (("demo", "--servers", "7", "--errors", "2"), 2, "no such committee"),
        (("demo", "--committee-mode", "chosen"), 2, "named or drawn"),
        (("demo", "--rounds", "0"), 2, "impossible number of rounds"),
        (("demo", "--contract", "0x" + "00" * 20), 2, "embedded chain is new"),
        (("demo", "--chain", "http://127.0.0.1:9"), 6, "no answer from the node"),
        (("demo", "--chain", "not a url"), 6, ""),
        (("bench", "protect", "--dimension", "0"), 2, "impossible dimension"),
        (("bench", "check", "--servers", "4"), 2, "no such committee"),
    ],
)
def test_bad_input_ends_in_a_short_error(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    outcome = _run(tmp_path, *arguments)
    assert outcome.returncode == code, outcome.stderr
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert words in outcome.stderr
    assert "error [" in outcome.stderr


def test_an_error_is_json_where_json_is_asked_for(tmp_path: Path) -> None:
    outcome = _run(tmp_path, "demo", "--dataset", "mnist", "--json")
    error = json.loads(outcome.stdout)["error"]
    assert error["code"] == "usage"
    assert error["got"] == "mnist"
    assert error["hint"].startswith("omnilytics demo")


@pytest.mark.parametrize("work", ["protect", "check"])
def test_bench_prints_rows_with_the_documented_keys(tmp_path: Path, work: str) -> None:
    outcome = _run(tmp_path, "bench", work, "--dimension", "1000", "--repeats", "1", "--json")
    assert outcome.returncode == 0, outcome.stderr
    (row,) = json.loads(outcome.stdout)["rows"]
    assert row["work"] == work
    assert (row["dimension"], row["servers"]) == (1000, 5)
    for key in ("ns_per_parameter", "memory_passes", "bytes_per_parameter", "peak_bytes"):
        assert row[key] > 0


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = ["torch", "numba", "web3", "sqlalchemy", "fastapi", "sklearn", "matplotlib", "numpy"]
    program = (
        "import sys; from omnilytics.cli.main import application\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert outcome.stdout.strip() == "[]"
