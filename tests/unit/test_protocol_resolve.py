"""The verdict as a function of words alone (protocol.md 6.6), on words made from polynomials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import pytest
from protocol_words import honest_words, polynomial, random_element, random_word, value
from protocol_world import World

from omnilytics.algebra import extension
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.protocol.resolve import Evidence, Resolution, resolve
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.validity.word import Word

WITH_ERRORS = [committee for committee in OFFERED if committee.errors]
WITHOUT_ERRORS = [committee for committee in OFFERED if not committee.errors]
SEED = Hash32(b"s" * 32)
OFF = "sent words that are off the owners' codewords"
CONSTRAINT = "the shares are consistent, but a constraint of the norm statement does not hold"
DISAGREE = "fewer than n - e servers hold shares that agree"
TOO_FEW = "fewer than n - e servers sent words"


def parameters_of(committee: Committee, max_owners: int = 100) -> TaskParameters:
    return replace(World(committee).parameters, max_owners=max_owners)


def evidence_of(
    columns: Sequence[Mapping[int, Word]],
    *,
    convicted: Sequence[int] = (),
    opened: Sequence[tuple[Address, int]] = (),
    seed: Hash32 = SEED,
) -> Evidence:
    """Return evidence with one column (server -> word) for each owner, all of the same servers."""
    owners = tuple(Address(bytes([place + 1]) * 20) for place in range(len(columns)))
    return Evidence(
        owners=owners,
        words={server: tuple(column[server] for column in columns) for server in columns[0]},
        convicted=frozenset(convicted),
        opening_convicts=lambda owner, server: (owner, server) in opened,
        seed=seed,
    )


def settle(
    committee: Committee, columns: Sequence[Mapping[int, Word]], **more: object
) -> tuple[Resolution, tuple[Address, ...]]:
    evidence = evidence_of(columns, **more)  # type: ignore[arg-type]
    return resolve(evidence, parameters_of(committee)), evidence.owners


def without(column: Mapping[int, Word], *servers: int) -> dict[int, Word]:
    return {server: word for server, word in column.items() if server not in servers}


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_honest_words_accept_everybody(committee: Committee) -> None:
    random = Random(1)
    outcome, owners = settle(committee, [honest_words(committee, random) for _ in range(4)])
    assert outcome.accepted == owners
    assert outcome.standing == committee.points
    assert outcome.v_bitmap == (1 << committee.servers) - 1
    assert (outcome.rejected, outcome.faults, outcome.accused) == ({}, {}, ())


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
@pytest.mark.parametrize("limb", range(4))
def test_a_liar_is_at_fault_whichever_limb_it_alters(committee: Committee, limb: int) -> None:
    random = Random(limb)
    columns = [honest_words(committee, random) for _ in range(3)]
    for liar in committee.points:
        lies = [dict(column) for column in columns]
        c, d = columns[1][liar]
        limbs = [*c, *d]
        limbs[limb] ^= 1
        lies[1][liar] = Word(ExtensionElement(*limbs[:2]), ExtensionElement(*limbs[2:]))
        outcome, owners = settle(committee, lies)
        assert outcome.accepted == owners
        assert outcome.faults == {liar: OFF}
        assert outcome.accused == ((owners[1], liar),)
        assert outcome.standing == tuple(sorted(set(committee.points) - {liar}))


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
def test_e_silent_servers_do_not_matter_and_one_more_voids(committee: Committee) -> None:
    random = Random(2)
    columns = [honest_words(committee, random) for _ in range(2)]
    absent = tuple(random.sample(committee.points, committee.errors + 1))
    outcome, owners = settle(committee, [without(column, *absent[1:]) for column in columns])
    assert outcome.accepted == owners
    assert outcome.standing == tuple(sorted(set(committee.points) - set(absent[1:])))
    assert outcome.faults == {}  # silence is never a fault
    outcome, owners = settle(committee, [without(column, *absent) for column in columns])
    assert outcome.accepted == ()
    assert outcome.rejected == dict.fromkeys(owners, TOO_FEW)
    assert outcome.faults == {}


@pytest.mark.parametrize("committee", WITHOUT_ERRORS, ids=str)
def test_honest_committees_void_on_silence_or_conflict(committee: Committee) -> None:
    random = Random(3)
    column = honest_words(committee, random)
    outcome, _ = settle(committee, [without(column, 2)])
    assert (outcome.accepted, outcome.faults) == ((), {})
    outcome, _ = settle(committee, [column | {2: random_word(random)}])
    assert (outcome.accepted, outcome.faults, outcome.accused) == ((), {}, ())


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
def test_convicted_servers_are_dropped_even_with_good_words(committee: Committee) -> None:
    random = Random(4)
    columns = [honest_words(committee, random) for _ in range(2)]
    convicted = random.choice(committee.points)
    outcome, owners = settle(committee, columns, convicted=[convicted])
    assert outcome.accepted == owners
    assert convicted not in outcome.standing
    assert not outcome.v_bitmap >> (convicted - 1) & 1
    assert outcome.faults == {convicted: "signed two different words for one owner"}


def test_convicted_and_lying_together_exceed_the_budget() -> None:
    committee = Committee(5, 1, 1)
    random = Random(5)
    column = honest_words(committee, random) | {2: random_word(random)}
    outcome, _ = settle(committee, [column], convicted=[1])
    assert outcome.accepted == ()
    assert outcome.standing == (2, 3, 4, 5)  # nobody can say who of them lies
    assert list(outcome.faults) == [1]


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_a_constraint_that_does_not_hold_rejects_with_its_reason(committee: Committee) -> None:
    random = Random(6)
    t = committee.privacy
    c, d = polynomial(random, 2 * t, ExtensionElement(0, 1)), polynomial(random, t)
    column = {point: Word(value(c, point), value(d, point)) for point in committee.points}
    outcome, owners = settle(committee, [column, honest_words(committee, random)])
    assert outcome.rejected == {owners[0]: CONSTRAINT}
    assert outcome.accepted == owners[1:]
    assert (outcome.faults, outcome.standing) == ({}, committee.points)


@pytest.mark.parametrize("committee", OFFERED, ids=str)
@pytest.mark.parametrize("part", ["c", "d"])
def test_a_degree_too_high_rejects(committee: Committee, part: str) -> None:
    random = Random(7)
    t, zero = committee.privacy, ExtensionElement(0, 0)
    c = polynomial(random, 2 * t + (part == "c"), zero)
    d = polynomial(random, t + (part == "d"))
    column = {point: Word(value(c, point), value(d, point)) for point in committee.points}
    outcome, _ = settle(committee, [column])
    assert outcome.accepted == ()
    assert (outcome.faults, outcome.standing) == ({}, committee.points)


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
def test_c_and_d_that_fit_only_apart_are_rejected(committee: Committee) -> None:
    """One part fits all but e servers, the other all but e others: apart both would pass (!)."""
    random = Random(8)
    n, e = committee.servers, committee.errors
    good = honest_words(committee, random)
    column = dict(good)
    for server in range(1, e + 1):
        column[server] = Word(good[server].c, random_element(random))
    for server in range(n - e + 1, n + 1):
        column[server] = Word(random_element(random), good[server].d)
    outcome, owners = settle(committee, [column, honest_words(committee, random)])
    assert outcome.rejected == {owners[0]: DISAGREE}
    assert outcome.accepted == owners[1:]
    assert (outcome.faults, outcome.accused) == ({}, ())
    for part in ("c", "d"):  # each part alone would have been accepted, with e servers accused
        alone = {
            server: word._replace(**{part: getattr(column[server], part)})
            for server, word in good.items()
        }
        single, owners = settle(committee, [alone])
        assert single.accepted == owners
        assert len(single.accused) == e


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
def test_always_n_minus_e_however_many_words_arrived(committee: Committee) -> None:
    """With e silent, none of the others may be off: arrivals do not lower what is needed (!)."""
    random = Random(9)
    column = honest_words(committee, random)
    column[1] = random_word(random)
    outcome, owners = settle(committee, [without(column, *range(2, committee.errors + 2))])
    assert outcome.rejected == {owners[0]: DISAGREE}
    assert outcome.faults == {}


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
def test_an_opening_that_convicts_moves_the_blame_to_the_owner(committee: Committee) -> None:
    random = Random(10)
    columns = [honest_words(committee, random) for _ in range(3)]
    victim = random.choice(committee.points)
    columns[2][victim] = random_word(random)
    owner = evidence_of(columns).owners[2]
    opened, owners = settle(committee, columns, opened=[(owner, victim)])
    assert opened.rejected == {owner: f"dealt server {victim} a share that is off its own codeword"}
    assert (opened.accepted, opened.faults) == (owners[:2], {})
    assert opened.standing == committee.points
    silent, _ = settle(committee, columns)  # a server that opens nothing admits the fault
    assert (silent.accepted, silent.faults) == (owners, {victim: OFF})


def test_an_opening_about_an_owner_that_nobody_accuses_changes_nothing() -> None:
    committee = Committee(5, 1, 1)
    columns = [honest_words(committee, Random(11)) for _ in range(2)]
    owners = evidence_of(columns).owners
    everything = [(owner, server) for owner in owners for server in committee.points]
    outcome, _ = settle(committee, columns, opened=everything)
    assert outcome.accepted == owners


def test_a_misdealt_and_a_lying_server_are_told_apart() -> None:
    """Server 2 is misdealt by one owner and server 2 lies about another: both are named."""
    committee = Committee(7, 2, 1)
    random = Random(12)
    columns = [honest_words(committee, random) for _ in range(3)]
    columns[0][2] = random_word(random)
    columns[1][2] = random_word(random)
    first = evidence_of(columns).owners[0]
    outcome, owners = settle(committee, columns, opened=[(first, 2)])
    assert list(outcome.rejected) == [first]
    assert outcome.faults == {2: OFF}
    assert outcome.accepted == owners[1:]


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
def test_faults_beyond_the_budget_reject_instead_of_counting_fewer(committee: Committee) -> None:
    """Each owner has n - e that agree, but not the same ones: passing still needs n - e (4)."""
    random = Random(13)
    columns = [honest_words(committee, random) for _ in range(committee.errors + 1)]
    for server, column in enumerate(columns, start=1):
        column[server] = random_word(random)
    outcome, owners = settle(committee, columns)
    assert set(outcome.faults) == set(range(1, committee.errors + 2))
    assert outcome.accepted == ()
    reason = "fewer than n - e servers without fault agree on it"
    assert outcome.rejected == dict.fromkeys(owners, reason)


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
def test_t_deviators_cannot_put_an_honest_server_off_an_honest_codeword(
    committee: Committee,
) -> None:
    """Their best attempt agrees with 2t - 1 honest servers; n >= 3t + e makes that too few (!)."""
    random = Random(14)
    t = committee.privacy
    good = honest_words(committee, random)
    deviators = committee.points[:t]
    spared = committee.points[t : t + 2 * t - 1]
    factor = random_element(random)
    column = dict(good)
    for server in deviators:
        shift = server  # the difference is X * prod (X - spared): degree 2t, zero at 0
        for other in spared:
            shift *= server - other
        word = good[server]
        column[server] = Word(extension.add(word.c, extension.scale(factor, shift)), word.d)
    outcome, _ = settle(committee, [column])
    accused = {server for _, server in outcome.accused} | set(outcome.faults)
    assert accused <= set(deviators)


@pytest.mark.parametrize("committee", [Committee(5, 1, 1), Committee(11, 3, 2)], ids=str)
def test_at_most_max_owners_by_the_seed(committee: Committee) -> None:
    random = Random(15)
    columns = [honest_words(committee, random) for _ in range(6)]
    columns[3] = {server: random_word(random) for server in committee.points}
    parameters = parameters_of(committee, max_owners=3)
    chosen = set()
    for draw in range(40):
        evidence = evidence_of(columns, seed=Hash32(bytes([draw]) * 32))
        outcome = resolve(evidence, parameters)
        assert len(outcome.accepted) == 3
        assert outcome.accepted == tuple(sorted(outcome.accepted))
        assert evidence.owners[3] not in outcome.accepted
        left_out = set(evidence.owners) - set(outcome.accepted) - {evidence.owners[3]}
        reason = "valid, but more owners passed than the task pays for"
        assert {outcome.rejected[owner] for owner in left_out} == {reason}
        assert resolve(evidence, parameters) == outcome
        # which servers are silent does not change who is paid
        silent = random.choice(committee.points)
        partial = evidence_of([without(column, silent) for column in columns], seed=evidence.seed)
        assert resolve(partial, parameters).accepted == outcome.accepted
        chosen.add(outcome.accepted)
    assert len(chosen) > 5  # 10 sets are possible
    assert {owner for accepted in chosen for owner in accepted} == set(evidence.owners) - {
        evidence.owners[3]
    }


def test_exactly_max_owners_are_all_paid() -> None:
    committee = Committee(5, 1, 1)
    columns = [honest_words(committee, Random(16)) for _ in range(3)]
    evidence = evidence_of(columns)
    assert resolve(evidence, parameters_of(committee, max_owners=3)).accepted == evidence.owners
    assert len(resolve(evidence, parameters_of(committee, max_owners=2)).accepted) == 2


def test_a_round_without_words_accepts_nobody() -> None:
    committee = Committee(5, 1, 1)
    evidence = Evidence(
        owners=(Address(bytes(20)),),
        words={},
        convicted=frozenset(),
        opening_convicts=lambda _owner, _server: True,
        seed=SEED,
    )
    outcome = resolve(evidence, parameters_of(committee))
    assert (outcome.accepted, outcome.standing, outcome.v_bitmap) == ((), (), 0)
