"""Signed words and the evidence of two words (protocol.md 6.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from protocol_world import Case, World, altered

from omnilytics.algebra.field import MODULUS
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Hash32, Round
from omnilytics.protocol.words import check_server_words, check_two_words, find_two_words
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.validity.word import Word
from omnilytics.wire.transcript import Manifest, ServerWords, TwoWords

OTHER = Hash32(b"o" * 32)


@pytest.fixture(scope="module")
def case() -> Case:
    world = World(seed=31)
    return world.seal(*(world.submit() for _ in range(3)))


def check(entry: ServerWords, case: Case, **other: Hash32 | Manifest) -> tuple[Word, ...]:
    sealed = case.sealed
    under: dict[str, Hash32 | Manifest] = {
        "manifest": sealed.manifest,
        "submissions_root": sealed.submissions_root,
        "seed": sealed.seed,
    }
    return check_server_words(
        entry,
        parameters=sealed.parameters,
        domain=sealed.context.domain,
        **(under | other),  # type: ignore[arg-type]
    )


def check_evidence(evidence: TwoWords, case: Case, **other: Hash32 | Manifest) -> None:
    sealed = case.sealed
    under: dict[str, Hash32 | Manifest] = {
        "manifest": sealed.manifest,
        "submissions_root": sealed.submissions_root,
        "seed": sealed.seed,
    }
    check_two_words(
        evidence,
        parameters=sealed.parameters,
        domain=sealed.context.domain,
        **(under | other),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_every_servers_words_check(committee: Committee) -> None:
    world = World(committee, seed=32)
    case = world.seal(world.submit(), world.submit())
    for server, entry in case.entries.items():
        words = check(entry, case)
        assert tuple(word.to_bytes() for word in words) == case.honest_words[server]
        again = ServerWords.decode(entry.encode(), max_bytes=1 << 16)
        assert check(again, case) == words


def test_words_under_another_challenge_are_refused(case: Case) -> None:
    entry = case.entries[2]
    for changes in ({"seed": OTHER}, {"submissions_root": OTHER}):
        with pytest.raises(VerificationError, match="another challenge"):
            check(entry.model_copy(update=changes), case)
        with pytest.raises(VerificationError, match="another challenge"):
            check(entry, case, **changes)
        relabelled = entry.model_copy(update=changes)  # says what is wanted, was signed for less
        with pytest.raises(VerificationError, match="Word was signed by another key"):
            check(relabelled, case, **changes)


Change = Callable[[ServerWords], dict[str, object]]
CHANGES: dict[str, Change] = {
    "one word fewer": lambda e: {"words": e.words[:-1]},
    "one signature fewer": lambda e: {"signatures": e.signatures[:-1]},
    "both fewer": lambda e: {"words": e.words[:-1], "signatures": e.signatures[:-1]},
    "one word more": lambda e: {"words": (*e.words, e.words[0])},
    "both more": lambda e: {
        "words": (*e.words, e.words[0]),
        "signatures": (*e.signatures, e.signatures[0]),
    },
    "nothing": lambda _: {"words": (), "signatures": ()},
    "altered word": lambda e: {"words": (altered(e.words[0]), *e.words[1:])},
    "last word altered": lambda e: {"words": (*e.words[:-1], altered(e.words[-1], 3))},
    "words exchanged": lambda e: {
        "words": e.words[::-1],
        "signatures": e.signatures[::-1],
    },
    "another server's name": lambda _: {"server": 3},
    "no such server": lambda _: {"server": 6},
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_words_are_refused(case: Case, name: str) -> None:
    entry = case.entries[2]
    with pytest.raises(VerificationError):
        check(entry.model_copy(update=CHANGES[name](entry)), case)


def test_a_signed_word_that_is_not_canonical_is_refused(case: Case) -> None:
    word = Hash32(MODULUS.to_bytes(8, "big") + case.honest_words[1][0][8:])
    entry = case.sign(1, [word, *case.honest_words[1][1:]])
    with pytest.raises(VerificationError, match="not below p"):
        check(entry, case)


def test_words_of_another_round_are_refused(case: Case) -> None:
    manifest = case.sealed.manifest.model_copy(
        update={"round": Round(case.sealed.manifest.round + 1)}
    )
    with pytest.raises(VerificationError, match="Word was signed by another key"):
        check(case.entries[1], case, manifest=manifest)


# two words


@pytest.mark.parametrize("limb", range(4))
def test_two_different_words_convict_whatever_differs(case: Case, limb: int) -> None:
    words = list(case.honest_words[4])
    words[1] = altered(words[1], limb)
    lie = case.sign(4, words)
    entries = [case.entries[1], case.entries[4], lie, case.entries[5]]
    for order in (entries, entries[::-1]):
        (evidence,) = find_two_words(case.sealed.manifest, order)
        assert (evidence.server, evidence.owner) == (4, case.owners[1])
        assert evidence.first_word != evidence.second_word
        check_evidence(evidence, case)


def test_repeating_the_same_words_convicts_nobody(case: Case) -> None:
    entries = [*case.entries.values()] * 2
    assert find_two_words(case.sealed.manifest, entries) == []


def test_every_double_signer_is_found_once(case: Case) -> None:
    entries = [*case.entries.values(), case.lie(5), case.lie(2), case.lie(2, [case.owners[0]])]
    found = find_two_words(case.sealed.manifest, entries)
    assert [evidence.server for evidence in found] == [2, 5]
    for evidence in found:
        check_evidence(evidence, case)


def forgeries(case: Case) -> dict[str, dict[str, object]]:
    """Return changes that make true evidence false."""
    evidence = case.conviction(3)
    other = case.conviction(4)
    return {
        "the same word": {
            "second_word": evidence.first_word,
            "second_signature": evidence.first_signature,
        },
        "an unsigned word": {"second_word": altered(evidence.first_word, 2)},
        "an unsigned first word": {"first_word": altered(evidence.first_word, 2)},
        "signatures exchanged": {
            "first_signature": evidence.second_signature,
            "second_signature": evidence.first_signature,
        },
        "another server": {"server": 4},
        "another server's second word": {
            "second_word": other.second_word,
            "second_signature": other.second_signature,
        },
        "another owner": {"owner": case.owners[1]},
        "an unsealed owner": {"owner": bytes(20)},
        "no such server": {"server": 6},
    }


@pytest.mark.parametrize(
    "name",
    [
        "the same word",
        "an unsigned word",
        "an unsigned first word",
        "signatures exchanged",
        "another server",
        "another server's second word",
        "another owner",
        "an unsealed owner",
        "no such server",
    ],
)
def test_forged_evidence_is_refused(case: Case, name: str) -> None:
    evidence = case.conviction(3)
    check_evidence(evidence, case)
    with pytest.raises(VerificationError):
        check_evidence(evidence.model_copy(update=forgeries(case)[name]), case)


def test_evidence_of_another_challenge_does_not_convict(case: Case) -> None:
    evidence = case.conviction(3)
    changes: list[dict[str, Hash32 | Manifest]] = [{"seed": OTHER}, {"submissions_root": OTHER}]
    for change in changes:
        with pytest.raises(VerificationError, match="Word was signed by another key"):
            check_evidence(evidence, case, **change)


def test_words_for_two_owners_do_not_convict(case: Case) -> None:
    """Two different words under two keys are what every honest server signs."""
    entry = case.entries[3]
    evidence = TwoWords(
        server=3,
        owner=case.owners[0],
        first_word=entry.words[0],
        first_signature=entry.signatures[0],
        second_word=entry.words[1],
        second_signature=entry.signatures[1],
    )
    with pytest.raises(VerificationError, match="Word was signed by another key"):
        check_evidence(evidence, case)


def test_words_of_two_rounds_do_not_convict() -> None:
    """After a voided round an owner may share the same vector again: other seed, other word."""
    world = World(seed=33)
    key = world.new_key()
    first = world.seal(world.submit(key))
    world.next_round()
    second = world.seal(world.submit(key))
    one, two = first.entries[1], second.entries[1]
    evidence = TwoWords(
        server=1,
        owner=key.address,
        first_word=one.words[0],
        first_signature=one.signatures[0],
        second_word=two.words[0],
        second_signature=two.signatures[0],
    )
    assert one.words != two.words
    for case in (first, second):
        with pytest.raises(VerificationError, match="Word was signed by another key"):
            check_evidence(evidence, case)


def test_the_word_is_bound_to_the_chain(case: Case) -> None:
    sealed = case.sealed
    domain = replace(sealed.context.domain, chain_id=1)
    with pytest.raises(VerificationError, match="Word was signed by another key"):
        check_server_words(
            case.entries[1],
            manifest=sealed.manifest,
            submissions_root=sealed.submissions_root,
            seed=sealed.seed,
            parameters=sealed.parameters,
            domain=domain,
        )
