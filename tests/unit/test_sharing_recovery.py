from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from sums import readers

from omnilytics.algebra import kernels
from omnilytics.algebra.field import MODULUS
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.sharing.committee import DEFAULT, OFFERED, Committee
from omnilytics.sharing.recovery import recover_sum
from omnilytics.sharing.shamir import Share, share_submission

DIMENSION = 8192 + 300
Vector = npt.NDArray[np.uint64]


def _sum_vectors(shares: Iterable[Share]) -> Vector:
    total = np.zeros(DIMENSION, dtype=np.uint64)
    for share in shares:
        kernels.current().add(total, share.elements(0, DIMENSION), total)
    return total


def _released(committee: Committee) -> tuple[dict[int, Vector], Vector]:
    """Sums of three owners' shares, and the true sum."""
    generator = np.random.default_rng(4)
    total = np.zeros(DIMENSION, dtype=np.uint64)
    dealt: list[list[Share]] = []
    for _ in range(3):
        secret = generator.integers(0, MODULUS, DIMENSION, dtype=np.uint64)
        kernels.current().add(total, secret, total)
        shares = share_submission(
            secret,
            np.zeros(4, dtype=np.uint64),
            committee=committee,
            seeds=[generator.bytes(32) for _ in range(committee.privacy)],
            randomness=SystemRandomness(),
        )
        dealt.append(shares)
    by_server = zip(committee.points, zip(*dealt, strict=True), strict=True)
    return {point: _sum_vectors(shares) for point, shares in by_server}, total


def _spoil(vector: Vector, index: int = DIMENSION - 1) -> Vector:
    spoiled = vector.copy()
    spoiled[index] = (int(spoiled[index]) + 1) % MODULUS
    return spoiled


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_sum_of_shares_recovers_the_sum(committee: Committee) -> None:
    vectors, total = _released(committee)
    recovered = recover_sum(readers(vectors), committee, SystemRandomness())
    assert (recovered.values == total).all()
    assert recovered.liars == ()
    fewest = {
        p: vectors[p] for p in committee.points[-(committee.privacy + 1 + committee.errors) :]
    }
    assert (recover_sum(readers(fewest), committee, SystemRandomness()).values == total).all()


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_up_to_e_liars_are_named(committee: Committee) -> None:
    vectors, total = _released(committee)
    for liars in combinations(committee.points, committee.errors):
        changed = {p: _spoil(v, p) if p in liars else v for p, v in vectors.items()}
        recovered = recover_sum(readers(changed), committee, SystemRandomness())
        assert recovered.liars == liars
        assert (recovered.values == total).all()


def test_a_lie_is_noticed_even_when_it_cannot_be_placed() -> None:
    vectors, _ = _released(DEFAULT)
    three = {point: vectors[point] for point in (1, 3, 5)}
    with pytest.raises(VerificationError, match="no polynomial"):
        recover_sum(readers({**three, 3: _spoil(three[3])}), DEFAULT, SystemRandomness())


def test_too_many_liars_fail() -> None:
    vectors, _ = _released(DEFAULT)
    changed = {**vectors, 1: _spoil(vectors[1], 0), 2: _spoil(vectors[2], 0)}
    with pytest.raises(VerificationError, match="no polynomial"):
        recover_sum(readers(changed), DEFAULT, SystemRandomness())


def test_malformed_releases_are_refused() -> None:
    vectors, _ = _released(DEFAULT)
    with pytest.raises(VerificationError, match="too few"):
        recover_sum(readers({1: vectors[1], 2: vectors[2]}), DEFAULT, SystemRandomness())
    with pytest.raises(VerificationError, match="outside the committee"):
        recover_sum(readers({**vectors, 6: vectors[1]}), DEFAULT, SystemRandomness())
    with pytest.raises(VerificationError, match="length"):
        recover_sum(readers({**vectors, 2: vectors[2][:-1]}), DEFAULT, SystemRandomness())


def test_a_server_whose_share_cannot_be_read_is_named() -> None:
    vectors, total = _released(DEFAULT)
    beyond = vectors[2].copy()
    beyond[5] = MODULUS
    recovered = recover_sum(readers({**vectors, 2: beyond}), DEFAULT, SystemRandomness())
    assert recovered.liars == (2,)
    assert (recovered.values == total).all()
    with pytest.raises(VerificationError, match="too few"):
        recover_sum(readers({1: vectors[1], 2: beyond, 3: vectors[3]}), DEFAULT, SystemRandomness())
