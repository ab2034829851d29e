"""The way from a command to servers, for as long as the command's event loop runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from omnilytics.roles.task_view import Connect
from omnilytics.transport.meter import Meter
from omnilytics.transport.peers import SocketPeers

_Result = TypeVar("_Result")


@asynccontextmanager
async def connected() -> AsyncIterator[Connect]:
    """Give what makes clients of servers at endpoints; connections end with the block."""
    peers = SocketPeers(Meter())
    try:
        yield peers.connect
    finally:
        await peers.close()


def ask_servers(work: Callable[[Connect], Awaitable[_Result]]) -> _Result:
    """Run work that asks servers, in an event loop of its own, and return what it found."""

    async def run() -> _Result:
        async with connected() as connect:
            return await work(connect)

    return asyncio.run(run())
