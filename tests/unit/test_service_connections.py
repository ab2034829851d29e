"""Connections that get nowhere, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from omnilytics.service.connections import ConnectionLimits
from omnilytics.service.serving import Listener

LARGE = 64 << 20
GET = b"GET / HTTP/1.1\r\nHost: server\r\n\r\n"


async def application(scope: Scope, _receive: Receive, send: Send) -> None:
    body = bytes(LARGE) if scope["path"] == "/large" else b"small"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def limits(**changes: object) -> ConnectionLimits:
    values: dict[str, object] = {
        "header_seconds": 60.0,
        "answer_seconds": 60.0,
        "per_address": 100,
        **changes,
    }
    return ConnectionLimits(**values)  # type: ignore[arg-type]


@asynccontextmanager
async def listening(chosen: ConnectionLimits) -> AsyncIterator[Listener]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        bound.setblocking(False)
        listener = Listener(application, bound, shutdown_seconds=1, limits=chosen)
        task = asyncio.create_task(listener.listen())
        try:
            yield listener
        finally:
            listener.should_exit = True
            await task


def place(listener: Listener) -> tuple[str, int]:
    found: tuple[str, int] = listener._bound.getsockname()
    return found


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(30):
        return await reader.readuntil(b"small")


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost:", GET + b"GET / HT"])
def test_a_header_that_never_ends_ends_the_connection(begun: bytes) -> None:
    async def scenario() -> None:
        async with listening(limits(header_seconds=0.2)) as listener:
            reader, writer = await asyncio.open_connection(*place(listener))
            writer.write(begun)
            if begun.startswith(GET):
                await answer(reader)
            async with asyncio.timeout(30):
                assert await reader.read() == b""
            writer.close()

    asyncio.run(scenario())


def test_an_answer_that_nobody_reads_ends_the_connection() -> None:
    async def scenario() -> None:
        async with listening(limits(answer_seconds=0.2)) as listener:
            reader, writer = await asyncio.open_connection(*place(listener))
            writer.write(b"GET /large HTTP/1.1\r\nHost: server\r\n\r\n")
            async with asyncio.timeout(30):
                while not listener.server_state.total_requests:
                    await asyncio.sleep(0.01)
                while listener.server_state.connections:  # nothing is read meanwhile
                    await asyncio.sleep(0.01)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(LARGE)
            writer.close()

    asyncio.run(scenario())


def test_one_client_has_only_so_many_connections() -> None:
    async def scenario() -> None:
        async with listening(limits(per_address=2)) as listener:
            first = [await asyncio.open_connection(*place(listener)) for _ in range(2)]
            for reader, writer in first:
                writer.write(GET)
                await answer(reader)
            reader, writer = await asyncio.open_connection(*place(listener))
            async with asyncio.timeout(30):
                assert await reader.read() == b""
            writer.close()
            first[0][1].close()
            await first[0][1].wait_closed()
            while True:  # the place is free once the server has seen the end
                reader, writer = await asyncio.open_connection(*place(listener))
                writer.write(GET)
                if await reader.read(12) == b"HTTP/1.1 200":
                    break
            for _, each in (*first, (reader, writer)):
                each.close()

    asyncio.run(scenario())


def test_a_proxy_counts_for_nobody() -> None:
    chosen = limits(exempt=("10.0.0.0/8",))
    assert chosen.client("10.1.2.3") is None
    assert chosen.client("192.0.2.1") == "192.0.2.1"
    assert chosen.client("") == ""
