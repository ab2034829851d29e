from __future__ import annotations

import numpy as np
import pytest

from omnilytics.algebra import fixed_point
from omnilytics.algebra.field import MODULUS
from omnilytics.algebra.fixed_point import from_field, round_vector, squared_norms, to_field
from omnilytics.foundation.errors import ModelError, UsageError
from omnilytics.foundation.randomness import SystemRandomness


class SeededRandomness:
    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        return self._generator.bytes(count)


def _unit_vector(length: int, seed: int = 1) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    vector = np.random.default_rng(seed).normal(size=length)
    return vector / np.linalg.norm(vector)


def test_rounding_is_within_one_unit_and_under_the_bound() -> None:
    vector = _unit_vector(1000) * 0.9
    rounded = round_vector(
        vector, components=(1000,), fractional_bits=16, randomness=SystemRandomness()
    )
    assert rounded.factor == 1.0
    assert np.abs(rounded.values - vector * 2**16).max() < 1
    assert rounded.values.dtype == np.int64


@pytest.mark.parametrize("fractional_bits", [4, 8, 16, 24])
@pytest.mark.parametrize("scale", [1.0, 1.0000001, 7.0, 1e200, 1e-300])
def test_squared_norm_never_exceeds_the_bound(fractional_bits: int, scale: float) -> None:
    length = min(2000, (4**fractional_bits - 1) // 16)
    vector = _unit_vector(length) * scale
    for seed in range(5):
        rounded = round_vector(
            vector,
            components=(length,),
            fractional_bits=fractional_bits,
            randomness=SeededRandomness(seed),
        )
        (norm,) = squared_norms(rounded.values, (length,))
        assert norm <= 4**fractional_bits - 1
        if scale > 1:  # clipped no further than needed
            room = 4**fractional_bits - 1 - length / 4 - 8 * 2**fractional_bits
            assert rounded.factor * scale * 2**fractional_bits == pytest.approx(np.sqrt(room))


def test_all_components_share_one_factor() -> None:
    short, long = _unit_vector(100) * 0.5, _unit_vector(300, seed=2) * 4
    rounded = round_vector(
        np.concatenate([short, long]),
        components=(100, 300),
        fractional_bits=16,
        randomness=SeededRandomness(3),
    )
    assert rounded.factor == pytest.approx(0.25, rel=1e-3)
    assert np.abs(rounded.values[:100] - short * rounded.factor * 2**16).max() < 1
    assert max(squared_norms(rounded.values, (100, 300))) <= 2**32 - 1


def test_rounding_is_unbiased() -> None:
    # 2,000 roundings of values with known fractions; the mean of one has standard deviation
    # sqrt(frac (1 - frac) / 2000) <= 0.0112, so 6 of them is 0.067. Rounding to nearest or towards
    # zero is off by up to 0.5 and 0.9.
    scaled = np.array([3.1, -3.1, 5.5, -0.9, 0.25, 0.0, 7.0])
    vector = scaled / 2**8
    total = np.zeros(len(scaled))
    randomness = SeededRandomness(7)
    for _ in range(2000):
        total += round_vector(
            vector, components=(len(scaled),), fractional_bits=8, randomness=randomness
        ).values
    error = total / 2000 - scaled
    assert np.abs(error).max() < 0.067
    assert error[5] == error[6] == 0  # integers stay


def test_errors_of_neighbouring_entries_are_independent() -> None:
    vector = np.full(4096, 0.5 / 2**16)
    values = round_vector(
        vector, components=(4096,), fractional_bits=16, randomness=SeededRandomness(5)
    ).values
    assert abs(float(values.mean()) - 0.5) < 6 * 0.5 / 64
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 6 / 64


def test_zero_vector_stays_zero() -> None:
    rounded = round_vector(
        np.zeros(10), components=(10,), fractional_bits=16, randomness=SystemRandomness()
    )
    assert not rounded.values.any()
    assert rounded.factor == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_entry_names_its_tensor(bad: float) -> None:
    vector = np.zeros(10)
    vector[7] = bad
    with pytest.raises(ModelError, match=r"index 7.*conv1\.weight"):
        round_vector(
            vector,
            components=(10,),
            fractional_bits=16,
            randomness=SystemRandomness(),
            locate=lambda index: "conv1.weight" if index == 7 else "other",
        )


def test_components_must_cover_the_vector() -> None:
    for components in ((4, 5), (10, 0)):
        with pytest.raises(UsageError, match="components"):
            round_vector(
                np.zeros(10),
                components=components,
                fractional_bits=16,
                randomness=SystemRandomness(),
            )


def test_field_round_trip() -> None:
    values = np.array([0, 1, -1, 2**62, -(2**62), 65536, -65536], dtype=np.int64)
    vector = to_field(values)
    assert int(vector[2]) == MODULUS - 1
    assert (from_field(vector) == values).all()
    edges = np.array([MODULUS // 2, MODULUS // 2 + 1], dtype=np.uint64)
    assert from_field(edges).tolist() == [MODULUS // 2, MODULUS // 2 + 1 - MODULUS]


def test_to_float() -> None:
    assert fixed_point.to_float(np.array([-3, 65536]), 16).tolist() == [-3 / 65536, 1.0]


@pytest.mark.parametrize(
    ("dimension", "fractional_bits", "max_owners"),
    [
        (0, 16, 1),
        (2**28, 16, 1),  # S/16 is just below 2^28
        (100, 3, 1),
        (100, 25, 1),
        (100, 16, 0),
        (100, 16, 2**47),
    ],
)
def test_parameters_out_of_range(dimension: int, fractional_bits: int, max_owners: int) -> None:
    with pytest.raises(UsageError):
        fixed_point.check_parameters(
            dimension=dimension, fractional_bits=fractional_bits, max_owners=max_owners
        )


def test_parameters_at_their_limits() -> None:
    fixed_point.check_parameters(dimension=2**28 - 1, fractional_bits=16, max_owners=2**46)
    most = (MODULUS // 2) // 2**16
    fixed_point.check_parameters(dimension=1, fractional_bits=16, max_owners=most)
    with pytest.raises(UsageError):
        fixed_point.check_parameters(dimension=1, fractional_bits=16, max_owners=most + 1)
