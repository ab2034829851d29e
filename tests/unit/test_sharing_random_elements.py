"""Random field elements are uniform: draws that are not below p are thrown away, never reduced."""

from __future__ import annotations

import pytest

from omnilytics.algebra.field import MODULUS
from omnilytics.sharing.codewords import parity_rows
from omnilytics.sharing.shamir import random_elements


class _Draws:
    """Gives these 64-bit numbers, little-endian, and nothing but 8 bytes at a time."""

    def __init__(self, *draws: int) -> None:
        self._draws = list(draws)

    def bytes(self, count: int) -> bytes:
        assert count == 8  # 7 bytes would leave most of the field out
        return self._draws.pop(0).to_bytes(8, "little")

    @property
    def left(self) -> int:
        return len(self._draws)


@pytest.mark.parametrize("refused", [MODULUS, MODULUS + 1, 2**64 - 1])
def test_draws_that_are_not_below_p_are_skipped(refused: int) -> None:
    draws = _Draws(refused, 5, refused, refused, MODULUS - 1, 7)
    assert random_elements(2, draws).tolist() == [5, MODULUS - 1]
    assert draws.left == 1


def test_no_elements_take_no_randomness() -> None:
    draws = _Draws(1)
    assert random_elements(0, draws).tolist() == []
    assert draws.left == 1


def test_parity_rows_are_canonical() -> None:
    for degree, zero in ((1, False), (2, True), (2, False)):
        for row in parity_rows((1, 2, 4, 5, 7), degree, zero):
            assert all(0 <= weight < MODULUS for weight in row)
