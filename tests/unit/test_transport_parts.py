"""Uploads in parts from the client's side, against servers and networks that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from wire_samples import ROUND, TASK, address

from omnilytics.foundation.errors import MalformedError, PeerError
from omnilytics.transport import retries
from omnilytics.transport.client import ServerClient
from omnilytics.transport.parts import Part, read_content_range

OWNER = address("owner")
BODY = bytes(range(250))


@pytest.mark.parametrize(
    ("header", "part"),
    [("bytes 0-0/1", Part(0, 0, 1)), ("bytes 5-9/20", Part(5, 9, 20))],
)
def test_a_content_range_is_read(header: str, part: Part) -> None:
    assert read_content_range(header) == part
    assert str(part) == header


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes 0-1",
        "bytes 0-1/*",
        "bytes */2",
        "bytes 1-0/2",
        "bytes 0-2/2",
        "bytes -1-0/2",
        "bytes 0-1/2\n",
        "bytes \u0660-\u0661/\u0662",
        "octets 0-1/2",
        "bytes 0-1/" + "9" * 16,
        "bytes 0-1/2, bytes 0-1/2",
    ],
)
def test_other_content_ranges_are_refused(header: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_content_range(header)
    assert len(str(caught.value)) < 300


class Server:
    """Collects parts as wire.md says; `disturb` may answer, or break off, in its place."""

    def __init__(self, disturb: Callable[[int, bool], httpx.Response | None]) -> None:
        self.stored = b""
        self.requests: list[tuple[str, str | None]] = []
        self._disturb = disturb

    def __call__(self, request: httpx.Request) -> httpx.Response:
        number = len(self.requests)
        header = request.headers.get("Content-Range")
        self.requests.append((request.method, header))
        early = self._disturb(number, False)
        if early is not None:
            return early
        answer = self._answer(request, header)
        return self._disturb(number, True) or answer

    def _answer(self, request: httpx.Request, header: str | None) -> httpx.Response:
        if request.method == "HEAD":
            return self._at(204)
        assert header is not None
        part = read_content_range(header)
        assert part.length == len(request.content) <= retries.PART_BYTES
        if not (part.is_final and len(self.stored) == part.total):
            if part.first != len(self.stored):
                return self._at(409)
            self.stored += request.content
        if len(self.stored) == part.total:
            return httpx.Response(200, content=b"receipt")
        return self._at(202)

    def _at(self, status: int) -> httpx.Response:
        return httpx.Response(status, headers={"Upload-Offset": str(len(self.stored))})


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []

    async def wait(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr("asyncio.sleep", wait)
    monkeypatch.setattr(retries, "PART_BYTES", 100)
    monkeypatch.setattr("omnilytics.transport.client.PARTS_ABOVE_BYTES", 200)
    return taken


def upload(server: Callable[[httpx.Request], httpx.Response], body: bytes = BODY) -> bytes:
    async def scenario() -> bytes:
        async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
            client = ServerClient("http://server", http)
            return await client.put_package(TASK, ROUND, OWNER, body, dict)

    return asyncio.run(scenario())


def broken(when: dict[int, bool]) -> Callable[[int, bool], httpx.Response | None]:
    """Break requests of these numbers off, before or after the server took them."""

    def disturb(number: int, after: bool) -> httpx.Response | None:
        if when.get(number) is after:
            raise httpx.ReadError("connection reset")
        return None

    return disturb


def test_a_large_body_goes_in_parts(waits: list[float]) -> None:
    server = Server(broken({}))
    assert upload(server) == b"receipt"
    assert server.stored == BODY
    ranges = [f"bytes {first}-{last}/250" for first, last in ((0, 99), (100, 199), (200, 249))]
    assert server.requests == [("PUT", one) for one in ranges]
    assert waits == []


def test_a_small_body_is_one_request_tried_again(waits: list[float]) -> None:
    calls: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        if len(calls) == 1:
            raise httpx.ConnectError("refused")
        if len(calls) == 2:
            return httpx.Response(503, headers={"Retry-After": "3"})
        return httpx.Response(200, content=b"receipt")

    assert upload(answer, BODY[:200]) == b"receipt"
    assert [request.content for request in calls] == [BODY[:200]] * 3
    assert not any("Content-Range" in request.headers for request in calls)
    assert 0.1 <= waits[0] <= 0.15
    assert 3 <= waits[1] <= 4.5


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_breaks_off_is_taken_up(waits: list[float], number: int, after: bool) -> None:
    server = Server(broken({number: after}))
    assert upload(server) == b"receipt"
    assert server.stored == BODY
    assert len(waits) == 1
    assert ("HEAD", None) in server.requests
    sent = [one for one in server.requests if one[0] == "PUT"]
    assert len(sent) <= 4


def test_a_server_that_forgot_gets_everything_again(waits: list[float]) -> None:
    def disturb(number: int, after: bool) -> httpx.Response | None:
        if number == 2 and not after:
            server.stored = b""
        return None

    server = Server(disturb)
    assert upload(server) == b"receipt"
    assert server.stored == BODY
    assert waits == []


def test_attempts_end(waits: list[float]) -> None:
    server = Server(lambda number, after: broken({number: number > 0})(number, after))
    with pytest.raises(PeerError, match="does not answer"):
        upload(server)
    assert len(server.requests) <= retries.ATTEMPTS + 2
    assert all(wait <= 15 for wait in waits)


def test_a_long_retry_after_is_bounded(waits: list[float]) -> None:
    with pytest.raises(PeerError, match="503"):
        upload(lambda _request: httpx.Response(503, headers={"Retry-After": "9" * 14}))
    assert len(waits) == retries.ATTEMPTS - 1
    assert max(waits) <= 15


@pytest.mark.parametrize("status", [400, 403, 404, 409, 415, 500])
def test_a_refusal_is_final(waits: list[float], status: int) -> None:
    calls: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(status, content=b"no")

    with pytest.raises(PeerError, match=f"{status} no"):
        upload(answer)
    assert (len(calls), waits) == (1, [])


@pytest.mark.parametrize("status", [202, 204, 409])
@pytest.mark.parametrize("offset", ["0", "1", "99", "250", "251", "-1", "x", "", "9" * 30])
def test_no_server_keeps_a_client_busy_for_ever(
    waits: list[float], status: int, offset: str
) -> None:
    calls: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(status, headers={"Upload-Offset": offset})

    with pytest.raises(PeerError):
        upload(answer)
    assert len(calls) < 40
