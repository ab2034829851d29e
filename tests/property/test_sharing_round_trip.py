"""Sharing and recovery are inverse for any secret and committee."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from omnilytics.algebra import kernels
from omnilytics.algebra.field import MODULUS
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.sharing.interpolation import interpolate_vectors_at_zero
from omnilytics.sharing.shamir import share_submission


class SeededRandomness:
    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        return self._generator.bytes(count)


elements = st.one_of(st.sampled_from((0, 1, MODULUS - 1, 2**32)), st.integers(0, MODULUS - 1))


@given(
    st.sampled_from(OFFERED),
    st.lists(elements, min_size=1, max_size=20),
    st.integers(0, 2**32),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_share_and_recover(committee: Committee, values: list[int], seed: int, random) -> None:  # type: ignore[no-untyped-def]
    randomness = SeededRandomness(seed)
    secret = np.array(values, dtype=np.uint64)
    seeds = [randomness.bytes(32) for _ in range(committee.privacy)]
    shares = share_submission(
        secret, secret, committee=committee, seeds=seeds, randomness=randomness
    )
    points = random.sample(committee.points, committee.privacy + 1)
    length = 2 * len(values)
    vectors = {point: shares[point - 1].elements(0, length) for point in points}
    assert (interpolate_vectors_at_zero(vectors) == np.tile(secret, 2)).all()


@given(st.lists(elements, min_size=1, max_size=10), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_fast_and_reference_kernels_deal_the_same_shares(values: list[int], seed: int) -> None:
    secret = np.array(values, dtype=np.uint64)
    committee = OFFERED[1]
    seeds = [bytes([j]) * 32 for j in range(committee.privacy)]

    def deal() -> list[bytes]:
        shares = share_submission(
            secret, secret, committee=committee, seeds=seeds, randomness=SeededRandomness(seed)
        )
        return [share.elements(0, share.length).tobytes() for share in shares]

    fast = deal()
    with kernels.select("reference"):
        assert deal() == fast
