"""The client of a server: whatever comes back is bounded and becomes one kind of error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO
from typing import TypeVar

import httpx
import pytest
from wire_samples import ROUND, TASK, address, digest

from omnilytics.foundation.errors import MalformedError, PeerError, VerificationError
from omnilytics.transport import client as client_module
from omnilytics.transport.authentication import HEADER
from omnilytics.transport.client import (
    MAX_BLOB_BYTES,
    MEDIA_TYPE,
    ServerClient,
    aggregate_path,
    artefact_path,
)
from omnilytics.transport.meter import Meter
from omnilytics.transport.parts import ANSWER_PART_BYTES, CONTENT_RANGE, Part
from omnilytics.wire import cbor
from omnilytics.wire.aggregate import MAX_AGGREGATE_PART_BYTES, AggregatePart

ENDPOINT = "http://server-1.test"
OWNER = address("owner")
Answer = Callable[[httpx.Request], httpx.Response]
T = TypeVar("T")


def call(
    answer: Answer,
    use: Callable[[ServerClient], Awaitable[T]],
    *,
    endpoint: str = ENDPOINT,
    meter: Meter | None = None,
) -> T:
    async def run() -> T:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            return await use(ServerClient(endpoint, http, meter))

    return asyncio.run(run())


def blob(server: ServerClient) -> Awaitable[bytes]:
    return server.blob("fetch", digest("blob"))


def always(*, status: int = 200, content: bytes = b"") -> Answer:
    return lambda _request: httpx.Response(status, content=content)


class Endless(httpx.AsyncByteStream):
    """An answer that never ends; counts what was taken."""

    def __init__(self) -> None:
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.taken += 1_000
            yield bytes(1_000)


Use = Callable[[ServerClient], Awaitable[object]]
ROUND_PATH = f"/v1/tasks/{TASK}/rounds/{ROUND}"
REQUESTS: list[tuple[Use, str, str, bytes]] = [
    (blob, "GET", f"/v1/blobs/{digest('blob').hex()}", b""),
    (
        lambda s: s.put_artefact(TASK, digest("a"), b"artefact", {HEADER: "signed"}),
        "PUT",
        f"/v1/tasks/{TASK}/artefacts/{digest('a').hex()}",
        b"artefact",
    ),
    (
        lambda s: s.put_package(TASK, ROUND, OWNER, b"package", lambda: {HEADER: "signed"}),
        "PUT",
        f"{ROUND_PATH}/submissions/0x{OWNER.hex()}",
        b"package",
    ),
    (
        lambda s: s.put_held(TASK, ROUND, 4, OWNER, b"sealed", lambda: {HEADER: "signed"}),
        "PUT",
        f"{ROUND_PATH}/held/4/0x{OWNER.hex()}",
        b"sealed",
    ),
    (
        lambda s: s.get_held(TASK, ROUND, 4, OWNER),
        "GET",
        f"{ROUND_PATH}/held/4/0x{OWNER.hex()}",
        b"",
    ),
    (
        lambda s: s.post_certificate(TASK, ROUND, b"certificate"),
        "POST",
        f"{ROUND_PATH}/certificates",
        b"certificate",
    ),
    (
        lambda s: s.board("words", TASK, ROUND, ("seed", "words")),
        "GET",
        f"{ROUND_PATH}/board?kinds=seed,words",
        b"",
    ),
    (
        lambda s: fetch_aggregate(s, lambda _body: {HEADER: "signed"}),
        "POST",
        f"{ROUND_PATH}/aggregate",
        b"",
    ),
]


@pytest.mark.parametrize(("use", "method", "path", "body"), REQUESTS)
def test_requests(use: Use, method: str, path: str, body: bytes) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        range_ = {CONTENT_RANGE: "bytes 0-0/1"}
        return httpx.Response(200, content=cbor.encode([]), headers=range_)

    call(answer, use)
    (request,) = seen
    assert (request.method, str(request.url)) == (method, ENDPOINT + path)
    assert request.content == body
    assert request.headers["Content-Type"] == MEDIA_TYPE
    signed = method == "PUT" or "aggregate" in path
    assert request.headers.get(HEADER) == ("signed" if signed else None)


def test_paths_that_are_signed_are_paths_that_are_called() -> None:
    assert artefact_path(TASK, digest("a")) == REQUESTS[1][2]
    assert aggregate_path(TASK, ROUND) == REQUESTS[-1][2]


WHOLE = bytes(range(256)) * 40


class _InParts:
    """A server that gives an answer in parts of 1,000 bytes, some of them only when asked again."""

    def __init__(self, **changes: str) -> None:
        self.signed: list[bytes] = []
        self.firsts: list[int] = []
        self.broken = {0, 3_000}
        self.changes = changes

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers[HEADER] == request.content.hex()
        body = request.content
        first = AggregatePart.decode(body, max_bytes=MAX_AGGREGATE_PART_BYTES).first if body else 0
        self.firsts.append(first)
        if first in self.broken:
            self.broken.remove(first)
            raise httpx.ReadError("the connection broke")
        content = WHOLE[first : first + 1_000]
        part = Part(first, first + len(content) - 1, len(WHOLE))
        range_ = self.changes.get(str(first), str(part))
        return httpx.Response(200, content=content, headers={CONTENT_RANGE: range_})


async def fetch_aggregate(
    server: ServerClient, sign: Callable[[bytes], dict[str, str]], most: int = 20_000
) -> bytes:
    out = BytesIO()
    await server.aggregate(TASK, ROUND, sign, out, max_bytes=most)
    return out.getvalue()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ANSWER_PART_BYTES", 1_000)
    monkeypatch.setattr("omnilytics.transport.retries.FIRST_WAIT_SECONDS", 0.001)


def in_parts(server: _InParts, most: int = 20_000) -> bytes:
    sign = lambda body: {HEADER: body.hex()}  # noqa: E731
    found: bytes = call(server, lambda s: fetch_aggregate(s, sign, most))
    return found


@pytest.mark.usefixtures("small_parts")
def test_an_aggregate_is_fetched_in_parts_and_goes_on_where_it_broke_off() -> None:
    server = _InParts()
    assert in_parts(server) == WHOLE
    assert server.firsts == [0, 0, 1_000, 2_000, 3_000, 3_000, *range(4_000, 10_240, 1_000)]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    "changes",
    [
        {"1000": "bytes 0-999/10240"},  # another part
        {"1000": "bytes 1000-1998/10240"},  # of another length
        {"1000": "bytes 1000-1999/10239"},  # of another whole
        {"0": "bytes 0-999/20001"},  # more than is taken
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(PeerError, match="do not fit"):
        in_parts(_InParts(**changes))


LARGE = bytes(range(253)) * ((2 * ANSWER_PART_BYTES + 1_000) // 253)


class _LargeBlob:
    """A server that has a large blob, and loses the connection at its second part once."""

    def __init__(self, **changes: str) -> None:
        self.asked: list[str] = []
        self.changes = changes

    def __call__(self, request: httpx.Request) -> httpx.Response:
        asked = request.headers["Range"]
        self.asked.append(asked)
        first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        if first == ANSWER_PART_BYTES and self.asked.count(asked) == 1:
            raise httpx.ReadError("the connection broke")
        content = LARGE[first : last + 1]
        place = str(Part(first, first + len(content) - 1, len(LARGE)))
        headers = {CONTENT_RANGE: self.changes.get(str(first), place)}
        return httpx.Response(206, content=content, headers=headers)


def test_large_content_comes_in_parts_and_goes_on_where_it_broke_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("omnilytics.transport.retries.FIRST_WAIT_SECONDS", 0.001)
    server = _LargeBlob()
    assert call(server, blob) == LARGE
    step = ANSWER_PART_BYTES
    firsts = [0, step, step, 2 * step]
    assert server.asked == [f"bytes={first}-{first + step - 1}" for first in firsts]


@pytest.mark.parametrize(
    "changes",
    [
        {"0": "bytes 1-4194304/8389490"},  # another part
        {"0": "bytes 0-4194302/8389490"},  # of another length
        {"0": f"bytes 0-4194303/{MAX_BLOB_BYTES + 1}"},  # more than is taken
        {"4194304": "bytes 4194304-8388607/8389491"},  # of another whole
    ],
)
def test_parts_of_content_that_do_not_fit_are_refused(
    changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnilytics.transport.retries.FIRST_WAIT_SECONDS", 0.001)
    with pytest.raises(PeerError, match="do not fit"):
        call(_LargeBlob(**changes), blob)


def test_a_server_that_trickles_content_is_refused() -> None:
    def one_byte(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(206, content=b"x", headers={CONTENT_RANGE: "bytes 0-0/1000"})

    with pytest.raises(PeerError, match="do not fit"):
        call(one_byte, blob)


def test_a_server_that_trickles_is_refused() -> None:
    with pytest.raises(PeerError, match="do not fit"):  # 1,000 bytes where 4 MiB are due
        in_parts(_InParts())


@pytest.mark.parametrize("range_", ["", "bytes 0-99", "bytes 5-4/10240", "words 0-9/10"])
def test_a_part_that_does_not_say_where_it_stands_is_refused(
    range_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnilytics.transport.retries.FIRST_WAIT_SECONDS", 0.001)
    with pytest.raises(MalformedError, match="Content-Range"):
        in_parts(_InParts(**{"0": range_}))


def test_answers() -> None:
    assert call(always(content=b"content"), blob) == b"content"
    board = cbor.encode([{"kind": "seed", "body": b"x"}])
    (item,) = call(always(content=board), lambda s: s.board("p", TASK, ROUND, ("seed",)))
    assert (item.kind, item.body) == ("seed", b"x")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        cbor.encode({}),
        cbor.encode("text"),
        cbor.encode([1]),
        cbor.encode(["text"]),
        cbor.encode([{"kind": "seed"}]),
        cbor.encode([{"kind": 1, "body": b""}]),
        cbor.encode([{"kind": "seed", "body": 1}]),
        cbor.encode([{"kind": "seed", "body": b"", "more": 1}]),
        cbor.encode([]) + b"\x00",
    ],
    ids=lambda content: content.hex()[:20],
)
def test_malformed_answers_are_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        call(always(content=content), lambda s: s.board("p", TASK, ROUND, ("seed",)))


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
def test_problems_surface_with_status_and_detail(status: int) -> None:
    problem = {"type": "urn:omnilytics:verification", "title": "the round is not open"}
    content = json.dumps(problem).encode()
    with pytest.raises(PeerError, match="the round is not open") as caught:
        call(always(status=status, content=content), blob)
    assert str(status) in str(caught.value)
    assert caught.value.ids["endpoint"] == ENDPOINT


def test_only_a_part_of_a_problem_is_quoted() -> None:
    for content in (b"x" * 100_000, b"\xff" * 100_000):
        with pytest.raises(PeerError) as caught:
            call(always(status=500, content=content), blob)
        assert 400 <= len(str(caught.value)) < 600


@pytest.mark.parametrize("status", [200, 500])
def test_answers_are_bounded_while_they_are_read(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_RESPONSE_BYTES", 10_000)
    stream = Endless()
    with pytest.raises(PeerError, match="too large"):
        call(lambda _request: httpx.Response(status, stream=stream), blob)
    assert stream.taken == 11_000
    assert len(call(always(content=bytes(10_000)), blob)) == 10_000


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.ReadTimeout,
        httpx.ReadError,
        httpx.RemoteProtocolError,
        httpx.PoolTimeout,
        httpx.DecodingError,
    ],
)
def test_a_server_that_does_not_answer(error: type[httpx.RequestError]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error("broken", request=request)

    with pytest.raises(PeerError, match="does not answer") as caught:
        call(answer, blob)
    assert caught.value.got == error.__name__
    assert ENDPOINT in str(caught.value)


def test_a_refused_connection() -> None:
    async def run() -> bytes:
        async with httpx.AsyncClient() as http:
            return await ServerClient("http://127.0.0.1:1", http).blob("fetch", digest("blob"))

    with pytest.raises(PeerError, match="does not answer"):
        asyncio.run(run())


def test_an_answer_that_is_not_what_its_encoding_says() -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        stream = httpx.ByteStream(b"not gzip")
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=stream)

    with pytest.raises(PeerError):
        call(answer, blob)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "server",
        "//server",
        "http://",
        "http:////",
        "ftp://server",
        "javascript:alert(1)",
        "http://server:port",
        "http://server:99999",
        "http://\x00",
        "http://é..x",
        "http://xn--/",
        "\ud800",
        "http://" + "a" * 70_000,
    ],
    ids=lambda endpoint: ascii(endpoint)[:24],
)
def test_an_endpoint_may_be_any_text(endpoint: str) -> None:
    # Servers register what they like; it must not break whoever reads it.
    with pytest.raises(PeerError) as caught:
        call(always(content=b""), blob, endpoint=endpoint)
    assert len(str(caught.value)) < 500


def test_the_meter_counts_both_ways() -> None:
    meter = Meter()
    call(always(content=bytes(7)), blob, meter=meter)
    call(
        always(content=bytes(5)),
        lambda s: s.put_package(TASK, ROUND, OWNER, bytes(100), dict),
        meter=meter,
    )
    assert meter.bytes == {"fetch": 7, "submit": 105}


def test_a_meter_adds_up_the_seconds_of_a_phase_even_when_it_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([10.0, 12.0, 20.0, 25.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    meter = Meter()
    with meter.measure("words"):
        pass
    with pytest.raises(VerificationError), meter.measure("words"):
        raise VerificationError("no")
    assert meter.seconds == {"words": 7.0}
