"""Media types: what is refused, and that it is refused before a body is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import cast

import httpx
import pytest
from wire_samples import address, digest

from omnilytics.api.application import create_application
from omnilytics.api.media import accepts
from omnilytics.foundation.errors import MalformedError
from omnilytics.roles.server import Server
from omnilytics.transport.client import HPKE_PATH, MEDIA_TYPE, ServerClient
from omnilytics.wire.hpke_configuration import HpkeConfiguration

CERTIFICATES = "/v1/tasks/3/rounds/7/certificates"


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (MEDIA_TYPE, True),
        ("*/*", True),
        ("application/*", True),
        ("text/html, application/*;q=0.1", True),
        (f"{MEDIA_TYPE.upper()}; q=1", True),
        ("text/html", False),
        ("application/vnd.omnilytics.v2+cbor", False),
        (f"{MEDIA_TYPE};q=0, */*", False),
        ("*/*;q=0", False),
        ("*/*;q=much", False),
        (",", False),
        (";;;,,,", False),
    ],
)
def test_what_accepts_the_type(header: str, taken: bool) -> None:
    assert accepts(header) is taken


class StandIn:
    """Takes certificates and has a key."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.intake = SimpleNamespace(accept_certificate=self._accept)
        self.configuration = HpkeConfiguration(server=address("s"), public_key=digest("key"))

    async def _accept(self, _task: object, _round: object, body: bytes) -> None:
        self.taken.append(body)

    def hpke_configuration(self) -> bytes:
        return self.configuration.encode()


def client(server: StandIn) -> httpx.AsyncClient:
    application = create_application(cast("Server", server))
    transport = httpx.ASGITransport(app=application)
    return httpx.AsyncClient(transport=transport, base_url="http://server")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 204),
        ({"Content-Type": MEDIA_TYPE}, 204),
        ({"Content-Type": MEDIA_TYPE.upper() + "; charset=x"}, 204),
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Type": "application/vnd.omnilytics.v2+cbor"}, 415),
        ({"Accept": "text/html"}, 406),
        ({"Accept": ""}, 204),
    ],
)
def test_other_types_are_refused_before_the_body(headers: dict[str, str], status: int) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"body"

    async def scenario() -> httpx.Response:
        async with client(server) as http:
            return await http.post(CERTIFICATES, content=body(), headers=headers)

    server = StandIn()
    answer = asyncio.run(scenario())
    assert answer.status_code == status
    assert bool(server.taken) is bool(read) is (status == 204)
    if status != 204:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["want"] == MEDIA_TYPE
    assert answer.headers.get("accept") == (MEDIA_TYPE if status == 415 else None)


def test_a_server_shows_its_key_in_one_form() -> None:
    async def scenario() -> HpkeConfiguration:
        transport = httpx.ASGITransport(app=create_application(cast("Server", server)))
        async with httpx.AsyncClient(transport=transport) as http:
            answer = await http.get("http://server" + HPKE_PATH)
            assert answer.headers["content-type"] == MEDIA_TYPE
            return await ServerClient("http://server", http).hpke_configuration()

    server = StandIn()
    assert asyncio.run(scenario()) == server.configuration
    data = server.configuration.encode()
    with pytest.raises(MalformedError):
        HpkeConfiguration.decode(data.replace(b"\x18\x20", b"\x18\x21"), max_bytes=512)
