"""Processor time, time on the clock and resident memory of named phases of one process.

Resident memory is the kernel's high-water mark, which is reset when a phase begins (Linux). It
holds the interpreter, the libraries and whatever other phases left behind, so it says what a
machine needs, not what the phase allocated.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@dataclass
class Phase:
    """What one phase took so far, all its occurrences together."""

    name: str
    party: str
    count: int = 0
    processor_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_resident_bytes: int = 0


class Phases:
    """Collects phases in the order in which they first occur."""

    def __init__(self) -> None:
        self._phases: dict[str, Phase] = {}

    @contextmanager
    def phase(self, name: str, party: str) -> Iterator[None]:
        """Count what happens inside as one occurrence of a phase.

        Args:
            name: Of the phase.
            party: Whose work it is: "owner", "server" or "model owner".
        """
        phase = self._phases.setdefault(name, Phase(name, party))
        reset_peak()
        start, clock = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            phase.processor_seconds += time.process_time() - start
            phase.wall_seconds += time.perf_counter() - clock
            phase.count += 1
            phase.peak_resident_bytes = max(phase.peak_resident_bytes, peak_resident_bytes())

    def __iter__(self) -> Iterator[Phase]:
        return iter(self._phases.values())

    @property
    def processor_seconds(self) -> float:
        """Processor time of all phases."""
        return sum(phase.processor_seconds for phase in self)

    @property
    def wall_seconds(self) -> float:
        """Time on the clock of all phases."""
        return sum(phase.wall_seconds for phase in self)

    @property
    def peak_resident_bytes(self) -> int:
        """Most memory resident in any phase."""
        return max(phase.peak_resident_bytes for phase in self)

    def rows(self, dimension: int) -> list[dict[str, Any]]:
        """Return the phases as JSON values; `ns_per_parameter` is of one occurrence."""
        return [_row(phase, dimension) for phase in self]


def reset_peak() -> None:
    """Let the process's high-water mark start anew, where the system can."""
    if _CLEAR.exists():
        _CLEAR.write_text(_RESET_PEAK)


def peak_resident_bytes() -> int:
    """Return the most memory resident since the last reset, or 0 where the system cannot say."""
    return _status("VmHWM")


def resident_bytes() -> int:
    """Return the memory that is resident now, or 0 where the system cannot say."""
    return _status("VmRSS")


def _status(field: str) -> int:
    if not _STATUS.exists():
        return 0
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


def _row(phase: Phase, dimension: int) -> dict[str, Any]:
    return {
        "phase": phase.name,
        "party": phase.party,
        "count": phase.count,
        "milliseconds": phase.processor_seconds * 1e3,
        "wall_milliseconds": phase.wall_seconds * 1e3,
        "ns_per_parameter": phase.processor_seconds * 1e9 / phase.count / dimension,
        "peak_bytes": phase.peak_resident_bytes,
    }
