"""Moments at which a server is killed, seen from outside: by its board, the chain, its answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
from distributed import Distributed

from omnilytics.chain.bindings.market import RoundOpened
from omnilytics.foundation.errors import PeerError
from omnilytics.roles.server import board
from omnilytics.roles.server.answering import MAX_WORDS_BYTES
from omnilytics.transport.client import BoardItem
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.transcript import OpeningReference, ServerWords

Edge = Callable[[Distributed, RoundOpened, int], Awaitable[list[BoardItem] | None]]
"""(world, round, server) -> what the server showed when the edge was reached, or None before."""

POLL_SECONDS = 0.01
UNSIGNED = (board.MANIFEST, board.TRANSCRIPT)
"""Kinds that do not say who made them; before others see them they stand on the maker's board."""


def shows_own(kind: str) -> Edge:
    """The server's board shows a record that this server made."""

    async def reached(
        world: Distributed, opened: RoundOpened, server: int
    ) -> list[BoardItem] | None:
        items = await world.board(server, opened.round)
        found = [item for item in items if item.kind == kind]
        return items if server in {_maker(world, item, server) for item in found} else None

    return reached


async def sealed(world: Distributed, opened: RoundOpened, server: int) -> list[BoardItem] | None:
    """The seal is on chain."""
    if world.market.reader.round_sealed(opened.task, opened.round) is None:
        return None
    return await world.board(server, opened.round)


async def settled(world: Distributed, opened: RoundOpened, server: int) -> list[BoardItem] | None:
    """The settlement is on chain."""
    if world.settled(opened.round) is None:
        return None
    return await world.board(server, opened.round)


@dataclass(frozen=True)
class Kill:
    """A server that was killed and started again, and what it had shown."""

    server: int
    shown: list[BoardItem]

    async def check(self, world: Distributed, opened: RoundOpened) -> None:
        """What the server had shown it shows still."""
        shows = await world.board(self.server, opened.round)
        assert [item for item in self.shown if item not in shows] == []


async def kill_at(edge: Edge, world: Distributed, opened: RoundOpened, server: int) -> Kill:
    """Kill a server as soon as an edge is reached, and start it again."""
    while True:
        try:
            shown = await edge(world, opened, server)
        except PeerError:
            shown = None  # it is just starting again
        if shown is not None:
            world.restart(server)
            return Kill(server, shown)
        await asyncio.sleep(POLL_SECONDS)


def kill_after_answer(world: Distributed, server: int, method: str, path: str) -> None:
    """Kill a server once a party has its whole answer to a request, and start it again.

    Args:
        world: The market.
        server: Which server.
        method: Of the request.
        path: Part of the request's path.
    """
    client = world.client(server)

    async def hook(response: httpx.Response) -> None:
        request = response.request
        if request.method != method or path not in request.url.path or response.is_error:
            return
        client.event_hooks = {}
        await response.aread()
        world.restart(server)
        await world.ready()

    client.event_hooks = {"response": [hook]}


def cut_off_upload(world: Distributed, server: int) -> None:
    """Close the connection half-way through the next package that is sent to a server."""
    client = world.client(server)

    async def hook(request: httpx.Request) -> None:
        if request.method != "PUT" or "/submissions/" not in request.url.path:
            return
        client.event_hooks = {}
        body = await request.aread()
        lines = [f"PUT {request.url.raw_path.decode()} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        with socket.create_connection((request.url.host, request.url.port or 80)) as connection:
            connection.sendall(head + body[: len(body) // 2])
        raise httpx.WriteError("cut off", request=request)

    client.event_hooks = {"request": [hook]}


def check_disturbed(world: Distributed) -> None:
    """What was to disturb a party's requests did."""
    assert not any(any(world.client(number).event_hooks.values()) for number in world.living)


def _maker(world: Distributed, item: BoardItem, shown_by: int) -> int:
    """Return which server made a record."""
    if item.kind in UNSIGNED:
        return shown_by
    if item.kind == board.WORDS:
        return ServerWords.decode(item.body, max_bytes=MAX_WORDS_BYTES).server
    if item.kind == board.OPENING:
        return OpeningReference.decode(item.body, max_bytes=4_096).server
    return world.view.server_of(decode_signed(item.body).signer(world.market.reader.domain))
