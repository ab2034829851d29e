"""`omnilytics bench NAME --json` at tiny dimensions: the keys that others rely on, and counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from omnilytics.algebra.fixed_point import IntegerVector
from omnilytics.benchmark import round_process
from omnilytics.benchmark.parties import Parties
from omnilytics.benchmark.round_process import run_here
from omnilytics.benchmark.sizes import wire
from omnilytics.benchmark.whole_round import WholeRound
from omnilytics.cli.main import application
from omnilytics.foundation.errors import ConfigError, VerificationError
from omnilytics.sharing.recovery import VectorReader
from omnilytics.wire.package import SEALING_OVERHEAD_BYTES, chunk_count

KEYS = {
    "work",
    "dimension",
    "servers",
    "milliseconds",
    "cold_milliseconds",
    "wall_milliseconds",
    "ns_per_parameter",
    "memory_passes",
    "cached_passes",
    "memory_pass_ns",
    "cached_pass_ns",
    "bytes_per_parameter",
    "peak_bytes",
}


def run_json(*arguments: str) -> dict[str, Any]:
    outcome = CliRunner().invoke(application, ["bench", *arguments, "--json"])
    assert outcome.exit_code == 0, outcome.output
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


@pytest.mark.parametrize(
    ("name", "works"),
    [
        ("protect", ["protect"]),
        ("check", ["check"]),
        ("aggregate", ["aggregate", "aggregate seeded"]),
        ("recover", ["recover", "recover sealed"]),
    ],
)
def test_rows_of_measured_work(name: str, works: list[str]) -> None:
    found = run_json(name, "--dimension", "64", "--dimension", "256", "--repeats", "1")
    rows = found["rows"]
    assert [(row["work"], row["dimension"]) for row in rows] == [
        (work, dimension) for dimension in (64, 256) for work in works
    ]
    for row in rows:
        assert row.keys() >= KEYS
        assert row["servers"] == 5
        assert all(row[key] > 0 for key in KEYS - {"work"})
        assert row["ns_per_parameter"] == pytest.approx(
            row["milliseconds"] * 1e6 / row["dimension"]
        )
    assert list(found["scaling_exponents"]) == works
    assert found["scaling_exponent"] == found["scaling_exponents"][works[0]]
    assert isinstance(found["scaling_exponent"], float)


def test_one_dimension_has_no_exponent() -> None:
    found = run_json("recover", "--dimension", "64", "--servers", "3", "--repeats", "1")
    assert found["scaling_exponent"] is None
    assert found["rows"][0]["servers"] == 3


def test_the_round_has_a_row_for_each_dimension_with_its_phases() -> None:
    found = run_json("round", "--dimension", "64", "--owners", "2")
    (row,) = found["rows"]
    assert row.keys() >= KEYS
    assert (row["work"], row["owners"], row["servers"]) == ("round", 2, 5)
    assert row["peak_bytes"] >= row["bytes_before"] > 10 << 20  # resident, with the interpreter
    total = sum(phase["milliseconds"] for phase in row["phases"])
    assert row["milliseconds"] * row["owners"] == pytest.approx(total)
    sent = row["upload_bytes"] + row["aggregate_bytes"]
    assert row["bytes_per_parameter"] == pytest.approx(sent / 2 / 64)
    for phase in row["phases"]:
        assert phase["ns_per_parameter"] == pytest.approx(
            phase["milliseconds"] * 1e6 / phase["count"] / 64
        )
        assert phase["memory_passes"] > 0


def test_phases_occur_as_often_as_the_protocol_says() -> None:
    counts = {phase["phase"]: phase["count"] for phase in run_here(64, 7, 3)["phases"]}
    owners, servers, packages = 3, 7, 21
    assert counts == {
        "quantise": owners,
        "share, prove, hash, sign": owners,
        "seal into files": owners,
        "open, check, write": packages,
        "flush to disk": packages,
        "give receipt": packages,
        "check manifest": servers,
        "expand challenge": servers,
        "verify kept package": 2 * packages,
        "word": packages,
        "sign words": servers,
        "judge": servers,
        "sign settlement": servers,
        "add up, seal sum": servers,
        "open, recover": 1,
    }


def test_a_round_with_a_wrong_sum_is_no_measurement(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    true = Parties.recover_integers

    def wrong(self: Parties, shares: Sequence[VectorReader]) -> IntegerVector:
        total = true(self, shares)
        total[3] += 1
        return total

    monkeypatch.setattr(Parties, "recover_integers", wrong)
    with pytest.raises(VerificationError, match="not the sum"):
        WholeRound(Parties(16, 5, 2), tmp_path).run()


def test_a_round_that_does_not_fit_on_the_disk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(ConfigError, match="too little room"):
        run_here(10_000, 5, 2)


@pytest.mark.parametrize(
    "arguments", [["--owners", "0"], ["--owners", "4001"], ["--servers", "4"], ["--repeats", "0"]]
)
def test_impossible_rounds_are_refused(arguments: list[str]) -> None:
    outcome = CliRunner().invoke(application, ["bench", "round", "--dimension", "9", *arguments])
    assert outcome.exit_code == 2
    assert "error [usage]" in outcome.stderr


def test_wire_rows_add_up() -> None:
    found = run_json("wire", "--dimension", "70000", "--servers", "7")
    (row,) = found["rows"]
    assert found["scaling_exponent"] is None
    assert row["ns_per_parameter"] is row["memory_passes"] is row["peak_bytes"] is None
    privacy, explicit = 2, 5
    upload = privacy * row["upload_bytes_seeded"] + explicit * row["upload_bytes_explicit"]
    assert row["upload_bytes"] == upload
    assert row["least_bytes"] == 8 * 70_000 * explicit
    parts = ("least", "header", "seed", "proof", "sealing")
    assert row["upload_bytes"] == sum(row[f"{part}_bytes"] for part in parts)
    # A blind for every server; a key, a tag and a few bytes of CBOR for every chunk of 512 KiB.
    chunks = privacy + explicit * chunk_count(8 * 70_000)
    least = 7 * 32 + chunks * SEALING_OVERHEAD_BYTES
    assert least < row["sealing_bytes"] < least + 8 * chunks + 7 * 32
    assert row["signed_word_bytes"] == 97
    assert 8 * 70_000 < row["aggregate_bytes"] < 8 * 70_000 + 200


def test_uploads_stay_within_the_bounds_beyond_the_shares() -> None:
    percent = [row["beyond_percent"] for row in wire([100_000, 1_000_000], servers=5, owners=1)]
    assert 0 < percent[0] <= 3
    assert 0 < percent[1] <= 0.3


def test_text_names_passes_phases_and_the_exponent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_process, "_in_process", run_here)
    arguments = ["--dimension", "64", "--dimension", "128", "--owners", "1"]
    outcome = CliRunner().invoke(application, ["bench", "round", *arguments])
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout.count("memory passes") == 2 * 16  # two rows, 15 phases each
    assert "round: time grows as D^" in outcome.stdout
