"""Whole rounds with real components: servers down, restarted, lying; cheats; voided rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from market_world import MarketWorld, expected_sum, market_world

from omnilytics.chain.records import Phase
from omnilytics.demo import drive
from omnilytics.demo.terms import BOND_WEI
from omnilytics.foundation.errors import KeyMaterialError, PeerError, VerificationError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import TaskId
from omnilytics.perturbation.artefact import encode_artefact
from omnilytics.perturbation.profiles import GAUGE
from omnilytics.perturbation.round_secret import sample_round_secret
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package_builder import Packages
from omnilytics.protocol.resolve import Resolution
from omnilytics.roles.auditor import Auditor
from omnilytics.roles.data_owner import DataOwner
from omnilytics.roles.data_owner.delivery import LEAST_CALL_SECONDS, call_seconds
from omnilytics.roles.server import board, releasing
from omnilytics.roles.task_view import TaskView
from omnilytics.transport import client, hpke
from omnilytics.transport.hpke import HpkeKey, seal_package
from omnilytics.transport.sealed_files import Sealed
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.messages import Seed


def test_a_server_that_is_down_gets_its_packages_from_holders(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            world.cut_off(3)
            opened, contributions = await world.open_and_contribute([0, 1])
            entry = next(iter(contributions.values()))
            assert {held.server for held in entry.certificate.held} == {3}
            assert len(entry.certificate.held) == 2  # e + 1 holders
            assert 3 not in {receipt.server for receipt in entry.certificate.receipts}
            world.reconnect(3)
            settled = await world.settle(opened)
            assert settled is not None
            assert settled.v_bitmap == 0b11111  # server 3 has words, so it had every package
            recovered = await world.recover(settled)
            assert np.array_equal(recovered.total, expected_sum(contributions, list(contributions)))

    asyncio.run(scenario())


class _RubbishOwner(DataOwner):
    """Seals server 3's package to nobody, so that it cannot be opened."""

    def _seal(
        self, view: TaskView, context: RoundContext, packages: Packages, folder: Path
    ) -> Sequence[Sealed]:
        sealed = list(super()._seal(view, context, packages, folder))
        rubbish = HpkeKey.generate(SystemRandomness()).public
        sealed[2] = seal_package(packages[2], rubbish, context)
        return sealed


@pytest.mark.parametrize("answers", [True, False])
def test_an_owner_answers_a_complaint_or_is_not_sealed(tmp_path: Path, answers: bool) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=5) as world:
            cheat = world.market.owners[2]
            cheat.__class__ = _RubbishOwner
            if not answers:
                cheat.answer_complaints = _no_answer  # type: ignore[assignment,method-assign]
            opened, contributions = await world.open_and_contribute([0, 1, 2])
            assert {entry.server for entry in contributions[cheat.address].certificate.held} == {3}
            settled = await world.settle(opened)
            assert settled is not None
            complaints = world.market.servers[0].node.repository.records(
                world.view.task, opened.round, (board.COMPLAINT,)
            )
            assert [(record.server, record.subject) for record in complaints] == [
                (3, cheat.address)
            ]
            accepted = [owner.address for owner in world.market.owners[:2]]
            accepted += [cheat.address] if answers else []
            (resolution,) = await _audit_all(world)
            assert sorted(resolution.accepted) == sorted(accepted)
            assert settled.v_bitmap == 0b11111  # no server was silenced
            recovered = await world.recover(settled)
            assert np.array_equal(recovered.total, expected_sum(contributions, accepted))

    asyncio.run(scenario())


async def _no_answer(_task: TaskId) -> bool:
    return False


def test_a_round_settles_with_one_server_down_for_good(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, contributions = await world.open_and_contribute([0, 1])
            world.cut_off(4)
            down = world.market.servers.pop(3)
            settled = await world.settle(opened)
            assert settled is not None
            assert settled.v_bitmap == 0b10111
            recovered = await world.recover(settled)
            assert np.array_equal(recovered.total, expected_sum(contributions, list(contributions)))
            world.market.servers.insert(3, down)  # so that its database is closed

    asyncio.run(scenario())


def test_a_server_that_never_finishes_an_answer_holds_no_owner_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            monkeypatch.setattr("omnilytics.roles.data_owner.owner.call_seconds", lambda *_: 0.5)

            async def hold(_request: httpx.Request) -> httpx.Response:
                await asyncio.Event().wait()
                raise AssertionError

            transport = httpx.MockTransport(hold)
            opened = await world.market.model_owner.open_round()
            client = httpx.AsyncClient(transport=transport)
            world.market.network._clients[world.endpoint(2)] = client
            async with asyncio.timeout(100):
                entry = await world.market.owners[0].contribute(world.view.task, opened.round)
            receipts = [receipt.server for receipt in entry.certificate.receipts]
            assert receipts == [1, 3, 4, 5]
            assert {held.server for held in entry.certificate.held} == {2}

    asyncio.run(scenario())


def test_how_long_one_server_may_hold_an_owner_up() -> None:
    for left, errors in ((480, 0), (480, 1), (480, 2)):
        # At once to all, then e deviating holders, then the certificate: time to force is left.
        assert (errors + 2) * call_seconds(left, errors) <= left * (errors + 2) / (errors + 4)
    assert call_seconds(-100, 1) == LEAST_CALL_SECONDS


def test_two_servers_down_void_the_round_and_the_next_one_settles(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, _ = await world.open_and_contribute([0, 1])
            servers = list(world.market.servers)
            world.market.servers[:] = servers[:3]
            world.cut_off(4)
            world.cut_off(5)
            assert await world.settle(opened) is None
            state = world.market.reader.round_state(world.view.task)
            assert (state.phase, state.round) == (Phase.IDLE, 1)
            assert world.market.reader.task(world.view.task).credited_wei == 0
            world.market.servers[:] = servers
            world.reconnect(4)
            world.reconnect(5)
            opened, contributions = await world.open_and_contribute([0, 1])
            settled = await world.settle(opened)
            assert settled is not None
            assert settled.accepted_count == len(contributions)

    asyncio.run(scenario())


@pytest.mark.slow
def test_every_server_may_restart_between_any_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, contributions = await world.open_and_contribute([0, 1])
            step = type(world.market.servers[0]).step

            async def restart_then_step(self: object, task: object) -> object:
                index = world.market.servers.index(self)  # type: ignore[arg-type]
                world.restart(index + 1)
                return await step(world.market.servers[index], task)  # type: ignore[arg-type]

            monkeypatch.setattr(type(world.market.servers[0]), "step", restart_then_step)
            settled = await world.settle(opened)
            assert settled is not None
            assert settled.accepted_count == len(contributions)
            for server in world.market.servers:
                for kind in (board.SEED, board.WORDS, board.FINAL):
                    records = server.node.repository.records(world.view.task, opened.round, (kind,))
                    signers = [record.server for record in records]
                    assert sorted(signers) == sorted(set(signers)), "a server answered twice"

    asyncio.run(scenario())


def test_all_cheats_and_a_liar_in_one_round(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=5) as world:
            honest = [owner.address for owner in world.market.owners[:2]]
            misdealing = world.market.owners[3].address
            world.market.owners[3].writer.add_bond(BOND_WEI)  # one for each round
            for number in (1, 2):
                opened, contributions = await world.open_and_contribute()
                settled = await world.settle(opened)
                assert settled is not None
                auditor_sees = await _audit_all(world)
                resolution = auditor_sees[-1]
                assert list(resolution.accepted) == sorted(honest)
                recovered = await world.recover(settled)
                assert np.array_equal(recovered.total, expected_sum(contributions, honest))
                if number == 1:  # the liar is honest in odd rounds: the victim opens its package
                    assert resolution.faults == {}
                    assert (misdealing, 2) in resolution.accused
                    assert "dealt server 2" in resolution.rejected[misdealing]
                else:
                    assert set(resolution.faults) == {5}
                    assert settled.v_bitmap == 0b1111

    asyncio.run(scenario())


async def _audit_all(world: MarketWorld) -> list[Resolution]:
    auditor = Auditor(world.market.reader, world.market.network.connect)
    return [
        (await auditor.audit(settled)).resolution
        for settled in world.market.reader.settled_rounds(world.view.task)
    ]


def test_no_word_before_n_minus_e_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, _ = await world.open_and_contribute([0, 1])
            servers = world.market.servers
            complaints = world.view.specification.windows.complaint_seconds
            world.market.chain.wait_for_time(opened.submission_deadline + complaints)
            while world.market.reader.round_state(world.view.task).phase == Phase.OPEN:
                for server in servers:
                    await server.step(world.view.task)
            state = world.market.reader.round_state(world.view.task)
            world.market.chain.wait_for_block(state.challenge_final_block)
            # Three of five step: they sign seeds and see three signatures, one short of n - e.
            for _ in range(4):
                for server in servers[:3]:
                    await server.step(world.view.task)
            repository = servers[0].node.repository
            seeds = repository.records(world.view.task, opened.round, (board.SEED,))
            assert len(seeds) == 3
            assert all(isinstance(decode_signed(seed.body).message, Seed) for seed in seeds)
            for server in servers[:3]:
                words = server.node.repository.records(
                    world.view.task, opened.round, (board.WORDS,)
                )
                assert words == []

    asyncio.run(scenario())


def test_the_sum_is_not_released_before_it_is_final(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, _ = await world.open_and_contribute([0, 1])
            with pytest.raises(VerificationError, match="not settled"):
                await world.market.model_owner.recover(opened.round)
            settled = await world.settle(opened)
            assert settled is not None
            first = await world.recover(settled)
            again = await world.recover(settled)  # a lost answer may be asked for again
            assert np.array_equal(first.total, again.total)

    asyncio.run(scenario())


def test_another_secret_than_the_rounds_undoes_nothing(tmp_path: Path) -> None:
    """A folder that another machine used too: its secret is not the one that the chain took."""

    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, _ = await world.open_and_contribute([0, 1])
            settled = await world.settle(opened)
            assert settled is not None
            owner = world.market.model_owner
            kept = owner._keeper.kept(opened.round)
            assert kept is not None
            other = sample_round_secret(
                owner.model.graph, owner._structure, GAUGE, SystemRandomness()
            )
            artefact = encode_artefact(owner.model.artefact(other))
            owner._keeper.keep(opened.round, other.record(), artefact)
            with pytest.raises(KeyMaterialError, match="not the one the round was opened with"):
                await world.recover(settled)
            owner._keeper.keep(opened.round, *kept)
            assert (await world.recover(settled)).accepted_count == 2

    asyncio.run(scenario())


def test_only_the_model_owner_gets_shares_of_the_sum(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, _ = await world.open_and_contribute([0, 1])
            settled = await world.settle(opened)
            assert settled is not None
            world.market.model_owner.key = world.market.owners[0].key
            with pytest.raises(VerificationError, match="too few servers released the sum"):
                await world.recover(settled)

    asyncio.run(scenario())


def test_a_sum_is_released_in_parts_of_one_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (releasing, client):
        monkeypatch.setattr(module, "ANSWER_PART_BYTES", 700)
    made = []
    seal = hpke.seal_aggregate

    def sealed(*args: Any, **names: Any) -> Any:
        made.append(names["server"])
        return seal(*args, **names)

    monkeypatch.setattr(releasing, "seal_aggregate", sealed)

    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, contributions = await world.open_and_contribute([0, 1])
            settled = await world.settle(opened)
            assert settled is not None
            expected = expected_sum(contributions, list(contributions))
            assert 8 * len(expected) > 3 * 700
            for _ in range(2):  # a model owner that lost the answer gets it again
                recovered = await world.recover(settled)
                assert np.array_equal(recovered.total, expected)
                assert recovered.lying_servers == ()
            assert sorted(made) == [1, 2, 3, 4, 5]  # each sealed its share once
            answer = world.market.servers[1].node.repository.answers.find(
                world.view.task, opened.round, settled.accepted_root
            )
            assert answer is not None
            content = bytearray(answer.read_bytes())
            content[-5] ^= 1
            answer.write_bytes(content)
            recovered = await world.recover(settled)
            assert np.array_equal(recovered.total, expected)
            assert recovered.lying_servers == (2,)

    asyncio.run(scenario())


def test_a_late_submission_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, _ = await world.open_and_contribute([0, 1])
            world.market.chain.wait_for_time(opened.submission_deadline)
            with pytest.raises((PeerError, VerificationError)):
                await world.market.owners[2].contribute(world.view.task, opened.round)

    asyncio.run(scenario())


def test_the_audit_notices_another_outcome(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, owners=5) as world:
            opened, _ = await world.open_and_contribute([0, 1])
            settled = await world.settle(opened)
            assert settled is not None
            auditor = Auditor(world.market.reader, world.market.network.connect)
            audited = await auditor.audit(settled)
            accepted = audited.transcript.accepted
            forged = audited.transcript.model_copy(update={"accepted": accepted[:1]})
            name = forged.hash()
            for server in world.market.servers:
                server.node.repository.publish(forged.encode())
            altered = replace(settled, transcript_hash=name, accepted_root=forged.accepted_root())
            fresh = Auditor(world.market.reader, world.market.network.connect)
            with pytest.raises(VerificationError, match="does not follow"):
                await fresh.audit(altered)

    asyncio.run(scenario())


@pytest.mark.parametrize(("servers", "privacy"), [(3, 1), (5, 2)])
def test_committees_of_honest_servers_settle_and_void_on_silence(
    tmp_path: Path, servers: int, privacy: int
) -> None:
    async def scenario() -> None:
        async with market_world(tmp_path, servers=servers, privacy=privacy, errors=0) as world:
            opened, contributions = await world.open_and_contribute()
            settled = await world.settle(opened)
            assert settled is not None
            assert settled.accepted_count == 2  # the three cheats are out, without any opening
            recovered = await world.recover(settled)
            honest = [owner.address for owner in world.market.owners[:2]]
            assert np.array_equal(recovered.total, expected_sum(contributions, honest))
            opened, _ = await world.open_and_contribute([0, 1])
            silent = world.market.servers.pop()
            world.cut_off(servers)
            assert await world.settle(opened) is None
            world.market.servers.append(silent)

    asyncio.run(scenario())


def test_sweeps_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "MAX_SWEEPS", 2)

    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            opened, _ = await world.open_and_contribute([0, 1])
            with pytest.raises(Exception, match="did not settle"):
                await world.settle(opened)

    asyncio.run(scenario())
