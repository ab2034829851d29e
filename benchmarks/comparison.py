"""Compare one submission with other systems at the same D: ours measured now, theirs cited.

Run it from the repository with `.venv/bin/python benchmarks/comparison.py [--write]`; ten seconds.
The peers' figures and where they come from are in peers.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from omnilytics.benchmark.measure import interleaved
from omnilytics.benchmark.parties import Parties
from omnilytics.benchmark.submission import check_submission
from omnilytics.validity.word import WORD_BYTES
from pages import DOCS, machine_name, table, write_section

PEERS = Path(__file__).parent / "peers.json"
PAGE, SECTION = DOCS / "performance.md", "comparison"
HEADINGS = ("parameters", "system", "client, ms", "each server, ms", "upload, MB", "message, bytes")


def measure_ours(dimensions: list[int], *, repeats: int = 9) -> list[dict[str, Any]]:
    """Return a row for each D: an owner's work for five servers, a server's, bytes."""
    rows = []
    for dimension in dimensions:
        parties = Parties(dimension, 5)
        vector, (key,) = parties.vector(), parties.new_keys(1)
        packages, challenge = parties.submission(), parties.new_challenge()
        works: dict[str, Callable[[], object]] = {
            "client": partial(parties.protect, vector, key),
            "server": partial(check_submission, parties, packages[-1].encode(), challenge),
        }
        seconds = interleaved(works, repeats=repeats)
        rows.append(
            {
                "system": "**OmniLytics** (5 servers, t = 1, e = 1)",
                "dimension": dimension,
                "client_ms": [seconds["client"] * 1e3] * 2,
                "server_ms": [seconds["server"] * 1e3] * 2,
                "upload_bytes": sum(len(package.encode()) for package in packages),
                "message_bytes": WORD_BYTES,
            }
        )
    return rows


def compared(repeats: int = 9) -> str:
    """Measure ours at every D of a peer and return the section."""
    cited = json.loads(PEERS.read_text(encoding="utf-8"))
    dimensions = sorted({peer["dimension"] for peer in cited["peers"]})
    return section(measure_ours(dimensions, repeats=repeats), cited)


def section(ours: list[dict[str, Any]], cited: dict[str, Any]) -> str:
    """Return the table as Markdown; in brackets how many times ours a figure is."""
    rows = []
    for own in ours:
        rows.append(_cells(own, None))
        rows += [_cells(peer, own) for peer in cited["peers"] if _same_size(peer, own)]
    return (
        f"Ours: measured on {machine_name()}; medians of processor time.\n"
        f"Theirs: {cited['source']}.\n"
        "In brackets: times ours, of the middle of a range. An upload is to all servers.\n\n"
        + table(HEADINGS, rows)
    )


def _same_size(peer: dict[str, Any], own: dict[str, Any]) -> bool:
    return bool(peer["dimension"] == own["dimension"])


def _cells(row: dict[str, Any], ours: dict[str, Any] | None) -> tuple[str, ...]:
    own = ours or {}
    return (
        f"{row['dimension']:,}",
        row["system"],
        _range(row["client_ms"], own.get("client_ms")),
        _range(row["server_ms"], own.get("server_ms"), row.get("server_parts", 1)),
        _bytes(row["upload_bytes"], own.get("upload_bytes"), 1e6),
        _bytes(row["message_bytes"], own.get("message_bytes"), 1),
    )


def _range(found: list[float], ours: list[float] | None, parts: int = 1) -> str:
    """Return a range, and times ours, of one of its equal parts."""
    low, high = found
    shown = _number(low) if low == high else f"{_number(low)} to {_number(high)}"
    return shown if ours is None else f"{shown} ({_number((low + high) / 2 / parts / ours[0])})"


def _bytes(found: int | None, ours: int | None, unit: float) -> str:
    if found is None:
        return ""
    shown = _number(found / unit)
    return shown if ours is None else f"{shown} ({_number(found / ours)})"


def _number(value: float) -> str:
    """Return three digits, as many as these figures deserve."""
    return f"{float(f'{value:.3g}'):,.10g}"


def main() -> None:
    """Measure, print, and write the section if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    options = parser.parse_args()
    text = compared(options.repeats)
    print(text)
    if options.write:
        write_section(PAGE, SECTION, text)


if __name__ == "__main__":
    main()
