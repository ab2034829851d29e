"""A server process in trouble: its disk full, its database held, gone or away, its account empty.

Each time: the client is told to come again and gets no receipt, the log and /readyz say what is
wrong, and once the cause is away the same process goes on without any work by hand.
"""

from __future__ import annotations

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from devnet import anvil_binary, running_anvil
from postgres_cluster import new_cluster, why_not
from server_process import RunningServer, ServerFiles, running_server, wait_for
from small_disk import fill, small_disk
from submission_world import (
    ETHER,
    LONG_WINDOWS,
    Settings,
    SubmissionWorld,
    Upload,
    open_store,
    random_vector,
    submission_world,
)

from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.chain.records import Phase
from omnilytics.foundation.units import Wei
from omnilytics.roles.server.complaints import (
    answer_cut_off,
    complaint_cut_off,
    hearing_cut_off,
)
from omnilytics.sharing.committee import Committee
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.messages import Receipt

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(600),
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
]

TERM_SECONDS = 15
SMALL_BYTES = 4 << 20


@pytest.fixture(scope="module")
def chain_url() -> Iterator[str]:
    with running_anvil() as url:
        yield url


# one server of (5,1,1), and uploads to it


@contextmanager
def serving(
    url: str, folder: Path, settings: Settings | None = None, *, dimension: int = 1_000
) -> Iterator[tuple[SubmissionWorld, RunningServer]]:
    """Run the last server of a committee whose round is open."""
    with submission_world(
        url,
        folder,
        committee=Committee(servers=5, privacy=1, errors=1),
        dimension=dimension,
        max_owners=10,
        settings=settings,
    ) as world:
        with running_server(world.servers[-1]) as server:
            server.wait_ready()
            world.publish_at(server.files)
            yield world, server
            assert server.process.poll() is None
            assert server.stop() == 0
        assert "Traceback" not in server.files.log.read_text()


def new_upload(world: SubmissionWorld) -> Upload:
    return world.upload(world.new_owner(), len(world.servers))


def accepted(server: RunningServer, upload: Upload) -> None:
    answer = upload.send(server.files.endpoint)
    assert answer.status_code == 200, answer.text
    message = decode_signed(answer.content).message
    assert isinstance(message, Receipt)
    assert message.owner == upload.owner.address


def refused(server: RunningServer, upload: Upload, phrase: str) -> None:
    """The server says to come again, and where the trouble is to its operator alone."""
    answer = upload.send(server.files.endpoint)
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "storage-unavailable"
    assert set(problem) == {"type", "title", "status", "code"}

    def told() -> list[dict[str, Any]]:
        own = answer.headers["x-request-id"]
        lines = server.files.lines()
        return [line for line in lines if (line["event"], line.get("request")) == ("request", own)]

    server.wait_for(lambda: bool(told()), "in the log")  # which follows the answer
    (line,) = told()
    assert (line["status"], line["level"]) == (503, "error")
    assert phrase in line["error"]
    assert line["hint"]
    assert {"place", "database"} & set(line)


def failing_check(server: RunningServer, name: str, phrase: str) -> None:
    """Wait until /readyz names the trouble."""

    def named() -> bool:
        answer = httpx.get(server.files.operations + "/readyz", timeout=60)
        return answer.status_code == 503 and phrase in answer.json()["checks"][name]

    server.wait_for(named, f"{name} failing with '{phrase}'")
    public = httpx.get(server.files.endpoint + "/readyz", timeout=60)
    assert public.status_code == 503
    assert public.json()["checks"][name] == "failed"
    assert httpx.get(server.files.endpoint + "/healthz").status_code == 200


@pytest.mark.parametrize("leave_bytes", [0, 64 << 10], ids=["no byte", "room for no package"])
def test_a_full_disk(chain_url: str, tmp_path: Path, leave_bytes: int) -> None:
    with small_disk(tmp_path / "small", SMALL_BYTES) as disk:
        data = disk / "data"
        settings: Settings = {
            "server": {"data": str(data)},
            "operations": {"least_free_bytes": 1 << 20},
        }
        with serving(chain_url, tmp_path, settings, dimension=20_000) as (world, server):
            first, second = new_upload(world), new_upload(world)
            accepted(server, first)
            stored = contents(data)
            fill(disk / "ballast", leave_bytes=leave_bytes)
            for _ in range(2):
                refused(server, second, "the disk is full")
            failing_check(server, "disk", "bytes free")
            assert contents(data) == stored  # no part of a file
            assert owners(data) == {first.owner.address}
            accepted(server, first)  # nothing new is to be stored
            (disk / "ballast").unlink()
            accepted(server, second)
            server.wait_ready()
            assert owners(data) == {first.owner.address, second.owner.address}


def contents(data: Path) -> set[str]:
    return {path.name for path in (data / "content").rglob("*") if path.is_file()}


def owners(data: Path) -> set[bytes]:
    """Return who has a receipt and a package, read from outside."""
    with closing(sqlite3.connect(data / "server.db")) as database:
        sets = [
            {owner for (owner,) in database.execute(f"SELECT owner FROM {table}")}  # noqa: S608
            for table in ("receipts", "submissions")
        ]
    assert sets[0] == sets[1]
    return sets[0]


_HOLDER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def held_by_another_process(path: Path) -> Iterator[None]:
    command = [sys.executable, "-c", _HOLDER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.stdin.close()


def test_a_database_that_another_process_holds(chain_url: str, tmp_path: Path) -> None:
    with serving(chain_url, tmp_path) as (world, server):
        data = server.files.folder / "data"
        upload = new_upload(world)
        with held_by_another_process(data / "server.db"):
            refused(server, upload, "the database is busy")
            failing_check(server, "database", "the database is busy")
            path = server.files.endpoint + "/v1/tasks/1/rounds/1/board?kinds=certificate"
            assert httpx.get(path).status_code == 200  # who only reads does not wait
        assert owners(data) == set()
        accepted(server, upload)
        server.wait_ready()
        assert owners(data) == {upload.owner.address}


@pytest.mark.parametrize("place", ["nothing", "a folder", "an older copy"])
def test_a_database_file_that_is_gone(chain_url: str, tmp_path: Path, place: str) -> None:
    with serving(chain_url, tmp_path) as (world, server):
        data = server.files.folder / "data"
        path, moved = data / "server.db", data / "moved.db"
        upload = new_upload(world)
        path.rename(moved)
        if place == "a folder":
            path.mkdir()
        elif place == "an older copy":
            shutil.copy(moved, path)
        refused(server, upload, "the database file is gone or was replaced")
        failing_check(server, "database", "the database file is gone or was replaced")
        if place == "a folder":
            path.rmdir()
        moved.rename(path)
        accepted(server, upload)
        server.wait_ready()
        assert owners(data) == {upload.owner.address}


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_postgresql_stops_and_starts_again(chain_url: str, tmp_path: Path) -> None:
    cluster = new_cluster()
    try:
        settings: Settings = {"storage": {"database_url": cluster.new_database()}}
        with serving(chain_url, tmp_path, settings) as (world, server):
            first, second = new_upload(world), new_upload(world)
            accepted(server, first)
            cluster.stop()
            for _ in range(2):
                refused(server, second, "the database does not answer")
            failing_check(server, "database", "the database does not answer")
            cluster.start()
            accepted(server, second)
            server.wait_ready()
            with closing(open_store(world.market, server.files)) as store:
                assert store.owner_count(world.task, world.opened.round) == 2
    finally:
        cluster.remove()


# all servers of (3,1,0), and a round of theirs


class Running:
    """A committee of processes, and the chain's time in the test's hands."""

    def __init__(self, world: SubmissionWorld) -> None:
        self.world = world
        self.servers = [RunningServer(files) for files in world.servers]

    def ready(self) -> None:
        for server in self.servers:
            server.wait_ready()

    def restart(self) -> None:
        """Tell all to end, wait for it, and start them again."""
        for server in self.servers:
            server.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert [server.wait() for server in self.servers] == [0] * len(self.servers)
        assert time.monotonic() - started < TERM_SECONDS
        self.servers = [RunningServer(files) for files in self.world.servers]
        self.ready()

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def rest(self, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Wait until every server has looked twice and found nothing that it could do."""
        for _ in range(2):  # what one does last, another may have to look at
            wanted = [looks_in_vain(server) + 2 for server in self.servers]
            for server, count in zip(self.servers, wanted, strict=True):
                server.wait_for(partial(_has_looked, server, count, unless), "at rest")

    def state(self) -> Any:
        return self.world.market.round_state(self.world.task)

    def reach_sealing(self) -> None:
        """Pass the moments after the submission deadline, up to the first sequencer's turn."""
        view, state, chain = self.world.view, self.state(), self.world.chain
        for moment in (
            state.submission_deadline,
            complaint_cut_off(view, state),
            hearing_cut_off(view, state),
            answer_cut_off(view, state),
        ):
            chain.wait_for_time(moment)
            self.rest()

    def settled(self) -> list[RoundSettled]:
        return [e for e in self.world.market.events() if isinstance(e, RoundSettled)]

    def settle(self) -> RoundSettled:
        """Mine block after block until the round is settled."""
        for _ in range(30):
            if self.settled():
                break
            self.world.chain.mine(1)
            self.rest()
        (settled,) = self.settled()
        return settled


def looks_in_vain(server: RunningServer) -> float:
    return metric(server, 'round_steps_total{outcome="unchanged"}') + metric(
        server, 'round_steps_total{outcome="failed"}'
    )


def _has_looked(server: RunningServer, count: float, unless: Callable[[], bool]) -> bool:
    return unless() or looks_in_vain(server) >= count


def metric(server: RunningServer, name: str) -> float:
    text = httpx.get(server.files.operations + "/metrics", timeout=60).text
    found = re.search(rf"^omnilytics_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@contextmanager
def committee(url: str, folder: Path) -> Iterator[Running]:
    """Run three servers, with two submissions certified by all of them."""
    with submission_world(
        url,
        folder,
        committee=Committee(servers=3, privacy=1, errors=0),
        dimension=500,
        max_owners=10,
        windows=LONG_WINDOWS.model_copy(update={"words_blocks": 3, "openings_blocks": 7}),
    ) as world:
        for files in world.servers:
            files.settings["rounds"]["longest_back_off_seconds"] = 0.5
            files.write()
        running = Running(world)
        try:
            running.ready()
            for files in world.servers:
                world.publish_at(files)
            for _ in range(2):
                world.contribute(world.new_owner(), random_vector(500))
            yield running
        finally:
            running.kill()


def answers_once(running: Running) -> None:
    """No server gave two values under one of its names, on its own board or another's."""
    world = running.world
    for files in world.servers:
        with closing(open_store(world.market, files)) as store:
            for kind in ("seed", "words", "final"):
                records = store.records(world.task, world.opened.round, (kind,))
                makers = [record.server for record in records]
                assert makers, kind
                assert len(makers) == len(set(makers)), (kind, makers)


def test_sigterm_during_settlement(tmp_path: Path) -> None:
    with running_anvil() as url, committee(url, tmp_path) as running:
        world, chain = running.world, running.world.chain
        running.reach_sealing()
        assert running.state().phase == Phase.SEALED
        running.restart()  # before the challenge is answered
        # From here on transactions wait: the settlement hangs, whoever's turn it is.
        ask(url, "evm_setAutomine", False)
        nonces = [chain.next_nonce(files.key.address) for files in world.servers]
        for _ in range(20):
            if pending(url):
                break
            chain.mine(1)
            running.rest(unless=lambda: pending(url) > 0)
        assert pending(url) == 1
        running.restart()  # while one of them waits for its transaction
        assert running.settled() == []
        ask(url, "evm_setAutomine", True)
        settled = running.settle()
        assert settled.accepted_count == 2
        running.rest()
        sent = [
            chain.next_nonce(files.key.address) - nonce
            for files, nonce in zip(world.servers, nonces, strict=True)
        ]
        assert sorted(sent) == [0, 0, 1]  # nobody paid for a second one
        for server in running.servers:
            assert server.stop() == 0
            assert "Traceback" not in server.files.log.read_text()
        answers_once(running)


def ask(url: str, method: str, *parameters: object) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    answer = httpx.post(url, json=body).json()
    assert "error" not in answer, answer
    return answer["result"]


def pending(url: str) -> int:
    return int(ask(url, "txpool_status")["pending"], 16)


def test_an_account_without_ether(tmp_path: Path) -> None:
    with running_anvil() as url, committee(url, tmp_path) as running:
        chain = running.world.chain
        for files in running.world.servers:
            ask(url, "anvil_setBalance", "0x" + files.key.address.hex(), "0x0")
        running.reach_sealing()
        assert running.state().phase == Phase.OPEN
        poor = [server for server in running.servers if complaints_of_funds(server.files)]
        assert len(poor) == 1  # whose turn it is
        assert metric(poor[0], "tasks_failing") == 1
        # Others go on: their turn comes.
        others = [server for server in running.servers if server is not poor[0]]
        for server in others:
            chain.fund(server.files.key.address, Wei(ETHER))
        rotation = running.world.view.specification.windows.rotation_seconds
        chain.jump(chain.head_timestamp() + rotation)
        wait_for(lambda: running.state().phase == Phase.SEALED, "sealed by another")
        # And it goes on itself once it is funded, with nothing else done.
        chain.fund(poor[0].files.key.address, Wei(ETHER))
        assert running.settle().accepted_count == 2
        running.rest()
        assert metric(poor[0], "tasks_failing") == 0
        for server in running.servers:
            assert server.stop() == 0
            assert "Traceback" not in server.files.log.read_text()
        answers_once(running)


def complaints_of_funds(files: ServerFiles) -> list[dict[str, Any]]:
    lines = [line for line in files.lines() if line.get("code") == "funds"]
    for line in lines:
        assert line["event"] == "step failed"
        assert line["task"] == 1
        assert "send ether to 0x" + files.key.address.hex() in line["hint"].lower()
    return lines
