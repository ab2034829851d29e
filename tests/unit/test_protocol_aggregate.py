"""A sum made block by block is the sum."""

from __future__ import annotations

import numpy as np
import pytest

from omnilytics.algebra.field import MODULUS
from omnilytics.protocol.aggregate import sum_blocks, sum_shares
from omnilytics.sharing.shamir import Share


@pytest.mark.parametrize("block", [1, 4_000, 9_000, 1 << 16])
def test_blocks_make_up_the_sum_of_the_first_elements(block: int) -> None:
    dimension = 20 if block == 1 else 9_000
    generator = np.random.default_rng(3)
    vectors = generator.integers(0, MODULUS, (3, dimension + 7), dtype=np.uint64)
    shares = [Share(dimension + 7, explicit=vector) for vector in vectors]
    expected = vectors.astype(object).sum(axis=0)[:dimension] % MODULUS
    blocks = list(sum_blocks(shares, dimension, block))
    assert all(len(part) <= block for part in blocks)
    assert (np.concatenate(blocks) == expected.astype(np.uint64)).all()
    assert (sum_shares(shares, dimension) == expected.astype(np.uint64)).all()


def test_the_sum_over_no_owner_is_zero() -> None:
    assert sum_shares([], 5).tolist() == [0] * 5
