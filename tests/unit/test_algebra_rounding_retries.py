"""What rounding does in the case that practically never happens: a norm above the bound."""

from __future__ import annotations

import numpy as np
import pytest

from omnilytics.algebra import fixed_point
from omnilytics.algebra.fixed_point import IntegerVector, round_vector, squared_norm_bound
from omnilytics.foundation.errors import UsageError


class _CountingRandomness:
    def __init__(self) -> None:
        self.calls: list[int] = []

    def bytes(self, count: int) -> bytes:
        self.calls.append(count)
        return len(self.calls).to_bytes(count, "big")


def _round(monkeypatch: pytest.MonkeyPatch, unlucky: int) -> tuple[IntegerVector, list[int]]:
    """Round with so many first attempts above the bound; return values and requests."""
    rounds = fixed_point._round_stochastically
    randomness = _CountingRandomness()

    def first_unlucky(
        vector: fixed_point.FloatVector, factor: float, source: _CountingRandomness
    ) -> object:
        values = rounds(vector, factor, source)
        if len(source.calls) <= unlucky:
            values[0] = 16  # 16^2 = S + 1 for 4 fractional bits
        return values

    monkeypatch.setattr(fixed_point, "_round_stochastically", first_unlucky)
    vector = np.full(4, 0.2)
    rounded = round_vector(vector, components=(4,), fractional_bits=4, randomness=randomness)
    return rounded.values, randomness.calls


@pytest.mark.parametrize("unlucky", [0, 1, 5, 63])
def test_a_norm_above_the_bound_is_rounded_again(
    monkeypatch: pytest.MonkeyPatch, unlucky: int
) -> None:
    values, calls = _round(monkeypatch, unlucky)
    assert int(np.dot(values, values)) <= squared_norm_bound(4)
    assert values.max() < 16
    assert calls == [32] * (unlucky + 1)  # fresh randomness for each attempt


def test_rounding_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="again and again"):
        _round(monkeypatch, 64)
