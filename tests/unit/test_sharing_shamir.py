from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from omnilytics.algebra.field import MODULUS
from omnilytics.algebra.streams import LABEL_SHARE, Stream
from omnilytics.foundation.errors import MalformedError, UsageError
from omnilytics.sharing.codewords import is_codeword
from omnilytics.sharing.committee import DEFAULT, OFFERED, Committee
from omnilytics.sharing.interpolation import (
    interpolate_at_zero,
    interpolate_vectors_at_zero,
    weights_at_zero,
)
from omnilytics.sharing.shamir import Dealer, Share, share_submission


class SeededRandomness:
    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        return self._generator.bytes(count)


def _seeds(committee: Committee) -> list[bytes]:
    return [bytes([j]) * 32 for j in range(1, committee.privacy + 1)]


def _secret(length: int) -> npt.NDArray[np.uint64]:
    secret = np.random.default_rng(9).integers(0, MODULUS, length, dtype=np.uint64)
    secret[:3] = (0, 1, MODULUS - 1)
    return secret


def _shares(committee: Committee, dimension: int = 50, bit_count: int = 20) -> list[Share]:
    bits = np.arange(bit_count, dtype=np.uint64) % np.uint64(2)
    return share_submission(
        _secret(dimension),
        bits,
        committee=committee,
        seeds=_seeds(committee),
        randomness=SeededRandomness(1),
    )


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_any_t_plus_1_servers_recover(committee: Committee) -> None:
    shares = _shares(committee)
    secret = _secret(50)
    for points in combinations(committee.points, committee.privacy + 1):
        vectors = {point: shares[point - 1].elements(0, 50) for point in points}
        assert (interpolate_vectors_at_zero(vectors) == secret).all()


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_every_entry_is_shared_at_its_degree(committee: Committee) -> None:
    shares = _shares(committee)
    t = committee.privacy
    words = np.stack([share.elements(0, shares[0].length) for share in shares])
    for i in range(50 + 20):
        assert is_codeword(committee.points, [int(v) for v in words[:, i]], t)
    for i in (70, 71):  # M0: of degree 2t, not t, and zero at zero
        values = [int(v) for v in words[:, i]]
        assert is_codeword(committee.points, values, 2 * t, zero_at_origin=True)
        if committee.servers > 2 * t:
            assert not is_codeword(committee.points, values, 2 * t - 1)
    for i in (72, 73):  # M1: of degree t, exactly, and random at zero
        values = [int(v) for v in words[:, i]]
        assert is_codeword(committee.points, values, t)
        assert not is_codeword(committee.points, values, t - 1)
        assert interpolate_at_zero(dict(enumerate(values[: t + 1], start=1))) != 0


def test_first_servers_hold_the_expansions_of_their_seeds() -> None:
    committee = Committee(7, 2, 1)
    shares = _shares(committee)
    for seed, share in zip(_seeds(committee), shares, strict=False):
        assert share.seed == seed
        assert (share.elements(3, 40) == Stream(LABEL_SHARE, seed).elements(3, 40)).all()
    assert all(share.seed is None for share in shares[2:])


def test_long_vectors_cross_stream_blocks() -> None:
    dimension = 2 * 8192 + 100
    shares = _shares(DEFAULT, dimension=dimension, bit_count=9000)
    vectors = {point: shares[point - 1].elements(0, dimension) for point in (1, 4)}
    assert (interpolate_vectors_at_zero(vectors) == _secret(dimension)).all()
    bits = {point: shares[point - 1].elements(dimension, 9000) for point in (3, 5)}
    assert (interpolate_vectors_at_zero(bits) == np.arange(9000) % 2).all()


def test_two_steps_equal_one() -> None:
    dealer = Dealer(DEFAULT, 50, 20, _seeds(DEFAULT))
    dealer.share_vector(_secret(50))
    vector_part = dealer.rows(0, 50)
    dealer.share_proof(np.arange(20, dtype=np.uint64) % 2, SeededRandomness(1))
    proof_part = dealer.rows(50, 74)
    assert vector_part.shape == (4, 50)
    assert proof_part.shape == (4, 24)
    for row, share in enumerate(_shares(DEFAULT)[1:]):
        assert (share.elements(0, 50) == vector_part[row]).all()
        assert (share.elements(50, 24) == proof_part[row]).all()


def test_masks_are_fresh_under_the_same_seeds() -> None:
    # Were M0 of degree t, seeds alone would fix it, and words would leak.
    def masks(seed: int) -> list[set[int]]:
        bits = np.zeros(4, dtype=np.uint64)
        randomness = SeededRandomness(seed)
        shares = share_submission(
            _secret(5), bits, committee=DEFAULT, seeds=[bytes(32)], randomness=randomness
        )
        return [{int(value) for value in share.elements(9, 4)} for share in shares]

    first, second = masks(1), masks(2)
    assert first[0] == second[0]
    assert all(not a & b for a, b in zip(first[1:], second[1:], strict=True))


def test_a_dealer_is_single_use() -> None:
    dealer = Dealer(DEFAULT, 5, 2, _seeds(DEFAULT))
    bits = np.zeros(2, dtype=np.uint64)
    with pytest.raises(UsageError):
        dealer.share_proof(bits, SeededRandomness(1))
    with pytest.raises(UsageError):
        dealer.shares()
    dealer.share_vector(_secret(5))
    with pytest.raises(UsageError):
        dealer.share_vector(_secret(5))
    dealer.share_proof(bits, SeededRandomness(1))
    with pytest.raises(UsageError):
        dealer.share_proof(bits, SeededRandomness(2))
    assert len(dealer.shares()) == 5


@pytest.mark.parametrize(
    "seeds", [[], [bytes(32)], [bytes(32), bytes(32)], [bytes(32), bytes(31)], [bytes(32)] * 3]
)
def test_seeds_must_be_t_distinct_ones(seeds: list[bytes]) -> None:
    with pytest.raises(UsageError):
        Dealer(Committee(7, 2, 1), 5, 2, seeds)


def test_dealer_checks_its_secrets() -> None:
    with pytest.raises(UsageError, match="length"):
        Dealer(DEFAULT, 5, 2, _seeds(DEFAULT)).share_vector(_secret(6))
    with pytest.raises(MalformedError, match="canonical"):
        Dealer(DEFAULT, 1, 2, _seeds(DEFAULT)).share_vector(np.array([MODULUS], dtype=np.uint64))


def test_shares_from_outside_are_checked() -> None:
    with pytest.raises(MalformedError, match="canonical"):
        Share(1, explicit=np.array([MODULUS], dtype=np.uint64))
    with pytest.raises(MalformedError, match="length"):
        Share(2, explicit=np.zeros(3, dtype=np.uint64))
    with pytest.raises(MalformedError, match="size"):
        Share(2, seed=bytes(31))
    with pytest.raises(MalformedError, match="either"):
        Share(2)
    with pytest.raises(MalformedError, match="either"):
        Share(2, seed=bytes(32), explicit=np.zeros(2, dtype=np.uint64))
    share = Share(2, seed=bytes(32))
    for start, count in ((0, 3), (-1, 1), (3, 0), (1, -1)):
        with pytest.raises(UsageError, match="beyond"):
            share.elements(start, count)


def test_representations_hide_contents() -> None:
    secret = b"\xab" * 32
    shown = repr(Share(2, seed=secret)) + repr(Dealer(DEFAULT, 5, 2, [secret]))
    shown += repr(Share(1, explicit=np.array([123456789], dtype=np.uint64)))
    assert "ab" * 4 not in shown
    assert "\\xab" not in shown
    assert "123456789" not in shown


def test_interpolation_refuses_impossible_points() -> None:
    for points in ((0, 1), (1, 1), (MODULUS, 2)):
        with pytest.raises(UsageError):
            weights_at_zero(points)


def test_rows_are_of_what_is_shared_by_now() -> None:
    dealer = Dealer(DEFAULT, 5, 2, _seeds(DEFAULT))
    with pytest.raises(UsageError, match="beyond"):
        dealer.rows(0, 1)
    dealer.share_vector(_secret(5))
    assert dealer.rows(0, 5).shape == (4, 5)
    for start, stop in ((-1, 2), (0, 6)):
        with pytest.raises(UsageError, match="beyond"):
            dealer.rows(start, stop)


def test_a_proof_is_restored_once_and_in_its_shape() -> None:
    proof = np.zeros((4, 2 + 4), dtype=np.uint64)
    dealer = Dealer(DEFAULT, 5, 2, _seeds(DEFAULT))
    with pytest.raises(UsageError, match="once"):
        dealer.restore_proof(proof)
    dealer.share_vector(_secret(5))
    with pytest.raises(UsageError, match="shape"):
        dealer.restore_proof(proof[:3])
    with pytest.raises(MalformedError, match="canonical"):
        dealer.restore_proof(np.full_like(proof, MODULUS))
    dealer.restore_proof(proof)
    assert (dealer.rows(5, 11) == proof).all()
    with pytest.raises(UsageError, match="once"):
        dealer.restore_proof(proof)
