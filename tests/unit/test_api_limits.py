"""Token buckets: how many pass, when the next may come, and how much is remembered."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from omnilytics.api import limits
from omnilytics.api.application import create_application
from omnilytics.api.limits import Limits, RateLimit, TooManyRequestsError, network_of
from omnilytics.roles import server as roles
from omnilytics.service.metrics import Metrics
from omnilytics.service.requests import Observed
from omnilytics.service.serving import Listener
from omnilytics.service.settings import HttpSection


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def allowed(limit: RateLimit, client: str, count: int) -> int:
    passed = 0
    for _ in range(count):
        try:
            limit.take(client, "address")
        except TooManyRequestsError:
            continue
        passed += 1
    return passed


def test_a_burst_passes_and_then_the_rate() -> None:
    clock = Clock()
    limit = RateLimit(2.0, 5, clock=clock)
    assert allowed(limit, "a", 8) == 5
    assert allowed(limit, "b", 8) == 5  # others are not touched
    clock.now += 1.0
    assert allowed(limit, "a", 8) == 2
    clock.now += 1_000.0
    assert allowed(limit, "a", 8) == 5  # a bucket holds no more than a burst


def test_it_says_when_to_come_again() -> None:
    clock = Clock()
    limit = RateLimit(0.1, 1, clock=clock)
    limit.take("a", "address")
    with pytest.raises(TooManyRequestsError) as caught:
        limit.take("a", "address")
    assert caught.value.ids["retry_after_seconds"] == 10
    clock.now += 9.0
    assert allowed(limit, "a", 1) == 0  # being refused costs nothing
    clock.now += 1.001
    assert allowed(limit, "a", 1) == 1


def test_the_quietest_clients_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_CLIENTS", 3)
    limit = RateLimit(0.001, 1, clock=Clock())
    for client in "abcad":
        allowed(limit, client, 1)
    assert len(limit._buckets) == 3
    assert allowed(limit, "a", 1) == 0
    assert allowed(limit, "b", 1) == 1


def test_a_refusal_is_a_problem_counted_and_costs_no_work() -> None:
    async def scenario() -> list[httpx.Response]:
        limits_of_server = Limits(RateLimit(0.1, 2, clock=Clock()), RateLimit(1.0, 1))
        application = create_application(cast(roles.Server, server), limits=limits_of_server)
        observed = Observed(application, metrics, body_seconds=30, body_bytes=1 << 20)
        transport = httpx.ASGITransport(app=observed, client=("192.0.2.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            path = "/v1/blobs/" + "0" * 64
            forwarded = {"X-Forwarded-For": "192.0.2.99"}  # anybody may say so: not believed
            return [await http.get(path, headers=forwarded) for _ in range(4)]

    server, metrics = Server(), Metrics()
    answers = asyncio.run(scenario())
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert server.asked == 2
    assert answers[2].headers["Retry-After"] == "10"
    assert answers[2].headers["Content-Type"] == "application/problem+json"
    assert answers[2].json()["code"] == "rate-limit"
    count = metrics.registry.get_sample_value
    assert count("omnilytics_http_requests_refused_total", {"by": "address"}) == 2


class Server:
    """Has every blob."""

    asked = 0

    def blob(self, _name: bytes) -> bytes:
        self.asked += 1
        return b"content"


def test_default_limits_are_those_of_the_settings() -> None:
    limits_of_server = HttpSection(requests_burst=20, signer_requests_burst=10).limits()
    assert allowed(limits_of_server.by_address, "a", 15) == 15
    assert allowed(limits_of_server.by_signer, "a", 10) == 10
    assert HttpSection().requests_burst >= 13 * 8 * 10  # a whole committee's steps at once


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_who_is_one_client(host: str, client: str) -> None:
    assert network_of(host) == client


def test_forwarded_addresses_are_believed_of_named_proxies_alone() -> None:
    def seen(trusted: tuple[str, ...]) -> str:
        found: list[str] = []

        async def application(scope: Scope, _receive: Receive, _send: Send) -> None:
            found.append(scope["client"][0])

        with socket.socket() as bound:
            listener = Listener(application, bound, shutdown_seconds=1, trusted_proxies=trusted)
            listener.config.load()
            scope: dict[str, Any] = {
                "type": "http",
                "scheme": "http",
                "client": ("127.0.0.1", 1),
                "headers": [(b"x-forwarded-for", b"203.0.113.9")],
            }
            asyncio.run(listener.config.loaded_app(scope, None, None))
        return found[0]

    assert seen(()) == "127.0.0.1"
    assert seen(("10.0.0.0/8",)) == "127.0.0.1"
    assert seen(("127.0.0.0/8",)) == "203.0.113.9"
