"""Zero knowledge, counted through: over a small prime each view is as likely for every vector.

The view: the shares and masks of t servers, the words and batch words of all n, released sums. The
same count must notice each known way to lose privacy (the rules marked (!) in protocol.md), so it
is shown to be able to fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, islice

import pytest
from tiny_market import (
    Answer,
    Challenge,
    Element,
    Entries,
    MaskRule,
    Ring,
    Scenario,
    Statement,
    mask_space,
    reduce_by,
    views_by_cosets,
    views_one_by_one,
)

from omnilytics.sharing.committee import Committee

THREE, FIVE, FIVE_OF_TWO = Committee(3, 1, 0), Committee(5, 1, 1), Committee(5, 2, 0)
FIELD_5, FIELD_7 = Ring(5), Ring(7)
EXTENSION_25, EXTENSION_49 = Ring(5, 2), Ring(7, 3)  # 2 is no square mod 5, 3 none mod 7

ONE_BIT = Statement((1,), norm_bits=1)  # V = x^2 in {0, 1}
WITH_TEST = Statement((1,), norm_bits=1, tests=((1,),), test_bits=1)  # and v = x in {0, 1}
TWO_ENTRIES = Statement((2,), norm_bits=1, tests=((1, 0),), test_bits=1)


def challenge(
    ring: Ring, rho: int = 2, chi: int = 3, *, first: int = 1, tests: int = 0
) -> Challenge:
    def element(value: int) -> Element:
        return (value % ring.modulus, *((value + 1) % ring.modulus,) * (ring.limbs - 1))

    weights = tuple(element(value + 1) for value in range(tests))
    return Challenge(element(rho), element(chi), weights, first)


def one_owner(
    ring: Ring, committee: Committee, statement: Statement, *challenges: Challenge
) -> Scenario:
    """Return a round of one honest owner, answered once for each challenge under one mask."""
    chosen = challenges or (challenge(ring, tests=len(statement.tests)),)
    return Scenario(
        ring=ring,
        committee=committee,
        statement=statement,
        answers=tuple(Answer(0, each, 0) for each in chosen),
        kappas=tuple(ring.embed(3 + k) for k in range(len(chosen))),
    )


def several_owners(
    owners: int,
    *released: tuple[int, ...],
    ring: Ring = FIELD_5,
    committee: Committee = THREE,
    statement: Statement = ONE_BIT,
) -> Scenario:
    """Return a round of honest owners with masks of their own, and the sums that are released."""
    common = challenge(ring, tests=len(statement.tests))
    return Scenario(
        ring=ring,
        committee=committee,
        statement=statement,
        answers=tuple(Answer(owner, common, owner) for owner in range(owners)),
        kappas=tuple(ring.embed(2 + owner) for owner in range(owners)),
        released=released,
    )


def coalitions(committee: Committee, extra: int = 0) -> Iterator[tuple[int, ...]]:
    return combinations(committee.points, committee.privacy + extra)


def leaks(
    scenario: Scenario,
    left: Sequence[Entries],
    right: Sequence[Entries],
    coalition: Sequence[int] | None = None,
) -> bool:
    """Tell whether some t servers (or these) can tell the two lists of secrets apart."""
    return any(
        views_by_cosets(scenario, left, some) != views_by_cosets(scenario, right, some)
        for some in ([coalition] if coalition else coalitions(scenario.committee))
    )


# --- what must hold -----------------------------------------------------------------------------


def test_all_randomness_of_a_dealer_counted_one_by_one() -> None:
    scenario = one_owner(FIELD_5, THREE, ONE_BIT)
    secrets = ONE_BIT.valid_entries(FIELD_5)
    assert secrets == [(0, 0), (1, 1), (4, 1)]  # 0, 1 and -1 with their squares
    for coalition in ((1,), (3,)):  # a seeded and an explicit share
        first, *others = (views_one_by_one(scenario, [secret], coalition) for secret in secrets)
        assert sum(first.values()) == 5**6  # a free share of x and of the bit, 2 + 2 for the masks
        # c has one free value left and d one: nothing else varies, each view occurs once.
        assert len(first) == 5**6
        for other in others:
            assert other == first


@pytest.mark.slow
def test_all_randomness_of_a_dealer_with_five_servers() -> None:
    scenario = one_owner(FIELD_7, FIVE, ONE_BIT)
    left = views_one_by_one(scenario, [(0, 0)], (4,))
    assert sum(left.values()) == 7**6
    assert left == views_one_by_one(scenario, [(6, 1)], (4,))


@pytest.mark.parametrize(
    "rule", [MaskRule(), MaskRule(zero_degree=1), MaskRule(random_secret=False)], ids=str
)
def test_counting_by_cosets_is_counting(rule: MaskRule) -> None:
    """The shortcut that the other tests take, against the count without it, leak or none."""
    scenario = replace(one_owner(FIELD_5, THREE, ONE_BIT), mask_rule=rule)
    for secret in ((0, 0), (1, 1)):
        for coalition in ((1,), (3,)):
            whole = views_one_by_one(scenario, [secret], coalition)
            basis = mask_space(scenario, coalition)
            short = views_by_cosets(scenario, [secret], coalition)
            sizes: dict[object, list[int]] = {}
            for (plain, masked), count in whole.items():
                assert isinstance(masked, tuple)
                name = (plain, tuple(reduce_by(basis, list(masked), 5)))
                sizes.setdefault(name, []).append(count)
            per_dealing = 5 ** rule.free_values(FIELD_5, THREE)
            assert {name: sum(counts) for name, counts in sizes.items()} == {
                name: count * per_dealing for name, count in short.items()
            }
            for counts in sizes.values():  # every element of a coset is there, equally often
                assert len(counts) == 5 ** len(basis)
                assert len(set(counts)) == 1


@pytest.mark.parametrize(
    ("ring", "committee", "statement"),
    [
        (FIELD_5, THREE, WITH_TEST),
        (FIELD_5, THREE, TWO_ENTRIES),
        (EXTENSION_25, THREE, WITH_TEST),
        (EXTENSION_25, THREE, TWO_ENTRIES),
        (FIELD_7, FIVE, WITH_TEST),
        (EXTENSION_49, FIVE, WITH_TEST),
        (FIELD_7, FIVE_OF_TWO, ONE_BIT),
        (EXTENSION_49, FIVE_OF_TWO, ONE_BIT),
    ],
    ids=str,
)
def test_views_are_the_same_for_all_valid_vectors(
    ring: Ring, committee: Committee, statement: Statement
) -> None:
    scenario = one_owner(ring, committee, statement)
    secrets = statement.valid_entries(ring)
    assert len(secrets) >= 2
    for coalition in islice(coalitions(committee), 6):
        first = views_by_cosets(scenario, [secrets[0]], coalition)
        for secret in secrets[1:]:
            assert views_by_cosets(scenario, [secret], coalition) == first


def test_views_are_the_same_under_every_challenge() -> None:
    """Also under one that the adversary chose: 0, 1 and equal ones included."""
    for rho in FIELD_5.elements():
        for chi in FIELD_5.elements():
            scenario = one_owner(FIELD_5, THREE, WITH_TEST, Challenge(rho, chi, (rho,)))
            assert not leaks(scenario, [(0, 0, 0)], [(1, 1, 1)])


def test_the_same_answer_twice_is_harmless() -> None:
    same = challenge(FIELD_5)
    assert not leaks(one_owner(FIELD_5, THREE, ONE_BIT, same, same), [(0, 0)], [(1, 1)])


@pytest.mark.parametrize("committee", [THREE, FIVE], ids=str)
def test_a_released_sum_shows_the_sum_and_nothing_else(committee: Committee) -> None:
    ring = FIELD_5 if committee is THREE else FIELD_7
    scenario = several_owners(2, (0, 1), ring=ring, committee=committee)
    zero, one, minus = (0, 0), (1, 1), (ring.modulus - 1, 1)
    assert not leaks(scenario, [zero, one], [one, zero])
    assert not leaks(scenario, [one, minus], [zero, zero])  # norms differ, sums do not
    assert leaks(scenario, [zero, one], [one, one])  # another sum is another view
    unreleased = replace(scenario, released=())
    assert not leaks(unreleased, [zero, one], [one, one])


@pytest.mark.slow
def test_three_owners_with_one_released_sum() -> None:
    scenario = several_owners(3, (0, 1, 2))
    assert not leaks(scenario, [(1, 1), (0, 0), (0, 0)], [(0, 0), (0, 0), (1, 1)], (2,))
    assert not leaks(scenario, [(1, 1), (4, 1), (0, 0)], [(0, 0), (0, 0), (0, 0)], (3,))


def test_an_owner_outside_the_released_sum_shows_nothing() -> None:
    scenario = several_owners(2, (0,))
    assert not leaks(scenario, [(1, 1), (0, 0)], [(1, 1), (4, 1)])


# --- what must not be overlooked ----------------------------------------------------------------

BOTH = [EXTENSION_25, FIELD_5]


@pytest.mark.parametrize("ring", BOTH, ids=str)
@pytest.mark.parametrize(("rho", "chi"), [(3, 3), (2, 4), (4, 4)])
def test_words_under_two_challenges_leak(ring: Ring, rho: int, chi: int) -> None:
    """Seed lock: rho and chi at (2, 3), then another rho, another chi, or both."""
    scenario = one_owner(ring, THREE, ONE_BIT, challenge(ring), challenge(ring, rho, chi))
    assert leaks(scenario, [(0, 0)], [(1, 1)])


@pytest.mark.parametrize("ring", BOTH, ids=str)
@pytest.mark.parametrize(
    "rule", [MaskRule(zero_degree=1), MaskRule(zero_degree=0), MaskRule(random_secret=False)]
)
def test_masks_with_too_few_free_values_leak(ring: Ring, rule: MaskRule) -> None:
    """M0 of degree t, no M0, or M1 that hides nothing at 0."""
    scenario = replace(one_owner(ring, THREE, ONE_BIT), mask_rule=rule)
    assert leaks(scenario, [(0, 0)], [(1, 1)])


def test_a_mask_of_degree_t_leaks_at_t_2_as_well() -> None:
    scenario = one_owner(FIELD_7, FIVE_OF_TWO, ONE_BIT)
    scenario = replace(scenario, mask_rule=MaskRule(zero_degree=1))
    assert leaks(scenario, [(0, 0)], [(1, 1)], (1, 2))


def test_masks_used_for_two_vectors_leak() -> None:
    """Two rounds, or two owners, under one set of masks; with masks of their own they do not."""
    later = challenge(FIELD_5, 3, 4)
    fresh = replace(
        several_owners(2), answers=(Answer(0, challenge(FIELD_5), 0), Answer(1, later, 1))
    )
    left, right = [(0, 0), (0, 0)], [(1, 1), (0, 0)]
    assert not leaks(fresh, left, right)
    for second in (later, challenge(FIELD_5)):
        answers = (Answer(0, challenge(FIELD_5), 0), Answer(1, second, 0))
        assert leaks(replace(fresh, answers=answers), left, right)


def test_seeds_used_for_two_vectors_leak() -> None:
    left, right = [(0, 0), (0, 0)], [(1, 1), (0, 0)]
    assert not leaks(several_owners(2), left, right, (3,))
    assert leaks(replace(several_owners(2), same_seeds=True), left, right, (3,))


def test_two_released_sets_leak() -> None:
    """Final lock: the difference of two sums is the vector of the owner in one set alone."""
    left, right = [(1, 1), (0, 0)], [(0, 0), (1, 1)]
    assert not leaks(several_owners(2, (0, 1)), left, right)
    assert leaks(several_owners(2, (0, 1), (0,)), left, right)


@pytest.mark.slow
def test_two_released_sets_of_three_leak() -> None:
    left, right = [(1, 1), (0, 0), (0, 0)], [(0, 0), (0, 0), (1, 1)]  # one sum over all three
    assert leaks(several_owners(3, (0, 1, 2), (0, 1)), left, right, (1,))


def test_releasing_more_than_x_leaks() -> None:
    left, right = [(1, 1), (4, 1)], [(0, 0), (0, 0)]  # sums of x agree, sums of V do not
    assert leaks(replace(several_owners(2, (0, 1)), released_entries=2), left, right)


@pytest.mark.parametrize(
    ("ring", "committee"),
    [(FIELD_5, THREE), (FIELD_7, FIVE), (FIELD_7, FIVE_OF_TWO)],
    ids=str,
)
def test_one_server_more_or_an_opened_package_tells_everything(
    ring: Ring, committee: Committee
) -> None:
    scenario = one_owner(ring, committee, ONE_BIT)
    for coalition in islice(coalitions(committee, extra=1), 3):
        assert leaks(scenario, [(0, 0)], [(1, 1)], coalition)


def test_an_invalid_vector_is_told_from_a_valid_one() -> None:
    """Zero knowledge is for valid owners: c(0) shows what a rejected one did wrong."""
    assert leaks(one_owner(FIELD_5, THREE, ONE_BIT), [(0, 0)], [(2, 1)])
