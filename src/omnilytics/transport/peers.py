"""The way to other servers over sockets: one HTTP client for each event loop.

A client's connections belong to the loop that opened them; servers are asked from the rounds' loop
and, where a request needs it, from the workers' loops.
"""

from __future__ import annotations

import asyncio
import ssl
import weakref

import httpx

from omnilytics.transport.client import ServerClient
from omnilytics.transport.meter import Meter

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
"""Longest silence of a peer; the whole of a call is bounded by the client itself."""
_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30)


class SocketPeers:
    """Makes clients of servers at endpoints; see `roles.task_view.Connect`."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._tls = ssl.create_default_context()  # costly to make, the same for all
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    def connect(self, endpoint: str) -> ServerClient:
        """Return the client of the server at `endpoint`, for the running loop."""
        loop = asyncio.get_running_loop()
        http = self._clients.get(loop)
        if http is None:
            http = httpx.AsyncClient(
                verify=self._tls,
                limits=_LIMITS,
                timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
                follow_redirects=False,  # where a server is, its registration says
            )
            self._clients[loop] = http
        return ServerClient(endpoint, http, self._meter)

    async def close(self) -> None:
        """Close the running loop's client."""
        http = self._clients.pop(asyncio.get_running_loop(), None)
        if http is not None:
            await http.aclose()
