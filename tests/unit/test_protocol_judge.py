"""Judging real evidence: signed words and openings of real packages (protocol.md 6.6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from protocol_cheats import CHEATS, cheat, lying_words
from protocol_world import Case, Submission, World, altered

from omnilytics.demo.cheats import FalseNormOwner, LyingServer, MisdealingOwner, WrappingOwner
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address
from omnilytics.protocol.package import check_package, opening_convicts
from omnilytics.protocol.resolve import Resolution
from omnilytics.protocol.settlement import judge
from omnilytics.sharing.committee import DEFAULT, OFFERED, Committee
from omnilytics.validity.word import Word
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import ServerWords

OFF = "sent words that are off the owners' codewords"
CONSTRAINT = "the shares are consistent, but a constraint of the norm statement does not hold"
DISAGREE = "fewer than n - e servers hold shares that agree"
WITH_ERRORS = [committee for committee in OFFERED if committee.errors]
Openings = Mapping[tuple[Address, int], Opening]


def verdict(
    case: Case, *lies: ServerWords, without: tuple[int, ...] = (), openings: Openings | None = None
) -> Resolution:
    return judge(case.sealed, case.words(*lies, without=without), [], openings or {})


def opened_by_the_accused(case: Case, *lies: ServerWords) -> dict[tuple[Address, int], Opening]:
    """Return what accused servers open: the package, if it gives the word they signed."""
    signed = {entry.server: entry for entry in case.words(*lies)}
    return {
        (owner, server): case.opening(owner, server)
        for owner, server in verdict(case, *lies).accused
        if signed[server].words == case.honest_words[server]
    }


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_honest_rounds_accept_everybody(committee: Committee) -> None:
    world = World(committee, seed=41)
    case = world.seal(*(world.submit() for _ in range(3)))
    outcome = verdict(case)
    assert outcome.accepted == case.owners
    assert outcome.standing == committee.points
    assert (outcome.rejected, outcome.faults, outcome.accused) == ({}, {}, ())


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0], ids=str)
def test_short_and_long_vectors_are_accepted(scale: float) -> None:
    world = World(seed=42)
    key = world.new_key()
    vector = world.vector(scale) if scale else np.zeros(32, dtype=np.int64)
    case = world.seal(world.submit(key, world.packages(key, vector)))
    assert verdict(case).accepted == (key.address,)


# cheating owners


@pytest.mark.parametrize("kind", [FalseNormOwner, WrappingOwner])
@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_invalid_vectors_are_rejected_in_every_committee(
    committee: Committee, kind: type[FalseNormOwner | WrappingOwner]
) -> None:
    world = World(committee, seed=43, components=(30,))
    bad = cheat(kind, world)
    case = world.seal(world.submit(), bad, world.submit())
    outcome = verdict(case)
    assert outcome.rejected == {bad.owner: CONSTRAINT}
    assert (outcome.faults, outcome.standing) == ({}, committee.points)


@pytest.mark.parametrize("kind", [FalseNormOwner, WrappingOwner])
def test_invalid_vectors_are_never_accepted_in_many_trials(
    kind: type[FalseNormOwner | WrappingOwner],
) -> None:
    """Other vectors, challenges and sizes each time; a liar on the side never helps."""
    random = np.random.default_rng(44)
    for trial in range(40):
        world = World(seed=1_000 + trial, components=(int(random.integers(2, 50)),))
        bad = cheat(kind, world, scale=float(random.uniform(0.3, 1)))
        case = world.seal(world.submit(), bad)
        liar = int(random.integers(1, 6))
        for lies in ((), (lying_words(case, liar),), (case.lie(liar, [bad.owner]),)):
            outcome = verdict(case, *lies)
            assert outcome.rejected == {bad.owner: CONSTRAINT}
            assert outcome.accepted == tuple(owner for owner in case.owners if owner != bad.owner)


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
def test_misdealing_owner_is_convicted_by_the_opening_and_not_the_server(
    committee: Committee,
) -> None:
    world = World(committee, seed=45)
    bad = cheat(MisdealingOwner, world)
    case = world.seal(world.submit(), bad, world.submit())
    victim = committee.privacy + 1
    # the share is what the owner committed to: the server had to give its receipt
    check_package(
        bad.packages[victim - 1],
        server=victim,
        parameters=world.parameters,
        context=world.context,
    )
    openings = opened_by_the_accused(case)
    assert list(openings) == [(bad.owner, victim)]
    outcome = verdict(case, openings=openings)
    reason = f"dealt server {victim} a share that is off its own codeword"
    assert outcome.rejected == {bad.owner: reason}
    assert (outcome.faults, outcome.standing) == ({}, committee.points)
    # without the opening the server would be blamed: that is why it opens
    assert verdict(case).faults == {victim: OFF}


@pytest.mark.parametrize("committee", [entry for entry in OFFERED if not entry.errors], ids=str)
def test_misdealing_voids_its_own_submission_where_e_is_zero(committee: Committee) -> None:
    world = World(committee, seed=46)
    bad = cheat(MisdealingOwner, world)
    case = world.seal(world.submit(), bad)
    outcome = verdict(case)
    assert outcome.rejected == {bad.owner: DISAGREE}
    assert (outcome.faults, outcome.standing) == ({}, committee.points)


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
def test_misdealing_in_the_presence_of_a_liar_is_never_paid(committee: Committee) -> None:
    world = World(committee, seed=47)
    bad = cheat(MisdealingOwner, world)
    case = world.seal(world.submit(), bad)
    victim = committee.privacy + 1
    for liar in set(committee.points) - {victim}:
        lies = lying_words(case, liar)
        outcome = verdict(case, lies, openings=opened_by_the_accused(case, lies))
        assert bad.owner not in outcome.accepted
        assert len(outcome.accepted) == 1
        assert outcome.faults == {liar: OFF}
        want = f"dealt server {victim} a" if committee.errors > 1 else DISAGREE
        assert outcome.rejected[bad.owner].startswith(want)


def test_all_cheats_at_once_in_many_trials() -> None:
    for trial in range(25):
        world = World(Committee(7, 2, 1), seed=2_000 + trial, components=(25,))
        honest = [world.submit() for _ in range(3)]
        bad = {name: cheat(kind, world) for name, kind in CHEATS.items()}
        case = world.seal(*honest, *bad.values())
        liar = 4 + trial % 4  # server 3 is the one that is misdealt
        lies = lying_words(case, liar)
        outcome = verdict(case, lies, openings=opened_by_the_accused(case, lies))
        assert set(outcome.accepted) == {entry.owner for entry in honest}
        assert outcome.rejected == {
            bad["false norm"].owner: CONSTRAINT,
            bad["wrapping"].owner: CONSTRAINT,
            bad["misdealing"].owner: DISAGREE,
        }
        assert outcome.faults == {liar: OFF}
        assert liar not in outcome.standing
        honest_round = verdict(case, openings=opened_by_the_accused(case))
        assert honest_round.rejected[bad["misdealing"].owner].startswith("dealt server 3")
        assert honest_round.faults == {}


# lying servers


def test_the_demos_liar_lies() -> None:
    world = World(seed=48)
    assert world.context.round % 2 == 0
    case = world.seal(world.submit())
    assert lying_words(case, 1).words != case.honest_words[1]
    assert LyingServer.__mro__[1].__name__ == "Server"


@pytest.mark.parametrize("committee", WITH_ERRORS, ids=str)
def test_e_liars_are_at_fault_and_not_in_v(committee: Committee) -> None:
    world = World(committee, seed=49)
    case = world.seal(world.submit(), world.submit())
    liars = committee.points[-committee.errors :]
    outcome = verdict(case, *(lying_words(case, liar) for liar in liars))
    assert outcome.accepted == case.owners
    assert outcome.faults == dict.fromkeys(liars, OFF)
    assert outcome.standing == committee.points[: -committee.errors]
    assert not outcome.v_bitmap & sum(1 << (liar - 1) for liar in liars)


def test_a_lie_about_one_owner_is_enough() -> None:
    world = World(seed=50)
    case = world.seal(*(world.submit() for _ in range(3)))
    outcome = verdict(case, case.lie(3, [case.owners[1]]))
    assert outcome.accepted == case.owners
    assert outcome.faults == {3: OFF}
    assert outcome.accused == ((case.owners[1], 3),)


def test_a_lying_server_cannot_blame_the_owner_with_the_true_package() -> None:
    """The package is the owner's, but it does not give the word that was signed."""
    world = World(seed=51)
    case = world.seal(world.submit(), world.submit())
    openings = {(owner, 2): case.opening(owner, 2) for owner in case.owners}
    outcome = verdict(case, case.lie(2), openings=openings)
    assert outcome.accepted == case.owners
    assert outcome.faults == {2: OFF}


def _other_owner(case: Case, owner: Address) -> Opening:
    other = next(entry for entry in case.owners if entry != owner)
    return case.opening(other, 2)


def _content(case: Case, owner: Address) -> Opening:
    opening = case.opening(owner, 2)
    content = bytes([opening.content[0] ^ 1]) + opening.content[1:]
    return opening.model_copy(update={"content": content})


FALSE_OPENINGS: dict[str, Callable[[Case, Address], Opening]] = {
    "another owner's package": _other_owner,
    "another server's package": lambda case, owner: case.opening(owner, 3),
    "a seeded server's package": lambda case, owner: case.opening(owner, 1),
    "altered content": _content,
    "cut content": lambda case, owner: case.opening(owner, 2).model_copy(
        update={"content": case.opening(owner, 2).content[:-8]}
    ),
    "another blind": lambda case, owner: case.opening(owner, 2).model_copy(
        update={"blind": bytes(32)}
    ),
    "a seed": lambda case, owner: case.opening(owner, 2).model_copy(
        update={"seed": bytes(32), "content": b""}
    ),
}


@pytest.mark.parametrize("name", FALSE_OPENINGS)
def test_a_false_opening_does_not_convict_the_owner(name: str) -> None:
    world = World(seed=52)
    case = world.seal(world.submit(), world.submit())
    owner = case.owners[0]
    openings = {(owner, 2): FALSE_OPENINGS[name](case, owner)}
    outcome = verdict(case, case.lie(2), openings=openings)
    assert outcome.accepted == case.owners
    assert outcome.faults == {2: OFF}


def test_a_package_of_the_same_owner_that_was_not_sealed_does_not_convict() -> None:
    """The server signs the word of the owner's other submission and opens that one."""
    world = World(seed=53)
    key = world.new_key()
    sealed, unsealed = world.submit(key), world.submit(key)
    case, other = world.seal(sealed), world.seal(unsealed)
    challenge = case.sealed.challenge
    other.sealed = other.sealed.__class__(
        **{**other.sealed.__dict__, "seed": case.sealed.seed, "challenge": challenge}
    )
    lie = case.sign(2, other.honest_words[2])
    assert lie.words != case.honest_words[2]
    openings = {(key.address, 2): other.opening(key.address, 2)}
    outcome = verdict(case, lie, openings=openings)
    assert outcome.accepted == (key.address,)
    assert outcome.faults == {2: OFF}


def convicts(case: Case, submission: Submission, server: int, word: Word) -> bool:
    return opening_convicts(
        submission.packages[server - 1],
        server=server,
        signed_word=word,
        certificate=submission.certificate,
        parameters=case.sealed.parameters,
        context=case.sealed.context,
        challenge=case.sealed.challenge,
    )


def test_an_opening_convicts_only_with_the_signed_word() -> None:
    world = World(seed=54)
    submission = world.submit()
    case = world.seal(submission)
    for server in world.committee.points:
        word = case.honest_words[server][0]
        assert convicts(case, submission, server, Word.from_bytes(word))
        for limb in range(4):
            assert not convicts(case, submission, server, Word.from_bytes(altered(word, limb)))


# the form of the evidence


def test_words_of_one_server_must_stand_once() -> None:
    world = World(seed=55)
    case = world.seal(world.submit())
    with pytest.raises(VerificationError, match="two sets of words"):
        judge(case.sealed, [*case.words(), case.entries[3]], [], {})
    with pytest.raises(VerificationError, match="two sets of words"):
        judge(case.sealed, [*case.words(), case.lie(3)], [], {})


def test_unsigned_words_and_convictions_are_refused() -> None:
    world = World(seed=56)
    case = world.seal(world.submit())
    stolen = case.entries[3].model_copy(update={"server": 4})
    with pytest.raises(VerificationError, match="Word was signed by another key"):
        judge(case.sealed, case.words(stolen), [], {})
    forged = case.conviction(3).model_copy(update={"server": 4})
    with pytest.raises(VerificationError, match="Word was signed by another key"):
        judge(case.sealed, case.words(), [forged], {})


@pytest.mark.parametrize("version", ["true", "false"])
def test_a_convicted_server_is_dropped_with_either_set_of_words(version: str) -> None:
    world = World(DEFAULT, seed=57)
    case = world.seal(world.submit(), world.submit())
    shown = case.entries[5] if version == "true" else case.lie(5)
    outcome = judge(case.sealed, case.words(shown), [case.conviction(5)], {})
    assert outcome.accepted == case.owners
    assert outcome.standing == (1, 2, 3, 4)
    assert outcome.faults == {5: "signed two different words for one owner"}
    assert outcome.accused == ()
    void = judge(case.sealed, case.words(shown, without=[1]), [case.conviction(5)], {})
    assert (void.accepted, void.standing) == ((), (2, 3, 4))
