"""The HTTP interface: routes, path checks, size limits, and errors as problem+json.

The server behind it is a stand-in that records what it was asked; what a server does is tested with
the roles.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from wire_samples import address, digest

from omnilytics.api import application as api
from omnilytics.foundation.errors import (
    ChainError,
    ConfigError,
    MalformedError,
    OmniLyticsError,
    PeerError,
    VerificationError,
)
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.roles.server import Server
from omnilytics.transport.authentication import HEADER
from omnilytics.transport.client import MEDIA_TYPE, ServerClient
from omnilytics.transport.parts import ANSWER_PART_BYTES, Part

NOW = 1_700_000_000.9
OWNER = address("owner")
OWNER_TEXT = "0x" + OWNER.hex()
NAME = digest("blob")
LARGE_NAME = digest("large blob")
LARGE = bytes(range(251)) * ((2 * ANSWER_PART_BYTES + 100) // 251)
PREFIX = "/v1/tasks/3/rounds/7"

ROUTES = [
    ("PUT", f"/v1/tasks/3/artefacts/{NAME.hex()}"),
    ("GET", f"/v1/blobs/{NAME.hex()}"),
    ("PUT", f"{PREFIX}/submissions/{OWNER_TEXT}"),
    ("PUT", f"{PREFIX}/held/4/{OWNER_TEXT}"),
    ("GET", f"{PREFIX}/held/4/{OWNER_TEXT}"),
    ("POST", f"{PREFIX}/certificates"),
    ("GET", f"{PREFIX}/board?kinds=seed,words"),
    ("POST", f"{PREFIX}/aggregate"),
    ("POST", f"{PREFIX}/openings"),
]


class Identified(tuple[str | None, int]):
    """A request's header and time, in place of what is signed."""

    body_hash = digest("body")


class StandIn:
    """Records calls; answers them, or raises the given error."""

    def __init__(self, error: OmniLyticsError | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.package_limit = 64 << 10
        self._error = error
        self.intake = SimpleNamespace(
            identify_model_owner=self._identify,
            identify_owner=self._identify,
            package_limit=self._package_limit,
            store_artefact=self._store_artefact,
            accept_package=self._accept_package,
            hold_package=self._hold_package,
            accept_certificate=self._accept_certificate,
        )
        self.releasing = SimpleNamespace(aggregate=self._aggregate)

    def _record(self, *call: Any) -> None:
        self.calls.append(call)
        if self._error is not None:
            raise self._error

    def blob(self, name: Hash32) -> bytes | None:
        self._record("blob", name)
        return b"content" if name == NAME else None

    def blob_part(self, name: Hash32, *, first: int, count: int) -> tuple[int, bytes] | None:
        if name == LARGE_NAME:
            return len(LARGE), LARGE[first : first + count]
        content = self.blob(name)
        return None if content is None else (len(content), content[first : first + count])

    def held_part(self, *place: Any, first: int, count: int) -> tuple[int, bytes] | None:
        content = self.held_package(*place)
        return None if content is None else (len(content), content[first : first + count])

    def board(self, task: TaskId, round_number: Round, kinds: tuple[str, ...]) -> bytes:
        self._record("board", task, round_number, kinds)
        return b"board"

    def held_package(
        self, task: TaskId, round_number: Round, server: int, owner: Address
    ) -> bytes | None:
        self._record("held", task, round_number, server, owner)
        return b"held" if server == 4 else None

    def _identify(self, _who: object, header: str | None, now: int) -> Identified:
        if self._error is not None:
            raise self._error
        return Identified((header, now))

    async def _package_limit(self, task: TaskId) -> int:
        return self.package_limit

    def _store_artefact(
        self, task: TaskId, name: Hash32, content: bytes, *, path: str, request: tuple[str, int]
    ) -> None:
        self._record("artefact", task, name, content, path, *request)

    async def accept_answer(self, task: TaskId, round_number: Round, body: bytes) -> None:
        self._record("answer", task, round_number, body)

    async def _accept_package(
        self,
        task: TaskId,
        round_number: Round,
        owner: Address,
        body: bytes,
        *,
        path: str,
        request: tuple[str, int],
    ) -> bytes:
        self._record("package", task, round_number, owner, body, path, *request)
        return b"receipt"

    async def _hold_package(
        self,
        task: TaskId,
        round_number: Round,
        server: int,
        owner: Address,
        body: bytes,
        *,
        path: str,
        request: tuple[str, int],
    ) -> bytes:
        self._record("hold", task, round_number, server, owner, body, path, *request)
        return b"signed held"

    async def _accept_certificate(self, task: TaskId, round_number: Round, body: bytes) -> None:
        self._record("certificate", task, round_number, body)

    async def _aggregate(
        self, task: TaskId, round_number: Round, *, path: str, header: str, body: bytes, now: int
    ) -> tuple[Part, bytes]:
        self._record("aggregate", task, round_number, body, path, header, now)
        return Part(0, 2, 3), b"sum"


def send(server: StandIn, method: str, path: str, **options: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        application = api.create_application(cast("Server", server), now=lambda: NOW)
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.request(method, path, **options)

    return asyncio.run(run())


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check the form that RFC 9457 gives a problem."""
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["type"] == f"urn:omnilytics:{code}"
    assert body["code"] == code
    assert isinstance(body["title"], str)
    return body


@pytest.mark.parametrize(
    ("route", "call", "status", "content"),
    [
        (
            0,
            ("artefact", 3, NAME, b"body", ROUTES[0][1], "signed", 1_700_000_000),
            204,
            b"",
        ),
        (1, ("blob", NAME), 200, b"content"),
        (
            2,
            ("package", 3, 7, OWNER, b"body", ROUTES[2][1], "signed", 1_700_000_000),
            200,
            b"receipt",
        ),
        (
            3,
            ("hold", 3, 7, 4, OWNER, b"body", ROUTES[3][1], "signed", 1_700_000_000),
            200,
            b"signed held",
        ),
        (4, ("held", 3, 7, 4, OWNER), 200, b"held"),
        (5, ("certificate", 3, 7, b"body"), 204, b""),
        (6, ("board", 3, 7, ("seed", "words")), 200, b"board"),
        (7, ("aggregate", 3, 7, b"body", ROUTES[7][1], "signed", 1_700_000_000), 200, b"sum"),
        (8, ("answer", 3, 7, b"body"), 204, b""),
    ],
)
def test_routes(route: int, call: tuple[Any, ...], status: int, content: bytes) -> None:
    server = StandIn()
    method, path = ROUTES[route]
    options: dict[str, Any] = {} if method == "GET" else {"content": b"body"}
    response = send(server, method, path, headers={HEADER: "signed"}, **options)
    assert server.calls == [call]
    assert (response.status_code, response.content) == (status, content)
    if content:
        assert response.headers["Content-Type"] == MEDIA_TYPE


def test_a_missing_authentication_header_reaches_the_server_as_none() -> None:
    server = StandIn()
    for method, path in (ROUTES[0], ROUTES[2], ROUTES[3], ROUTES[7]):
        send(server, method, path, content=b"")
    assert [call[-2] for call in server.calls] == [None] * 4


def test_unknown_content_is_404() -> None:
    for path in (f"/v1/blobs/{digest('other').hex()}", f"{PREFIX}/held/5/{OWNER_TEXT}"):
        problem(send(StandIn(), "GET", path), 404, "not-found")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (MalformedError("bad"), 400, "malformed"),
        (VerificationError("bad"), 403, "verification"),
        (PeerError("bad"), 503, "peer"),
        (ChainError("bad"), 503, "chain"),
        (ConfigError("bad"), 500, "config"),
        (OmniLyticsError("bad"), 500, "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_errors_have_a_status_and_a_stable_code(
    error: OmniLyticsError, status: int, code: str
) -> None:
    for method, path in ROUTES:
        options: dict[str, Any] = {} if method == "GET" else {"content": b"body"}
        body = problem(send(StandIn(error), method, path, **options), status, code)
        assert body["title"] == "bad"


def test_an_unknown_task_is_not_found() -> None:
    for method, path in ROUTES:
        options: dict[str, Any] = {} if method == "GET" else {"content": b"body"}
        answer = send(StandIn(ChainError("no such task")), method, path, **options)
        problem(answer, 404, "not-found")
        assert "retry-after" not in answer.headers


def test_the_servers_own_trouble_shows_no_details() -> None:
    error = ConfigError("a stored file is damaged", file="/home/operator/secret/path")
    body = problem(send(StandIn(error), *ROUTES[1]), 500, "config")
    assert "operator" not in str(body)


def test_problems_carry_what_the_error_says() -> None:
    error = VerificationError("late", got=5, want="< 3", hint="be early", owner=OWNER_TEXT)
    body = problem(send(StandIn(error), *ROUTES[1]), 403, "verification")
    assert (body["got"], body["want"], body["hint"]) == ("5", "< 3", "be early")
    assert body["owner"] == OWNER_TEXT
    assert "message" not in body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/blobs/" + "0" * 63),
        ("GET", "/v1/blobs/" + "0" * 65),
        ("GET", "/v1/blobs/" + "A" * 64),
        ("GET", "/v1/blobs/" + "g" * 64),
        ("GET", "/v1/blobs/" + "0" * 64 + "%0A"),
        ("PUT", f"/v1/tasks/0/artefacts/{NAME.hex()}"),
        ("PUT", f"/v1/tasks/-1/artefacts/{NAME.hex()}"),
        ("PUT", f"/v1/tasks/{1 << 63}/artefacts/{NAME.hex()}"),
        ("PUT", f"/v1/tasks/x/artefacts/{NAME.hex()}"),
        ("PUT", f"/v1/tasks/1.5/artefacts/{NAME.hex()}"),
        ("POST", "/v1/tasks/1/rounds/0/certificates"),
        ("POST", f"/v1/tasks/1/rounds/{1 << 31}/certificates"),
        ("POST", f"/v1/tasks/1/rounds/{'9' * 5_000}/certificates"),
        ("PUT", f"{PREFIX}/submissions/{OWNER_TEXT[2:]}"),
        ("PUT", f"{PREFIX}/submissions/{OWNER_TEXT}00"),
        ("PUT", f"{PREFIX}/submissions/{OWNER_TEXT.upper()}"),
        ("PUT", f"{PREFIX}/submissions/{OWNER_TEXT}%0A"),
        ("GET", f"{PREFIX}/held/0/{OWNER_TEXT}"),
        ("GET", f"{PREFIX}/held/14/{OWNER_TEXT}"),
        ("GET", f"{PREFIX}/board"),
        ("GET", f"{PREFIX}/board?kinds=" + "k" * 257),
    ],
    ids=lambda value: value[:60],
)
def test_malformed_paths_do_not_reach_the_server(method: str, path: str) -> None:
    server = StandIn()
    response = send(server, method, path)
    problem(response, 400, "malformed")
    assert server.calls == []
    assert len(response.content) < 1_000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/blobs/" + NAME.hex(), 404),
        ("GET", "/v1/blobs/a/b", 404),
        ("GET", "/v1/blobs/..%2f" + "0" * 61, 404),
        ("DELETE", ROUTES[1][1], 405),
        ("POST", ROUTES[2][1], 405),
    ],
)
def test_unknown_routes_are_problems_too(method: str, path: str, status: int) -> None:
    server = StandIn()
    problem(send(server, method, path), status, "not-found")
    assert server.calls == []


def test_a_wrong_method_is_told_the_right_one() -> None:
    assert send(StandIn(), "POST", ROUTES[2][1]).headers["allow"]


def test_bodies_are_bounded_exactly() -> None:
    limit = 64 << 10  # of a certificate
    server = StandIn()
    assert send(server, *ROUTES[5], content=bytes(limit)).status_code == 204
    problem(send(server, *ROUTES[5], content=bytes(limit + 1)), 413, "too-large")
    assert len(server.calls) == 1


@pytest.mark.parametrize("route", [0, 2, 3, 5, 8])
def test_a_body_is_not_read_beyond_its_bound(route: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 64 << 10
    monkeypatch.setattr(api, "MAX_ARTEFACT_BYTES", limit)
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * limit:
            sent += 1_024
            yield bytes(1_024)

    server = StandIn()
    problem(send(server, *ROUTES[route], content=body()), 413, "too-large")
    assert server.calls == []
    assert sent == limit + 1_024


@pytest.mark.parametrize("route", [2, 3, 5, 8])
@pytest.mark.parametrize("length", [(64 << 10) + 1, 10**30])
def test_a_declared_length_is_refused_before_the_body(route: int, length: int) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    headers = {"Content-Length": str(length)}
    server = StandIn()
    problem(send(server, *ROUTES[route], content=body(), headers=headers), 413, "too-large")
    assert (server.calls, read) == ([], [])


def test_a_false_content_length_changes_nothing() -> None:
    server = StandIn()
    options: dict[str, Any] = {"content": bytes(70 << 10), "headers": {"Content-Length": "10"}}
    problem(send(server, *ROUTES[5], **options), 413, "too-large")
    assert server.calls == []


def test_the_client_and_the_application_agree() -> None:
    async def run() -> None:
        server = StandIn()
        application = api.create_application(cast("Server", server), now=lambda: NOW)
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport) as http:
            client = ServerClient("http://test", http)
            task, number = TaskId(3), Round(7)
            assert await client.blob("fetch", NAME) == b"content"
            assert await client.blob("fetch", LARGE_NAME) == LARGE
            assert await client.put_package(task, number, OWNER, b"p", dict) == b"receipt"
            assert await client.put_held(task, number, 4, OWNER, b"p", dict) == b"signed held"
            assert await client.get_held(task, number, 4, OWNER) == b"held"
            await client.post_certificate(task, number, b"c")
            await client.put_artefact(task, NAME, b"a", {HEADER: "signed"})
            with pytest.raises(PeerError, match=r"404.*not-found"):
                await client.blob("fetch", digest("other"))
            assert len(server.calls) == 7

    asyncio.run(run())


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ("bytes=0-9", f"bytes 0-9/{len(LARGE)}"),
        (f"bytes=5-{1 << 40}", f"bytes 5-{ANSWER_PART_BYTES + 4}/{len(LARGE)}"),
        (f"bytes={len(LARGE) - 1}-{len(LARGE)}", f"bytes {len(LARGE) - 1}-{len(LARGE) - 1}/"),
    ],
)
def test_a_part_of_content_says_where_it_stands(asked: str, place: str) -> None:
    path = f"/v1/blobs/{LARGE_NAME.hex()}"
    answer = send(StandIn(), "GET", path, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"].startswith(place)
    first = int(asked[6:].split("-", maxsplit=1)[0])
    assert answer.content == LARGE[first : first + len(answer.content)]


def test_what_fits_into_a_part_is_answered_whole() -> None:
    answer = send(StandIn(), *ROUTES[1], headers={"Range": "bytes=0-6"})
    assert (answer.status_code, answer.content) == (200, b"content")
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize(
    "asked", ["bytes=0-", "bytes=-5", "bytes=9-8", "bytes=0-1,3-4", "words=0-1"]
)
def test_other_ranges_are_refused(asked: str) -> None:
    headers = [(b"Range", asked.encode())]
    problem(send(StandIn(), *ROUTES[1], headers=headers), 400, "malformed")


def test_a_part_beyond_the_content_is_refused() -> None:
    headers = {"Range": "bytes=7-8"}
    problem(send(StandIn(), *ROUTES[1], headers=headers), 403, "verification")


def test_the_clock_is_the_systems_by_default() -> None:
    async def run() -> int:
        server = StandIn()
        transport = httpx.ASGITransport(app=api.create_application(cast("Server", server)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            await http.post(ROUTES[7][1])
        return int(server.calls[0][-1])

    before = int(time.time())
    assert before <= asyncio.run(run()) <= time.time()
