"""The prover refuses entries before their squares could overflow 64 bits and look small."""

from __future__ import annotations

import numpy as np
import pytest

from omnilytics.foundation.errors import UsageError
from omnilytics.validity.prover import prove
from omnilytics.validity.statement import Statement

STATEMENT = Statement((3, 2), fractional_bits=8, tests=4)


@pytest.mark.parametrize("place", [0, 4])
@pytest.mark.parametrize("entry", [257, -257, 2**32, -(2**32), 2**33, -(2**33), 2**62, -(2**63)])
def test_entries_beyond_the_bound_are_refused(place: int, entry: int) -> None:
    values = np.zeros(5, dtype=np.int64)
    values[place] = entry  # (2^32)^2 = 0 mod 2^64: a norm of 0 if nobody looked
    with pytest.raises(UsageError, match="exceeds"):
        prove(STATEMENT, values, bytes(32))


@pytest.mark.parametrize("entry", [255, -255])
def test_the_largest_entries_are_proved(entry: int) -> None:
    values = np.zeros(5, dtype=np.int64)
    values[3] = entry
    bits = prove(STATEMENT, values, bytes(32))
    norm = bits[16:32]  # of the second component
    assert sum(int(bit) << place for place, bit in enumerate(norm)) == 255**2


@pytest.mark.parametrize("entry", [256, -256])
def test_an_entry_of_one_exceeds_the_bound_by_one(entry: int) -> None:
    values = np.zeros(5, dtype=np.int64)
    values[0] = entry
    with pytest.raises(UsageError, match="exceeds the norm bound"):
        prove(STATEMENT, values, bytes(32))
