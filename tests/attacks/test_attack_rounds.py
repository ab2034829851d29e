"""Sequencers, forks and back-ups: what a round as a whole withstands (sections 6.3 to 7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from attack_owners import Cheat, add_at, attack_world, show, submit
from attack_servers import TRUE_BLOCK, Bench
from attack_table import Attacks
from protocol_world import Case, Submission, World
from sums import readers

from omnilytics.algebra.field import FieldVector
from omnilytics.algebra.fixed_point import from_field
from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.foundation.errors import OmniLyticsError, VerificationError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.aggregate import sum_shares
from omnilytics.protocol.certificate import build_manifest, check_manifest
from omnilytics.protocol.locks import SEED_LOCK, agreed_value, lock_final, lock_seed
from omnilytics.protocol.settlement import (
    PayoutState,
    build_transcript,
    check_complete,
    check_transcript,
    settlement_message,
)
from omnilytics.roles.server import board
from omnilytics.roles.server.sealing import sequencer
from omnilytics.sharing.codewords import is_joint_codeword
from omnilytics.sharing.committee import DEFAULT, OFFERED, Committee
from omnilytics.sharing.recovery import recover_sum
from omnilytics.validity.word import Word
from omnilytics.wire.hashing import EMPTY_ROOT
from omnilytics.wire.messages import Complaint, Final, Seed
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import Certificate, Manifest, OpeningReference, Transcript

FIRST = PayoutState({}, EMPTY_ROOT)
MEMORY = Path("/dev/shm")  # noqa: S108
TOLERANT = tuple(committee for committee in OFFERED if committee.errors)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a fresh folder, in memory where there is such a place: databases sync every write."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


# --- sealing ----------------------------------------------------------------------------------


def signs(world: World, manifest: Manifest, known: Sequence[Certificate]) -> bool:
    """Tell whether an honest server that holds these certificates signs the manifest."""
    try:
        check_manifest(
            manifest,
            parameters=world.parameters,
            domain=world.context.domain,
            task=world.context.task,
            round_number=world.context.round,
            known=known,
        )
    except OmniLyticsError:
        return False
    return True


@cache
def submissions(committee: Committee) -> tuple[World, tuple[Submission, ...]]:
    world = attack_world(committee, seed=41, components=(8,))
    return world, tuple(submit(world) for _ in range(4))


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_a_sequencer_that_omits_an_owner(attacks: Attacks, committee: Committee) -> None:
    """An owner's certificate reached 2e + 1 servers, e of which deviate and sign anything."""
    world, entries = submissions(committee)
    certificates = [entry.certificate for entry in entries]
    name = "a sequencer omits a certified owner; e others help"
    with attacks(name, "6.3", "too few votes", show(committee)) as attack:
        for trial in range(10):
            random = Random(trial)
            omitted = random.choice(certificates)
            takers = random.sample(committee.points, 2 * committee.errors + 1)
            liars = random.sample(takers, committee.errors)
            manifest = world.manifest(entry for entry in certificates if entry != omitted)
            votes = 0
            for server in committee.points:
                known = certificates if server in takers else []
                votes += server in liars or signs(world, manifest, known)
            attack.saw("too few votes" if votes < committee.quorum else "SEALED")


def forged_manifests(world: World, entries: Sequence[Submission]) -> dict[str, Manifest]:
    """Return manifests that no honest server may sign."""
    certificates = [entry.certificate for entry in entries]
    whole = world.manifest(certificates)
    stranger = world.new_key()
    package = world.packages(stranger)[0]
    few = [p for p in world.committee.points if p > world.committee.errors + 1]
    uncertified = world.certify(stranger, package, few)
    other = certificates[0].model_copy(update={"commitment": certificates[1].commitment})
    return {
        "an owner without a certificate": world.manifest([*certificates, uncertified]),
        "another commitment of an owner": world.manifest([other, *certificates[1:]]),
        "an owner twice": whole.model_copy(
            update={"certificates": (whole.certificates[0], *whole.certificates)}
        ),
        "owners out of order": whole.model_copy(update={"certificates": whole.certificates[::-1]}),
        "another round": whole.model_copy(update={"round": whole.round + 1}),
        "another task": whole.model_copy(update={"task": whole.task + 1}),
    }


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_false_manifests(attacks: Attacks, committee: Committee) -> None:
    world, entries = submissions(committee)
    for name, manifest in forged_manifests(world, entries).items():
        with attacks(f"a manifest with {name}", "6.3", "nobody signs", show(committee)) as attack:
            for _ in committee.points:
                attack.saw("SIGNED" if signs(world, manifest, ()) else "nobody signs")


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_a_sequencer_that_withholds_its_manifest(attacks: Attacks, committee: Committee) -> None:
    """The turn passes on: within e + 1 turns an honest server builds the same manifest."""
    world, entries = submissions(committee)
    windows = world.specification.windows
    view = cast(
        Any, SimpleNamespace(parameters=world.parameters, specification=world.specification)
    )
    with attacks(
        "e sequencers in a row withhold the manifest",
        "6.3",
        "the next one proposes it",
        show(committee),
    ) as attack:
        for round_number in range(1, 2 * committee.servers):
            state = cast(Any, SimpleNamespace(round=round_number, submission_deadline=1_000))
            turns = [
                sequencer(view, state, 1_000 + k * windows.rotation_seconds)
                for k in range(committee.servers)
            ]
            assert set(turns) == set(committee.points)  # each has its turn
            honest = turns[committee.errors :]
            shuffled = Random(round_number).sample(entries, len(entries))
            manifest = build_manifest(
                world.context.task, world.context.round, [e.certificate for e in shuffled]
            )
            same = manifest == world.manifest(entry.certificate for entry in entries)
            known = [entry.certificate for entry in entries]
            votes = sum(signs(world, manifest, known) for _ in honest)
            done = same and honest and votes >= committee.quorum
            attack.saw("the next one proposes it" if done else "STUCK")


@pytest.mark.parametrize("committee", [DEFAULT, OFFERED[1], OFFERED[4]], ids=show)
def test_two_manifests(attacks: Attacks, committee: Committee, folder: Path) -> None:
    """Two lists may both be signed before the seal; only the sealed one is ever answered.

    Liars sign a Seed for either root; honest servers lock the one that they see sealed.
    """
    name = "two manifests with enough votes: seeds for the root that was not sealed"
    with attacks(name, "6.4", "one answered", show(committee)) as attack:
        for trial in range(3):
            random = Random(trial)
            with opened(folder / str(trial), committee, trial) as bench:
                first, second = bench.state, replace(bench.state, submissions_root=FORK)
                liars = random.sample(committee.points, committee.errors)
                for liar in liars:
                    for state in (first, second):
                        post_seed(bench, liar, bench.case.sealed.seed, state.submissions_root)
                honest = [p for p in committee.points if p not in liars]
                misled = random.sample(honest, random.randint(0, len(honest)))
                for state, points in ((second, misled), (first, honest), (second, honest)):
                    bench.state = state
                    bench.answer(points, 1)
                roots = [
                    {
                        message.submissions_root
                        for message in bench.messages(point, board.SEED)
                        if isinstance(message, Seed)
                    }
                    for point in honest
                ]
                assert all(len(signed) == 1 for signed in roots)
                votes = Counter(root for signed in roots for root in signed)
                agreed = [
                    root
                    for root, count in votes.items()
                    if count + committee.errors >= committee.quorum
                ]
                attack.saw("one answered" if len(agreed) <= 1 else "BOTH ANSWERED")


# --- transcripts ------------------------------------------------------------------------------


@cache
def judged(committee: Committee) -> tuple[Case, dict[tuple[Address, int], Opening], Address]:
    """Return a round with three honest owners and one that dealt server t + 1 a bad share."""
    world = attack_world(committee, seed=42, components=(8,))

    def misdeal(_draft: object, rows: FieldVector) -> None:
        add_at(rows, 0, 0, 1)

    honest = [submit(world) for _ in range(3)]
    cheat = submit(world, Cheat(x_rows=misdeal))
    case = world.seal(*honest, cheat)
    place = (cheat.owner, committee.privacy + 1)
    return case, {place: case.opening(*place)}, cheat.owner


def refuses(case: Case, transcript: Transcript, openings: Any, held: Any) -> bool:
    """Tell whether an honest server that holds everything refuses to sign."""
    words, convictions, opened_places = held
    try:
        check_complete(transcript, words=words, convictions=convictions, openings=opened_places)
        check_transcript(transcript, case.sealed, openings, FIRST)
    except VerificationError:
        return True
    return False


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
def test_a_sequencer_that_leaves_something_out(attacks: Attacks, committee: Committee) -> None:
    case, openings, _ = judged(committee)
    random = Random(5)
    for what in ("a server's words", "an opening", "a conviction"):
        name = f"a sequencer leaves out {what}"
        with attacks(name, "6.6", "nobody signs", show(committee)) as attack:
            for _ in range(8):
                liar = random.choice(committee.points)
                words, convictions = case.words(), [case.conviction(liar)]
                held = (words, convictions, openings)
                shown = {
                    "a server's words": (
                        random.sample(words, len(words) - 1),
                        convictions,
                        openings,
                    ),
                    "an opening": (words, convictions, {}),
                    "a conviction": (words, [], openings),
                }[what]
                transcript, _ = build_transcript(case.sealed, *shown, FIRST)
                refused = refuses(case, transcript, shown[2], held)
                attack.saw("nobody signs" if refused else "SIGNED")


def forged_transcripts(
    case: Case, true: Transcript, cheat: Address, random: Random
) -> dict[str, Transcript]:
    """Return transcripts that do not follow from their evidence."""
    first, *rest = true.accepted
    stranger = Address(random.randbytes(20))
    payout = true.payouts[0]
    return {
        "an invalid owner accepted": true.model_copy(
            update={"accepted": tuple(sorted([*true.accepted, cheat]))}
        ),
        "an honest owner rejected": true.model_copy(update={"accepted": tuple(rest)}),
        "a stranger accepted": true.model_copy(
            update={"accepted": tuple(sorted([stranger, *true.accepted]))}
        ),
        "an honest server out of V": true.model_copy(
            update={"v_bitmap": true.v_bitmap & ~(1 << random.randrange(len(true.words)))}
        ),
        "a payout raised": true.model_copy(
            update={
                "payouts": (
                    payout.model_copy(update={"cumulative_wei": payout.cumulative_wei + 1}),
                    *true.payouts[1:],
                )
            }
        ),
        "another previous payouts root": true.model_copy(
            update={"previous_payouts_root": Hash32(random.randbytes(32))}
        ),
        "another seed": true.model_copy(update={"seed": Hash32(random.randbytes(32))}),
        "an opening that is not one": true.model_copy(
            update={
                "openings": (
                    OpeningReference(owner=first, server=1, opening_hash=Hash32(bytes(32))),
                )
            }
        ),
    }


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
def test_false_transcripts(attacks: Attacks, committee: Committee) -> None:
    case, openings, cheat = judged(committee)
    true, resolution = build_transcript(case.sealed, case.words(), [], openings, FIRST)
    assert cheat not in resolution.accepted
    assert not refuses(case, true, openings, (case.words(), [], openings))
    for seed in range(4):
        for name, forged in forged_transcripts(case, true, cheat, Random(seed)).items():
            with attacks(
                f"a transcript with {name}", "6.6", "nobody signs", show(committee)
            ) as attack:
                for held in (((), (), ()), (case.words(), (), openings)):
                    refused = refuses(case, forged, openings, held)
                    attack.saw("nobody signs" if refused else "SIGNED")


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_batch_words_off_the_codeword(attacks: Attacks, committee: Committee) -> None:
    """A batch word that is not the sum of the signed words shows on chain."""
    case = case_of(committee)
    transcript, _ = build_transcript(case.sealed, case.words(), [], {}, FIRST)
    batch = {
        server: Word.from_bytes(
            settlement_message(transcript, case.entries[server], case.sealed.context).word
        )
        for server in committee.points
    }
    assert is_joint_codeword(batch, committee)
    with attacks("a false batch word", "6.7", "not a codeword", show(committee)) as attack:
        for trial in range(8):
            random = Random(trial)
            liar = random.choice(committee.points)
            lie = dict(batch)
            data = bytearray(batch[liar].to_bytes())
            data[8 * random.randrange(4) + 7] ^= 1 + random.randrange(255)
            lie[liar] = Word.from_bytes(bytes(data))
            attack.saw("ACCEPTED" if is_joint_codeword(lie, committee) else "not a codeword")


@cache
def case_of(committee: Committee) -> Case:
    world, entries = submissions(committee)
    return world.seal(*entries)


# --- forks: seeds -----------------------------------------------------------------------------

FORK = Hash32(b"f" * 32)
"""The challenge's block, or the root, of another fork."""


@contextmanager
def opened(folder: Path, committee: Committee, seed: int, *, owners: int = 2) -> Iterator[Bench]:
    bench = Bench(folder, committee, 1_000 + seed, owners=owners)
    try:
        yield bench
    finally:
        bench.close()


def post_seed(bench: Bench, liar: int, seed: Hash32, root: Hash32 | None = None) -> None:
    message = Seed(
        task=bench.view.task,
        round=bench.state.round,
        submissions_root=root or bench.state.submissions_root,
        seed=seed,
    )
    bench.post(liar, board.SEED, message)


def seeds_answered(bench: Bench, honest: Sequence[int]) -> str:
    answered = set().union(*(bench.answered(point) for point in honest))
    return "at most one seed answered" if len(answered) <= 1 else "TWO SEEDS ANSWERED"


@pytest.mark.parametrize("committee", [DEFAULT, OFFERED[1], OFFERED[4], OFFERED[5]], ids=show)
def test_a_reorganisation_between_seal_and_words(
    attacks: Attacks, committee: Committee, folder: Path
) -> None:
    """Servers see two seeds, then all see the second; the e liars sign both."""
    name = "a re-organisation shows two seeds"
    with attacks(name, "6.4", "at most one seed answered", show(committee)) as attack:
        for trial in range(3):
            random = Random(trial)
            with opened(folder / str(trial), committee, trial) as bench:
                liars = random.sample(committee.points, committee.errors)
                honest = [p for p in committee.points if p not in liars]
                for liar in liars:
                    for block in (TRUE_BLOCK, FORK):
                        post_seed(bench, liar, bench.seed(block))
                early = random.sample(honest, random.randint(0, len(honest)))
                bench.answer(early)  # before the re-organisation
                for point in honest:
                    bench.blocks[point] = FORK
                bench.answer(honest)
                attack.saw(seeds_answered(bench, honest))


def answered_after_restoring(bench: Bench, count: int, random: Random) -> str:
    """Answer one seed, restore `count` honest servers' folders, show another seed, answer again."""
    committee = bench.world.committee
    liars = random.sample(committee.points, committee.errors)
    honest = [p for p in committee.points if p not in liars]
    chosen = random.sample(honest, count)
    for point in chosen:
        bench.save(point)
    for liar in liars:
        post_seed(bench, liar, bench.case.sealed.seed)
        post_seed(bench, liar, bench.seed(FORK))
    bench.answer(honest)
    assert all(bench.answered(point) == {bench.case.sealed.seed} for point in honest)
    given = {point: bench.answered(point) for point in honest}
    for point in chosen:
        bench.restore(point)
    for point in honest:
        bench.blocks[point] = FORK
    # The worst case: nobody shows the restored servers what they signed before. Where a peer does,
    # they find n - e signatures on two seeds, and answer neither.
    bench.unreachable = set(honest) - set(chosen)
    bench.answer(chosen)
    twice = any(len(given[point] | bench.answered(point)) > 1 for point in honest)
    return "TWO SEEDS ANSWERED" if twice else "at most one seed answered"


@pytest.mark.parametrize("committee", [DEFAULT, OFFERED[1], OFFERED[5]], ids=show)
def test_restored_back_ups(attacks: Attacks, committee: Committee, folder: Path) -> None:
    """Let n - 2e - 1 honest servers forget what they signed: with e liars still below n - e."""
    count = committee.servers - 2 * committee.errors - 1
    name = "old folders restored at n - 2e - 1 servers, then another seed"
    with attacks(name, "7", "at most one seed answered", show(committee)) as attack:
        for trial in range(4):
            with opened(folder / str(trial), committee, trial) as bench:
                attack.saw(answered_after_restoring(bench, count, Random(trial)))


def test_back_ups_beyond_the_quorum(attacks: Attacks, folder: Path) -> None:
    """The limit: n - 2e restored servers and e liars are n - e, and answer twice. Not promised."""
    name = "limit: the same at n - 2e servers (not promised)"
    with attacks(name, "7", "TWO SEEDS ANSWERED") as attack:
        for trial in range(2):
            with opened(folder / str(trial), DEFAULT, trial) as bench:
                count = DEFAULT.servers - 2 * DEFAULT.errors
                attack.saw(answered_after_restoring(bench, count, Random(trial)))


def test_locks_agree_for_any_split(attacks: Attacks) -> None:
    """Votes alone, many splits: two seeds, or two sums, never both have n - e signatures."""
    for committee in OFFERED:
        for lock_name, lock in (("seeds", lock_seed), ("sums", lock_final)):
            name = f"servers split between two {lock_name}, t servers sign both"
            with attacks(name, "7", "at most one agreed", show(committee)) as attack:
                for trial in range(30):
                    attack.saw(_split_votes(committee, lock, Random(trial)))


class _Memory:
    """A lock store in memory."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, int, str], bytes] = {}

    def lock(self, task: int, round_number: int, kind: str, value: bytes) -> bytes:
        return self._values.setdefault((task, round_number, kind), value)


def _split_votes(committee: Committee, lock: Any, random: Random) -> str:
    liars = random.sample(committee.points, committee.privacy)
    values = [Hash32(random.randbytes(32)) for _ in range(2)]
    votes = [(liar, value) for liar in liars for value in values]
    head: dict[str, Any] = {"task": 1, "round": 1}
    for server in (p for p in committee.points if p not in liars):
        store = _Memory()
        for value in random.sample(values, 2):
            message = (
                Seed(**head, submissions_root=FORK, seed=value)
                if lock is lock_seed
                else Final(**head, accepted_root=value)
            )
            try:
                lock(store, message)
            except VerificationError:
                continue
            votes.append((server, value))
    agreed = [
        value
        for value in values
        if len({server for server, vote in votes if vote == value}) >= committee.quorum
    ]
    shown = agreed_value(votes, committee.quorum)
    honest = len(agreed) <= 1 and (shown is None or shown in agreed)
    return "at most one agreed" if honest else "BOTH AGREED"


def test_the_lock_is_in_the_folder(attacks: Attacks, folder: Path) -> None:
    """A restart changes nothing: the lock is on disk before the signature."""
    with attacks("a server restarted between two seeds", "7", "second refused") as attack:
        for trial in range(4):
            with opened(folder / str(trial), DEFAULT, trial) as bench:
                point = 1 + trial % 5
                bench.answer([point], 1)
                bench.servers[point].node.repository.close()
                bench.start(point)
                bench.blocks[point] = FORK
                bench.answer([point], 2)
                (message,) = bench.messages(point, board.SEED)
                assert isinstance(message, Seed)
                task, number = bench.view.task, bench.state.round
                repository = bench.servers[point].node.repository
                held = repository.lock(task, number, SEED_LOCK, b"x" * 64)
                kept = held == message.submissions_root + message.seed
                attack.saw(
                    "second refused"
                    if kept and message.seed != bench.seed(FORK)
                    else "ANSWERED TWICE"
                )


# --- forks: sums ------------------------------------------------------------------------------


def released(bench: Bench, settled: RoundSettled, points: Sequence[int]) -> dict[int, FieldVector]:
    """Return what these servers release for a settlement that they all see."""
    found = {}
    for point in points:
        server = bench.servers[point]
        try:
            bench.finalise(point, settled)
        except VerificationError:
            continue
    for point in points:
        server = bench.servers[point]
        with suppress(VerificationError):
            bench.finalise(point, settled)
        try:
            server.settling.may_release(bench.view, settled)
        except VerificationError:
            continue
        content = server.node.repository.published(settled.transcript_hash)
        assert content is not None
        transcript = Transcript.decode(content, max_bytes=1 << 24)
        found[point] = sum_shares(
            server.releasing.shares(bench.view, settled, transcript),
            bench.view.parameters.statement.dimension,
        )
    return found


@pytest.mark.parametrize("committee", [DEFAULT, OFFERED[1], OFFERED[4], OFFERED[6]], ids=show)
def test_a_model_owner_that_asks_for_two_sums(
    attacks: Attacks, committee: Committee, folder: Path
) -> None:
    """Two settlements on two forks, over all owners and all but one; e liars sign both Finals."""
    name = "two settlements: a model owner asks for two sums"
    with attacks(name, "6.8", "at most one sum", show(committee)) as attack:
        for trial in range(3):
            random = Random(trial)
            with opened(folder / str(trial), committee, trial, owners=3) as bench:
                owners = [entry.owner for entry in bench.submissions]
                whole, without = bench.settlement(), bench.settlement(owners[1:])
                liars = random.sample(committee.points, committee.errors)
                for liar in liars:
                    for settled in (whole, without):
                        post_final(bench, liar, settled)
                honest = [p for p in committee.points if p not in liars]
                split = random.choice([0, 1, len(honest) // 2, len(honest)])
                random.shuffle(honest)
                groups = {
                    "first": released(bench, whole, honest[:split]),
                    "other": released(bench, without, honest[split:]),
                    "again": released(bench, whole, honest),
                    "still": released(bench, without, honest),
                }
                sums = [bool(groups["first"] or groups["again"])]
                sums += [bool(groups["other"] or groups["still"])]
                attack.saw("at most one sum" if sum(sums) <= 1 else "TWO SUMS")


def post_final(bench: Bench, liar: int, settled: RoundSettled) -> None:
    message = Final(
        task=bench.view.task, round=bench.state.round, accepted_root=settled.accepted_root
    )
    bench.post(liar, board.FINAL, message)


def test_the_one_sum_is_exact(attacks: Attacks, folder: Path) -> None:
    """The control: one settlement is released, and e lying shares do not change its sum."""
    with attacks("control: one settlement, and e false shares of the sum", "6.8", "exact") as row:
        for trial in range(3):
            with opened(folder / str(trial), DEFAULT, trial, owners=3) as bench:
                settled = bench.settlement()
                vectors = released(bench, settled, DEFAULT.points)
                assert len(vectors) == 5
                liar = 1 + trial
                vectors[liar] = vectors[liar].copy()
                vectors[liar][0] ^= np.uint64(1)
                found = recover_sum(readers(vectors), DEFAULT, bench.world.randomness)
                total = np.zeros(6, dtype=np.int64)
                for entry in bench.submissions:
                    total += secret_of(entry, bench.world)
                exact = np.array_equal(from_field(found.values), total) and found.liars == (liar,)
                row.saw("exact" if exact else "WRONG")


def secret_of(entry: Submission, world: World) -> Any:
    """Return an owner's integers, from all of its packages."""
    from omnilytics.sharing.interpolation import interpolate_vectors_at_zero

    dimension = world.parameters.statement.dimension
    points = world.committee.points[: world.committee.privacy + 1]
    length = world.parameters.share_elements
    vectors = {
        point: entry.packages[point - 1].share(length).elements(0, dimension) for point in points
    }
    return from_field(interpolate_vectors_at_zero(vectors))


# --- complaints -------------------------------------------------------------------------------


def complain(bench: Bench, liar: int, entry: Submission) -> None:
    message = Complaint(
        task=bench.view.task,
        round=bench.state.round,
        owner=entry.owner,
        commitment=entry.certificate.commitment,
    )
    bench.post(liar, board.COMPLAINT, message, entry.owner)


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
def test_false_complaints(attacks: Attacks, committee: Committee, folder: Path) -> None:
    """A complaint about a package that was taken counts nowhere; one that counts is answered."""
    with opened(folder, committee, 1, owners=2) as bench:
        liar = committee.servers
        taken, left = bench.submissions
        certificate = _left_elsewhere(bench, left, liar)
        for server in bench.servers.values():
            task, number = bench.view.task, bench.state.round
            server.node.publish_certificate(task, number, taken.certificate)
            server.node.publish_certificate(task, number, certificate)
        complain(bench, liar, taken)
        complain(bench, liar, left)
        honest = [p for p in committee.points if p != liar]
        certificates = [taken.certificate, certificate]
        hear(bench, honest)
        with attacks(
            "a false complaint about a package that was taken",
            "6.3",
            "not counted",
            show(committee),
        ) as attack:
            for point in honest:
                out = bench.servers[point].complaints.unanswered(
                    bench.view, bench.state, certificates
                )
                attack.saw("COUNTED" if taken.owner in out else "not counted")
        with attacks(
            "a false complaint of a server that took nothing; the owner answers",
            "6.3",
            "sealed nevertheless",
            show(committee),
        ) as attack:
            for point in honest:
                complaints = bench.servers[point].complaints
                heard = complaints.unanswered(bench.view, bench.state, certificates)
                assert heard == {left.owner}
                complaints.accept_answer(bench.view, bench.state, left.packages[liar - 1])
                out = complaints.unanswered(bench.view, bench.state, certificates)
                attack.saw("EXCLUDED" if out else "sealed nevertheless")


def _left_elsewhere(bench: Bench, entry: Submission, absent: int) -> Certificate:
    """Return a certificate without one server's receipt, its package left with e + 1 others."""
    world = bench.world
    receipts = [p for p in world.committee.points if p != absent]
    certificate = world.certify(entry.key, entry.packages[0], receipts)
    held = tuple(
        world.held(holder, absent, certificate, FORK)
        for holder in receipts[: world.committee.errors + 1]
    )
    return certificate.model_copy(update={"held": held})


def hear(bench: Bench, points: Sequence[int]) -> None:
    import asyncio

    async def step() -> None:
        for point in points:
            await bench.servers[point].complaints.step(bench.view, early)

    early = replace(bench.state, submission_deadline=1_500 + 1)
    asyncio.run(step())
