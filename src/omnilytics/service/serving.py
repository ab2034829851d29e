"""uvicorn as this process needs it: on sockets that are bound already, signals left to us."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.types import ASGIApp

from omnilytics.service.connections import ConnectionLimits, bounded_protocol


class Listener(uvicorn.Server):
    """Serves one application on one socket until `should_exit`."""

    def __init__(
        self,
        application: ASGIApp,
        bound: socket.socket,
        *,
        shutdown_seconds: float,
        keep_alive_seconds: int = 15,
        connections: int | None = None,
        trusted_proxies: Sequence[str] = (),
        limits: ConnectionLimits | None = None,
    ) -> None:
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            interface="asgi3",
            http=bounded_protocol(limits) if limits else "h11",
            loop="asyncio",
            ws="none",
            server_header=False,
            date_header=True,
            timeout_keep_alive=keep_alive_seconds,
            timeout_graceful_shutdown=max(1, int(shutdown_seconds)),
            limit_concurrency=connections,
            proxy_headers=bool(trusted_proxies),  # else anybody could say who it is
            forwarded_allow_ips=list(trusted_proxies),
        )
        super().__init__(config)
        self._bound = bound

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process, which has more to end than this."""
        yield

    async def listen(self) -> None:
        """Serve until `should_exit`, then let requests end."""
        await self.serve(sockets=[self._bound])
