"""Clients of other servers: one for each event loop, kept while the loop lives."""

from __future__ import annotations

import asyncio

import httpx

from omnilytics.transport.client import ServerClient
from omnilytics.transport.meter import Meter
from omnilytics.transport.peers import SocketPeers


def test_a_loop_has_one_client_and_another_loop_another() -> None:
    peers = SocketPeers(Meter())

    async def clients() -> tuple[httpx.AsyncClient, httpx.AsyncClient]:
        first, second = peers.connect("http://a.example"), peers.connect("http://b.example")
        assert isinstance(first, ServerClient)
        assert (first.endpoint, second.endpoint) == ("http://a.example", "http://b.example")
        found = first._http, second._http
        await first._http.aclose()
        return found

    here, also_here = asyncio.run(clients())
    there, _ = asyncio.run(clients())
    assert here is also_here
    assert here is not there
    assert not here.follow_redirects  # where a server is, its registration says
    assert here.timeout.connect is not None
