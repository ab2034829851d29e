"""Around every request: an id, a line in the log, metrics, a limit on how slowly a body may come.

Plain ASGI, so that bodies stream through it untouched.
"""

from __future__ import annotations

import asyncio
import json
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from omnilytics.api.limits import TooManyRequestsError
from omnilytics.api.problems import (
    ERROR_KEY,
    PROBLEM_TYPE,
    RETRY_AFTER_SECONDS,
    BusyError,
    SlowBodyError,
)
from omnilytics.foundation.logging import error_fields, get_logger
from omnilytics.foundation.randomness import Randomness, SystemRandomness
from omnilytics.service.metrics import Metrics

REQUEST_ID = b"x-request-id"
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_IDS = re.compile(r"/v1/tasks/([0-9]{1,19})(?:/rounds/([0-9]{1,10})(?:/|$))?")
_QUIET_ROUTES = ("/healthz", "/readyz", "/metrics")
_LOG = get_logger("omnilytics.requests")


class Observed:
    """An application with request ids, logs, metrics and a time limit on bodies."""

    def __init__(
        self,
        application: ASGIApp,
        metrics: Metrics,
        *,
        body_seconds: float,
        body_bytes: int,
        randomness: Randomness | None = None,
    ) -> None:
        """Observe an application.

        Args:
            application: What answers.
            metrics: Where to count.
            body_seconds: Longest time in which a body arrives.
            body_bytes: Most bytes of bodies of all requests under way together.
            randomness: For ids.
        """
        self._application = application
        self._budget = _Budget(body_bytes)
        self._metrics = metrics
        self._body_seconds = body_seconds
        self._randomness = randomness or SystemRandomness()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event; only HTTP requests are observed."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        request_id = self._request_id(scope)
        exchange = _Exchange(receive, send, request_id, self._body_seconds, self._budget)
        with bound_contextvars(request=request_id.decode(), **_ids(scope["path"])):
            self._metrics.requests_in_progress.inc()
            try:
                await self._application(scope, exchange.receive, exchange.send)
            except asyncio.CancelledError:
                # Only the end of the process cancels a request; its client is to try again.
                await exchange.refuse(503, "stopping", "the server is stopping")
            except Exception:
                _LOG.exception("request failed", route=_route(scope))
            finally:
                self._metrics.requests_in_progress.dec()
                self._budget.give_back(exchange.received_bytes)
                self._tell(scope, exchange)

    def _request_id(self, scope: Scope) -> bytes:
        given = dict(scope["headers"]).get(REQUEST_ID, b"")
        if _GIVEN_ID.fullmatch(given):
            return bytes(given)
        return self._randomness.bytes(8).hex().encode()

    def _tell(self, scope: Scope, exchange: _Exchange) -> None:
        seconds = time.perf_counter() - exchange.started
        route, method = _route(scope), _method(scope)
        status = exchange.status
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.request_seconds.labels(method, route).observe(seconds)
        error = scope.get(ERROR_KEY)
        if isinstance(error, TooManyRequestsError):
            self._metrics.refused.labels(error.by).inc()
        fields = error_fields(error) if isinstance(error, BaseException) else {}
        tell = _LOG.error if status >= 500 else _LOG.info
        if route in _QUIET_ROUTES or (method == "GET" and status < 400):
            tell = _LOG.debug  # servers read each other's boards all the time
        tell(
            "request",
            method=method,
            route=route,
            status=status,
            seconds=round(seconds, 4),
            received_bytes=exchange.received_bytes,
            **fields,
        )


class _Budget:
    """How many bytes of bodies are held for all requests under way."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held_bytes = 0

    def take(self, count: int) -> None:
        """Hold more; the caller gives them back. Raises BusyError where that is too much."""
        self._held_bytes += count
        if self._held_bytes > self._most_bytes:
            raise BusyError("the server holds as many bytes of requests as it takes")

    def give_back(self, count: int) -> None:
        """Hold fewer."""
        self._held_bytes -= count


class _Exchange:
    """One request and its response as they pass by."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        request_id: bytes,
        body_seconds: float,
        budget: _Budget,
    ) -> None:
        self._budget = budget
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._body_seconds = body_seconds
        self._complete = False
        self._answering = False
        self.started = time.perf_counter()
        self.received_bytes = 0
        self.status = 499  # until there is a response: the client left, or the process ended

    async def receive(self) -> Message:
        """Pass a part of the body on.

        Raises:
            SlowBodyError: The body takes too long in all.
            BusyError: All bodies together are more than the server holds.
        """
        if self._complete:
            return await self._receive()
        left = self._body_seconds - (time.perf_counter() - self.started)
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, left))
        except TimeoutError:
            raise SlowBodyError("the body took too long") from None
        count = len(message.get("body", b""))
        self.received_bytes += count
        self._budget.take(count)
        self._complete = not message.get("more_body", False)
        return message

    async def refuse(self, status: int, code: str, title: str) -> None:
        """Answer with a problem (RFC 9457) if there is no answer yet."""
        if self._answering:
            return
        problem = {"type": f"urn:omnilytics:{code}", "title": title, "status": status}
        body = json.dumps({**problem, "code": code}).encode()
        headers = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def send(self, message: Message) -> None:
        """Pass the response on, with the request's id."""
        if message["type"] == "http.response.start":
            self._answering = True
            self.status = message["status"]
            headers = [(REQUEST_ID, self._request_id), *message.get("headers", ())]
            names = {name.lower() for name, _ in headers}
            if self.status in (429, 503) and b"retry-after" not in names:
                headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
            message = {**message, "headers": headers}
        await self._send(message)


def _ids(path: str) -> dict[str, int]:
    found = _IDS.match(path)
    if found is None:
        return {}
    names = zip(("task", "round"), found.groups(), strict=True)
    return {name: int(text) for name, text in names if text is not None}


def _route(scope: Scope) -> str:
    """Return the route's template: a path would be a label with any value."""
    return str(getattr(scope.get("route"), "path", "unmatched"))


def _method(scope: Scope) -> str:
    known = ("GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH")
    return scope["method"] if scope["method"] in known else "other"
