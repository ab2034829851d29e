"""The chain's watch and what readiness makes of it and of the rest."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from wire_samples import address, digest

from omnilytics.chain.connection import Block, Chain
from omnilytics.chain.reader import MarketReader
from omnilytics.foundation.errors import ChainError, KeyMaterialError
from omnilytics.service.health import Check, Health
from omnilytics.service.metrics import Metrics
from omnilytics.service.operations import add_health_routes, operations_application
from omnilytics.service.registration import Registration
from omnilytics.service.watch import ChainStatus, ChainWatch, Head
from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.storage.repository import Repository

NOW = 1_700_000_000.0


class FakeChain:
    def __init__(self) -> None:
        self.number = 7
        self.fork = "a"
        self.down = False

    def latest(self) -> Block:
        if self.down:
            raise ChainError("no answer from the node")
        return Block(self.number, digest(f"{self.fork}{self.number}"))

    def block_timestamp(self, number: int) -> int:
        return int(NOW) - 10


def watch_of(
    chain: FakeChain,
    verify: Callable[[], None] = lambda: None,
    on_slow_tick: Callable[[], None] = lambda: None,
) -> ChainWatch:
    return ChainWatch(cast(Chain, chain), verify, poll_seconds=0.01, on_slow_tick=on_slow_tick)


def test_it_tells_of_new_heads_and_of_replaced_ones() -> None:
    chain, heard = FakeChain(), []
    watch = watch_of(chain)
    watch.listen(lambda: heard.append(watch.status.head))
    watch.poll()
    watch.poll()
    chain.number = 8
    watch.poll()
    chain.fork = "b"
    watch.poll()
    assert [head.number for head in heard if head is not None] == [7, 8, 8]
    assert watch.status.problem is None


def test_an_outage_is_told_once_and_ends_with_a_verification() -> None:
    chain, heard, verified = FakeChain(), [], []
    watch = watch_of(chain, lambda: verified.append(True))
    watch.listen(lambda: heard.append(watch.status.problem))
    watch.poll()
    chain.down = True
    watch.poll()
    watch.poll()
    assert watch.status.head is not None  # the last one that was seen
    chain.down = False
    watch.poll()
    assert heard == [None, "no answer from the node", None]
    assert len(verified) == 2


def test_a_chain_that_is_not_ours_is_a_problem() -> None:
    def refuse() -> None:
        raise ChainError("no contract at this address")

    ticks: list[bool] = []
    watch = watch_of(FakeChain(), refuse, lambda: ticks.append(True))
    watch.poll()
    assert watch.status.is_foreign
    assert "no contract" in str(watch.status.problem)
    assert not ticks


def test_it_goes_on_by_itself_until_it_is_stopped() -> None:
    chain = FakeChain()
    watch = watch_of(chain)
    seen: list[int] = []

    def listen() -> None:
        assert watch.status.head is not None
        seen.append(watch.status.head.number)
        if chain.number < 10:
            chain.number += 1
            raise RuntimeError("a listener's defect")

    watch.listen(listen)
    with pytest.raises(RuntimeError):
        watch.start()
    watch._thread.start()
    deadline = time.monotonic() + 20
    while seen[-1] < 10:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    watch.stop()
    watch._thread.join(20)
    assert not watch._thread.is_alive()


# readiness


class World:
    def __init__(self, folder: Path) -> None:
        head = Head(7, digest("h"), int(NOW) - 10)
        self.watch = SimpleNamespace(status=ChainStatus(head, time.monotonic()))
        self.repository = SimpleNamespace(
            records=lambda *_: [], check_reconciled=lambda: None, check_writable=lambda: None
        )
        self.registration = SimpleNamespace(problem=None)
        self.metrics = Metrics()
        self.is_development = False
        self.least_free_bytes = 0
        self.folder = folder

    def health(self) -> Health:
        return Health(
            watch=cast(ChainWatch, self.watch),
            repository=cast(Repository, self.repository),
            registration=cast(Registration, self.registration),
            folder=self.folder,
            least_free_bytes=self.least_free_bytes,
            stale_seconds=60,
            is_development=self.is_development,
            metrics=self.metrics,
            now=lambda: NOW,
        )

    def failing(self) -> list[Check]:
        return [check for check in self.health().checks() if not check.passed]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_all_is_well(world: World) -> None:
    assert world.failing() == []
    value = world.metrics.registry.get_sample_value
    assert value("omnilytics_check_passed", {"check": "disk"}) == 1


def test_each_condition_fails_alone_with_its_reason(world: World) -> None:
    def fails(name: str, phrase: str) -> None:
        (check,) = world.failing()
        assert (check.name, phrase in check.reason) == (name, True), check.reason
        value = world.metrics.registry.get_sample_value
        assert value("omnilytics_check_passed", {"check": name}) == 0

    good = world.watch.status
    world.watch.status = ChainStatus(good.head, good.seen_at, "no answer from the node")
    fails("chain", "no answer")
    world.watch.status = ChainStatus(Head(7, digest("h"), int(NOW) - 61), good.seen_at)
    fails("head", "61 seconds old")
    world.is_development = True
    assert world.failing() == []
    world.watch.status = ChainStatus(good.head, time.monotonic() - 61)
    fails("head", "not heard")
    world.watch.status = ChainStatus(None, time.monotonic())
    assert [check.name for check in world.failing()] == ["head"]
    world.watch.status = good
    world.registration.problem = "is not registered"
    fails("key", "not registered")
    world.registration.problem = None

    def gone() -> None:
        raise StorageUnavailableError("the database does not answer")

    for question in ("check_reconciled", "check_writable"):
        setattr(world.repository, question, gone)
        fails("database", "does not answer")
        setattr(world.repository, question, lambda: None)
    world.least_free_bytes = 1 << 61
    fails("disk", "bytes free")
    world.folder = world.folder / "gone"
    fails("disk", "gone")


def test_a_stopping_server_is_not_ready(world: World) -> None:
    health = world.health()
    health.stopping = True
    assert [check.name for check in health.checks() if not check.passed] == ["running"]


async def get(application: FastAPI, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        return await http.get(path)


def test_reasons_are_private(world: World) -> None:
    world.watch.status = ChainStatus(world.watch.status.head, time.monotonic(), "node at 10.0.0.7")
    public = FastAPI()
    add_health_routes(public, world.health(), reasons=False)
    answer = asyncio.run(get(public, "/readyz"))
    assert answer.status_code == 503
    assert answer.json()["checks"]["chain"] == "failed"
    assert "10.0.0.7" not in answer.text
    private = operations_application(world.health(), world.metrics)
    assert "10.0.0.7" in asyncio.run(get(private, "/readyz")).text
    assert asyncio.run(get(private, "/healthz")).status_code == 200


def test_metrics_are_measured_when_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=12_345))
    application = operations_application(world.health(), world.metrics)
    text = asyncio.run(get(application, "/metrics")).text
    assert "omnilytics_disk_free_bytes 12345.0" in text
    assert "omnilytics_chain_head_lag_seconds 10.0" in text
    assert "omnilytics_chain_head_block 7.0" in text


# registration


class FakeMarket:
    def __init__(self, record: Any) -> None:
        self.record = record

    def server(self, _address: bytes) -> Any:
        if isinstance(self.record, Exception):
            raise self.record
        return self.record


def registration(record: Any, endpoint: str | None = "https://a.example") -> Registration:
    market = cast(MarketReader, FakeMarket(record))
    found = Registration(market, address("own"), digest("hpke"), endpoint)
    found.refresh()
    return found


def record(**more: Any) -> SimpleNamespace:
    fields = {"hpke_key": digest("hpke"), "endpoint": "https://a.example", "active_tasks": 0}
    return SimpleNamespace(**{**fields, **more})


def test_a_registration_that_fits() -> None:
    found = registration(record())
    assert found.problem is None
    assert not found.has_past
    found.check_key()
    assert registration(record(active_tasks=1)).has_past


def test_a_registration_that_does_not_fit() -> None:
    assert "not registered" in str(registration(ChainError("server not registered")).problem)
    assert "endpoint" in str(registration(record(endpoint="https://b.example")).problem)
    assert registration(record(endpoint="https://b.example"), None).problem is None
    other = registration(record(hpke_key=digest("other")))
    assert "HPKE" in str(other.problem)
    with pytest.raises(KeyMaterialError, match="another HPKE key"):
        other.check_key()
    with pytest.raises(ChainError, match="down"):
        registration(ChainError("down"))
