"""Break an owner's and a server's work down by stage, each timed alone: where time goes.

Run it from the repository with `.venv/bin/python benchmarks/stages.py [--dimension 1000000]`.
Stages take turns; times are medians of processor time. A stage alone runs over warm data, so the
stages together may take less than the whole; the rest is what stands in its own line.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from omnilytics.benchmark.measure import Yardstick, interleaved
from omnilytics.benchmark.parties import Parties
from omnilytics.benchmark.submission import check_submission
from omnilytics.protocol.package_builder import blocks
from omnilytics.transport.hpke import open_in_turn, open_package, seal
from omnilytics.validity.joint import blocks_of_tests
from omnilytics.validity.prover import prove
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.package import CHUNK_BYTES
from pages import machine_name, table

WHOLE = "all"


def measure_stages(dimension: int, *, servers: int = 5, repeats: int = 9) -> list[dict[str, Any]]:
    """Return a row for each stage of protect and of check."""
    parties = Parties(dimension, servers)
    yardstick = Yardstick(dimension)
    for _ in range(repeats):
        yardstick.run()
    rows = []
    for work, stages in (("protect", _protect(parties)), ("check", _check(parties))):
        seconds = _derived(interleaved(stages, repeats=repeats))
        for stage, taken in seconds.items():
            ns = taken * 1e9 / dimension
            passes = yardstick.figures(ns)["memory_passes"]
            share = taken / seconds[WHOLE]
            rows.append(
                {
                    "work": work,
                    "stage": stage,
                    "ns_per_parameter": ns,
                    "memory_passes": passes,
                    "share": share,
                }
            )
    return rows


def _protect(parties: Parties) -> dict[str, Callable[[], object]]:
    vector, (key,) = parties.vector(), parties.new_keys(1)
    values = parties.quantise(vector)
    packages = parties.build(values, key)
    statement, joint = parties.parameters.statement, parties.randomness.bytes(32)
    contents = [opening.content for opening in packages if opening.seed is None]
    length = parties.parameters.share_elements
    return {
        WHOLE: lambda: parties.protect(vector, key),
        "round to fixed point": lambda: parties.quantise(vector),
        "expand the tests": lambda: _exhaust(blocks_of_tests(statement, joint)),
        "prove": lambda: prove(statement, values, joint),
        "make shares, twice": lambda: [
            _exhaust(blocks(packages.dealer, 0, length)) for _ in range(2)
        ],
        "hash shares": lambda: [content_hash(content) for content in contents],
        "seal shares": lambda: [_seal(parties, content) for content in contents],
    }


def _check(parties: Parties) -> dict[str, Callable[[], object]]:
    sealed, challenge = parties.submission()[-1], parties.new_challenge()
    body, key = sealed.encode(), parties.hpke_keys[-1]
    opening = open_package(sealed, key, parties.context)
    statement, joint = parties.parameters.statement, parties.randomness.bytes(32)
    return {
        WHOLE: lambda: check_submission(parties, body, challenge),
        "open": lambda: _exhaust(open_in_turn(sealed, key, parties.context)[1]),
        "hash": lambda: content_hash(opening.content),
        "expand the tests": lambda: _exhaust(blocks_of_tests(statement, joint)),
        "word": lambda: parties.word(opening, challenge),
    }


def _derived(seconds: dict[str, float]) -> dict[str, float]:
    """Take the tests' expansion out of what contains it, and add what no stage explains."""
    named = dict(seconds)
    for whole, rest in (("prove", "project, bits"), ("word", "sums over tests and share")):
        if whole in named:
            named[rest] = named.pop(whole) - named["expand the tests"]
    stages = sum(taken for stage, taken in named.items() if stage != WHOLE)
    return named | {"everything else": named[WHOLE] - stages}


def _seal(parties: Parties, content: bytes) -> None:
    view = memoryview(content)
    for start in range(0, len(view), CHUNK_BYTES):
        seal(parties.public_keys[-1], view[start : start + CHUNK_BYTES], b"")


def _exhaust(items: Iterable[object]) -> None:
    deque(items, maxlen=0)


def stages_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown, the longest stage of each work first."""
    ordered = sorted(
        rows, key=lambda row: (row["work"] != "protect", row["stage"] != WHOLE, -row["share"])
    )
    return table(
        ("work", "stage", "ns/parameter", "memory passes", "share"),
        (
            (
                row["work"],
                row["stage"],
                f"{row['ns_per_parameter']:.2f}",
                f"{row['memory_passes']:.1f}",
                f"{row['share']:.0%}",
            )
            for row in ordered
        ),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--dimension", type=int, default=1_000_000)
    parser.add_argument("--servers", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure_stages(options.dimension, servers=options.servers, repeats=options.repeats)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"{machine_name()}; {options.dimension:,} parameters\n\n{stages_table(rows)}")


if __name__ == "__main__":
    main()
