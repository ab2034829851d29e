"""What stands around every request: ids, metrics by template, logs, slow bodies, refusals."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import Message

from omnilytics.foundation.errors import ChainError
from omnilytics.service.metrics import Metrics
from omnilytics.service.requests import Observed

PATH = "/v1/tasks/{task}/rounds/{round_number}/certificates"


def observed(metrics: Metrics, *, body_seconds: float = 30, body_bytes: int = 1 << 20) -> Observed:
    application = FastAPI()

    @application.post(PATH)
    async def post(task: int, round_number: int, request: Request) -> dict[str, Any]:
        body = await request.body()
        return {"bytes": len(body), **structlog.contextvars.get_contextvars()}

    @application.get("/busy")
    async def busy() -> JSONResponse:
        return JSONResponse({}, status_code=503)

    @application.get("/broken")
    async def broken(request: Request) -> JSONResponse:
        request.scope["omnilytics.error"] = ChainError("no node", block=4)
        return JSONResponse({}, status_code=500)

    return Observed(application, metrics, body_seconds=body_seconds, body_bytes=body_bytes)


async def call(application: Observed, method: str, path: str, **more: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        return await http.request(method, path, **more)


def test_ids_reach_the_handler_and_the_response() -> None:
    metrics = Metrics()
    application = observed(metrics)
    answer = asyncio.run(
        call(application, "POST", "/v1/tasks/3/rounds/7/certificates", content=b"12345")
    )
    request_id = answer.headers["x-request-id"]
    assert answer.json() == {"bytes": 5, "request": request_id, "task": 3, "round": 7}
    labels = {"method": "POST", "route": PATH, "status": "200"}
    value = metrics.registry.get_sample_value
    assert value("omnilytics_http_requests_total", labels) == 1
    assert value("omnilytics_http_requests_in_progress") == 0
    del labels["status"]
    assert value("omnilytics_http_request_seconds_count", labels) == 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abcdef-12345678", True), ("short", False), ("a" * 65, False), ("with space and", False)],
)
def test_a_request_may_bring_its_id(given: str, kept: bool) -> None:
    headers = {"X-Request-Id": given}
    answer = asyncio.run(call(observed(Metrics()), "GET", "/busy", headers=headers))
    assert (answer.headers["x-request-id"] == given) is kept
    assert len(answer.headers["x-request-id"]) >= 8


def test_paths_never_become_labels() -> None:
    metrics = Metrics()
    application = observed(metrics)
    for path in ("/nothing/1", "/nothing/2", "/v1/tasks/x/rounds/1/certificates"):
        asyncio.run(call(application, "BREW", path))
    text = metrics.render().decode()
    assert 'method="other",route="unmatched",status="404"} 2.0' in text
    assert "/nothing" not in text


def test_busy_tells_when_to_come_back() -> None:
    answer = asyncio.run(call(observed(Metrics()), "GET", "/busy"))
    assert answer.headers["retry-after"] == "2"


def test_the_error_of_a_request_is_logged_with_its_ids() -> None:
    with structlog.testing.capture_logs(
        processors=[structlog.contextvars.merge_contextvars]
    ) as lines:
        asyncio.run(call(observed(Metrics()), "GET", "/broken"))
    (line,) = (line for line in lines if line["event"] == "request")
    assert (line["log_level"], line["status"], line["code"]) == ("error", 500, "chain")
    assert line["error"] == "no node"
    assert line["request"]


class Connection:
    """An ASGI connection whose body never ends."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.first = True
        self.waiting = asyncio.Event()

    async def receive(self) -> Message:
        if self.first:
            self.first = False
            return {"type": "http.request", "body": b"x", "more_body": True}
        self.waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.sent.append(message)


SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/v1/tasks/3/rounds/7/certificates",
    "raw_path": b"/v1/tasks/3/rounds/7/certificates",
    "query_string": b"",
    "headers": [],
}


def test_a_request_that_the_end_cuts_off_is_told_to_come_back() -> None:
    async def scenario() -> Connection:
        connection = Connection()
        task = asyncio.ensure_future(
            observed(Metrics())(dict(SCOPE), connection.receive, connection.send)
        )
        await connection.waiting.wait()
        task.cancel()
        await task
        return connection

    start, body = asyncio.run(scenario()).sent
    headers = dict(start["headers"])
    assert start["status"] == 503
    assert headers[b"retry-after"] == b"2"
    assert json.loads(body["body"])["code"] == "stopping"


def test_a_slow_body_ends() -> None:
    async def scenario() -> list[Message]:
        connection = Connection()
        application = observed(Metrics(), body_seconds=0.05)
        async with asyncio.timeout(20):
            await application(dict(SCOPE), connection.receive, connection.send)
        return connection.sent

    sent = asyncio.run(scenario())
    assert sent[0]["status"] >= 400


def test_bodies_are_bounded_all_together_and_room_comes_back() -> None:
    async def scenario() -> None:
        metrics = Metrics()
        application = observed(metrics, body_bytes=10)
        path = "/v1/tasks/3/rounds/7/certificates"
        held = Connection()  # one byte, and never an end
        task = asyncio.ensure_future(application(dict(SCOPE), held.receive, held.send))
        await held.waiting.wait()
        for _ in range(2):
            refused = await call(application, "POST", path, content=b"x" * 10)
            assert refused.status_code >= 500
            assert (await call(application, "POST", path, content=b"x" * 9)).status_code == 200
        task.cancel()
        await task
        assert (await call(application, "POST", path, content=b"x" * 10)).status_code == 200

    asyncio.run(scenario())
