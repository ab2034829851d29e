"""Attacks of one server on sealing and settling, and what the auditor sees; real components."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from market_attacks import (
    ASKER,
    another_signature,
    audit,
    make_honest,
    name_askers,
    other_words,
    own_words,
    reach_block,
    reach_sealed,
    records,
    rotations,
    sealed_round,
    show,
    state_of,
    sweep,
)
from market_world import MarketWorld, expected_sum, market_world

from omnilytics.chain.bindings import market as bindings
from omnilytics.chain.bindings.market import RoundOpened, RoundSettled
from omnilytics.chain.records import Phase, RoundRecord
from omnilytics.demo import drive
from omnilytics.demo.cheats import MisdealingOwner
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.certificate import build_manifest
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.settlement import build_transcript, settlement_message
from omnilytics.protocol.words import find_two_words
from omnilytics.roles.auditor import Auditor
from omnilytics.roles.server import Server, board, settling
from omnilytics.roles.server.settling import CutOffs
from omnilytics.roles.task_view import TaskView, round_context
from omnilytics.transport.client import BoardItem
from omnilytics.wire.eip712 import SignedMessage
from omnilytics.wire.envelope import Signed
from omnilytics.wire.messages import Final, SealVote, Seed, Settlement
from omnilytics.wire.transcript import (
    Manifest,
    Payout,
    ServerWords,
    Transcript,
    TwoWords,
)

Kinds = tuple[str, ...]
Items = list[BoardItem]


def test_votes_with_a_wrong_count_do_not_stop_the_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "MAX_SWEEPS", 60)

    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, _ = await world.open_and_contribute([0, 1])
            node = world.market.servers[0].node

            def vote(view: TaskView, state: RoundRecord, manifest: Manifest, server: int) -> bool:
                count = len(manifest.certificates) + 1
                message = SealVote(
                    task=view.task,
                    round=state.round,
                    submissions_root=manifest.root(),
                    count=count,
                )
                body = node.sign(message).encode()
                return node.publish_record(
                    view.task, state.round, board.SEAL_VOTE, server, message.submissions_root, body
                )

            monkeypatch.setattr(world.market.servers[0].sealing, "_vote", vote)
            settled = await world.settle(opened)
            assert settled is not None
            sealed = world.market.reader.round_sealed(world.view.task, opened.round)
            assert sealed is not None
            assert (sealed.count, settled.accepted_count) == (2, 2)
            for server in (2, 3, 4, 5):
                signers = {r.server for r in records(world, server, opened.round, board.SEAL_VOTE)}
                assert signers == {2, 3, 4, 5}

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_vote_under_many_signatures_is_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "MAX_SWEEPS", 40)

    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, _ = await world.open_and_contribute([0, 1])
            node = world.market.servers[4].node

            def flood(kinds: Kinds, items: Items) -> Items:
                if board.SEAL_VOTE not in kinds:
                    return items
                own = [
                    signed.message
                    for server, signed in node.signed_records(
                        world.view.task, opened.round, board.SEAL_VOTE
                    )
                    if server == 5
                ]
                return items + [
                    _signed_item(board.SEAL_VOTE, world, own[0]) for _ in range(3) if own
                ]

            show(world.market.servers[4], flood)
            # Only three of five vote, so that the round stays open while the flood goes on.
            world.market.chain.wait_for_time(opened.submission_deadline + 60)
            for _ in range(6):
                for server in (2, 3, 5):
                    await world.market.servers[server - 1].step(world.view.task)
            assert _signers(world, 2, board.SEAL_VOTE) == {2, 3, 5}
            for server in (2, 3):
                kept = records(world, server, opened.round, board.SEAL_VOTE)
                assert len(kept) == 3
            assert await world.settle(opened) is not None

    asyncio.run(scenario())


def _signed_item(kind: str, world: MarketWorld, message: SignedMessage) -> BoardItem:
    """Return a message of server 5 under a fresh signature."""
    node = world.market.servers[4].node
    signature = another_signature(node.key, message, node.market.domain)
    return BoardItem(kind=kind, body=Signed(message, signature).encode())


class _Sequencer:
    """Publishes chosen transcripts once it may, and signs nothing else."""

    def __init__(self, world: MarketWorld, server: Server, make: Callable[..., object]) -> None:
        self._world = world
        self._server = server
        self._make = make
        self.published = 0
        server.settling.step = self.step  # type: ignore[method-assign]

    async def step(self, view: TaskView, state: RoundRecord) -> bool:
        node, answering = self._server.node, self._server.answering
        sealed = await answering.sealed_round(view, state)
        if sealed is None or node.chain.head() < CutOffs.of(view, state).openings:
            return False
        if self.published:
            return False
        words = answering.words(view, state, by_block=CutOffs.of(view, state).proposed_words)
        right, _ = build_transcript(
            sealed,
            words,
            answering.convictions(view, state),
            answering.openings(view, state),
            await self._server.settling.payout_state(view),
        )
        bodies = self._make(right, node.address)
        assert isinstance(bodies, list)
        for body in bodies:
            name = node.repository.publish(body)
            self.published += 1
            node.publish_record(view.task, state.round, board.TRANSCRIPT, 0, name, name)
        return True


def _bogus(right: Transcript, thief: Address) -> list[bytes]:
    nobody = right.words[0].model_copy(update={"server": 13})
    empty = [entry.model_copy(update={"words": (), "signatures": ()}) for entry in right.words]
    stolen = (*right.payouts, Payout(owner=thief, cumulative_wei=10**18))
    changes: list[dict[str, object]] = [
        {"words": tuple(empty), "v_bitmap": 31, "accepted": (), "payouts": ()},
        {"payouts": tuple(sorted(stolen, key=lambda payout: payout.owner))},
        {"words": (*right.words, nobody), "v_bitmap": 0x1FFF},
        {"words": (), "v_bitmap": 31},
    ]
    return [right.model_copy(update=change).encode() for change in changes]


def _worse(right: Transcript, thief: Address) -> list[bytes]:
    changes: list[dict[str, object]] = [
        {"accepted": (*right.accepted, thief)},
        {"words": right.words[:-1] * 2, "v_bitmap": 31},
        {"manifest": right.manifest.model_copy(update={"certificates": ()})},
    ]
    return [b"\xa0", *(right.model_copy(update=change).encode() for change in changes)]


def test_bogus_transcripts_of_a_sequencer_do_not_stop_the_settlement(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            make_honest(world)
            for make in (_bogus, _worse):
                opened, contributions = await world.open_and_contribute([0, 1])
                leader = world.market.servers[opened.round % 5]
                steps = leader.settling.step
                sequencer = _Sequencer(world, leader, make)
                settled = await world.settle(opened)
                assert settled is not None
                assert sequencer.published == 4
                assert (settled.v_bitmap, settled.accepted_count) == (0b11111, 2)
                leader.settling.step = steps  # type: ignore[method-assign]
                for server in range(1, 6):
                    if world.market.servers[server - 1] is not leader:
                        kept = records(world, server, opened.round, board.TRANSCRIPT)
                        assert [record.body for record in kept] == [settled.transcript_hash]
                recovered = await world.recover(settled)
                expected = expected_sum(contributions, list(contributions))
                assert np.array_equal(recovered.total, expected)
            assert len(await audit(world)) == 2

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_sequencer_cannot_divide_the_servers_by_many_right_transcripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "MAX_SWEEPS", 120)

    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            name_askers(world)
            opened, _ = await world.open_and_contribute([0, 1])
            leader = world.market.servers[1]
            state = await reach_sealed(world, opened)
            await reach_block(world, CutOffs.of(world.view, state).words)
            # It convicts itself, in as many ways as it likes: each gives another transcript.
            sealed = await sealed_round(world, 2)
            own = own_words(world, 2)
            convictions = [
                find_two_words(sealed.manifest, [own, await other_words(world, 2, fill)])[0]
                for fill in range(1, 61)
            ]

            def make(right: Transcript, _thief: Address) -> list[bytes]:
                return [_convict(right, evidence).encode() for evidence in convictions]

            _Sequencer(world, leader, make)

            def divide(kinds: Kinds, items: Items) -> Items:
                """Show each server another fifth of them, those with the smallest hashes."""
                asker = ASKER.get()
                return [
                    item
                    for place, item in enumerate(items)
                    if item.kind != board.TRANSCRIPT or place % 5 == asker - 1
                ]

            show(leader, divide)
            settled = await world.settle(opened)
            assert settled is not None
            for server in (1, 3, 4, 5):
                kept = records(world, server, opened.round, board.TRANSCRIPT)
                assert len(kept) <= settling.TRANSCRIPTS_PER_TURN * (rotations(world) + 1)
                signed = records(world, server, opened.round, board.SETTLEMENT)
                signers = [record.server for record in signed]
                assert max(map(signers.count, signers)) <= board.MAX_SIGNED[board.SETTLEMENT]

    asyncio.run(scenario())


def _convict(right: Transcript, evidence: TwoWords) -> Transcript:
    without = right.v_bitmap & ~(1 << (evidence.server - 1))
    return right.model_copy(update={"convictions": (evidence,), "v_bitmap": without})


class _MisdealsServer4(MisdealingOwner):
    """Deals server 4 a share that is off its polynomial, and commits to it faithfully."""

    row = 2  # rows are of servers 2 to 5


def test_a_sequencer_that_hides_its_words_puts_no_blame_on_a_victim(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            make_honest(world)
            name_askers(world)
            world.market.owners[2].__class__ = _MisdealsServer4
            honest = [owner.address for owner in world.market.owners[:2]]
            for shown in ("with its transcript", "to one server at the last moment"):
                opened, contributions = await world.open_and_contribute([0, 1, 2])
                leader = opened.round % 5 + 1
                shown_to: set[int] = set()
                _hide_words(world, leader, shown_to)
                state = await reach_sealed(world, opened)
                cut_offs = CutOffs.of(world.view, state)
                await reach_block(world, cut_offs.admitted_words - 1)
                world.market.chain.wait_for_block(cut_offs.admitted_words)
                if shown != "with its transcript":
                    shown_to.add(1)
                    await sweep(world, [world.market.servers[0]])
                    assert _signers(world, 1, board.WORDS) == {1, 2, 3, 4, 5}
                    world.market.chain.wait_for_block(cut_offs.admitted_words + 1)
                assert leader not in _signers(world, 4, board.WORDS)
                settled = await world.settle(opened)
                assert settled is not None
                audited = (await audit(world))[-1]
                assert 4 not in audited.resolution.faults
                assert settled.v_bitmap >> 3 & 1  # server 4 stands
                assert list(audited.resolution.accepted) == sorted(honest)
                recovered = await world.recover(settled)
                assert np.array_equal(recovered.total, expected_sum(contributions, honest))
                shown_to.update(range(1, 6))  # it is honest in the next round

    asyncio.run(scenario())


def _hide_words(world: MarketWorld, server: int, shown_to: set[int]) -> None:
    """Let a server show its words to some alone; what others have of it they pass on."""

    def hide(_kinds: Kinds, items: Items) -> Items:
        known = ASKER.get() in shown_to
        return [
            item
            for item in items
            if known
            or item.kind != board.WORDS
            or ServerWords.decode(item.body, max_bytes=1 << 20).server != server
        ]

    show(world.market.servers[server - 1], hide)


def _signers(world: MarketWorld, server: int, kind: str) -> set[int]:
    return {record.server for record in records(world, server, state_of(world).round, kind)}


MOMENTS = ("to one before the openings cut-off", "at the openings cut-off", "after a proposal")


def test_a_second_set_of_words_shown_late_does_not_stop_the_settlement(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            make_honest(world)
            name_askers(world)
            shown_to: set[int] = set()
            second: list[ServerWords] = []

            def change(kinds: Kinds, items: Items) -> Items:
                if board.WORDS not in kinds or ASKER.get() not in shown_to or not second:
                    return items
                return [*items, BoardItem(kind=board.WORDS, body=second[0].encode())]

            show(world.market.servers[4], change)
            for moment in MOMENTS:
                shown_to.clear()
                second.clear()
                opened, contributions = await world.open_and_contribute([0, 1])
                state = await reach_sealed(world, opened)
                openings = CutOffs.of(world.view, state).openings
                await reach_block(world, openings - 1)
                second.append(await other_words(world, 5))
                if moment == MOMENTS[0]:
                    shown_to.add(1)
                    await sweep(world, [world.market.servers[0]])
                    assert _signers(world, 1, board.TWO_WORDS) == {5}
                    world.market.chain.wait_for_block(openings)
                elif moment == MOMENTS[1]:
                    world.market.chain.wait_for_block(openings)
                else:
                    await _propose_only(world, openings, opened)
                shown_to.update(range(1, 5))
                settled = await world.settle(opened)
                assert settled is not None, moment
                assert settled.v_bitmap & 0b1111 == 0b1111
                if moment == MOMENTS[0]:
                    assert settled.v_bitmap == 0b1111
                recovered = await world.recover(settled)
                expected = expected_sum(contributions, list(contributions))
                assert np.array_equal(recovered.total, expected)
            assert len(await audit(world)) == len(MOMENTS)

    asyncio.run(scenario())


async def _propose_only(world: MarketWorld, openings: int, opened: RoundOpened) -> None:
    """Let the sequencer propose and one other server sign, before all see more."""
    world.market.chain.wait_for_block(openings)
    leader = opened.round % 5 + 1
    for server in (leader, leader % 5 + 1):
        if server != 5:
            await world.market.servers[server - 1].step(world.view.task)
    assert records(world, leader, opened.round, board.TRANSCRIPT)


@pytest.mark.slow
def test_variants_of_a_manifest_are_kept_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=6) as world:
            make_honest(world)
            name_askers(world)
            opened, contributions = await world.open_and_contribute([0, 1, 2])
            task = world.view.task
            # The last owner is in league with server 2: its package is held as well as receipted.
            friend = world.market.owners[2]
            context = round_context(world.market.reader, task, opened.round)
            delivery = friend._delivery(world.view, context)
            held = {
                server: tuple(await delivery._leave_package(friend._sent[task].sealed[server - 1]))
                for server in (3, 4)
            }
            full = contributions[friend.address].certificate
            others = [
                entry.certificate
                for owner, entry in contributions.items()
                if owner != friend.address
            ]
            receipts = full.receipts
            receipts_without = {
                server: tuple(entry for entry in receipts if entry.server != server)
                for server in (3, 4)
            }
            updates: list[dict[str, object]] = [
                {},
                {"receipts": receipts_without[3], "held": held[3]},
                {"receipts": receipts_without[4], "held": held[4]},
                {"receipts": (*receipts, receipts[-1])},
                {"held": held[3]},
                {"receipts": receipts[::-1]},
            ]
            manifests = [
                build_manifest(task, opened.round, [*others, full.model_copy(update=update)])
                for update in updates
            ]
            assert len({manifest.root() for manifest in manifests}) == 1
            orders = {1: [1, 0, 2, 3], 3: [3, 4, 5, 2], 4: [2, 1, 0, 5], 5: [4, 3, 0, 1]}

            def divide(kinds: Kinds, items: Items) -> Items:
                if board.MANIFEST not in kinds or ASKER.get() not in orders:
                    return items
                return [
                    BoardItem(kind=board.MANIFEST, body=manifests[place].encode())
                    for place in orders[ASKER.get()]
                ]

            show(world.market.servers[1], divide)
            settled = await world.settle(opened)
            assert settled is not None
            assert (settled.v_bitmap, settled.accepted_count) == (0b11111, 3)
            kept = {
                server: records(world, server, opened.round, board.MANIFEST)
                for server in (1, 3, 4, 5)
            }
            for found in kept.values():
                assert len(found) == 1
            assert len({found[0].body for found in kept.values()}) > 1  # they were divided
            recovered = await world.recover(settled)
            expected = expected_sum(contributions, list(contributions))
            assert np.array_equal(recovered.total, expected)

    asyncio.run(scenario())


@pytest.mark.slow
def test_signed_records_of_a_deviator_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "MAX_SWEEPS", 120)

    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            make_honest(world)
            opened, contributions = await world.open_and_contribute([0, 1])
            node, task = world.market.servers[4].node, world.view.task
            zero = Hash32(bytes(32))

            def hashes(count: int) -> list[Hash32]:
                return [Hash32(index.to_bytes(32, "big")) for index in range(1, count)]

            def forged(kind: str) -> list[SignedMessage]:
                if kind == board.SEED:
                    root = state_of(world).submissions_root
                    return [
                        Seed(task=task, round=opened.round, submissions_root=root, seed=seed)
                        for seed in hashes(8)
                    ]
                if kind == board.FINAL:
                    return [
                        Final(task=task, round=opened.round, accepted_root=root)
                        for root in hashes(8)
                    ]
                return [
                    Settlement(
                        task=task,
                        round=opened.round,
                        submissions_root=zero,
                        seed=zero,
                        accepted_root=zero,
                        accepted_count=2,
                        v_bitmap=31,
                        previous_payouts_root=zero,
                        payouts_root=zero,
                        transcript_hash=name,
                        word=zero,
                    )
                    for name in hashes(90)
                ]

            bodies: dict[str, Items] = {}

            def flood(kinds: Kinds, items: Items) -> Items:
                chosen = [kind for kind in board.MAX_SIGNED if kind in kinds]
                for kind in chosen:
                    if kind not in bodies and state_of(world).phase != Phase.OPEN:
                        bodies[kind] = [
                            BoardItem(kind=kind, body=node.sign(message).encode())
                            for message in forged(kind)
                        ]
                return [item for kind in chosen for item in bodies.get(kind, [])] + items

            show(world.market.servers[4], flood)
            settled = await world.settle(opened)
            assert settled is not None
            assert (settled.v_bitmap, settled.accepted_count) == (0b11111, 2)
            assert set(bodies) == set(board.MAX_SIGNED)
            for server in range(1, 5):
                for kind, most in board.MAX_SIGNED.items():
                    kept = [record.server for record in records(world, server, opened.round, kind)]
                    assert kept.count(5) <= most
                    if kind != board.SETTLEMENT:
                        assert kept.count(5) == 2  # enough to convict it
                        assert {1, 2, 3, 4} <= set(kept)
            recovered = await world.recover(settled)
            expected = expected_sum(contributions, list(contributions))
            assert np.array_equal(recovered.total, expected)

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("silent_in", ["sealing", "settling"])
def test_a_silent_sequencer_is_replaced(tmp_path: Path, silent_in: str) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, contributions = await world.open_and_contribute([0, 1])
            leader = world.market.servers[1]
            if silent_in == "settling":
                state = await reach_sealed(world, opened)
                await reach_block(world, CutOffs.of(world.view, state).admitted_words)
                assert rotations(world) == 0
            world.market.servers.remove(leader)
            world.cut_off(2)
            settled = await world.settle(opened)
            world.market.servers.insert(1, leader)
            assert settled is not None
            assert rotations(world) >= 1
            assert settled.accepted_count == 2
            assert settled.v_bitmap == (0b11111 if silent_in == "settling" else 0b11101)
            recovered = await world.recover(settled)
            expected = expected_sum(contributions, list(contributions))
            assert np.array_equal(recovered.total, expected)

    asyncio.run(scenario())


def test_the_auditor_notices_what_a_node_or_a_quorum_forges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            make_honest(world)
            opened, _ = await world.open_and_contribute([0, 1])
            assert await world.settle(opened) is not None
            await _forged_by_a_node(world, monkeypatch)
            # All servers together settle on chain what does not follow from their words.
            for forge, notice in (
                (_with_zero_words, "a batch word is not that of its words"),
                (_with_one_owner_more, "paid another number of owners"),
            ):
                plain = settlement_message
                with monkeypatch.context() as patch:
                    patch.setattr(settling, "settlement_message", forge(plain))
                    opened, _ = await world.open_and_contribute([0, 1, 2])
                    settled = await world.settle(opened)
                    assert settled is not None  # the contract cannot know
                auditor = Auditor(world.market.reader, world.market.network.connect)
                *before, last = world.market.reader.settled_rounds(world.view.task)
                with monkeypatch.context() as patch:
                    patch.setattr(Auditor, "_check_chain", lambda *_: None)
                    for earlier in before:
                        await auditor.audit(earlier)
                with pytest.raises(VerificationError, match=notice):
                    await auditor.audit(last)

    asyncio.run(scenario())


Message = Callable[[Transcript, ServerWords, RoundContext], Settlement]


def _with_zero_words(plain: Message) -> Message:
    """Zero words lie on every codeword, so the contract takes them."""
    return lambda *given: replace(plain(*given), word=Hash32(bytes(32)))


def _with_one_owner_more(plain: Message) -> Message:
    return lambda *given: replace(plain(*given), accepted_count=plain(*given).accepted_count + 1)


async def _forged_by_a_node(world: MarketWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the auditor's node give another seed, another signature, or too few of them."""
    market = world.market
    (settled,) = market.reader.settled_rounds(world.view.task)
    with pytest.raises(VerificationError, match="the seed is not that of the challenge block"):
        await Auditor(market.reader, market.network.connect).audit(
            replace(settled, seed=Hash32(bytes(32)))
        )
    with pytest.raises(VerificationError, match="paid another number of owners"):
        await Auditor(market.reader, market.network.connect).audit(
            replace(settled, accepted_count=settled.accepted_count + 1)
        )
    altered = (Hash32(bytes(32)), *settled.words[1:])
    target, data = market.chain.calldata(settled.position.transaction_hash)
    arguments = list(bindings.codec().arguments("settle", data))
    signatures = list(arguments[5])
    cases: list[tuple[RoundSettled, dict[int, object], str]] = [
        (settled, {5: [signatures[1], *signatures[1:]]}, "signed by another key"),
        (replace(settled, words=altered), {4: altered}, "not that of its words"),
        (
            replace(settled, signers=0b111, words=settled.words[:3]),
            {3: 0b111, 4: settled.words[:3], 5: signatures[:3]},
            "fewer than n - e servers signed",
        ),
    ]
    for claimed, changes, notice in cases:
        forged = [changes.get(place, argument) for place, argument in enumerate(arguments)]
        calldata = bindings.codec().calldata("settle", *forged)
        with monkeypatch.context() as patch:
            patch.setattr(market.chain, "calldata", lambda _hash, data=calldata: (target, data))
            with pytest.raises(VerificationError, match=notice):
                await Auditor(market.reader, market.network.connect).audit(claimed)
    await Auditor(market.reader, market.network.connect).audit(settled)
