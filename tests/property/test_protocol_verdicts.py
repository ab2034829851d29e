"""Verdicts do not depend on the order of evidence, and keep their promises for any lies."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_words import honest_words, polynomial, random_element, random_word, value
from protocol_world import Case, World

from omnilytics.algebra.extension import ExtensionElement
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.protocol.resolve import Evidence, resolve
from omnilytics.protocol.settlement import PayoutState, build_transcript
from omnilytics.sharing.codewords import is_joint_codeword
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.validity.word import Word
from omnilytics.wire.hashing import EMPTY_ROOT

KINDS = ("honest", "invalid", "misdealt", "noise")


@cache
def parameters_of(committee: Committee, max_owners: int) -> TaskParameters:
    return replace(World(committee).parameters, max_owners=max_owners)


def column(committee: Committee, kind: str, random: Random) -> dict[int, Word]:
    """Return the words that honest servers give for an owner of this kind."""
    words = honest_words(committee, random)
    t = committee.privacy
    if kind == "invalid":
        c, d = polynomial(random, 2 * t, ExtensionElement(1, 0)), polynomial(random, t)
        words = {point: Word(value(c, point), value(d, point)) for point in committee.points}
    if kind == "misdealt":
        words[random.choice(committee.points)] = random_word(random)
    if kind == "noise":
        words = {point: random_word(random) for point in committee.points}
    return words


scenarios = st.fixed_dictionaries(
    {
        "committee": st.sampled_from([entry for entry in OFFERED if entry.servers <= 11]),
        "kinds": st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
        "seed": st.integers(0, 2**32),
        "faulty": st.integers(0, 3),
        "max_owners": st.integers(1, 6),
    }
)


def make_evidence(
    committee: Committee, kinds: list[str], seed: int, faulty: int
) -> tuple[Evidence, dict[int, str]]:
    """Return evidence with up to `faulty` servers that lie, are silent, or signed twice."""
    random = Random(seed)
    owners = tuple(Address(random.randbytes(20)) for _ in kinds)
    columns = [column(committee, kind, random) for kind in kinds]
    servers = random.sample(committee.points, min(faulty, committee.servers))
    behaviour = {server: random.choice(["lies", "silent", "convicted"]) for server in servers}
    table: dict[int, tuple[Word, ...]] = {}
    for server in committee.points:
        if behaviour.get(server) == "silent":
            continue
        table[server] = tuple(
            Word(entry[server].c, random_element(random))
            if behaviour.get(server) == "lies" and random.random() < 0.7
            else entry[server]
            for entry in columns
        )
    honest = {server for server in committee.points if server not in behaviour}
    truth = {
        (owner, server): table[server][place] == columns[place][server]
        for place, owner in enumerate(owners)
        for server in table
    }
    evidence = Evidence(
        owners=owners,
        words=table,
        convicted=frozenset(s for s, kind in behaviour.items() if kind == "convicted"),
        # honest servers open; a liar's package never gives the word it signed
        opening_convicts=lambda owner, server: server in honest and truth[owner, server],
        seed=Hash32(random.randbytes(32)),
    )
    return evidence, behaviour


@given(scenarios, st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_the_order_of_evidence_does_not_matter(scenario: dict[str, object], order: Random) -> None:
    committee, kinds = scenario["committee"], scenario["kinds"]
    assert isinstance(committee, Committee)
    assert isinstance(kinds, list)
    seed, faulty, most = scenario["seed"], scenario["faulty"], scenario["max_owners"]
    assert isinstance(seed, int)
    assert isinstance(faulty, int)
    assert isinstance(most, int)
    parameters = parameters_of(committee, most)
    evidence, _ = make_evidence(committee, kinds, seed, faulty)
    outcome = resolve(evidence, parameters)
    servers, places = list(evidence.words), list(range(len(evidence.owners)))
    order.shuffle(servers)
    order.shuffle(places)
    shuffled = replace(
        evidence,
        owners=tuple(evidence.owners[place] for place in places),
        words={
            server: tuple(evidence.words[server][place] for place in places) for server in servers
        },
    )
    again = resolve(shuffled, parameters)
    assert (again.accepted, again.rejected, again.standing, again.faults) == (
        outcome.accepted,
        outcome.rejected,
        outcome.standing,
        outcome.faults,
    )
    assert set(again.accused) == set(outcome.accused)


@given(scenarios)
@settings(max_examples=100, deadline=None)
def test_promises_hold_within_the_error_budget(scenario: dict[str, object]) -> None:
    committee, kinds = scenario["committee"], scenario["kinds"]
    assert isinstance(committee, Committee)
    assert isinstance(kinds, list)
    seed, faulty = scenario["seed"], scenario["faulty"]
    assert isinstance(seed, int)
    assert isinstance(faulty, int)
    faulty = min(faulty, committee.errors)
    evidence, behaviour = make_evidence(committee, kinds, seed, faulty)
    outcome = resolve(evidence, parameters_of(committee, 10))
    by_kind = dict(zip(evidence.owners, kinds, strict=True))
    # no honest server is at fault or out of V; honest owners are paid, others are not
    honest = set(committee.points) - set(behaviour)
    assert not set(outcome.faults) & honest
    assert honest <= set(outcome.standing)
    for owner, kind in by_kind.items():
        if kind == "honest":
            assert owner in outcome.accepted
        if kind in ("invalid", "noise"):
            assert owner in outcome.rejected
        if kind == "misdealt" and owner in outcome.accepted:
            # only if the misdealt server is one of the faulty ones: its word does not count
            assert behaviour
    assert set(outcome.accepted) | set(outcome.rejected) == set(evidence.owners)
    assert not set(outcome.accepted) & set(outcome.rejected)


@given(scenarios)
@settings(max_examples=100, deadline=None)
def test_accepted_words_always_lie_on_a_codeword(scenario: dict[str, object]) -> None:
    """Whatever n servers do, beyond the budget too: V and A are such that `settle` will pass."""
    committee, kinds = scenario["committee"], scenario["kinds"]
    assert isinstance(committee, Committee)
    assert isinstance(kinds, list)
    seed, faulty, most = scenario["seed"], scenario["faulty"], scenario["max_owners"]
    assert isinstance(seed, int)
    assert isinstance(faulty, int)
    assert isinstance(most, int)
    evidence, _ = make_evidence(committee, kinds, seed, faulty)
    outcome = resolve(evidence, parameters_of(committee, most))
    assert len(outcome.accepted) <= most
    for owner in outcome.accepted:
        place = evidence.owners.index(owner)
        words = {server: evidence.words[server][place] for server in outcome.standing}
        assert len(words) >= committee.quorum
        assert is_joint_codeword(words, committee)
    assert not set(outcome.standing) & (set(outcome.faults) | evidence.convicted)


@cache
def _case() -> Case:
    world = World(Committee(7, 2, 1), seed=81)
    return world.seal(*(world.submit() for _ in range(3)))


@given(st.permutations(range(1, 8)), st.permutations(range(6)), st.integers(0, 2))
@settings(max_examples=12, deadline=None)
def test_transcripts_do_not_depend_on_the_order_of_evidence(
    servers: list[int], openings: list[int], convictions: int
) -> None:
    case = _case()
    words = [case.entries[server] for server in servers]
    opened = [(owner, server) for owner in case.owners for server in (3, 4)]
    convicted = [case.conviction(server) for server in servers if server <= convictions]
    transcript, _ = build_transcript(
        case.sealed,
        words,
        convicted,
        {opened[index]: case.opening(*opened[index]) for index in openings},
        PayoutState({}, EMPTY_ROOT),
    )
    assert transcript.encode() == _straight(convictions)


@cache
def _straight(convictions: int) -> bytes:
    case = _case()
    opened = [(owner, server) for owner in case.owners for server in (3, 4)]
    transcript, _ = build_transcript(
        case.sealed,
        case.words(),
        [case.conviction(server) for server in range(1, convictions + 1)],
        {place: case.opening(*place) for place in opened},
        PayoutState({}, EMPTY_ROOT),
    )
    return transcript.encode()
