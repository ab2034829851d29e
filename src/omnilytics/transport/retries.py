"""Trying again what a server or the network did not take the first time, boundedly.

Only for requests of which a repeat changes nothing. Waits double and are jittered, so that clients
of one server that was away do not come back all at once; a server's Retry-After is honoured up to a
bound.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from omnilytics.foundation.errors import PeerError
from omnilytics.transport.parts import UPLOAD_OFFSET, Part

PARTS_ABOVE_BYTES = 4 << 20
PART_BYTES = 1 << 20
ATTEMPTS = 4
"""Of one request, or of one place in an upload: an upload that gets on has them anew."""
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 10.0
_COME_AGAIN = (429, 503)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Answer:
    """What a server answered, whatever its status."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def refusal(self, endpoint: str) -> PeerError:
        """Return problem+json (RFC 9457) as an error that quotes a bounded part of it."""
        got = f"{self.status} {self.content[:400].decode('utf-8', 'replace')}"
        error = PeerError("server refused the request", got=got, endpoint=endpoint)
        if self.status in _COME_AGAIN:
            return error.passing(self._number("Retry-After") or 0)
        return error

    @property
    def offset(self) -> int | None:
        """At which byte the server says that an upload goes on."""
        return self._number(UPLOAD_OFFSET)

    def _number(self, name: str) -> int | None:
        text = self.headers.get(name, "")
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


async def patiently(call: Callable[[], Awaitable[_Result]]) -> _Result:
    """Return what `call` gives; call again where the connection broke or the server is busy."""
    for attempt in range(1, ATTEMPTS):
        try:
            return await call()
        except PeerError as error:
            if not error.passes:
                raise
            await wait(attempt, error)
    return await call()


async def wait(attempt: int, error: PeerError) -> None:
    """Wait before the next attempt, 1 being the first that failed."""
    seconds = max(error.retry_after_seconds, FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
    jitter = 1 + secrets.randbelow(1_000) / 2_000
    await asyncio.sleep(min(seconds, LONGEST_WAIT_SECONDS) * jitter)


Exchange = Callable[[str, bytes, Part | None], Awaitable[Answer]]
"""Sends a method, content and where it stands in the body (None: HEAD)."""


async def send_in_parts(body: bytes | memoryview, exchange: Exchange, endpoint: str) -> bytes:
    """Send a body in parts, take up what broke off, and return the answer to the whole.

    Nothing that the server says makes it go on for ever: the requests in all are bounded.

    Raises:
        PeerError: The server refused the upload, does not answer, or talks nonsense.
    """
    offset, failures, lost = 0, 0, False
    most = 3 * (len(body) // PART_BYTES + 1) + 4 * ATTEMPTS
    for _ in range(most):
        part = None if lost else _part_at(offset, len(body))
        content = bytes(body[part.first : part.last + 1]) if part else b""
        try:
            answer = await exchange("PUT" if part else "HEAD", content, part)
            if answer.status == 200:
                return answer.content
            before, offset = offset, _next_offset(answer, len(body), endpoint)
        except PeerError as error:
            failures, lost = failures + 1, True
            if not error.passes or failures == ATTEMPTS:
                raise
            await wait(failures, error)
            continue
        lost = False
        if offset > before:
            failures = 0
    raise PeerError("an upload does not get on", got=offset, want=len(body), endpoint=endpoint)


def _next_offset(answer: Answer, total: int, endpoint: str) -> int:
    """Return where the upload goes on; raises PeerError where the server refused it."""
    offset = answer.offset
    if offset is None or answer.status not in (202, 204, 409):
        raise answer.refusal(endpoint)
    if offset > total:
        raise PeerError("server has more than was sent", got=offset, want=total, endpoint=endpoint)
    return offset


def _part_at(offset: int, total: int) -> Part:
    """Return the part to send next; of an upload that is whole but unanswered the last one."""
    first = min(offset, total - 1)
    return Part(first, min(first + PART_BYTES, total) - 1, total)
