"""Real processes, some of which lie or are down for good, as many as the committee bears."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from devnet import anvil_at, anvil_binary
from distributed import Distributed, distributed, play_round
from distributed_checks import check_books, check_logs, check_round
from server_process import LIAR, free_ports

from omnilytics.chain.records import FaultKind
from omnilytics.roles.auditor import AuditedRound

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
    pytest.mark.timeout(900),
]


async def _round(world: Distributed) -> AuditedRound:
    """Play a round with three owners, and check it; all are accepted."""
    played = await play_round(world, world.market.owners[:3])
    return await check_round(world, played, set(played.entries))


async def _slashed(world: Distributed, liar: int) -> None:
    """The chain takes from the liar, and from nobody else."""
    party = world.view.parameters.member(liar)
    while not (slashes := world.auditor.check_slashes(world.view.task)):
        await world.rest()
        world.move()
    assert [(each.slashed.party, each.slashed.kind) for each in slashes] == [
        (party, FaultKind.SERVER)
    ]
    assert slashes[0].signed


def standing(audited: AuditedRound) -> set[int]:
    """Return the servers whose words count."""
    bitmap = audited.settled.v_bitmap
    return {server for server in range(1, bitmap.bit_length() + 1) if bitmap >> (server - 1) & 1}


def test_a_lie_is_caught_and_a_loss_is_borne(tmp_path: Path) -> None:
    """At (5,1,1): first one server lies, then, once it is honest again, another is lost."""

    async def scenario() -> None:
        (port,) = free_ports(1)
        with anvil_at(port, None) as anvil:
            async with distributed(anvil, tmp_path) as world:
                await world.publish()
                world.restart(5, LIAR)  # it lies in even rounds
                await world.ready()
                assert standing(await _round(world)) == {1, 2, 3, 4, 5}
                audited = await _round(world)
                assert standing(audited) == {1, 2, 3, 4}
                assert set(audited.resolution.faults) == {5}
                await _slashed(world, 5)
                world.restart(5)
                await world.ready()
                world.lose(3)
                for _ in range(2):
                    assert standing(await _round(world)) == {1, 2, 4, 5}
                await _slashed(world, 5)
                await check_books(world)
                check_logs(world)

    asyncio.run(scenario())


@pytest.mark.long
def test_a_lie_and_a_loss_at_once(tmp_path: Path) -> None:
    """At (11,3,2) the committee bears both."""

    async def scenario() -> None:
        (port,) = free_ports(1)
        with anvil_at(port, None) as anvil:
            async with distributed(anvil, tmp_path, servers=11, rounds=2) as world:
                await world.publish()
                world.restart(8, LIAR)
                await world.ready()
                world.lose(4)
                honest = set(range(1, 12)) - {4, 8}
                assert standing(await _round(world)) == honest | {8}
                audited = await _round(world)
                assert standing(audited) == honest
                assert set(audited.resolution.faults) == {8}
                await _slashed(world, 8)
                await check_books(world)
                check_logs(world)

    asyncio.run(scenario())
