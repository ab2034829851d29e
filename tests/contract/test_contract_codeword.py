"""The codeword check against Lagrange interpolation, for all committees and sets of signers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache, partial

import pytest
from contract_parties import Deployed
from contract_world import (
    P,
    World,
    built_world,
    codewords,
    refused,
    rewound,
    with_limb,
    with_value,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from omnilytics.chain.writer import compact_signature, contract_settlement
from omnilytics.foundation.units import Hash32

COMMITTEES = [(5, 1, 1), (7, 2, 1), (10, 3, 1), (13, 4, 1), (11, 3, 2)]
PARAMETERS = [
    (5, 1, 1), (7, 2, 1), (10, 3, 1), (13, 4, 1), (11, 3, 2), (13, 3, 3), (3, 1, 0), (5, 2, 0),
    (13, 6, 0), (12, 1, 1),
]  # fmt: skip

Check = Callable[[Sequence[Hash32], int, int, int], bool]


@cache
def harness() -> Check:
    """Return the contract's check as a function of words, posted, n, t."""
    check_alone = Deployed(World(3), "CodewordHarness")

    def check(words: Sequence[Hash32], posted: int, n: int, t: int) -> bool:
        return bool(check_alone.seen("on_codewords", list(words), posted, n, t))

    return check


def interpolate(points: Sequence[tuple[int, int]], at: int) -> int:
    """Return the value at `at` of the polynomial through `points`, over F_p: slow reference."""
    total = 0
    for i, (x, y) in enumerate(points):
        top = bottom = 1
        for k, (other, _) in enumerate(points):
            if k != i:
                top, bottom = top * (at - other) % P, bottom * (x - other) % P
        total += y * top * pow(bottom, -1, P)
    return total % P


def reference(words: dict[int, Hash32], t: int) -> bool:
    """Whether the words (by committee index) lie on codewords."""
    for limb, degree in enumerate((2 * t, 2 * t, t, t)):
        values = [
            (j + 1, int.from_bytes(w[8 * limb : 8 * limb + 8], "big")) for j, w in words.items()
        ]
        points = ([(0, 0)] if limb < 2 else []) + values
        basis, rest = points[: degree + 1], points[degree + 1 :]
        if any(interpolate(basis, x) != y for x, y in rest):
            return False
    return True


@given(
    st.sampled_from(PARAMETERS),
    st.randoms(use_true_random=False),
    st.integers(0, 3),
    st.integers(0, P - 1),
)
@settings(max_examples=40, deadline=None)
def test_equals_interpolation(
    parameters: tuple[int, int, int], source: random.Random, limb: int, value: int
) -> None:
    n, t, e = parameters
    absent = source.sample(range(n), source.randint(0, e))
    words = {j: w for j, w in enumerate(codewords(source, n, t)) if j not in absent}
    posted = sum(1 << j for j in words)
    check = harness()
    assert reference(words, t)
    assert check(list(words.values()), posted, n, t)
    victim = source.choice(list(words))
    words[victim] = with_value(words[victim], limb, value)
    assert check(list(words.values()), posted, n, t) == reference(words, t)


@pytest.mark.parametrize(("n", "t", "e"), PARAMETERS)
def test_degrees_one_too_high_are_refused(n: int, t: int, e: int) -> None:
    """Each limb in turn on a polynomial of one degree more, at every quorum's size."""
    source = random.Random(n)
    for limb, degree in enumerate((2 * t, 2 * t, t, t)):
        words = codewords(source, n, t)
        first = 1 if limb < 2 else 0  # c stays zero at zero
        higher = [0] * first + [source.randrange(1, P) for _ in range(degree + 2 - first)]
        values = [sum(c * pow(x, k, P) for k, c in enumerate(higher)) % P for x in range(1, n + 1)]
        wrong = [with_value(w, limb, v) for w, v in zip(words, values, strict=True)]
        for size in {n, n - e}:
            posted = (1 << size) - 1
            assert harness()(words[:size], posted, n, t)
            assert not harness()(wrong[:size], posted, n, t)


@pytest.mark.parametrize(("n", "t", "e"), PARAMETERS)
def test_largest_limbs_do_not_overflow(n: int, t: int, e: int) -> None:
    """All limbs p - 1: d is a constant polynomial, c is not zero at zero."""
    top = Hash32((P - 1).to_bytes(8, "big") * 4)
    only_d = Hash32(bytes(16) + (P - 1).to_bytes(8, "big") * 2)
    everyone = (1 << n) - 1
    assert not harness()([top] * n, everyone, n, t)
    assert harness()([only_d] * n, everyone, n, t)
    few = everyone ^ ((1 << e) - 1)
    assert harness()([only_d] * (n - e), few, n, t)


@pytest.mark.parametrize(("n", "t", "e"), PARAMETERS)
def test_limbs_must_be_canonical(n: int, t: int, e: int) -> None:
    """Congruent to the right value is not enough, at any place of any quorum."""
    source = random.Random(n)
    zero = Hash32(bytes(32))
    for size in {n, n - e}:
        posted = (1 << size) - 1
        for limb, value in ((0, P), (1, 2**64 - 1), (2, P), (3, P + 1)):
            words = [zero] * size
            place = source.randrange(size)
            words[place] = with_value(zero, limb, value)
            with refused("limb not canonical"):
                harness()(words, posted, n, t)
        assert harness()([zero] * size, posted, n, t)


@given(
    st.sampled_from(PARAMETERS),
    st.integers(0, 13),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
@settings(max_examples=80, deadline=None)
def test_errors_equal_interpolation(
    parameters: tuple[int, int, int], absent: int, errors: int, source: random.Random
) -> None:
    """Random subsets, from n down to n - e, with errors up to e and beyond: any is noticed.

    It is a check that all words are right, not a decoder: one error is one too many.
    """
    n, t, e = parameters
    present = sorted(source.sample(range(n), n - absent % (e + 1)))
    honest = codewords(source, n, t)
    words = {j: honest[j] for j in present}
    for victim in source.sample(present, min(errors, len(present))):
        limb, shift = source.randrange(4), source.randrange(1, P)
        words[victim] = with_limb(words[victim], limb, partial(_plus, shift))
    posted = sum(1 << j for j in present)
    found = harness()(list(words.values()), posted, n, t)
    assert found == reference(words, t)
    # A codeword has n - e - 2t > e redundant places: so few errors never lead to another one.
    assert found == (errors == 0) or errors > e


@given(st.sampled_from(PARAMETERS), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_sum_of_codewords_is_one(
    parameters: tuple[int, int, int], source: random.Random
) -> None:
    """As errors that are themselves a codeword show, which no check can tell."""
    n, t, _ = parameters
    one, other = codewords(source, n, t), codewords(source, n, t)
    total = [_added(a, b) for a, b in zip(one, other, strict=True)]
    assert harness()(total, (1 << n) - 1, n, t)


def _plus(shift: int, value: int) -> int:
    return (value + shift) % P


def _added(one: Hash32, other: Hash32) -> Hash32:
    limbs = [int.from_bytes(other[8 * k : 8 * k + 8], "big") for k in range(4)]
    for limb, value in enumerate(limbs):
        one = with_limb(one, limb, partial(_plus, value))
    return one


@pytest.mark.parametrize(("n", "t", "e"), COMMITTEES)
def test_settles_with_every_committee(n: int, t: int, e: int) -> None:
    """In the market: any n - e words that are right, and not if one of them is wrong."""
    world = built_world(13)
    with rewound(world):
        source = random.Random(n)
        everyone = world.committee
        world.committee = everyone[:n]
        try:
            task = world.task(n=n, t=t, e=e)
            world.sealed(task)
            for size in (n, n - e):
                signers = sorted(source.sample(range(n), size))
                words = world.words(t, n)
                victim = source.choice(signers)
                wrong = list(words)
                wrong[victim] = with_limb(words[victim], source.randrange(4), partial(_plus, 1))
                with refused("not a codeword"):
                    world.settle(task, signers=signers, words=wrong)
                with rewound(world):
                    world.settle(task, signers=signers, words=words)
            with refused("too few signatures"):
                world.settle(task, signers=range(n - e - 1))
        finally:
            world.committee = everyone


@pytest.mark.parametrize(
    ("signers", "reason"),
    [
        (0b011111 << 1, "signer beyond committee"),
        (1 << 5 | 0b01111, "signer beyond committee"),
        (1 << 255 | 0b01111, "signer beyond committee"),
        (0b01111, "signatures missing"),
        (0, "signatures missing"),
        (0b11111, None),
    ],
)
def test_bitmaps_name_each_server_once(signers: int, reason: str | None) -> None:
    """An index beyond the committee is refused; none can count twice, for it is one bit."""
    world = built_world()
    with rewound(world):
        task = world.task()
        world.sealed(task)
        agreed, words = world.settlement(task), world.words()
        signed = world.signed(agreed, words)
        compact = [compact_signature(signed[j].signature) for j in range(5)]
        call = (task, contract_settlement(agreed), world.committee)
        # The same server's signature in two places is another server's wrong one.
        with refused("bad signature"):
            world.send("settle", *call, 0b11111, words, [compact[0], compact[0], *compact[2:]])
        if reason is None:
            world.send("settle", *call, signers, words, compact)
        else:
            with refused(reason):
                world.send("settle", *call, signers, words, compact)
