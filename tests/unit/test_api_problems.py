"""Errors as problem+json: which status, what is told, what only the log gets; where work runs."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.types import Message

from omnilytics.api.application import create_application
from omnilytics.api.problems import (
    CLIENT_LEFT,
    ERROR_KEY,
    PROBLEM_TYPE,
    BusyError,
    NotFoundError,
    SlowBodyError,
    add_problem_handlers,
)
from omnilytics.api.work import InPlace
from omnilytics.foundation.errors import (
    ChainError,
    ConfigError,
    MalformedError,
    OmniLyticsError,
    PeerError,
    UsageError,
    VerificationError,
)
from omnilytics.roles.server import Server
from omnilytics.service.threads import Workers
from omnilytics.storage.errors import StorageUnavailableError


def failing(error: Exception, seen: dict[str, Any]) -> FastAPI:
    application = FastAPI()
    add_problem_handlers(application)

    @application.get("/")
    async def fail(request: Request) -> None:
        seen["scope"] = request.scope
        raise error

    return application


async def get(application: FastAPI, path: str = "/") -> httpx.Response:
    transport = httpx.ASGITransport(app=application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        return await http.get(path)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (NotFoundError, 404),
        (SlowBodyError, 408),
        (MalformedError, 400),
        (VerificationError, 403),
        (UsageError, 400),
        (BusyError, 503),
        (PeerError, 503),
        (ChainError, 503),
        (StorageUnavailableError, 503),
        (ConfigError, 500),
    ],
)
def test_status_and_what_is_told(kind: type[OmniLyticsError], status: int) -> None:
    error = kind("it is so", got="mine", hint="do that", task=3)
    seen: dict[str, Any] = {}
    answer = asyncio.run(get(failing(error, seen)))
    assert answer.status_code == status
    assert answer.headers["content-type"] == PROBLEM_TYPE
    body = answer.json()
    assert (body["code"], body["title"], body["status"]) == (kind.code, "it is so", status)
    assert ("got" in body) is (status < 500)  # own trouble stays in the log
    assert ("retry-after" in answer.headers) is (status == 503)
    assert seen["scope"][ERROR_KEY] is error


def test_a_defect_is_a_problem_that_tells_nothing() -> None:
    answer = asyncio.run(get(failing(RuntimeError("secret detail"), {})))
    assert answer.status_code == 500
    assert answer.headers["content-type"] == PROBLEM_TYPE
    assert answer.json()["code"] == "internal"
    assert "secret detail" not in answer.text


def test_an_upload_that_its_client_cuts_off_is_no_defect() -> None:
    application = FastAPI()
    add_problem_handlers(application)

    @application.put("/")
    async def put(request: Request) -> int:
        return len(await request.body())

    parts: list[Message] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return parts.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "PUT", "path": "/", "query_string": b"", "headers": []}
    asyncio.run(application(scope, receive, send))
    assert sent[0]["status"] == CLIENT_LEFT


class StandIn:
    """Tells in which thread it was asked."""

    def __init__(self) -> None:
        self.thread = ""

    def blob(self, _name: bytes) -> bytes:
        self.thread = threading.current_thread().name
        return b"content"


@pytest.mark.parametrize("beside", [True, False])
def test_work_is_done_where_it_is_told(beside: bool) -> None:
    server = StandIn()

    async def scenario() -> bytes:
        work = Workers(1, 0) if beside else InPlace()
        application = create_application(cast(Server, server), work=work)
        answer = await get(application, "/v1/blobs/" + "0" * 64)
        if isinstance(work, Workers):
            work.stop()
        return answer.content

    assert asyncio.run(scenario()) == b"content"
    assert server.thread.startswith("worker-") is beside
