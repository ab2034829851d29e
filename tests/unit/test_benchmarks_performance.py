"""The scripts behind docs/performance.md run, and their tables say what was measured."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DIMENSIONS = [256, 1_024]


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module(name)


def test_the_stages_and_what_they_leave_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = benchmark("stages", monkeypatch)
    rows = stages.measure_stages(512, repeats=1)
    for work in ("protect", "check"):
        shares = {row["stage"]: row["share"] for row in rows if row["work"] == work}
        assert shares.pop("all") == pytest.approx(1)
        assert sum(shares.values()) == pytest.approx(1)
        assert "expand the tests" in shares
    assert len(stages.stages_table(rows).splitlines()) == len(rows) + 2


def test_the_tests_are_taken_out_of_what_contains_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"all": 10.0, "expand the tests": 2.0, "prove": 5.0, "seal shares": 1.5}
    assert benchmark("stages", monkeypatch)._derived(seconds) == {
        "all": 10.0,
        "expand the tests": 2.0,
        "seal shares": 1.5,
        "project, bits": 3.0,
        "everything else": 3.5,
    }


def test_growth_and_committees_are_ratios_of_runs_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    script = benchmark("performance", monkeypatch)
    for row in script.growth(DIMENSIONS, repeats=1):
        small, large = row["ns_per_parameter"]
        assert row["ratio"] == pytest.approx(large / small)
    rows = script.committees(64, repeats=1)
    assert [row["servers"] for row in rows] == [3, 5, 7, 11, 13] * 5
    for row in rows:
        assert row["for_each_server"] == pytest.approx(row["times_default"] * 5 / row["servers"])
        assert row["servers"] != 5 or row["times_default"] == 1


def test_peers_are_compared_with_ours_at_the_same_size(monkeypatch: pytest.MonkeyPatch) -> None:
    script = benchmark("comparison", monkeypatch)
    cited = json.loads(script.PEERS.read_text())
    ours = {
        "system": "ours",
        "dimension": 61_706,
        "client_ms": [2.0, 2.0],
        "server_ms": [1.0, 1.0],
        "upload_bytes": 2_000_000,
        "message_bytes": 32,
    }
    lines = script.section([ours], cited).splitlines()
    assert any(line.startswith("Theirs: cited: measured on") for line in lines)
    (pine,) = [line for line in lines if "PINE64" in line]
    assert "45 to 57 (25.5)" in pine
    assert "31 to 37 (34)" in pine
    assert "0.52 (0.26)" in pine
    (masked,) = [line for line in lines if "SecAgg+" in line]
    assert "172 (17.2)" in masked  # of ten clients
    assert not any(line.startswith("| 10,000 |") for line in lines)


def test_every_peer_is_as_the_targets_say(monkeypatch: pytest.MonkeyPatch) -> None:
    cited = json.loads(benchmark("comparison", monkeypatch).PEERS.read_text())
    assert cited["source"].startswith("cited: measured on")
    for peer in cited["peers"]:
        assert peer["client_ms"][0] <= peer["client_ms"][1]
        assert peer["server_ms"][0] <= peer["server_ms"][1]


def test_our_row_has_the_bytes_of_a_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = benchmark("comparison", monkeypatch).measure_ours([100], repeats=1)
    assert 4 * 8 * (100 + 2_720 + 4) < row["upload_bytes"] < 4 * 8 * (100 + 2_720 + 4) + 5_000
    assert row["message_bytes"] == 32


def test_a_start_takes_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    start = benchmark("start", monkeypatch)
    monkeypatch.setattr(
        start, "STARTS", {"nothing": ("pass", None), "work": ("sum(range(10**6))", 9.0)}
    )
    rows = start.measure_starts(1)
    assert [row["bound"] for row in rows] == [None, 9.0]
    text = start.table(rows)
    assert text.splitlines()[-1].startswith("| work | ")
    assert text.splitlines()[-1].endswith("| 9.0 |")


def test_sections_are_replaced_between_their_own_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = benchmark("pages", monkeypatch)
    parts = ("a", "<!-- one: begin -->", "old", "<!-- one: end -->", "<!-- two: begin -->", "kept")
    page = "\n".join([*parts, "<!-- two: end -->", ""])
    once = pages.with_section(page, "one", "new")
    assert once == page.replace("\nold\n", "\n\nnew\n\n")
    assert pages.with_section(once, "one", "new") == once


def test_the_whole_page_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = benchmark("performance", monkeypatch)
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text())
    bound = benchmark("performance_page", monkeypatch)
    monkeypatch.setattr(bound, "BOUND_DIMENSION", DIMENSIONS[-1])
    plots = benchmark("performance_plots", monkeypatch)
    monkeypatch.setattr(plots, "BOUND_DIMENSION", DIMENSIONS[-1])
    monkeypatch.setattr(script, "PAGE", page)
    monkeypatch.setattr(script, "DIMENSIONS", DIMENSIONS)
    monkeypatch.setattr(script, "committees", lambda *_, repeats: committee_rows())
    monkeypatch.setattr(script, "measure_stages", lambda *_, repeats: [])
    monkeypatch.setattr(script, "measure_starts", lambda _: [])
    monkeypatch.setattr(script, "compared", lambda _: "peers")
    monkeypatch.setattr(script, "whole_round", lambda sizes, **_: [round_row(d) for d in sizes])
    script.main(["--write", "--repeats", "1"])
    text = page.read_text()
    for work in ("protect", "check", "aggregate", "aggregate seeded", "recover"):
        assert len(re.findall(rf"^\| {work} \| (256|1,024) \|", text, re.MULTILINE)) == 2
    assert "<!-- comparison: begin -->\n\npeers\n\n<!-- comparison: end -->" in text
    assert text.count("begin -->") == text.count("end -->") == 8
    linked = set(re.findall(r"\((performance/\w+\.svg)\)", text))
    written = {f"performance/{path.name}" for path in (tmp_path / "performance").iterdir()}
    assert linked == written
    assert all(path.read_text().rstrip().endswith("</svg>") for path in tmp_path.glob("*/*.svg"))


def committee_rows() -> list[dict[str, Any]]:
    row = {"work": "protect", "privacy": 1, "milliseconds": 1.0, "for_each_server": 1.0}
    return [row | {"servers": n, "times_default": n / 5} for n in (3, 5)]


def round_row(dimension: int) -> dict[str, Any]:
    phase = {"party": "server", "phase": "word", "count": 5, "milliseconds": 2.0}
    return {
        "dimension": dimension,
        "owners": 2,
        "servers": 5,
        "milliseconds": 1.0,
        "peak_bytes": 1 << 20,
        "bytes_before": 1 << 19,
        "phases": [phase | {"ns_per_parameter": 1.0, "memory_passes": 2.0}],
    }
