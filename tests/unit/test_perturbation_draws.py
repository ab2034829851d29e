"""Draws of secrets: uniform, and what they claim to be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from recovered import SeededRandomness

from omnilytics.perturbation.draws import (
    orthogonal_by_frequency,
    orthogonal_keeping_ones,
    uniform,
    uniform_orthogonal,
    uniform_permutation,
    uniform_powers,
    uniform_signs,
)


def test_permutations_are_uniform() -> None:
    draw = SeededRandomness(11)
    counts = Counter(tuple(uniform_permutation(3, draw)) for _ in range(6000))
    assert len(counts) == 6
    # 1000 expected each, deviation 29: six of them.
    assert all(826 < count < 1174 for count in counts.values())


def test_tied_keys_are_drawn_again() -> None:
    class Tied:
        def __init__(self) -> None:
            self.answers = [b"\x07" * 16, bytes(8) + b"\x01" * 8]

        def bytes(self, count: int) -> bytes:
            assert count == 16
            return self.answers.pop(0)

    assert uniform_permutation(2, Tied()).tolist() == [0, 1]


def test_signs_are_uniform() -> None:
    signs = uniform_signs(10_001, SeededRandomness(12))
    assert signs.shape == (10_001,)
    assert set(signs) == {1.0, -1.0}
    assert abs(signs.sum()) < 600


def test_powers_are_uniform() -> None:
    counts = Counter(uniform_powers(7000, 3, SeededRandomness(13)).tolist())
    assert sorted(counts) == [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    # 1000 expected each, deviation 29: six of them.
    assert all(826 < count < 1174 for count in counts.values())


def test_numbers_are_from_0_to_below_1() -> None:
    class Extreme:
        def bytes(self, count: int) -> bytes:
            return (bytes(8) + b"\xff" * 8)[:count]

    assert uniform(2, Extreme()).tolist() == [0.0, 1.0 - 2.0**-53]


@pytest.mark.parametrize("size", [2, 3, 7, 32])
def test_orthogonal_matrices(size: int) -> None:
    draw = SeededRandomness(size)
    for matrix in (uniform_orthogonal(size, draw), orthogonal_keeping_ones(size, draw)):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-13)
    kept = orthogonal_keeping_ones(size, draw)
    np.testing.assert_allclose(kept @ np.ones(size), np.ones(size), atol=1e-13)
    assert size == 2 or not np.allclose(kept, np.eye(size), atol=0.01)


def test_orthogonal_matrices_favour_no_direction() -> None:
    # Haar: each column is uniform on the sphere, so its mean is 0 and its mean square 1 / size.
    draw = SeededRandomness(5)
    drawn = np.array([uniform_orthogonal(3, draw) for _ in range(4000)])
    # Deviations 0.009 and 0.005: five of them and more.
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose((drawn**2).mean(axis=0), 1 / 3, atol=0.03)
    # Both orientations are as likely: 2000 expected each, deviation 32.
    assert 1800 < (np.linalg.det(drawn) > 0).sum() < 2200


def test_turns_by_frequency_stay_within_their_pairs() -> None:
    matrix = orthogonal_by_frequency(8, SeededRandomness(1))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(8), atol=1e-14)
    allowed = np.eye(8, dtype=bool) | np.eye(8, k=4, dtype=bool) | np.eye(8, k=-4, dtype=bool)
    assert (matrix[~allowed] == 0).all()
    for pair in range(4):
        block = matrix[np.ix_([pair, pair + 4], [pair, pair + 4])]
        assert np.linalg.det(block) == pytest.approx(1)
        assert abs(block[0, 1]) > 1e-3
