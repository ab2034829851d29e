"""Processor time and memory of a piece of work, beside passes over memory in the same run.

Times are processor time of the whole process, so a kernel's second thread counts in full. Two
yardsticks run in turns with the work, both one `numpy.add(left, right, out=total)` of three
distinct arrays of 64-bit words:

- a *memory pass*, over arrays of 2^23 words (192 MiB altogether, far more than any cache that a
  core has to itself), scaled to D words: what it costs to move the words through memory;
- a *cached pass*, over exactly D words, repeated until warm: the same from wherever D words fit.

Not guaranteed: that other work on the machine left the caches and the bus alone. Compare ratios of
one run, not times of two.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log
from typing import Any

import numpy as np

from omnilytics.foundation.errors import UsageError

MEMORY_WORDS = 1 << 23
"""Words of each of the three arrays of a memory pass."""
MAX_REPEATS = 1_000
_CACHED_WORDS = 1 << 21
"""A cached pass is repeated over this many words in all, lest the clock is too coarse."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a benchmark. Times are medians; what was not measured is None.

    Attributes:
        work: What was measured.
        dimension: D, parameters of the vector.
        servers: n.
        milliseconds: Processor time, warm: right after a run that is not counted.
        cold_milliseconds: Processor time right after memory passes, with nothing in the caches.
        wall_milliseconds: Time on the clock; less where a second thread helps.
        ns_per_parameter: Processor time over D.
        memory_passes: Multiples of one memory pass over D words.
        cached_passes: Multiples of one cached pass over D words.
        memory_pass_ns: Nanoseconds a word of the memory pass.
        cached_pass_ns: Nanoseconds a word of the cached pass.
        bytes_per_parameter: Bytes that are sent or received, over D.
        peak_bytes: Most memory that the work allocated at a time.
    """

    work: str
    dimension: int
    servers: int
    milliseconds: float | None = None
    cold_milliseconds: float | None = None
    wall_milliseconds: float | None = None
    ns_per_parameter: float | None = None
    memory_passes: float | None = None
    cached_passes: float | None = None
    memory_pass_ns: float | None = None
    cached_pass_ns: float | None = None
    bytes_per_parameter: float
    peak_bytes: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return asdict(self)


class Yardstick:
    """Both passes for one D; call `run` in turns with the work.

    Args:
        dimension: D, words of the cached pass.
    """

    def __init__(self, dimension: int) -> None:
        self._memory = _Addition(MEMORY_WORDS)
        self._cached = _Addition(dimension)
        self._rounds = max(1, _CACHED_WORDS // dimension)
        self._memory_ns: list[float] = []
        self._cached_ns: list[float] = []
        self._memory.seconds(1)  # touch the pages

    def run(self) -> None:
        """Time one memory pass and one warm cached pass."""
        self._memory_ns.append(self._memory.seconds(1) * 1e9 / MEMORY_WORDS)
        self._cached.seconds(1)
        seconds = self._cached.seconds(self._rounds)
        self._cached_ns.append(seconds * 1e9 / (self._rounds * self._cached.words))

    def figures(self, ns_per_parameter: float) -> dict[str, float]:
        """Return the row's fields about passes, from the medians of all runs so far."""
        memory, cached = statistics.median(self._memory_ns), statistics.median(self._cached_ns)
        return {
            "memory_passes": ns_per_parameter / memory,
            "cached_passes": ns_per_parameter / cached,
            "memory_pass_ns": memory,
            "cached_pass_ns": cached,
        }


class _Addition:
    """`numpy.add` of two vectors of a length into a third."""

    def __init__(self, words: int) -> None:
        self.words = words
        self._left = np.arange(words, dtype=np.uint64)
        self._right = np.arange(words, dtype=np.uint64)
        self._out = np.zeros(words, dtype=np.uint64)

    def seconds(self, rounds: int) -> float:
        """Return the processor time of this many additions."""
        start = time.process_time()
        for _ in range(rounds):
            np.add(self._left, self._right, out=self._out)
        return time.process_time() - start


def measure(
    work: str,
    run: Callable[[], object],
    *,
    dimension: int,
    servers: int,
    wire_bytes: float,
    repeats: int,
    parts: int = 1,
) -> Row:
    """Time `run` and both passes in turns; processor time, medians.

    Args:
        work: Name of the row.
        run: The work.
        dimension: D.
        servers: n.
        wire_bytes: Bytes that one part of the work sends or receives.
        repeats: Timed runs, each after one with cold caches; one more is not counted.
        parts: Equal parts of the work, such as owners; times are of one part, memory is of all.

    Raises:
        UsageError: If repeats is not 1 to 1,000.
    """
    check_repeats(repeats)
    yardstick = Yardstick(dimension)
    run()
    cold, warm, wall = [], [], []
    for _ in range(repeats):
        yardstick.run()
        cold.append(timed(run)[0] / parts)
        used, passed = timed(run)
        warm.append(used / parts)
        wall.append(passed / parts)
    median = statistics.median(warm)
    return Row(
        work=work,
        dimension=dimension,
        servers=servers,
        milliseconds=median * 1e3,
        cold_milliseconds=statistics.median(cold) * 1e3,
        wall_milliseconds=statistics.median(wall) * 1e3,
        ns_per_parameter=median * 1e9 / dimension,
        **yardstick.figures(median * 1e9 / dimension),
        bytes_per_parameter=wire_bytes / dimension,
        peak_bytes=peak_bytes(run),
    )


def check_repeats(repeats: int) -> None:
    """Raise UsageError unless a number of runs is 1 to 1,000."""
    if not 1 <= repeats <= MAX_REPEATS:
        raise UsageError("impossible number of runs", got=repeats, want=f"1 to {MAX_REPEATS}")


def interleaved(works: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, float]:
    """Return the median processor seconds of each work; they take turns, so that ratios are fair.

    Args:
        works: By name.
        repeats: Timed turns, after one that is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, run in works.items():
            seconds, _ = timed(run)
            if turn:
                times[name].append(seconds)
    return {name: statistics.median(taken) for name, taken in times.items()}


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return the processor time and the time on the clock of one run, in seconds."""
    start, clock = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - start, time.perf_counter() - clock


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most memory that one run allocates at a time, in a run of its own.

    Counted are Python's and NumPy's allocations. Scratch arrays inside compiled kernels and of
    libraries are not: they are blocks of a fixed size, whatever D is. (A slow test holds it against
    the growth of resident memory.)
    """
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def scaling_exponent(dimensions: Sequence[int], times: Sequence[float]) -> float | None:
    """Return the slope of log(time) over log(D) by least squares; None for fewer than two D's.

    Args:
        dimensions: Values of D, at least 1; repeated ones count as often as they occur.
        times: Positive times, in any unit.
    """
    x, y = [log(value) for value in dimensions], [log(value) for value in times]
    if len(set(dimensions)) < 2:
        return None
    middle_x, middle_y = statistics.fmean(x), statistics.fmean(y)
    products = [(a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)]
    return sum(products) / sum((a - middle_x) ** 2 for a in x)


def exponents(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the scaling exponent of each kind of work among the rows that have times."""
    found: dict[str, float | None] = {}
    for work in dict.fromkeys(row["work"] for row in rows):
        series = [row for row in rows if row["work"] == work and row["ns_per_parameter"]]
        dimensions = [row["dimension"] for row in series]
        times = [row["dimension"] * row["ns_per_parameter"] for row in series]
        found[work] = scaling_exponent(dimensions, times)
    return found
