"""Transcripts and settlements (protocol.md 6.6 and 6.7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations

import pytest
from protocol_cheats import cheat
from protocol_words import lies_on_polynomial, product
from protocol_world import REWARD_WEI, Case, World, altered

from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS
from omnilytics.demo.cheats import FalseNormOwner, MisdealingOwner
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.resolve import Resolution
from omnilytics.protocol.settlement import (
    PayoutState,
    build_transcript,
    check_complete,
    check_transcript,
    payout_leaves,
    settlement_message,
)
from omnilytics.protocol.words import find_two_words
from omnilytics.sharing.committee import DEFAULT, OFFERED, Committee
from omnilytics.validity.challenge import batch_weight
from omnilytics.validity.word import Word
from omnilytics.wire.hashing import EMPTY_ROOT, merkle_leaf, merkle_root
from omnilytics.wire.messages import Submission as SubmissionMessage
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import OpeningReference, Payout, Transcript

FIRST = PayoutState({}, EMPTY_ROOT)
VICTIM = 2
"""The server that the demo's misdealing owner misdeals in the default committee."""
Openings = Mapping[tuple[Address, int], Opening]


def rich_case(seed: int = 61, committee: Committee = DEFAULT) -> tuple[Case, Address, Address]:
    """Return a round with two honest owners, a false norm and a misdealing owner."""
    world = World(committee, seed=seed, components=(30,))
    false_norm, misdealing = cheat(FalseNormOwner, world), cheat(MisdealingOwner, world)
    case = world.seal(world.submit(), false_norm, world.submit(), misdealing)
    return case, false_norm.owner, misdealing.owner


@pytest.fixture(scope="module")
def rich() -> tuple[Case, Address, Address]:
    return rich_case()


def opening_of(
    case: Case, owner: Address, server: int = VICTIM
) -> dict[tuple[Address, int], Opening]:
    return {(owner, server): case.opening(owner, server)}


def test_a_transcript_follows_from_its_evidence(rich: tuple[Case, Address, Address]) -> None:
    case, false_norm, misdealing = rich
    openings = opening_of(case, misdealing)
    transcript, resolution = build_transcript(case.sealed, case.words(), [], openings, FIRST)
    honest = tuple(owner for owner in case.owners if owner not in (false_norm, misdealing))
    assert transcript.accepted == resolution.accepted == honest
    assert transcript.v_bitmap == 0b11111
    assert transcript.payouts == tuple(
        Payout(owner=owner, cumulative_wei=REWARD_WEI) for owner in honest
    )
    assert transcript.accepted_root() == merkle_root([merkle_leaf(owner) for owner in honest])
    decoded = Transcript.decode(transcript.encode(), max_bytes=1 << 20)
    assert decoded == transcript
    assert decoded.hash() == transcript.hash()
    assert check_transcript(decoded, case.sealed, openings, FIRST) == resolution


Change = Callable[[Transcript], object]
CHANGES: dict[str, tuple[str, Change]] = {
    "accepts a rejected owner": ("accepted", lambda t: t.manifest.owners),
    "rejects an accepted owner": ("accepted", lambda t: t.accepted[1:]),
    "accepts nobody": ("accepted", lambda _: ()),
    "accepted in another order": ("accepted", lambda t: t.accepted[::-1]),
    "accepted twice": ("accepted", lambda t: t.accepted[:1] * 2),
    "a server missing in V": ("v_bitmap", lambda t: t.v_bitmap ^ 1),
    "a server beyond the committee in V": ("v_bitmap", lambda t: t.v_bitmap | 1 << 5),
    "other seed": ("seed", lambda _: bytes(32)),
    "other previous root": ("previous_payouts_root", lambda _: bytes(32)),
    "a payout too high": (
        "payouts",
        lambda t: (
            t.payouts[0].model_copy(update={"cumulative_wei": 2 * REWARD_WEI}),
            *t.payouts[1:],
        ),
    ),
    "a payout missing": ("payouts", lambda t: t.payouts[:-1]),
    "a payout to a stranger": (
        "payouts",
        lambda t: (Payout(owner=Address(bytes(20)), cumulative_wei=1), *t.payouts),
    ),
    "a payout twice": ("payouts", lambda t: (*t.payouts, t.payouts[-1])),
    "words missing": ("words", lambda t: t.words[1:]),
    "no words": ("words", lambda _: ()),
    "words unsorted": ("words", lambda t: t.words[::-1]),
    "words twice": ("words", lambda t: (*t.words, t.words[0])),
    "an altered word": (
        "words",
        lambda t: (
            t.words[0].model_copy(
                update={"words": (altered(t.words[0].words[0]), *t.words[0].words[1:])}
            ),
            *t.words[1:],
        ),
    ),
    "an opening missing": ("openings", lambda _: ()),
    "another opening": (
        "openings",
        lambda t: (t.openings[0].model_copy(update={"opening_hash": bytes(32)}),),
    ),
    "an opening twice": ("openings", lambda t: t.openings * 2),
    "an opening that nobody made": (
        "openings",
        lambda t: (
            *t.openings,
            OpeningReference(owner=t.manifest.owners[-1], server=5, opening_hash=Hash32(bytes(32))),
        ),
    ),
    "an owner missing in the manifest": (
        "manifest",
        lambda t: t.manifest.model_copy(update={"certificates": t.manifest.certificates[1:]}),
    ),
    "another round": (
        "manifest",
        lambda t: t.manifest.model_copy(update={"round": t.manifest.round + 1}),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_altered_field_is_refused(rich: tuple[Case, Address, Address], name: str) -> None:
    case, _, misdealing = rich
    openings = opening_of(case, misdealing)
    transcript, _ = build_transcript(case.sealed, case.words(), [], openings, FIRST)
    field, change = CHANGES[name]
    wrong = transcript.model_copy(update={field: change(transcript)})
    assert wrong != transcript
    with pytest.raises(VerificationError):
        check_transcript(wrong, case.sealed, openings, FIRST)


def test_dropped_words_are_refused_unless_the_outcome_follows_from_the_rest(
    rich: tuple[Case, Address, Address],
) -> None:
    """The field alone cannot be cut; a transcript over fewer words is another one, checked as such.

    That nothing a signer holds is left out is what check_complete is for.
    """
    case, _, misdealing = rich
    openings = opening_of(case, misdealing)
    fewer = case.words(without=[5])
    transcript, resolution = build_transcript(case.sealed, fewer, [], openings, FIRST)
    assert resolution.standing == (1, 2, 3, 4)
    assert check_transcript(transcript, case.sealed, openings, FIRST) == resolution
    with pytest.raises(VerificationError, match="leaves out words"):
        check_complete(transcript, words=case.words(), convictions=[], openings=openings)


@pytest.mark.parametrize(
    "payouts",
    [PayoutState({}, Hash32(bytes(32))), PayoutState({Address(b"x" * 20): 1}, EMPTY_ROOT)],
)
def test_a_checker_with_other_payouts_refuses(
    rich: tuple[Case, Address, Address], payouts: PayoutState
) -> None:
    case, *_ = rich
    transcript, _ = build_transcript(case.sealed, case.words(), [], {}, FIRST)
    with pytest.raises(VerificationError, match="does not follow"):
        check_transcript(transcript, case.sealed, {}, payouts)


def test_a_conviction_added_or_left_out_is_refused(rich: tuple[Case, Address, Address]) -> None:
    case, *_ = rich
    plain, _ = build_transcript(case.sealed, case.words(), [], {}, FIRST)
    convicting, resolution = build_transcript(
        case.sealed, case.words(), [case.conviction(5)], {}, FIRST
    )
    assert resolution.standing == (1, 2, 3, 4)
    assert list(resolution.faults) == [5]
    assert convicting.v_bitmap == 0b01111
    for wrong in (
        plain.model_copy(update={"convictions": convicting.convictions}),
        convicting.model_copy(update={"convictions": ()}),
    ):
        with pytest.raises(VerificationError, match="does not follow"):
            check_transcript(wrong, case.sealed, {}, FIRST)


def test_the_same_evidence_in_any_order_gives_the_same_bytes() -> None:
    case, _, misdealing = rich_case(seed=62, committee=Committee(7, 2, 1))
    openings = opening_of(case, misdealing, 3) | opening_of(case, misdealing, 4)
    entries = [case.entries[7], case.lie(7), case.lie(7, [case.owners[1]])]
    convictions = [
        *find_two_words(case.sealed.manifest, entries[:2]),
        *find_two_words(case.sealed.manifest, entries[::2]),
    ]
    assert convictions[0] != convictions[1]
    made = {
        build_transcript(
            case.sealed,
            words,
            order,
            dict(sorted(openings.items(), reverse=reverse)),
            FIRST,
        )[0].encode()
        for words in (case.words(), case.words()[::-1])
        for order in permutations(convictions)
        for reverse in (False, True)
    }
    assert len(made) == 1


# completeness


def complete(transcript: Transcript, case: Case, **held: object) -> None:
    nothing: dict[str, object] = {"words": [], "convictions": [], "openings": []}
    check_complete(transcript, **(nothing | held))  # type: ignore[arg-type]


def test_a_transcript_may_hold_more_than_the_signer_does(
    rich: tuple[Case, Address, Address],
) -> None:
    case, _, misdealing = rich
    openings = opening_of(case, misdealing)
    transcript, _ = build_transcript(
        case.sealed, case.words(), [case.conviction(5)], openings, FIRST
    )
    complete(transcript, case)
    complete(transcript, case, words=case.words(without=[1, 2]))
    complete(
        transcript,
        case,
        words=case.words(),
        convictions=[case.conviction(5)],
        openings=openings,
    )


def test_omissions_are_refused(rich: tuple[Case, Address, Address]) -> None:
    case, _, misdealing = rich
    transcript, _ = build_transcript(case.sealed, case.words(without=[4]), [], {}, FIRST)
    with pytest.raises(VerificationError, match="leaves out words"):
        complete(transcript, case, words=[case.entries[4]])
    with pytest.raises(VerificationError, match="leaves out"):
        complete(transcript, case, convictions=[case.conviction(5)])
    with pytest.raises(VerificationError, match="leaves out an opening"):
        complete(transcript, case, openings=opening_of(case, misdealing))


def test_a_convicted_server_may_be_there_with_either_words(
    rich: tuple[Case, Address, Address],
) -> None:
    case, *_ = rich
    convictions = [case.conviction(5)]
    transcript, _ = build_transcript(case.sealed, case.words(case.lie(5)), convictions, {}, FIRST)
    complete(transcript, case, words=case.words(), convictions=convictions)


def test_other_words_than_the_signer_holds_leave_those_out(
    rich: tuple[Case, Address, Address],
) -> None:
    """A server that signed two sets shows one to all and the other to the sequencer alone.

    Whoever holds the first must not sign: its words are left out, and together they convict.
    """
    case, *_ = rich
    transcript, resolution = build_transcript(case.sealed, case.words(case.lie(5)), [], {}, FIRST)
    assert list(resolution.faults) == [5]
    complete(transcript, case, words=case.words(case.lie(5)))
    with pytest.raises(VerificationError, match="leaves out words"):
        complete(transcript, case, words=case.words())


def settles(case: Case, openings: Openings, held: Openings, owner: Address) -> Resolution | None:
    """Return what a signer that holds `held` signs of a proposal with `openings`, if it signs."""
    transcript, _ = build_transcript(case.sealed, case.words(), [], openings, FIRST)
    references = tuple(
        OpeningReference(owner=who, server=server, opening_hash=opening.hash())
        for (who, server), opening in openings.items()
    )
    transcript = transcript.model_copy(update={"openings": references})
    try:
        complete(transcript, case, words=case.words(), openings=held)
        return check_transcript(transcript, case.sealed, openings, FIRST)
    except VerificationError:
        return None


@pytest.mark.parametrize("false", ["altered", "another owner's", "another server's"])
def test_a_false_opening_cannot_stand_in_for_the_one_that_the_signer_holds(
    rich: tuple[Case, Address, Address], false: str
) -> None:
    """Else a sequencer and a misdealing owner put an honest, opening server at fault."""
    case, _, misdealing = rich
    held = opening_of(case, misdealing)
    true = case.opening(misdealing, VICTIM)
    other = next(owner for owner in case.owners if owner != misdealing)
    stand_in = {
        "altered": true.model_copy(update={"content": true.content[:-1] + b"\x00"}),
        "another owner's": case.opening(other, VICTIM),
        "another server's": case.opening(misdealing, VICTIM + 1),
    }[false]
    honest = settles(case, held, held, misdealing)
    assert honest is not None
    assert (honest.faults, honest.standing) == ({}, (1, 2, 3, 4, 5))
    assert settles(case, {(misdealing, VICTIM): stand_in}, held, misdealing) is None


def test_the_same_package_under_another_signature_is_the_same_opening() -> None:
    """An owner can sign its commitment twice; neither form may make honest servers disagree."""
    world = World(seed=63, components=(30,))
    bad = cheat(MisdealingOwner, world)
    case = world.seal(world.submit(), bad)
    message = SubmissionMessage(
        task=world.context.task, round=world.context.round, commitment=bad.certificate.commitment
    )
    signature = _another_signature(bad.key.secret, message.digest(world.context.domain))
    header = bad.packages[VICTIM - 1].header
    assert signature != header.submission_signature
    twin = bad.packages[VICTIM - 1].model_copy(
        update={"header": header.model_copy(update={"submission_signature": signature})}
    )
    held = opening_of(case, bad.owner)
    assert twin.hash() != held[bad.owner, VICTIM].hash()
    outcome = settles(case, {(bad.owner, VICTIM): twin}, held, bad.owner)
    assert outcome is not None
    assert outcome.faults == {}
    assert bad.owner in outcome.rejected


def _another_signature(secret: bytes, digest: bytes) -> bytes:
    """Sign with another nonce than RFC 6979 gives, by hand."""
    from coincurve import PrivateKey

    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    nonce = 0x1234567
    x, y = PrivateKey(nonce.to_bytes(32, "big")).public_key.point()
    key = int.from_bytes(secret, "big")
    s = pow(nonce, -1, order) * (int.from_bytes(digest, "big") + x * key) % order
    odd = y & 1
    if s > order // 2:
        s, odd = order - s, 1 - odd
    return x.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + odd])


# settlements


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_batch_words_of_standing_servers_lie_on_codewords(committee: Committee) -> None:
    """With arithmetic of the test's own."""
    world = World(committee, seed=64, components=(30,))
    bad = cheat(FalseNormOwner, world)
    case = world.seal(world.submit(), bad, world.submit(), world.submit())
    lies = [case.lie(committee.servers)] if committee.errors else []
    transcript, resolution = build_transcript(case.sealed, case.words(*lies), [], {}, FIRST)
    assert len(transcript.accepted) == 3
    assert len(resolution.standing) == committee.servers - len(lies)
    zero = ExtensionElement(0, 0)
    c_values, d_values = {0: zero}, {}
    for server in resolution.standing:
        entry = case.entries[server]
        message = settlement_message(transcript, entry, case.sealed.context)
        batch = Word.from_bytes(message.word)
        c_values[server], d_values[server] = batch.c, batch.d
        sums = [zero, zero]
        for owner, packed in zip(case.owners, entry.words, strict=True):
            if owner in transcript.accepted:
                kappa = batch_weight(case.sealed.seed, transcript.accepted_root(), owner)
                for part, element in enumerate(Word.from_bytes(packed)):
                    term = product(kappa, element)
                    sums[part] = ExtensionElement(
                        (sums[part][0] + term[0]) % MODULUS, (sums[part][1] + term[1]) % MODULUS
                    )
        assert [batch.c, batch.d] == sums
    assert lies_on_polynomial(c_values, 2 * committee.privacy)
    assert lies_on_polynomial(d_values, committee.privacy)
    if committee.servers > 2 * committee.privacy + 1:  # else the check has no room to fail
        c_values[1] = ExtensionElement(c_values[1][0] ^ 1, c_values[1][1])
        assert not lies_on_polynomial(c_values, 2 * committee.privacy)


def test_a_rejected_owner_would_take_the_batch_off_its_codeword() -> None:
    world = World(seed=65, components=(30,))
    case = world.seal(world.submit(), cheat(FalseNormOwner, world))
    transcript, resolution = build_transcript(case.sealed, case.words(), [], {}, FIRST)
    wrong = transcript.model_copy(update={"accepted": case.owners})
    values = {0: ExtensionElement(0, 0)} | {
        server: Word.from_bytes(
            settlement_message(wrong, case.entries[server], case.sealed.context).word
        ).c
        for server in resolution.standing
    }
    assert not lies_on_polynomial(values, 2)


def test_a_settlement_says_what_the_transcript_says(rich: tuple[Case, Address, Address]) -> None:
    case, *_ = rich
    transcript, _ = build_transcript(case.sealed, case.words(), [], {}, FIRST)
    messages = [
        settlement_message(transcript, case.entries[server], case.sealed.context)
        for server in (1, 3)
    ]
    message = messages[0]
    assert (message.task, message.round) == (case.sealed.context.task, case.sealed.context.round)
    assert message.submissions_root == case.sealed.submissions_root
    assert message.seed == case.sealed.seed
    assert message.accepted_root == transcript.accepted_root()
    assert message.accepted_count == len(transcript.accepted)
    assert message.v_bitmap == transcript.v_bitmap
    assert message.previous_payouts_root == EMPTY_ROOT
    assert message.payouts_root == transcript.payouts_root()
    assert message.transcript_hash == transcript.hash()
    assert messages[0].word != messages[1].word


# payouts


def test_payouts_accumulate_over_rounds() -> None:
    world = World(seed=66, components=(30,))
    keys = [world.new_key() for _ in range(3)]
    takes_part = [(0, 1, 2), (0, 2), (2,), (0, 1)]
    state, counts = FIRST, dict.fromkeys(range(3), 0)
    for owners in takes_part:
        case = world.seal(*(world.submit(keys[owner]) for owner in owners))
        transcript, resolution = build_transcript(case.sealed, case.words(), [], {}, state)
        assert check_transcript(transcript, case.sealed, {}, state) == resolution
        assert transcript.previous_payouts_root == state.root
        for owner in owners:
            counts[owner] += 1
        paid = {payout.owner: payout.cumulative_wei for payout in transcript.payouts}
        assert paid == {
            keys[owner].address: count * REWARD_WEI for owner, count in counts.items() if count
        }
        assert list(paid) == sorted(paid)
        state = PayoutState(state.after(resolution.accepted), transcript.payouts_root())
        world.next_round()
    assert counts == {0: 3, 1: 2, 2: 3}


def test_a_leaf_that_was_missing_comes_back_with_all_it_is_worth() -> None:
    """Roots follow from the accepted sets of all rounds, never from the last tree."""
    world = World(seed=67)
    keys = [world.new_key() for _ in range(2)]
    addresses = sorted(key.address for key in keys)
    # the last settled root was made by a faulty majority that left one owner's leaf out
    thin_root = merkle_root([Payout(owner=addresses[0], cumulative_wei=2 * REWARD_WEI).leaf()])
    state = PayoutState(dict.fromkeys(addresses, 2), thin_root)
    case = world.seal(*(world.submit(key) for key in keys))
    transcript, _ = build_transcript(case.sealed, case.words(), [], {}, state)
    assert transcript.previous_payouts_root == thin_root
    assert transcript.payouts == tuple(
        Payout(owner=owner, cumulative_wei=3 * REWARD_WEI) for owner in addresses
    )
    absent = world.seal(world.submit(keys[0]))  # ... even if that owner is not in the next round
    transcript, _ = build_transcript(absent.sealed, absent.words(), [], {}, state)
    assert {payout.owner: payout.cumulative_wei for payout in transcript.payouts} == {
        keys[0].address: 3 * REWARD_WEI,
        keys[1].address: 2 * REWARD_WEI,
    }


def test_payout_leaves_do_not_depend_on_the_order_of_rounds() -> None:
    owners = [Address(bytes([byte]) * 20) for byte in (9, 3, 7)]
    first = payout_leaves({owners[0]: 1, owners[1]: 2, owners[2]: 5}, 10)
    second = payout_leaves({owners[2]: 5, owners[0]: 1, owners[1]: 2}, 10)
    assert first == second
    assert [leaf.cumulative_wei for leaf in first] == [20, 50, 10]
    state = PayoutState({owners[0]: 1}, EMPTY_ROOT)
    assert state.after([owners[0], owners[1]]) == {owners[0]: 2, owners[1]: 1}
    assert state.accepted_rounds == {owners[0]: 1}
