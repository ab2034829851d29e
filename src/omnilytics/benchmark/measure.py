"""Timing and memory of one piece of work, beside a pass over memory in the same run."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a benchmark; a memory pass is one `numpy.add` over D uint64 in the same run."""

    work: str
    dimension: int
    servers: int
    milliseconds: float
    ns_per_parameter: float
    memory_passes: float
    bytes_per_parameter: float
    peak_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return asdict(self)


def measure(
    work: str,
    run: Callable[[], object],
    *,
    dimension: int,
    servers: int,
    wire_bytes: int,
    repeats: int,
) -> Row:
    """Time `run` and a memory pass in turns; thread CPU time, medians.

    Args:
        work: Name of the row.
        run: The work, on one thread.
        dimension: D.
        servers: n.
        wire_bytes: Bytes that the work sends or receives.
        repeats: Timed runs, after one that is not counted.
    """
    left = np.arange(dimension, dtype=np.uint64)
    out = np.empty_like(left)
    run()
    seconds, passes = [], []
    for _ in range(repeats):
        passes.append(_memory_pass(left, out))
        seconds.append(_seconds(run))
    median = statistics.median(seconds)
    return Row(
        work=work,
        dimension=dimension,
        servers=servers,
        milliseconds=median * 1e3,
        ns_per_parameter=median * 1e9 / dimension,
        memory_passes=median / statistics.median(passes),
        bytes_per_parameter=wire_bytes / dimension,
        peak_bytes=_peak_bytes(run),
    )


def _seconds(run: Callable[[], object]) -> float:
    start = time.thread_time()
    run()
    return time.thread_time() - start


def _memory_pass(left: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> float:
    """Return the seconds of one addition, from enough of them to be read off the clock."""
    count = max(1, 2_000_000 // len(left))
    start = time.thread_time()
    for _ in range(count):
        np.add(left, left, out=out)
    return (time.thread_time() - start) / count


def _peak_bytes(run: Callable[[], object]) -> int:
    """Return the most memory that one run allocates at a time, in a run of its own."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
