"""Measure recovery and an owner's time for every network and profile; fill docs/benchmarks.md.

Run it from the repository with `.venv/bin/python benchmarks/perturbation.py`; all networks with 20
seeds take about a quarter of an hour on one core. `--network lenet --seeds 3` is quick, `--json`
prints every figure, `--write` puts the tables into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omnilytics.demo.result import machine
from omnilytics.learning.models import MODEL_NAMES
from omnilytics.learning.threads import pin_threads
from perturbation_recovery import measure_recovery
from perturbation_times import measure_times

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- perturbation: begin -->", "<!-- perturbation: end -->"
TIMED = "lenet"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(arguments)
    pin_threads()
    found: dict[str, Any] = {"machine": machine(), "recovery": [], "times": []}
    for name in options.network or MODEL_NAMES:
        found["recovery"] += measure_recovery(name, seeds=options.seeds, samples=options.samples)
    found["times"] = measure_times(TIMED, samples=options.batch, repeats=options.repeats)
    text = tables(found)
    print(json.dumps(found, indent=2) if options.json else text)
    if options.write:
        written = with_section(DOCUMENT.read_text(encoding="utf-8"), text)
        DOCUMENT.write_text(written, encoding="utf-8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--network", action="append", choices=MODEL_NAMES, help="all by default")
    parser.add_argument("--seeds", type=int, default=20, help="weights, secrets and batches")
    parser.add_argument("--samples", type=int, default=16, help="of a batch, for recovery")
    parser.add_argument("--batch", type=int, default=256, help="samples of a batch, for times")
    parser.add_argument("--repeats", type=int, default=30, help="of every time")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    return parser.parse_args(arguments)


def tables(found: dict[str, Any]) -> str:
    """Return both tables as Markdown."""
    recovery = (
        (
            row["network"],
            f"{row['parameters']:,}",
            row["profile"],
            _error(row["largest"].get("float64")),
            *(_both(row, key) for key in ("float32", "yardstick", "kernels")),
        )
        for row in found["recovery"]
    )
    times = (
        (
            row["setting"],
            row["way"],
            f"{row['milliseconds']:.1f}",
            f"{row['times']:.2f}",
            f"{row['times_best']:.2f}",
        )
        for row in found["times"]
    )
    headings = ("network", "parameters", "profile", "float64")
    headings += ("float32", "order of the batch", "other kernels")
    ways = ("setting", "way", "ms", "times PyTorch", "times PyTorch's best")
    return f"{found['machine']}\n\n{_table(headings, recovery)}\n\n{_table(ways, times)}"


def with_section(document: str, text: str) -> str:
    """Return a document with `text` between the markers, in place of what was there."""
    before, rest = document.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def _both(row: dict[str, Any], key: str) -> str:
    """Return median and largest."""
    found = [_error(row[kind].get(key)) for kind in ("median", "largest")]
    return ", ".join(each for each in found if each)


def _error(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1e}" if value else "0"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
