"""Measure all work of a round at several sizes: the tables and plots of docs/performance.md.

Run it from the repository with `make bench`, or `.venv/bin/python benchmarks/performance.py`: a
minute up to D = 10^6; `--large` adds 10^7 and a minute or two, 3 GB of memory and 2 GB of disk.
`--write` puts tables and plots into the page, `--json` prints every figure. Other work on the
machine shows in the times: take those of a quiet one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from comparison import compared
from omnilytics.benchmark.measure import exponents, interleaved
from omnilytics.benchmark.parties import Parties
from omnilytics.benchmark.round_process import whole_round
from omnilytics.benchmark.sizes import wire
from omnilytics.benchmark.submission import check, check_submission, protect
from omnilytics.benchmark.summing import add_up, aggregate, recover, shares_of_x
from pages import DOCS, machine_name, write_section
from performance_page import page_sections
from performance_plots import write_plots
from stages import measure_stages
from start import measure_starts

PAGE = DOCS / "performance.md"
DIMENSIONS = [10_000, 100_000, 1_000_000]
LARGE = 10_000_000
COMMITTEES = (3, 5, 7, 11, 13)
ROUND_OWNERS = 10
LARGE_ROUND_OWNERS = 3


def measure_all(*, large: bool, repeats: int) -> dict[str, Any]:
    """Return every figure, by section of the page."""
    dimensions = [*DIMENSIONS, *([LARGE] if large else [])]
    found: dict[str, Any] = {"machine": machine_name(), "rows": []}
    for work in (protect, check, aggregate, recover):
        _say(work.__name__)
        found["rows"] += work(dimensions, servers=5, repeats=repeats)
    found["exponents"] = exponents(found["rows"])
    _say("growth")
    found["growth"] = growth([dimensions[-2], dimensions[-1]], repeats=repeats)
    _say("committees")
    found["committees"] = committees(100_000, repeats=repeats)
    _say("stages")
    found["stages"] = measure_stages(1_000_000, repeats=repeats)
    _say("wire")
    found["wire"] = wire(dimensions, servers=5)
    _say("whole rounds")
    found["rounds"] = whole_round(DIMENSIONS, servers=5, repeats=1, owners=ROUND_OWNERS)
    if large:
        found["rounds"] += whole_round([LARGE], servers=5, repeats=1, owners=LARGE_ROUND_OWNERS)
    _say("start")
    found["starts"] = measure_starts(repeats)
    _say("comparison")
    found["comparison"] = compared(repeats)
    return found


def growth(dimensions: Sequence[int], *, repeats: int) -> list[dict[str, Any]]:
    """Return what a parameter costs at the second D, in units of the first; runs in turns."""
    works = {dimension: _works(Parties(dimension, 5)) for dimension in dimensions}
    rows = []
    for name in works[dimensions[0]]:
        seconds = interleaved({str(d): works[d][name] for d in dimensions}, repeats=repeats)
        small, large = (seconds[str(d)] / d for d in dimensions)
        rows.append(
            {
                "work": name,
                "dimensions": list(dimensions),
                "ns_per_parameter": [small * 1e9, large * 1e9],
                "ratio": large / small,
            }
        )
    return rows


def committees(dimension: int, *, repeats: int) -> list[dict[str, Any]]:
    """Return the time of each work by committee, in units of the default one; runs in turns."""
    parties = {servers: Parties(dimension, servers) for servers in COMMITTEES}
    works = {servers: _works(each) for servers, each in parties.items()}
    rows = []
    for name in works[5]:
        seconds = interleaved({str(n): works[n][name] for n in COMMITTEES}, repeats=repeats)
        rows += [
            {
                "work": name,
                "dimension": dimension,
                "servers": servers,
                "privacy": parties[servers].parameters.committee.privacy,
                "milliseconds": seconds[str(servers)] * 1e3,
                "times_default": seconds[str(servers)] / seconds["5"],
                "for_each_server": seconds[str(servers)] / servers / (seconds["5"] / 5),
            }
            for servers in COMMITTEES
        ]
    return rows


def _works(parties: Parties) -> dict[str, Callable[[], object]]:
    vector, (key,) = parties.vector(), parties.new_keys(1)
    seeded, *_, explicit = (package.encode() for package in parties.submission())
    challenge, shares = parties.new_challenge(), shares_of_x(parties)
    return {
        "protect": partial(parties.protect, vector, key),
        "check": partial(check_submission, parties, explicit, challenge),
        "check seeded": partial(check_submission, parties, seeded, challenge),
        "aggregate": partial(add_up, shares[-1:], parties.dimension),
        "recover": partial(parties.recover, shares),
    }


def _say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--large", action="store_true", help="also D = 10^7")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    options = parser.parse_args(arguments)
    found = measure_all(large=options.large, repeats=options.repeats)
    sections = page_sections(found)
    print(json.dumps(found, indent=2) if options.json else "\n\n".join(sections.values()))
    if options.write:
        for name, text in sections.items():
            write_section(PAGE, name, text)
        write_plots(found, PAGE.parent / PAGE.stem)


if __name__ == "__main__":
    main()
