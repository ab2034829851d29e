"""Servers as FastAPI applications that are reached over httpx's ASGI transport, without sockets."""

from __future__ import annotations

import httpx
from fastapi import FastAPI

from omnilytics.transport.client import ServerClient
from omnilytics.transport.meter import Meter


class InProcessNetwork:
    """Connects endpoints to applications in this process."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._clients: dict[str, httpx.AsyncClient] = {}

    def serve(self, endpoint: str, application: FastAPI) -> None:
        """Make `application` reachable at `endpoint`."""
        transport = httpx.ASGITransport(app=application)
        self._clients[endpoint] = httpx.AsyncClient(transport=transport)

    def connect(self, endpoint: str) -> ServerClient:
        """Return the client of the server at `endpoint`."""
        http = self._clients.get(endpoint) or httpx.AsyncClient()
        return ServerClient(endpoint, http, self._meter)

    async def close(self) -> None:
        """Close all clients."""
        for client in self._clients.values():
            await client.aclose()
