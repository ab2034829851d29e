"""Real processes on a chain that goes back, and goes away, in the middle of a round."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from devnet import anvil_at, anvil_binary
from distributed import Distributed, Played, contribute, distributed, recover
from distributed_checks import Answers, check_books, check_logs, check_round, given_answers
from server_process import free_ports

from omnilytics.chain.bindings.market import RoundOpened
from omnilytics.chain.records import Phase
from omnilytics.demo.specification import DEMO_WINDOWS
from omnilytics.foundation.units import Address, Hash32
from omnilytics.roles.data_owner import Contribution
from omnilytics.roles.server import board
from omnilytics.roles.server.settling import CutOffs
from omnilytics.wire.messages import Seed

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


@pytest.mark.long
def test_a_chain_that_goes_back_and_goes_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        (port,) = free_ports(1)
        windows = DEMO_WINDOWS.model_copy(update={"confirmations": CONFIRMATIONS})
        with anvil_at(port, tmp_path / "state.json") as anvil:
            async with distributed(anvil, tmp_path, rounds=5) as world:
                await world.publish(windows=windows.model_dump())
                run = Run(world)
                await _lose_a_seal_before_it_is_final(run)
                await _lose_a_seal_after_seeds_were_given(run, away=())
                await _restart_the_chain_in_a_round(run)
                await _lose_a_seal_after_seeds_were_given(run, away=(4, 5))
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


async def _lose_a_seal_after_seeds_were_given(run: Run, *, away: tuple[int, ...]) -> None:
    """No server answers twice: without n - e on one challenge the round ends without a sum.

    Servers that are away meanwhile answer under the challenge of the new seal.
    """
    world = run.world
    opened, _ = await run.submitted()
    await run.reach_seal(opened)
    for server in away:
        world.lose(server)
    world.market.chain.wait_for_block(world.state().challenge_final_block)
    await world.rest()
    given = await given_answers(world, opened.round)
    assert {server for kind, server in given if kind == board.SEED} == set(world.living)
    replace_blocks(world, world.market.chain.head() - world.state().sealed_block + 1)
    for server in away:
        world.find(server)
    await world.ready()
    await run.reach_seal(opened)
    await run.void(opened)
    later = await given_answers(world, opened.round)
    assert {answer: later[answer] for answer in given} == given
    assert {server for kind, server in later if kind == board.SEED} == set(world.living)
    assert len({seed.seed for seed in _seeds(later)}) == (2 if away else 1)
    assert any(kind == board.WORDS for kind, _ in later) is not bool(away)


def _seeds(answers: Answers) -> list[Seed]:
    found = [answer for given in answers.values() for answer in given]
    return [answer for answer in found if isinstance(answer, Seed)]


def _seal_block(run: Run, opened: RoundOpened) -> Hash32:
    sealed = run.world.market.reader.round_sealed(opened.task, opened.round)
    assert sealed is not None
    return sealed.position.block_hash


async def _restart_the_chain_in_a_round(run: Run) -> None:
    """It ends, and goes on from its saved state, with a round open and again with it sealed."""
    world = run.world
    opened, entries = await run.submitted()
    world.anvil.restart()
    await world.ready()
    await run.reach_seal(opened)
    world.anvil.restart()
    await world.ready()
    await run.settle(opened, entries)
