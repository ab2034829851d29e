"""Client of one server's HTTP interface, for owners, model owners and other servers.

The HTTP client is a parameter: over sockets it is httpx's default transport, in one process it is
httpx's ASGI transport; nothing else differs. Everything a server returns is bounded in size and is
checked by the caller; nothing here trusts it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import BinaryIO

import httpx

from omnilytics.foundation.errors import MalformedError, PeerError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, show_address
from omnilytics.transport.consents import CONSENTS_PATH, decode_consent
from omnilytics.transport.meter import Meter
from omnilytics.transport.parts import (
    ANSWER_PART_BYTES,
    CONTENT_RANGE,
    RANGE,
    Part,
    read_content_range,
)
from omnilytics.transport.retries import (
    PARTS_ABOVE_BYTES,
    Answer,
    patiently,
    send_in_parts,
)
from omnilytics.wire import cbor
from omnilytics.wire.aggregate import AggregatePart
from omnilytics.wire.hpke_configuration import (
    MAX_HPKE_CONFIGURATION_BYTES,
    HpkeConfiguration,
)
from omnilytics.wire.record import Record

Sign = Callable[[], dict[str, str]]
"""Makes the header of a request afresh: a long upload outlasts a signature's time."""
MEDIA_TYPE = "application/vnd.omnilytics.v1+cbor"
HPKE_PATH = "/v1/hpke-config"
MAX_RESPONSE_BYTES = 256 << 20
MAX_BLOB_BYTES = 1 << 30
"""As large as an artefact may be."""
MAX_HELD_BYTES = 3 << 30
"""More than the 4,096 chunks of a sealed package."""
MAX_CALL_SECONDS = 120.0
RESIGN_SECONDS = 100.0


class BoardItem(Record):
    """One public record of a round on a server's board."""

    kind: str
    body: bytes


class ServerClient:
    """Talks to one server."""

    def __init__(self, endpoint: str, http: httpx.AsyncClient, meter: Meter | None = None) -> None:
        self.endpoint = endpoint
        self._http = http
        self._meter = meter or Meter()

    async def post_consent(self, body: bytes, headers: dict[str, str]) -> bytes:
        """Ask the server to agree to a task (model owner); returns its signature of `Consent`."""
        return decode_consent(await self._call("publish", "POST", CONSENTS_PATH, body, headers))

    async def hpke_configuration(self) -> HpkeConfiguration:
        """Fetch what the server says of its HPKE key.

        For diagnosis: nothing is sealed to it. A package is sealed to the key that the chain
        noted for the task, whatever the server says here.
        """
        body = await self._call("servers", "GET", HPKE_PATH)
        return HpkeConfiguration.decode(body, max_bytes=MAX_HPKE_CONFIGURATION_BYTES)

    async def put_artefact(
        self, task: TaskId, content_hash: Hash32, content: bytes, headers: dict[str, str]
    ) -> None:
        """Store an artefact or specification under its hash (model owner)."""
        path = artefact_path(task, content_hash)
        await self._call("publish", "PUT", path, content, headers)

    async def blob(self, phase: str, content_hash: Hash32) -> bytes:
        """Fetch published content by hash, in parts; the caller checks the hash."""
        path = f"/v1/blobs/{content_hash.hex()}"
        return await self._download(phase, path, max_bytes=MAX_BLOB_BYTES)

    async def put_package(
        self,
        task: TaskId,
        round_number: Round,
        owner: Address,
        body: bytes | memoryview,
        sign: Sign,
    ) -> bytes:
        """Send a sealed package (its owner); returns the signed receipt."""
        return await self._upload(package_path(task, round_number, owner), body, sign)

    async def put_held(
        self,
        task: TaskId,
        round_number: Round,
        server: int,
        owner: Address,
        body: bytes | memoryview,
        sign: Sign,
    ) -> bytes:
        """Leave another server's sealed package (its owner); returns the signed Held message."""
        return await self._upload(held_path(task, round_number, server, owner), body, sign)

    async def get_held(
        self, task: TaskId, round_number: Round, server: int, owner: Address
    ) -> bytes:
        """Fetch a sealed package that was left for `server`, in parts."""
        path = held_path(task, round_number, server, owner)
        return await self._download("servers", path, max_bytes=MAX_HELD_BYTES)

    async def post_certificate(self, task: TaskId, round_number: Round, body: bytes) -> None:
        """Publish an owner's certificate."""
        path = f"{_round_path(task, round_number)}/certificates"
        await patiently(lambda: self._call("submit", "POST", path, body))

    async def post_opening(self, task: TaskId, round_number: Round, body: bytes) -> None:
        """Answer a complaint with the opening of a package (owner)."""
        path = f"{_round_path(task, round_number)}/openings"
        await patiently(lambda: self._call("submit", "POST", path, body))

    async def board(
        self, phase: str, task: TaskId, round_number: Round, kinds: tuple[str, ...]
    ) -> list[BoardItem]:
        """Fetch the public records of the given kinds that the server holds."""
        path = f"{_round_path(task, round_number)}/board?kinds={','.join(kinds)}"
        body = await self._call(phase, "GET", path)
        items = cbor.decode(body, max_bytes=MAX_RESPONSE_BYTES)
        if not isinstance(items, list):
            raise MalformedError("board is not a list")
        return [BoardItem.from_plain(item) for item in items]

    async def aggregate(
        self,
        task: TaskId,
        round_number: Round,
        sign: Callable[[bytes], dict[str, str]],
        out: BinaryIO,
        *,
        max_bytes: int,
    ) -> None:
        """Fetch the server's sealed share of the sum, part by part (model owner).

        Args:
            task: The task.
            round_number: The settled round.
            sign: Makes the header of a request from its body.
            out: Receives the answer.
            max_bytes: Most that the answer may have.

        Raises:
            PeerError: The server refused, does not answer, or its parts do not fit one another.
        """
        path = aggregate_path(task, round_number)
        first, total = 0, max_bytes
        while first < total:
            body = AggregatePart(first=first).encode() if first else b""
            part, content = await patiently(lambda body=body: self._part(path, body, sign(body)))  # type: ignore[misc]
            self._check_part(part, content, first, total)
            out.write(content)
            first, total = part.last + 1, part.total

    async def _part(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[Part, bytes]:
        answer = await self._exchange("release", "POST", path, body, headers)
        if answer.status >= 400:
            raise answer.refusal(self.endpoint)
        return read_content_range(answer.headers.get(CONTENT_RANGE, "")), answer.content

    async def _download(self, phase: str, path: str, *, max_bytes: int) -> bytes:
        """Fetch content part by part; go on where a connection breaks after the first part.

        Raises:
            PeerError: The server refused, does not answer, or its parts do not fit one another.
        """
        answer = await self._asked_part(phase, path, 0)
        if answer.status == 200:
            return answer.content
        content, total = bytearray(), max_bytes
        while True:
            part = read_content_range(answer.headers.get(CONTENT_RANGE, ""))
            if answer.status != 206:
                raise self._unfitting(part)
            self._check_part(part, answer.content, len(content), total)
            content += answer.content
            if part.is_final:
                return bytes(content)
            total = part.total
            first = len(content)
            answer = await patiently(lambda first=first: self._asked_part(phase, path, first))  # type: ignore[misc]

    def _check_part(self, part: Part, content: bytes, first: int, total: int) -> None:
        """Raise PeerError unless a part is what comes next.

        Args:
            part: What the server says of it.
            content: Its bytes.
            first: Where it has to begin.
            total: Bytes of the whole by the part before; the most there may be for the first part.
        """
        fits = part.first == first and part.length == len(content)
        is_full = part.is_final or part.length == ANSWER_PART_BYTES  # a server may not trickle
        same = part.total == total if first else part.total <= total
        if not (fits and is_full and same):
            raise self._unfitting(part)

    def _unfitting(self, part: Part) -> PeerError:
        return PeerError("parts of an answer do not fit", got=str(part), endpoint=self.endpoint)

    async def _asked_part(self, phase: str, path: str, first: int) -> Answer:
        asked = {RANGE: f"bytes={first}-{first + ANSWER_PART_BYTES - 1}"}
        answer = await self._exchange(phase, "GET", path, headers=asked)
        if answer.status >= 400:
            raise answer.refusal(self.endpoint)
        return answer

    async def _upload(self, path: str, body: bytes | memoryview, sign: Sign) -> bytes:
        """Send a body whole or, where it is large, in parts; take up what broke off."""
        if goes_in_parts(body):
            signed = _resigned(sign)
            return await send_in_parts(
                body, lambda *sent: self._send_part(path, signed(), *sent), self.endpoint
            )
        return await patiently(lambda: self._call("submit", "PUT", path, bytes(body), sign()))

    async def _send_part(
        self, path: str, headers: dict[str, str], method: str, content: bytes, part: Part | None
    ) -> Answer:
        if part is not None:
            headers = {**headers, CONTENT_RANGE: str(part)}
        return await self._exchange("submit", method, path, content, headers)

    async def _call(
        self,
        phase: str,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> bytes:
        answer = await self._exchange(phase, method, path, body, headers)
        if answer.status >= 400:
            raise answer.refusal(self.endpoint)
        return answer.content

    async def _exchange(
        self,
        phase: str,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        headers = {"Content-Type": MEDIA_TYPE, **(headers or {})}
        url = _url(self.endpoint, path)
        try:
            async with (
                asyncio.timeout(MAX_CALL_SECONDS),  # whatever the pace at which a peer trickles
                self._http.stream(method, url, content=body, headers=headers) as response,
            ):
                content = await self._read_bounded(response)
        except (httpx.HTTPError, TimeoutError) as error:
            silent = PeerError(
                "server does not answer", got=type(error).__name__, endpoint=self.endpoint
            )
            raise silent.passing() from None
        self._meter.add_bytes(phase, len(body) + len(content))
        return Answer(response.status_code, response.headers, content)

    async def _read_bounded(self, response: httpx.Response) -> bytes:
        chunks, size = [], 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > MAX_RESPONSE_BYTES:
                raise PeerError(
                    "answer too large", want=f"<= {MAX_RESPONSE_BYTES}", endpoint=self.endpoint
                )
            chunks.append(chunk)
        return b"".join(chunks)


def _resigned(sign: Sign) -> Sign:
    """Return what signs anew now and then: each time costs a hash of the whole body."""
    made_at, headers = -math.inf, dict[str, str]()

    def signed() -> dict[str, str]:
        nonlocal made_at, headers
        if time.monotonic() - made_at >= RESIGN_SECONDS:
            made_at, headers = time.monotonic(), sign()
        return headers

    return signed


def artefact_path(task: TaskId, content_hash: Hash32) -> str:
    """Return the path under which the model owner stores content of a task."""
    return f"/v1/tasks/{task}/artefacts/{content_hash.hex()}"


def package_path(task: TaskId, round_number: Round, owner: Address) -> str:
    """Return the path of a server's own package of an owner."""
    return f"{_round_path(task, round_number)}/submissions/{show_address(owner)}"


def goes_in_parts(body: bytes | memoryview) -> bool:
    """Tell whether a package is sent in parts."""
    return len(body) > PARTS_ABOVE_BYTES


def parts_path(path: str, holder: Address) -> str:
    """Return the path that is signed for the parts of a package that is left with `holder`.

    (!) All holders of a package have the same route and the same bytes: a header that named none of
    them could be used by one of them to begin the upload with wrong bytes at another.
    """
    return f"{path}/at/{show_address(holder)}"


def held_path(task: TaskId, round_number: Round, server: int, owner: Address) -> str:
    """Return the path of a package that is left for another server."""
    return f"{_round_path(task, round_number)}/held/{server}/{show_address(owner)}"


def aggregate_path(task: TaskId, round_number: Round) -> str:
    """Return the path of a server's share of the sum."""
    return f"{_round_path(task, round_number)}/aggregate"


def _round_path(task: TaskId, round_number: Round) -> str:
    return f"/v1/tasks/{task}/rounds/{round_number}"


def _url(endpoint: str, path: str) -> httpx.URL:
    """Return the address to call; an endpoint is any text that a server registered."""
    try:
        url = httpx.URL(endpoint + path)
        usable = url.scheme in ("http", "https") and bool(url.host) and (url.port or 1) < 1 << 16
    except (httpx.InvalidURL, ValueError):  # ValueError: a host name that IDNA refuses
        usable = False
    if not usable:
        raise PeerError("server has an unusable endpoint", endpoint=ascii(endpoint)[:256])
    return url
