"""Faults on chain: who is slashed, who is not, and what nobody can make an honest server sign."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from market_attacks import (
    another_signature,
    make_honest,
    other_words,
    reach_block,
    reach_sealed,
    records,
    show,
    state_of,
    sweep,
)
from market_world import MarketWorld, market_world

from omnilytics.chain.bindings.market import RoundOpened, RoundSettled
from omnilytics.chain.bindings.registry import Slashed
from omnilytics.chain.records import FaultKind
from omnilytics.demo.accounts import close_books, pay_out
from omnilytics.demo.result import DemoResult
from omnilytics.demo.terms import BOND_WEI, RISK_WEI, STAKE_WEI
from omnilytics.foundation.errors import ChainError, FundsError, PeerError, VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, Wei
from omnilytics.protocol.settlement import PayoutState, build_transcript
from omnilytics.roles.auditor import Auditor
from omnilytics.roles.data_owner import owner as data_owner
from omnilytics.roles.faults import Openings, find_faults, judge_settled
from omnilytics.roles.server import board
from omnilytics.roles.server.reporting import FinishedRound, has_turn
from omnilytics.roles.server.settling import CutOffs
from omnilytics.roles.slashes import check_slash
from omnilytics.transport.client import BoardItem
from omnilytics.wire.eip712 import SignedMessage
from omnilytics.wire.envelope import Signed, decode_signed, sign_message
from omnilytics.wire.hashing import EMPTY_ROOT
from omnilytics.wire.messages import Fault, Final, Seed
from omnilytics.wire.task_specification import Admission
from omnilytics.wire.transcript import Transcript


def _slashed(world: MarketWorld) -> list[Slashed]:
    return [event for event in world.market.reader.events() if isinstance(event, Slashed)]


def _stakes(world: MarketWorld) -> list[int]:
    reader = world.market.reader
    return [reader.server(server.node.address).stake_wei for server in world.market.servers]


def _bond(world: MarketWorld, owner: int) -> int:
    return world.market.reader.bond(world.market.owners[owner].address).amount_wei


async def _audited(world: MarketWorld) -> Auditor:
    auditor = Auditor(world.market.reader, world.market.network.connect)
    for settled in world.market.reader.settled_rounds(world.view.task):
        await auditor.audit(settled)
    return auditor


def _faults_signed(world: MarketWorld, number: Round, party: Address) -> int:
    """Count the Fault signatures against a party that lie with servers other than their signers."""
    return sum(
        record.subject == party
        for server in range(1, 6)
        for record in records(world, server, number, board.FAULT)
    )


def test_liars_and_misdealers_are_slashed_and_the_books_close(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=5) as world:
            market = world.market
            liar, misdealer = market.servers[4].node.address, market.owners[3].address
            opened, _ = await world.open_and_contribute()
            first = await world.settle(opened)
            assert first is not None
            (owners_fault,) = _slashed(world)
            assert (owners_fault.party, owners_fault.kind) == (misdealer, FaultKind.OWNER)
            assert (owners_fault.amount_wei, owners_fault.round) == (BOND_WEI, 1)
            assert owners_fault.evidence_hash == first.transcript_hash
            assert _bond(world, 3) == 0
            assert [_bond(world, owner) for owner in (0, 1, 2, 4)] == [BOND_WEI] * 4
            assert _stakes(world) == [STAKE_WEI] * 5
            with pytest.raises(VerificationError, match="bond is too small"):
                await market.owners[3].contribute(world.view.task, Round(2))

            opened, _ = await world.open_and_contribute([0, 1])
            second = await world.settle(opened)
            assert second is not None
            *_, servers_fault = _slashed(world)
            assert (servers_fault.party, servers_fault.kind) == (liar, FaultKind.SERVER)
            assert (servers_fault.amount_wei, servers_fault.round) == (RISK_WEI, 2)
            assert servers_fault.evidence_hash == second.transcript_hash
            assert servers_fault.reporter != liar
            assert _stakes(world) == [STAKE_WEI] * 4 + [STAKE_WEI - RISK_WEI]
            assert len(_slashed(world)) == 2
            await sweep(world)  # nothing is left to report

            auditor = await _audited(world)
            audited = auditor.check_slashes(world.view.task)
            assert [(entry.slashed, entry.signed) for entry in audited] == [
                (owners_fault, True),
                (servers_fault, True),
            ]
            await pay_out(market, world.view)
            result = cast(Any, SimpleNamespace())
            close_books(market, world.view.task, result)
            books = DemoResult(
                options=market.options, dimension=1, plain_accuracies=[], clipping_rate=0.0
            )
            books.balances = result.balances
            books.contract_wei, books.burnt_wei = result.contract_wei, result.burnt_wei
            assert books.books_close
            shares = owners_fault.share_wei + servers_fault.share_wei
            assert books.burnt_wei == BOND_WEI + RISK_WEI - shares
            assert shares > 0

    asyncio.run(scenario())


def test_a_slash_that_no_transcript_shows_is_noticed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=5) as world:
            reader, view = world.market.reader, world.view
            opened, _ = await world.open_and_contribute()
            assert await world.settle(opened) is not None
            (slashed,) = _slashed(world)
            auditor = Auditor(reader, world.market.network.connect)
            with pytest.raises(VerificationError, match="audit the task's settled rounds first"):
                auditor.check_slashes(view.task)
            (settled,) = reader.settled_rounds(view.task)
            audited = await auditor.audit(settled)
            faults = {settled.round: audited.faults}
            assert check_slash(reader, view, slashed, faults).signed
            wrong: list[tuple[dict[str, Any], str]] = [
                ({"party": world.market.owners[0].address}, "no transcript shows"),
                ({"round": Round(2)}, "no transcript shows"),
                ({"evidence_hash": Hash32(bytes(32))}, "no transcript shows"),
                ({"amount_wei": BOND_WEI + 1}, "more was slashed"),
            ]
            for changes, notice in wrong:
                with pytest.raises(VerificationError, match=notice):
                    check_slash(reader, view, replace(slashed, **changes), faults)
            with pytest.raises(ChainError, match="does not call"):
                check_slash(reader, view, replace(slashed, kind=4), faults)
            with pytest.raises(VerificationError, match="no transcript shows"):
                check_slash(reader, view, slashed, {})
            # Through another contract its signatures cannot be read.
            plain = reader.chain.calldata
            patched = cast(Any, reader.chain)
            patched.calldata = lambda _hash: (None, b"")
            assert not check_slash(reader, view, slashed, faults).signed
            target, data = plain(slashed.position.transaction_hash)
            altered = data.replace(slashed.party, world.market.owners[0].address)
            assert altered != data
            for signature in _signatures(data):
                other = data.replace(signature, signature[:-1] + bytes([signature[-1] ^ 1]))
                patched.calldata = lambda _hash, other=other: (target, other)
                with pytest.raises(VerificationError):
                    check_slash(reader, view, slashed, faults)
            patched.calldata = plain

    asyncio.run(scenario())


def _signatures(data: bytes) -> Iterable[bytes]:
    """Return the first words of the Fault's signatures in a report's calldata."""
    start = 4 + int.from_bytes(data[4 + 7 * 32 : 4 + 8 * 32], "big")
    count = int.from_bytes(data[start : start + 32], "big")
    return [data[start + 32 + 64 * k : start + 64 + 64 * k] for k in range(count)]


def test_nothing_at_risk_means_no_fault(tmp_path: Path) -> None:
    async def scenario() -> None:
        free = Admission(mode="open", min_bond_wei=0).model_dump()
        async with market_world(tmp_path, owners=5, specification={"admission": free}) as world:
            opened, _ = await world.open_and_contribute()
            settled = await world.settle(opened)
            assert settled is not None
            misdealer = world.market.owners[3].address
            assert _faults_signed(world, opened.round, misdealer) == 0
            assert _slashed(world) == []
            assert _bond(world, 3) == BOND_WEI
            auditor = Auditor(world.market.reader, world.market.network.connect)
            audited = await auditor.audit(settled)
            assert "dealt server 2" in audited.resolution.rejected[misdealer]
            assert audited.faults == ()

    asyncio.run(scenario())


def test_liars_alone_move_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=5) as world:
            make_honest(world)
            market, view, liar = world.market, world.view, world.market.servers[4]
            victims = [
                (market.servers[0].node.address, FaultKind.SERVER),
                (market.owners[0].address, FaultKind.OWNER),
            ]

            def false_faults(settled: RoundSettled) -> list[Signed]:
                return [
                    sign_message(
                        Fault(
                            task=view.task,
                            round=settled.round,
                            party=party,
                            kind=int(kind),
                            evidence_hash=settled.transcript_hash,
                        ),
                        liar.node.key,
                        market.reader.domain,
                    )
                    for party, kind in victims
                ]

            asked = []

            def accuse(kinds: tuple[str, ...], items: list[BoardItem]) -> list[BoardItem]:
                settled = market.reader.round_settled(view.task, Round(1))
                if board.FAULT not in kinds or settled is None:
                    return items
                asked.append(kinds)
                false = [one.encode() for one in false_faults(settled)]
                return [*items, *(BoardItem(kind=board.FAULT, body=body) for body in false)]

            show(liar, accuse)
            # A misdealing owner gives the servers a true fault to ask each other about.
            opened, _ = await world.open_and_contribute()
            settled = await world.settle(opened)
            assert settled is not None
            assert asked
            (slashed,) = _slashed(world)
            assert slashed.party == market.owners[3].address
            for party, _kind in victims:
                assert _faults_signed(world, opened.round, party) == 0
            assert _stakes(world) == [STAKE_WEI] * 5
            assert _bond(world, 0) == BOND_WEI
            # Nor does the contract take fewer than n - e signatures.
            for signed in false_faults(settled)[:1]:
                assert isinstance(signed.message, Fault)
                with pytest.raises(ChainError):
                    liar.node.writer.report_fault(
                        signed.message, view.parameters.members, {4: signed.signature}
                    )

    asyncio.run(scenario())


def test_a_transcript_that_hides_an_opening_convinces_nobody_who_saw_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=5) as world:
            market, view = world.market, world.view
            opened, _ = await world.open_and_contribute()
            settled = await world.settle(opened)
            assert settled is not None
            node = market.servers[0].node
            content = node.repository.published(settled.transcript_hash)
            assert content is not None
            true = Transcript.decode(content, max_bytes=1 << 24)
            server = market.servers[0]
            sealed = await server.faulting._sealed_round(view, settled, true)
            # The same words without server 2's opening: they put server 2 at fault.
            nothing: Openings = {}
            hiding, resolution = build_transcript(
                sealed, true.words, true.convictions, nothing, PayoutState({}, EMPTY_ROOT)
            )
            assert set(resolution.faults) == {2}
            accused = judge_settled(sealed, hiding, nothing)
            shown = find_faults(sealed, hiding, accused, nothing, view.specification)
            assert [fault.party for fault in shown] == [view.parameters.members[1]]
            forged = replace(
                settled,
                transcript_hash=hiding.hash(),
                accepted_root=hiding.accepted_root(),
                accepted_count=len(hiding.accepted),
                v_bitmap=hiding.v_bitmap,
                payouts_root=hiding.payouts_root(),
            )
            for other in market.servers:
                other.node.repository.publish(hiding.encode())
            for other in market.servers:  # a lying node of the chain shows them this settlement
                faults, transcript = await other.faulting.examine(view, forged)
                assert transcript == hiding
                assert faults == ()
            # Who never saw the opening, and reaches nobody who did, would be misled.
            last = market.servers[4]
            for number in (1, 2, 3, 4):
                world.cut_off(number)
            plain = last.node.repository.records

            def blind(task: Any, number: Any, kinds: Any) -> Any:
                return [one for one in plain(task, number, kinds) if one.kind != board.OPENING]

            cast(Any, last.node.repository).records = blind
            misled, _ = await last.faulting.examine(view, forged)
            assert misled == shown
            # And a transcript that does not follow from its evidence is refused outright.
            lie = hiding.model_copy(update={"v_bitmap": 0b01101})
            last.node.repository.publish(lie.encode())
            claim = replace(forged, transcript_hash=lie.hash(), v_bitmap=0b01101)
            with pytest.raises(VerificationError, match="does not follow from its evidence"):
                await last.faulting.examine(view, claim)
            with pytest.raises(VerificationError, match="of another round"):
                await last.faulting.examine(view, replace(forged, seed=Hash32(b"s" * 32)))
            unknown = replace(forged, transcript_hash=Hash32(b"u" * 32))
            with pytest.raises(PeerError, match="no server has the content"):
                await last.faulting.examine(view, unknown)

    asyncio.run(scenario())


# two messages where one may be signed


def _show_also(world: MarketWorld, kind: str, message: SignedMessage) -> None:
    """Let server 5's board show one more message of its own."""
    liar = world.market.servers[4]
    body = sign_message(message, liar.node.key, world.market.reader.domain).encode()

    def more(kinds: tuple[str, ...], items: list[BoardItem]) -> list[BoardItem]:
        return [*items, BoardItem(kind=kind, body=body)] if kind in kinds else items

    show(liar, more)


def _own(world: MarketWorld, number: Round, kind: str) -> SignedMessage:
    (own,) = [one for one in records(world, 5, number, kind) if one.server == 5]
    return decode_signed(own.body).message


def _convicted(world: MarketWorld, kind: FaultKind) -> None:
    """Check that server 5 lost its whole stake for this, once, and nobody else anything."""
    (slashed,) = _slashed(world)
    liar = world.market.servers[4].node.address
    assert (slashed.party, slashed.kind, slashed.amount_wei) == (liar, kind, STAKE_WEI)
    assert slashed.share_wei == STAKE_WEI // 4
    assert _stakes(world) == [STAKE_WEI] * 4 + [0]


async def _to_the_end(world: MarketWorld, opened: RoundOpened) -> RoundSettled:
    settled = await world.settle(opened)
    assert settled is not None
    return settled


def test_two_seeds_convict_even_if_the_round_is_void(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            make_honest(world)
            market = world.market
            opened, _ = await world.open_and_contribute([0, 1])
            state = await reach_sealed(world, opened)
            other = Seed(
                task=world.view.task,
                round=opened.round,
                submissions_root=state.submissions_root,
                seed=Hash32(b"x" * 32),
            )
            _show_also(world, board.SEED, other)
            market.chain.wait_for_block(state.challenge_final_block)
            await sweep(world)
            assert _slashed(world) == []  # not while the round's windows count blocks
            market.chain.wait_for_block(state.settlement_deadline_block + 1)
            market.model_owner.writer.void_round(world.view.task)
            await sweep(world)
            _convicted(world, FaultKind.TWO_SEEDS)
            await sweep(world)
            assert len(_slashed(world)) == 1
            opened, _ = await world.open_and_contribute([0, 1])
            settled = await _to_the_end(world, opened)
            assert settled.accepted_count == 2  # a server without a stake serves on
            (audited,) = (await _audited(world)).check_slashes(world.view.task)
            assert audited.signed

    asyncio.run(scenario())


def test_two_finals_convict(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            make_honest(world)
            other = Final(task=world.view.task, round=Round(1), accepted_root=Hash32(b"y" * 32))
            _show_also(world, board.FINAL, other)
            opened, _ = await world.open_and_contribute([0, 1])
            settled = await _to_the_end(world, opened)
            assert await world.recover(settled)
            _convicted(world, FaultKind.TWO_FINALS)
            (audited,) = (await _audited(world)).check_slashes(world.view.task)
            assert audited.signed
            altered = replace(audited.slashed, party=world.market.servers[0].node.address)
            with pytest.raises(VerificationError, match="signed by another key"):
                check_slash(world.market.reader, world.view, altered, {})
            with pytest.raises(VerificationError, match="in another round"):
                check_slash(world.market.reader, world.view, replace(altered, round=Round(2)), {})

    asyncio.run(scenario())


def test_anybody_may_convict_with_what_an_auditor_finds(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            make_honest(world)
            market, task = world.market, world.view.task
            for server in market.servers:  # none of them does it
                cast(Any, server.faulting).step = _nothing
            other = Final(task=task, round=Round(1), accepted_root=Hash32(b"y" * 32))
            _show_also(world, board.FINAL, other)
            opened, _ = await world.open_and_contribute([0, 1])
            await _to_the_end(world, opened)
            assert _slashed(world) == []
            auditor = Auditor(market.reader, market.network.connect)
            assert await auditor.equivocations(task, Round(2)) == ()
            (found,) = await auditor.equivocations(task, opened.round)
            assert found.server == market.servers[4].node.address
            owner = market.owners[0]
            owner.writer.convict(
                found.server, world.view.parameters.members, found.messages, found.signatures
            )
            _convicted(world, FaultKind.TWO_FINALS)
            assert _slashed(world)[0].reporter == owner.address

    asyncio.run(scenario())


async def _nothing(*_arguments: object) -> bool:
    return False


def test_two_words_convict_and_are_not_reported_besides(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            make_honest(world)
            opened, _ = await world.open_and_contribute([0, 1])
            state = await reach_sealed(world, opened)
            await reach_block(world, state.challenge_final_block)
            second = await other_words(world, 5)
            liar = world.market.servers[4]

            def both(kinds: tuple[str, ...], items: list[BoardItem]) -> list[BoardItem]:
                if board.WORDS not in kinds:
                    return items
                return [*items, BoardItem(kind=board.WORDS, body=second.encode())]

            show(liar, both)
            await reach_block(world, CutOffs.of(world.view, state).words)
            settled = await _to_the_end(world, opened)
            assert settled.v_bitmap == 0b1111
            _convicted(world, FaultKind.TWO_WORDS)
            # n - e found it at fault too, but there is nothing left to take.
            assert _faults_signed(world, opened.round, liar.node.address) >= 4
            auditor = await _audited(world)
            (audited,) = auditor.check_slashes(world.view.task)
            assert audited.signed
            (found,) = await auditor.equivocations(world.view.task, opened.round)
            assert found.server == liar.node.address

    asyncio.run(scenario())


def test_the_same_message_under_two_signatures_convicts_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            make_honest(world)
            liar = world.market.servers[4]

            def twice(kinds: tuple[str, ...], items: list[BoardItem]) -> list[BoardItem]:
                again = []
                for item in items:
                    if item.kind not in (board.SEED, board.FINAL):
                        continue
                    signed = decode_signed(item.body)
                    if signed.signer(world.market.reader.domain) == liar.node.address:
                        signature = another_signature(
                            liar.node.key, signed.message, world.market.reader.domain
                        )
                        body = replace(signed, signature=signature).encode()
                        again.append(BoardItem(kind=item.kind, body=body))
                return [*again, *again, *items]

            show(liar, twice)
            opened, _ = await world.open_and_contribute([0, 1])
            settled = await _to_the_end(world, opened)
            assert settled.v_bitmap == 0b11111
            assert _slashed(world) == []
            for kind in (board.SEED, board.FINAL):
                kept = [one for one in records(world, 1, opened.round, kind) if one.server == 5]
                assert len(kept) == 1  # room is left for a second message
            assert _own(world, opened.round, board.SEED)

    asyncio.run(scenario())


def test_the_turn_to_report_passes_on_and_skips_the_party_at_fault() -> None:
    members = tuple(Address(bytes([k]) * 20) for k in range(5))
    view = cast(
        Any,
        SimpleNamespace(
            parameters=SimpleNamespace(members=members),
            specification=SimpleNamespace(windows=SimpleNamespace(rotation_seconds=30)),
        ),
    )
    finished = FinishedRound(round=Round(7), since=1_000, settled=None)

    def reporter(now: int, party: Address) -> list[int]:
        return [
            place
            for place, member in enumerate(members)
            if has_turn(view, finished, now=now, server=member, party=party)
        ]

    owner = Address(b"o" * 20)
    assert [reporter(1_000 + 30 * turn, owner) for turn in range(6)] == [
        [2],
        [3],
        [4],
        [0],
        [1],
        [2],
    ]
    assert [reporter(1_000 + 30 * turn, members[2]) for turn in range(5)] == [
        [3],
        [4],
        [0],
        [1],
        [3],
    ]
    assert reporter(1_029, owner) == [2]
    assert reporter(900, owner) == [2]  # a clock that is behind


def test_a_reporter_without_ether_leaves_it_to_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=5) as world:
            market = world.market
            opened, _ = await world.open_and_contribute()
            first = market.servers[1].node  # round 1's sequencer

            def no_ether(*_arguments: object) -> None:
                raise FundsError("the account cannot pay for this transaction")

            first.writer.report_fault = no_ether  # type: ignore[method-assign, assignment]
            settled = await world.settle(opened)
            assert settled is not None
            assert _slashed(world) == []
            rotation = world.view.specification.windows.rotation_seconds
            market.chain.wait_for_time(market.chain.head_timestamp() + rotation)
            await sweep(world)
            (slashed,) = _slashed(world)
            assert slashed.reporter == market.servers[2].node.address
            assert state_of(world).round == 1

    asyncio.run(scenario())


def test_bonds_admit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            market, task = world.market, world.view.task
            owner = market.owners[0]
            owner.writer.leave_bond()
            opened = await market.model_owner.open_round()
            with pytest.raises(VerificationError, match="asked back") as refusal:
                await owner.contribute(task, opened.round)
            assert refusal.value.hint is not None
            assert "send 1 wei to add_bond()" in refusal.value.hint
            # A server says the same to an owner that does not check for itself.
            with monkeypatch.context() as patch:
                patch.setattr(data_owner, "check_admitted", lambda *_: None)
                with pytest.raises(VerificationError, match="too few receipts"):
                    await owner.contribute(task, opened.round)
            sealed = owner._sent[task].sealed[0]
            client = market.network.connect(world.endpoint(1))
            delivery = owner._delivery(world.view, owner._sent[task].context)
            body = sealed.encode()
            path = f"/v1/tasks/{task}/rounds/{opened.round}/submissions/0x{owner.address.hex()}"
            with pytest.raises(PeerError, match=r"403 .*asked back.*add_bond"):
                await client.put_package(
                    task,
                    opened.round,
                    owner.address,
                    body,
                    lambda: delivery._authenticate(path, body),
                )
            owner.writer.add_bond(Wei(1))  # it stays
            assert await owner.contribute(task, opened.round)
            poor = market.owners[1]
            cast(Any, market.reader).bond = _poorer(market.reader.bond, poor.address)
            with pytest.raises(VerificationError, match="bond is too small") as missing:
                await poor.contribute(task, opened.round)
            assert missing.value.hint is not None
            assert "send 1 wei to add_bond()" in missing.value.hint

    asyncio.run(scenario())


def _poorer(plain: Any, poor: Address) -> Any:
    """Let one owner's bond be one wei short."""

    def bond(owner: Address) -> Any:
        found = plain(owner)
        return replace(found, amount_wei=Wei(BOND_WEI - 1)) if owner == poor else found

    return bond
