"""What benchmarks derive from times: passes, parts, exponents, memory."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from omnilytics.benchmark import measure as measuring
from omnilytics.benchmark.measure import (
    MEMORY_WORDS,
    Yardstick,
    exponents,
    measure,
    peak_bytes,
    scaling_exponent,
)
from omnilytics.foundation.errors import UsageError


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_is_the_power_of_d(power: float) -> None:
    dimensions = [1_000, 10_000, 50_000, 1_000_000]
    times = [7.0 * dimension**power for dimension in dimensions]
    assert scaling_exponent(dimensions, times) == pytest.approx(power)


def test_the_exponent_is_the_best_line_through_all_points() -> None:
    # log10: (0, 0), (1, 2), (2, 1): slope 1/2 by least squares, not that of the ends or of a pair.
    assert scaling_exponent([1, 10, 100], [1.0, 100.0, 10.0]) == pytest.approx(0.5)


def test_one_dimension_has_no_exponent() -> None:
    assert scaling_exponent([100], [1.0]) is None
    assert scaling_exponent([100, 100], [1.0, 2.0]) is None


def test_each_work_has_its_own_exponent_and_rows_without_times_none() -> None:
    rows = [
        {"work": work, "dimension": dimension, "ns_per_parameter": ns}
        for dimension in (10, 1_000)
        for work, ns in (("linear", 3.0), ("square", 3.0 * dimension), ("bytes", None))
    ]
    found = exponents(rows)
    assert found == {
        "linear": pytest.approx(1.0),
        "square": pytest.approx(2.0),
        "bytes": None,
    }


def test_a_memory_pass_adds_three_distinct_arrays_larger_than_a_cache() -> None:
    yardstick = Yardstick(1_000)
    for addition, words in ((yardstick._memory, MEMORY_WORDS), (yardstick._cached, 1_000)):
        arrays = [addition._left, addition._right, addition._out]
        assert {len(array) for array in arrays} == {words}
        assert not any(
            np.shares_memory(one, other) for one, other in pairwise([*arrays, arrays[0]])
        )
        addition.seconds(1)
        assert np.array_equal(addition._out, addition._left + addition._right)
    assert MEMORY_WORDS * 8 * 3 >= 192 << 20


def test_passes_are_multiples_of_what_was_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    yardstick = Yardstick(1_000)
    seconds = iter([0.008, 1.0, 0.002, 0.016, 1.0, 0.004, 0.024, 1.0, 0.006])
    monkeypatch.setattr(measuring._Addition, "seconds", lambda *_: next(seconds))
    for _ in range(3):
        yardstick.run()  # memory, a warm-up that is not counted, cached
    figures = yardstick.figures(ns_per_parameter=100.0)
    cached_words = 1_000 * ((1 << 21) // 1_000)
    assert figures["memory_pass_ns"] == pytest.approx(0.016e9 / MEMORY_WORDS)
    assert figures["cached_pass_ns"] == pytest.approx(0.004e9 / cached_words)
    assert figures["memory_passes"] == pytest.approx(100.0 / figures["memory_pass_ns"])
    assert figures["cached_passes"] == pytest.approx(100.0 / figures["cached_pass_ns"])


def test_a_row_is_of_the_median_run_and_of_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    cold, warm = [(9.0, 9.0), (40.0, 9.0), (10.0, 9.0)], [(8.0, 4.0), (80.0, 40.0), (4.0, 2.0)]
    times = iter([each for pair in zip(cold, warm, strict=True) for each in pair])
    monkeypatch.setattr(measuring, "timed", lambda _: next(times))
    row = measure(
        "work", lambda: None, dimension=500, servers=5, wire_bytes=1_000, repeats=3, parts=4
    )
    assert (row.milliseconds, row.wall_milliseconds) == (2_000.0, 1_000.0)
    assert row.cold_milliseconds == 2_500.0
    assert row.ns_per_parameter == pytest.approx(2e9 / 500)
    assert row.bytes_per_parameter == 2.0


@pytest.mark.parametrize("repeats", [0, 1_001])
def test_impossible_numbers_of_runs_are_refused(repeats: int) -> None:
    with pytest.raises(UsageError, match="number of runs"):
        measure("work", lambda: None, dimension=1, servers=5, wire_bytes=0, repeats=repeats)


def test_peak_memory_is_of_what_lives_at_a_time() -> None:
    size = 4 << 20

    def one_after_the_other() -> None:
        for _ in range(3):
            np.zeros(size, dtype=np.uint8)

    def together() -> list[np.ndarray]:
        return [np.zeros(size, dtype=np.uint8) for _ in range(3)]

    assert size <= peak_bytes(one_after_the_other) < 2 * size
    assert 3 * size <= peak_bytes(together) < 4 * size
