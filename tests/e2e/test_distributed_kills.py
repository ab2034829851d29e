"""Rounds with real processes; in each a server is killed at another moment and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import postgres_cluster
import pytest
from devnet import anvil_at, anvil_binary
from distributed import PATIENCE_SECONDS, Distributed, Played, contribute, distributed, recover
from distributed_checks import check_books, check_logs, check_round
from edges import (
    Edge,
    check_disturbed,
    cut_off_upload,
    kill_after_answer,
    kill_at,
    sealed,
    settled,
    shows_own,
)
from server_process import free_ports

from omnilytics.chain.bindings.market import RoundOpened, RoundSettled
from omnilytics.chain.records import FaultKind
from omnilytics.demo.cheats import MisdealingOwner
from omnilytics.foundation.units import Address
from omnilytics.roles.data_owner import Contribution
from omnilytics.roles.server import board

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
    pytest.mark.timeout(1_500),
]

SEQUENCER = 0
"""Stands for the server whose turn is first in the round."""
ACCUSED = 2
"""The server to which a misdealing owner deals a bad share."""


@dataclass(frozen=True)
class Plan:
    """What happens in a round."""

    kills: tuple[tuple[int, Edge], ...] = ()
    """Which server is killed when, once submissions are in."""
    submitting: Callable[[Distributed], None] = lambda _world: None
    releasing: Callable[[Distributed], None] = lambda _world: None
    last_misdeals: bool = False
    """The last owner cheats; it loses its bond and is out from then on."""


RECEIPT = Plan(
    submitting=lambda world: kill_after_answer(world, 2, "PUT", "/submissions/"),
    kills=((3, shows_own(board.FINAL)),),
)
CERTIFICATE_AND_RELEASE = Plan(
    submitting=lambda world: kill_after_answer(world, 3, "POST", "/certificates"),
    releasing=lambda world: kill_after_answer(world, 4, "POST", "/aggregate"),
)
MANIFEST = Plan(kills=((SEQUENCER, shows_own(board.MANIFEST)),))
SEAL = Plan(kills=((2, shows_own(board.SEAL_VOTE)), (SEQUENCER, sealed)))
SEED_AND_UPLOAD = Plan(
    submitting=lambda world: cut_off_upload(world, 1), kills=((3, shows_own(board.SEED)),)
)
WORDS = Plan(kills=((4, shows_own(board.WORDS)),))
OPENING = Plan(kills=((ACCUSED, shows_own(board.OPENING)),), last_misdeals=True)
TRANSCRIPT = Plan(kills=((SEQUENCER, shows_own(board.TRANSCRIPT)),))
SETTLEMENT_VOTE = Plan(kills=((1, shows_own(board.SETTLEMENT)),))
SETTLEMENT = Plan(kills=((SEQUENCER, settled),))

ALL = (
    RECEIPT,
    CERTIFICATE_AND_RELEASE,
    MANIFEST,
    SEAL,
    SEED_AND_UPLOAD,
    WORDS,
    OPENING,
    TRANSCRIPT,
    SETTLEMENT_VOTE,
    SETTLEMENT,
)


class Run:
    """A market that is taken through rounds with faults."""

    def __init__(self, world: Distributed) -> None:
        self.world = world
        self.honest = list(world.market.owners)
        self.cheats: list[Address] = []

    async def play(self, plan: Plan) -> None:
        """Play a round and check it."""
        world = self.world
        owners = list(self.honest)
        if plan.last_misdeals:
            cheat = self.honest.pop()
            cheat.__class__ = MisdealingOwner
            self.cheats.append(cheat.address)
        opened = await world.market.model_owner.open_round()
        plan.submitting(world)
        entries = await contribute(world, opened, owners)
        check_disturbed(world)
        entries |= await self._submit_again(opened, entries)
        kills = [
            asyncio.create_task(kill_at(edge, world, opened, server or first_in_turn(opened)))
            for server, edge in plan.kills
        ]
        outcome = await world.settle(opened)
        for kill in kills:
            await (await asyncio.wait_for(kill, PATIENCE_SECONDS)).check(world, opened)
        plan.releasing(world)
        played = Played(opened, outcome, entries, await recover(world, outcome))
        check_disturbed(world)
        accepted = {owner.address for owner in self.honest}
        await check_round(world, played, accepted)
        await self._check_all_took_part(outcome, played)

    async def _submit_again(
        self, opened: RoundOpened, entries: dict[Address, Contribution]
    ) -> dict[Address, Contribution]:
        """Let owners repeat what a server has not acknowledged; then it has."""
        everyone = len(self.world.servers)
        late = [
            owner
            for owner in self.world.market.owners
            if owner.address in entries
            and len(entries[owner.address].certificate.receipts) < everyone
        ]
        again = await contribute(self.world, opened, late)
        for address, entry in again.items():
            assert len(entry.certificate.receipts) == everyone
            assert entry.certificate.commitment == entries[address].certificate.commitment
        return again

    async def _check_all_took_part(self, outcome: RoundSettled, played: Played) -> None:
        """No server lost what it needs to stand, or to release the same sum again."""
        assert outcome.v_bitmap == (1 << len(self.world.servers)) - 1
        again = await self.world.market.model_owner.recover(outcome.round)
        assert np.array_equal(again.total, played.total)
        assert again.lying_servers == ()


def first_in_turn(opened: RoundOpened) -> int:
    return opened.round % 5 + 1


async def play_all(world: Distributed, plans: tuple[Plan, ...]) -> None:
    await world.publish()
    run = Run(world)
    for plan in plans:
        await run.play(plan)
    slashes = world.auditor.check_slashes(world.view.task)
    assert [each.slashed.party for each in slashes] == run.cheats
    assert {each.slashed.kind for each in slashes} <= {FaultKind.OWNER}
    await check_books(world)
    check_logs(world)


@pytest.mark.long
def test_no_kill_loses_anything_or_makes_a_second_answer(tmp_path: Path) -> None:
    async def scenario() -> None:
        (port,) = free_ports(1)
        with anvil_at(port, None) as anvil:
            async with distributed(anvil, tmp_path, owners=8, rounds=len(ALL)) as world:
                await play_all(world, ALL)

    asyncio.run(scenario())


@pytest.mark.skipif(postgres_cluster.why_not() is not None, reason=str(postgres_cluster.why_not()))
@pytest.mark.long
def test_no_kill_loses_anything_in_postgresql(tmp_path: Path) -> None:
    plans = (RECEIPT, WORDS, SETTLEMENT)

    async def scenario() -> None:
        (port,) = free_ports(1)
        new_database = postgres_cluster.cluster().new_database
        with anvil_at(port, None) as anvil:
            async with distributed(
                anvil, tmp_path, rounds=len(plans), database_url=new_database
            ) as world:
                await play_all(world, plans)

    asyncio.run(scenario())
