"""A node that answers late must not keep a server's database from its other threads."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from market_world import MarketWorld, market_world

QUESTIONS = ("head", "head_timestamp", "block_hash", "block_timestamp", "call", "logs", "balance")


def watch_questions(world: MarketWorld, held: list[str]) -> None:
    """Note every question to the chain that is asked while some server's database is locked."""
    chain = world.market.chain
    databases = [server.node.repository.database for server in world.market.servers]

    def watched(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*values: Any) -> Any:
            if any(database._batches.connection is not None for database in databases):
                held.append(name + "\n" + "".join(traceback.format_stack(limit=12)))
            return plain(*values)

        return ask

    for name in QUESTIONS:
        setattr(chain, name, watched(name, getattr(chain, name)))


def test_nobody_waits_for_the_chain_with_the_database_locked(tmp_path: Path) -> None:
    held: list[str] = []

    async def scenario() -> None:
        async with market_world(tmp_path) as world:
            watch_questions(world, held)
            world.cut_off(2)  # packages are held for it, and its certificates are pulled later
            opened, _ = await world.open_and_contribute()
            world.reconnect(2)
            assert await world.settle(opened) is not None
            node = world.market.servers[0].node
            with node.repository.batch():  # the watching itself works
                node.chain.head()

    asyncio.run(scenario())
    assert len(held) == 1, held[0]
