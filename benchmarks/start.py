"""Measure what it takes to start: imports, the command line, the first vector that is protected.

Run it from the repository with `.venv/bin/python benchmarks/start.py`; half a minute. Each start is
a process of its own; times are its processor time, medians of runs in turns. The kernels' cache on
disk is warm: a first run fills it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence

from omnilytics.demo.result import machine

DIMENSION = 61_706
PROTECT = (
    "from omnilytics.benchmark.parties import Parties; "
    f"parties = Parties({DIMENSION}, 5); (key,) = parties.new_keys(1); "
    "parties.protect(parties.vector(), key)"
)
STARTS = {
    "Python itself": ("pass", None),
    "`import omnilytics`": ("import omnilytics", 0.3),
    "`omnilytics --help`": (
        "import sys; sys.argv = ['omnilytics', '--help']; "
        "from omnilytics.cli.main import main; main()",
        0.3,
    ),
    f"first protect, {DIMENSION:,} parameters": (PROTECT, 1.5),
    "`omnilytics.DataOwner`, with PyTorch": ("from omnilytics import DataOwner", None),
    "`omnilytics.DataOwner`, then a first protect": (
        f"from omnilytics import DataOwner; {PROTECT}",
        None,
    ),
}
"""What is started: a program, and the most seconds it may take."""


def measure_starts(repeats: int) -> list[dict[str, object]]:
    """Return a row of processor seconds for each start; medians, in turns."""
    times: dict[str, list[float]] = {name: [] for name in STARTS}
    for number in range(repeats + 1):
        for name, (program, _) in STARTS.items():
            seconds = _processor_seconds(program)
            if number:  # the first round fills caches
                times[name].append(seconds)
    return [
        {
            "start": name,
            "seconds": statistics.median(times[name]),
            "most_seen": max(times[name]),
            "bound": bound,
        }
        for name, (_, bound) in STARTS.items()
    ]


def table(rows: Sequence[dict[str, object]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| start | processor time, s | largest seen, s | bound, s |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        bound = "" if row["bound"] is None else f"{row['bound']:.1f}"
        lines.append(
            f"| {row['start']} | {row['seconds']:.2f} | {row['most_seen']:.2f} | {bound} |"
        )
    return "\n".join(lines)


def _processor_seconds(program: str) -> float:
    """Return the processor time of a process that runs a program."""
    before = os.times()
    subprocess.run(  # noqa: S603 - the programs above
        [sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL
    )
    after = os.times()
    return (
        after.children_user - before.children_user + after.children_system - before.children_system
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure_starts(options.repeats)
    print(json.dumps(rows, indent=2) if options.json else f"{machine()}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
