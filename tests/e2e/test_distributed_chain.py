"""Real processes on a chain that goes back, and goes away, in the middle of a round."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from devnet import anvil_at, anvil_binary, start_anvil
from distributed import Distributed, Played, contribute, distributed, recover
from distributed_checks import check_books, check_logs, check_round, given_answers
from server_process import free_ports

from omnilytics.chain.bindings.market import RoundOpened
from omnilytics.chain.records import Phase
from omnilytics.demo.specification import DEMO_WINDOWS
from omnilytics.foundation.units import Address, Hash32
from omnilytics.roles.data_owner import Contribution
from omnilytics.roles.server import board
from omnilytics.roles.server.settling import CutOffs

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
    pytest.mark.timeout(900),
]

CONFIRMATIONS = 2


class Run:
    """A market with three owners, round by round."""

    def __init__(self, world: Distributed) -> None:
        self.world = world

    async def submitted(self) -> tuple[RoundOpened, dict[Address, Contribution]]:
        opened = await self.world.market.model_owner.open_round()
        return opened, await contribute(self.world, opened, self.world.market.owners[:3])

    async def reach_seal(self, opened: RoundOpened) -> None:
        self.world.market.chain.wait_for_time(opened.submission_deadline)
        while True:
            await self.world.rest()
            if self.world.state().phase == Phase.SEALED:
                return
            self.world.move()

    async def settle(self, opened: RoundOpened, entries: dict[Address, Contribution]) -> None:
        settled = await self.world.settle(opened)
        played = Played(opened, settled, entries, await recover(self.world, settled))
        await check_round(self.world, played, set(entries))

    async def void(self, opened: RoundOpened) -> None:
        """Let a round that cannot settle miss its deadline; the model owner ends it."""
        world, deadline = self.world, self.world.state().settlement_deadline_block
        while world.market.chain.head() < CutOffs.of(world.view, world.state()).openings:
            await world.rest(may_fail=True)
            world.move()
        await world.rest(may_fail=True)
        world.market.chain.wait_for_block(deadline + 1)
        world.market.model_owner.writer.void_round(opened.task)
        assert world.settled(opened.round) is None


def replace_blocks(world: Distributed, count: int) -> None:
    """Let others, empty ones, take the place of the latest blocks."""
    chain = world.market.chain
    first = chain.head() - count + 1
    before = chain.block_hash(first)
    world.anvil.ask("anvil_reorg", count, [])
    assert chain.block_hash(first) != before


def test_a_seal_that_the_chain_takes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        (port,) = free_ports(1)
        windows = DEMO_WINDOWS.model_copy(update={"confirmations": CONFIRMATIONS})
        with anvil_at(port, None) as anvil:
            async with distributed(anvil, tmp_path) as world:
                await world.publish(windows=windows.model_dump())
                run = Run(world)
                await _lose_a_seal_before_it_is_final(run)
                await _lose_a_seal_after_its_seed_was_given(run)
                await run.settle(*await run.submitted())
                assert world.auditor.check_slashes(world.view.task) == ()
                await check_books(world)
                check_logs(world)

    asyncio.run(scenario())


async def _lose_a_seal_before_it_is_final(run: Run) -> None:
    """The servers seal again, and the round settles under the challenge of the new seal."""
    opened, entries = await run.submitted()
    await run.reach_seal(opened)
    lost = _seal_block(run, opened)
    replace_blocks(run.world, 1)
    await run.reach_seal(opened)
    assert _seal_block(run, opened) != lost
    await run.settle(opened, entries)


async def _lose_a_seal_after_its_seed_was_given(run: Run) -> None:
    """No server answers under the challenge of the new seal: the round ends without a sum."""
    world = run.world
    opened, _ = await run.submitted()
    await run.reach_seal(opened)
    world.market.chain.wait_for_block(world.state().challenge_final_block)
    await world.rest()
    given = await given_answers(world, opened.round)
    assert all(len(given[board.SEED, server]) == 1 for server in world.living)
    replace_blocks(world, world.market.chain.head() - world.state().sealed_block + 1)
    await run.reach_seal(opened)
    await run.void(opened)
    assert await given_answers(world, opened.round) == given


def _seal_block(run: Run, opened: RoundOpened) -> Hash32:
    sealed = run.world.market.reader.round_sealed(opened.task, opened.round)
    assert sealed is not None
    return sealed.position.block_hash


def test_a_chain_that_restarts_from_its_saved_state(tmp_path: Path) -> None:
    """It goes away with a round open, and again with a round sealed; both settle."""

    async def scenario() -> None:
        (port,) = free_ports(1)
        state = tmp_path / "state.json"
        anvil = start_anvil(port, state)
        try:
            async with distributed(anvil, tmp_path) as world:

                async def restart_chain() -> None:
                    nonlocal anvil
                    anvil.stop()
                    world.anvil = anvil = start_anvil(port, state)
                    await world.ready()

                await world.publish()
                run = Run(world)
                opened, entries = await run.submitted()
                await restart_chain()
                await run.settle(opened, entries)
                opened, entries = await run.submitted()
                await run.reach_seal(opened)
                await restart_chain()
                await run.settle(opened, entries)
                assert world.auditor.check_slashes(world.view.task) == ()
                await check_books(world)
                check_logs(world)
        finally:
            anvil.stop()

    asyncio.run(scenario())
