"""Connections that get nowhere are closed, and one client has only so many.

uvicorn waits for ever for the rest of a header and for a client that reads no answer, and every
connection takes one of the places that all clients share.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from uvicorn.protocols.http.h11_impl import H11Protocol

from omnilytics.api.limits import network_of


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """What one connection, and one client, may take."""

    header_seconds: float
    """From the first to the last byte of a request's header, and from connecting to its first."""
    answer_seconds: float
    """For reading an answer, where it does not fit into the buffers of the system."""
    per_address: int
    exempt: tuple[str, ...] = ()
    """Networks that may have any number: proxies, which connect for all their clients."""

    def client(self, host: str) -> str | None:
        """Return whom a connection counts for, or None for one that does not count."""
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return network_of(host)
        if any(address in ip_network(each) for each in self.exempt):
            return None
        return network_of(host)


def bounded_protocol(limits: ConnectionLimits) -> type[H11Protocol]:
    """Return uvicorn's protocol with these limits; connections of all its instances count."""
    open_connections: Counter[str] = Counter()

    class Bounded(H11Protocol):
        """One connection."""

        _header_timer: asyncio.TimerHandle | None = None
        _answer_timer: asyncio.TimerHandle | None = None
        _counted: str | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            client = limits.client(self.client[0] if self.client else "")
            if client is not None:
                if open_connections[client] >= limits.per_address:
                    transport.close()
                    return
                open_connections[client] += 1
                self._counted = client
            self._await_header()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._counted is not None:
                open_connections[self._counted] -= 1
                if not open_connections[self._counted]:
                    del open_connections[self._counted]
                self._counted = None
            self._end_header_timer()
            self._end_answer_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_serving():
                self._end_header_timer()
            else:
                self._await_header()

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._answer_timer is None:
                self._answer_timer = self.loop.call_later(
                    limits.answer_seconds, self.transport.abort
                )

        def resume_writing(self) -> None:
            super().resume_writing()
            self._end_answer_timer()

        def _is_serving(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _await_header(self) -> None:
            if self._header_timer is None and not self.transport.is_closing():
                self._header_timer = self.loop.call_later(limits.header_seconds, self._late)

        def _end_header_timer(self) -> None:
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

        def _end_answer_timer(self) -> None:
            if self._answer_timer is not None:
                self._answer_timer.cancel()
                self._answer_timer = None

        def _late(self) -> None:
            self._header_timer = None
            if not self._is_serving():
                self.transport.close()

    return Bounded
