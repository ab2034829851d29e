"""What one protect, check, sum and recovery do, counted; and the budget that holds it in git.

`.venv/bin/python tests/support/counted_work.py` prints how the counts differ from the budget, with
`--write` it rewrites the budget: put the reason into the commit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from protocol_world import SeededRandomness
from work_counters import counted

from omnilytics.benchmark.measure import peak_bytes
from omnilytics.benchmark.parties import Parties
from omnilytics.benchmark.submission import check_submission
from omnilytics.benchmark.summing import (
    add_up,
    recover_sealed,
    sealed_sums,
    shares_of_x,
    stored_shares,
)
from omnilytics.sharing.shamir import Share

BUDGET = Path(__file__).parents[1] / "unit" / "counted_work.json"
DIMENSIONS = (10_000, 61_706)
"""Little more than one block of 8,192 entries, and a LeNet."""
COMMAND = ".venv/bin/python tests/support/counted_work.py --write"
MEMORY = "bytes of memory at a time"
MEMORY_TOLERANCE = 0.02
"""Python's own objects differ a little from run to run; arrays do not."""

Counts = dict[str, int]
Counted = dict[str, Counts]


@cache
def measured() -> Counted:
    """Return the counts by work and dimension; the same on every machine."""
    found: Counted = {}
    for dimension in DIMENSIONS:
        with TemporaryDirectory() as folder:
            for work, run in _works(dimension, Path(folder)).items():
                found[f"{work}, {dimension:,} parameters"] = _counts(run)
    return found


def _counts(run: Callable[[], int]) -> Counts:
    run()  # fills caches, which later runs find
    with counted() as counts:
        sent = run()
    return {
        **dict(sorted(counts.items())),
        **({"bytes sent": sent} if sent else {}),
        MEMORY: peak_bytes(run),
    }


def differences(found: Mapping[str, Counts], budget: Mapping[str, Counts]) -> list[str]:
    """Return what is not as in the budget, one line for each counter, largest growth first."""
    lines: list[tuple[float, str]] = []
    for work in sorted(found.keys() | budget.keys()):
        now, then = found.get(work, {}), budget.get(work, {})
        for counter in sorted(now.keys() | then.keys()):
            new, old = now.get(counter, 0), then.get(counter, 0)
            if abs(new - old) > (MEMORY_TOLERANCE * old if counter == MEMORY else 0):
                lines.append(_difference(f"{work}: {counter}", old, new))
    return [line for _, line in sorted(lines, key=lambda entry: -entry[0])]


def _difference(what: str, old: int, new: int) -> tuple[float, str]:
    if not old:
        return float("inf"), f"{what}: new, {new:,}"
    share = new / old - 1
    verb = "grew" if new > old else "fell"
    return share, f"{what} {verb} from {old:,} to {new:,} ({share:+.2%})"


def _works(dimension: int, folder: Path) -> dict[str, Callable[[], int]]:
    """Return the works of one owner, one server and the model owner; each returns bytes sent."""
    parties = Parties(dimension, 5)
    parties.randomness = SeededRandomness(7)
    (key,) = parties.new_keys(1)
    vector = np.random.default_rng(7).normal(size=dimension)
    vector /= np.linalg.norm(vector)
    body = parties.submission()[-1].encode()
    challenge = parties.new_challenge()
    shares = shares_of_x(parties)
    stored = stored_shares(folder, parties.parameters.share_elements, 1)
    seeded = Share(parties.parameters.share_elements, seed=bytes(32))
    return {
        "protect": lambda: parties.protect(vector, key),
        "check": lambda: len(check_submission(parties, body, challenge)),
        "aggregate": partial(_nothing_sent, add_up, stored, dimension),
        "aggregate seeded": partial(_nothing_sent, add_up, [seeded], dimension),
        "recover": partial(_nothing_sent, parties.recover, shares),
        "recover sealed": partial(
            _nothing_sent, recover_sealed, parties, sealed_sums(parties, shares)
        ),
    }


def _nothing_sent(run: Callable[..., object], *arguments: object) -> int:
    run(*arguments)
    return 0


def main() -> None:
    """Print what changed; with --write, accept it."""
    found = measured()
    budget = json.loads(BUDGET.read_text(encoding="utf-8")) if BUDGET.exists() else {}
    for line in differences(found, budget):
        print(line)
    if "--write" in sys.argv[1:]:
        BUDGET.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(f"written: {BUDGET}")


if __name__ == "__main__":
    main()
