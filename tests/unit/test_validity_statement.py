from __future__ import annotations

import pytest

from omnilytics.foundation.errors import UsageError
from omnilytics.validity.statement import Statement


def test_default_numbers_of_the_protocol() -> None:
    statement = Statement((61_706,))
    assert statement.norm_bound == 2**32 - 1
    assert statement.wraparound_bound == 2**20
    assert statement.test_bits == 21
    assert statement.bit_count == 2720
    assert statement.constraint_count == 2722
    assert statement.share_length == 61_706 + 2720 + 4
    assert statement.test_bytes == 32


@pytest.mark.parametrize("components", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("fractional_bits", [8, 16, 20])
def test_wraparound_bound_is_the_least_power_of_two(components: int, fractional_bits: int) -> None:
    statement = Statement((10,) * components, fractional_bits=fractional_bits)
    bound = statement.wraparound_bound
    assert bound & (bound - 1) == 0
    # bound >= ceil(8.7 sqrt(c) 2^f) + 1 and half of it is not, compared by squares.
    square = 7569 * components * 4**fractional_bits
    assert 100 * (bound - 1) ** 2 >= square
    assert 100 * (bound // 2 - 1) ** 2 < square


def test_81_w_squared_limits_fractional_bits() -> None:
    for components in (1, 2, 3):
        Statement((50_000,) * components, fractional_bits=24)
    Statement((10,) * 4, fractional_bits=23)
    with pytest.raises(UsageError, match="wrap around"):
        Statement((10,) * 4, fractional_bits=24)


@pytest.mark.parametrize(
    ("components", "fractional_bits", "tests"),
    [
        ((), 16, 128),
        ((0,), 16, 128),
        ((10, 0), 16, 128),
        ((10,), 25, 128),
        ((10,), 3, 128),
        ((300,), 6, 128),  # D > S/16
        ((10,), 16, 0),
        ((10,), 16, 6),
        ((10,), 16, 132),
    ],
)
def test_unsound_statements_are_refused(
    components: tuple[int, ...], fractional_bits: int, tests: int
) -> None:
    with pytest.raises(UsageError):
        Statement(components, fractional_bits=fractional_bits, tests=tests)


def test_component_slices() -> None:
    assert Statement((3, 4, 1)).component_slices() == [slice(0, 3), slice(3, 7), slice(7, 8)]
