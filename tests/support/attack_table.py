"""Collects what attacks did and prints one table at the end of the session.

Every attack test opens `attacks(name, section, expected)` and tells it the outcome of each trial.
The table goes to the terminal and, if `OMNILYTICS_ATTACK_TABLE` names a file, there as Markdown.
Rows travel as properties of test reports, so that they also arrive from parallel workers. A run
that writes the file fails if it holds fewer than `LEAST_TRIALS` trials.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TABLE_VARIABLE = "OMNILYTICS_ATTACK_TABLE"
LEAST_TRIALS = 10_000
_PROPERTY = "attack"
_DURATION = [time.monotonic()]


@dataclass
class Attack:
    """One attack while it runs: counts outcomes."""

    name: str
    section: str
    expected: str
    where: str
    outcomes: Counter[str] = field(default_factory=Counter)
    error: str = ""

    def saw(self, outcome: str, trials: int = 1) -> None:
        """Count the outcome of a trial."""
        self.outcomes[outcome] += trials

    @property
    def as_expected(self) -> bool:
        """Whether there was a trial, and none went another way."""
        return not self.error and set(self.outcomes) == {self.expected}

    def encode(self) -> str:
        """Return the row as text."""
        values = [self.name, self.section, self.expected, self.where, self.error]
        return json.dumps([*values, dict(self.outcomes)])


class Attacks:
    """What tests use: `with attacks("a false norm", "3", "rejected") as attack: ...`."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._record = record

    @contextmanager
    def __call__(
        self, name: str, section: str, expected: str, where: object = "(5,1,1)"
    ) -> Iterator[Attack]:
        """Run one attack; raises AssertionError if an outcome is not the expected one.

        Args:
            name: What the attacker does; rows of one name are added up.
            section: Of protocol.md.
            expected: The only outcome allowed.
            where: The committee, or what else the trials ran on.
        """
        attack = Attack(name, section, expected, str(where))
        try:
            yield attack
        except BaseException as error:
            attack.error = type(error).__name__
            raise
        finally:
            self._record(_PROPERTY, attack.encode())
        assert attack.as_expected, f"{name}: {dict(attack.outcomes)}, expected {expected}"


@pytest.fixture
def attacks(record_property: Callable[[str, object], None]) -> Attacks:
    """Return the way to report attacks."""
    return Attacks(record_property)


@dataclass
class Row:
    """A line of the table: an attack over all places where it was tried."""

    name: str
    section: str
    expected: str
    places: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    @property
    def trials(self) -> int:
        """Trials in all."""
        return sum(self.outcomes.values())

    @property
    def as_expected(self) -> bool:
        """Whether all went as expected."""
        return not self.errors and set(self.outcomes) == {self.expected}

    @property
    def outcome(self) -> str:
        """What happened, with counts unless it was always the same."""
        if len(self.outcomes) == 1 and not self.errors:
            return next(iter(self.outcomes))
        seen = [f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items())]
        return ", ".join([*seen, *self.errors]) or "nothing"

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        verdict = "yes" if self.as_expected else "NO"
        places = ", ".join(self.places)
        return [
            self.name,
            self.section,
            places,
            f"{self.trials:,}",
            self.outcome,
            self.expected,
            verdict,
        ]


HEADINGS = ["attack", "section", "tried on", "trials", "outcome", "expected", "as expected"]


def collect(reports: Iterable[object]) -> list[Row]:
    """Return the rows in the reports, one for each attack, in the order of their first report."""
    rows: dict[str, Row] = {}
    for report in reports:
        if getattr(report, "when", "") != "call":
            continue
        for key, value in getattr(report, "user_properties", ()):
            if key == _PROPERTY:
                name, section, expected, where, error, outcomes = json.loads(str(value))
                row = rows.setdefault(name, Row(name, section, expected))
                if where not in row.places:
                    row.places.append(where)
                row.outcomes.update(outcomes)
                row.errors += [error] if error else []
    return list(rows.values())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, and write it where the variable says."""
    rows = _rows(terminalreporter)
    if not rows:
        return
    table = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
    terminalreporter.write_sep("=", "attacks")
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        terminalreporter.write_line("  ".join(cells).rstrip())
    terminalreporter.write_line(_total(rows))
    if path := os.environ.get(TABLE_VARIABLE):
        Path(path).write_text(markdown(rows, time.monotonic() - _DURATION[0]), encoding="utf-8")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a recorded run that is too small or not as expected."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get(TABLE_VARIABLE):
        return
    rows = _rows(reporter)
    enough = sum(row.trials for row in rows) >= LEAST_TRIALS
    if not (enough and all(row.as_expected for row in rows)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def markdown(rows: list[Row], seconds: float) -> str:
    """Return the recorded run as a page."""
    from omnilytics.demo.result import machine

    lines = [
        "# Attacks on the core",
        "",
        "A recorded run of `python -m pytest tests/attacks` with `OMNILYTICS_ATTACK_TABLE` set to",
        "this file; not edited by hand. Honest and adversarial parties meet at the protocol layer.",
        "Sections are those of [protocol.md](protocol.md); committees are (n,t,e). What each rule",
        "is good for, and what breaks without it, is in [rules.md](rules.md).",
        "",
        f"{_total(rows)} {seconds:.0f} s on {machine()}.",
        "",
        _line(HEADINGS),
        _line(["---"] * len(HEADINGS)),
        *(_line(row.cells()) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _total(rows: list[Row]) -> str:
    unexpected = sum(not row.as_expected for row in rows)
    trials = sum(row.trials for row in rows)
    return f"{len(rows)} attacks, {trials:,} trials, {unexpected} not as expected."


def _rows(reporter: pytest.TerminalReporter) -> list[Row]:
    kinds = ("passed", "failed")
    return collect(report for kind in kinds for report in reporter.stats.get(kind, ()))
