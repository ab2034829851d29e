"""A server as a real process on a real chain: start, serve, stop, restart, what may go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from devnet import anvil_at, anvil_binary, running_anvil
from distributed import Distributed, distributed, play_round
from distributed_checks import check_logs, check_round
from process_figures import children, wait_for_end
from server_process import (
    COMMAND,
    PASSWORD,
    RunningServer,
    ServerFiles,
    free_ports,
    prepare_server,
    running_server,
    wait_for,
)

from omnilytics.chain.connection import Chain, connect
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.outbox import OutgoingCall
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Wei
from omnilytics.service.event_log import EventLog
from omnilytics.service.outbox import DatabaseOutbox
from omnilytics.storage.repository import Repository
from omnilytics.transport.hpke import HpkeKey
from omnilytics.wire.signatures import SigningKey

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
]

ETHER = 10**18
TERM_SECONDS = 15
CERTIFICATES = "/v1/tasks/1/rounds/1/certificates"


@dataclass
class World:
    """A chain with a market and an account that can pay."""

    url: str
    chain: Chain
    market: MarketReader


@contextmanager
def world_at(url: str) -> Iterator[World]:
    chain = connect(url)
    key = SigningKey.generate(SystemRandomness())
    chain.fund(key.address, Wei(100 * ETHER))
    address = deploy_market(Sender(chain, key.secret))
    yield World(url, chain, MarketReader(chain, address))
    chain.close()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running_anvil() as url, world_at(url) as found:
        yield found


def new_server(world: World, folder: Path, *, registered: bool = True) -> ServerFiles:
    key = SigningKey.generate(SystemRandomness())
    hpke_key = HpkeKey.generate(SystemRandomness())
    world.chain.fund(key.address, Wei(10 * ETHER))
    files = prepare_server(folder, world.url, world.market.address, key, hpke_key)
    if registered:
        writer = MarketWriter(world.market, Sender(world.chain, key.secret))
        writer.register_server(files.endpoint, hpke_key.public, Wei(ETHER))
    return files


@pytest.fixture
def files(world: World, tmp_path: Path) -> ServerFiles:
    return new_server(world, tmp_path / "server")


def run_command(files: ServerFiles, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments, "--config", str(files.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def fails_to_run(files: ServerFiles, code: int, *phrases: str) -> None:
    """The process ends by itself with this code, says why, and shows no secret."""
    done = run_command(files, "run")
    assert done.returncode == code, done.stderr
    for phrase in phrases:
        assert phrase in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(secret in done.stderr + done.stdout for secret in files.secrets())


def no_secret_in(files: ServerFiles, *more: str) -> None:
    text = files.log.read_text()
    assert text
    found = [secret for secret in (*files.secrets(), *more) if secret in text]
    assert not found


def test_it_serves_and_a_restart_finds_its_state(files: ServerFiles) -> None:
    with running_server(files) as server:
        server.wait_ready()
        public = httpx.get(files.endpoint + "/readyz")
        assert public.status_code == 200
        assert set(public.json()["checks"].values()) == {"ok"}
        assert httpx.get(files.endpoint + "/healthz").json() == {"status": "alive"}
        assert httpx.get(files.endpoint + "/metrics").status_code == 404  # private
        answer = httpx.get(
            files.endpoint + "/v1/blobs/" + "0" * 64, headers={"X-Request-Id": "my-request-1"}
        )
        assert answer.status_code == 404
        assert answer.headers["x-request-id"] == "my-request-1"
        assert answer.headers["content-type"] == "application/problem+json"
        metrics = httpx.get(files.operations + "/metrics").text
        assert 'route="/v1/blobs/{name}",status="404"} 1.0' in metrics
        assert 'omnilytics_check_passed{check="head"} 1.0' in metrics
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < TERM_SECONDS
    lines = files.lines()
    assert [line["event"] for line in lines[-2:]] == ["stopping", "stopped"]
    told = [line for line in lines if line.get("request") == "my-request-1"]
    assert told
    assert told[-1]["status"] == 404
    with running_server(files) as server:
        server.wait_ready()
        assert server.stop(number=signal.SIGINT) == 0
    no_secret_in(files)


@contextmanager
def upload_begun(files: ServerFiles) -> Iterator[socket.socket]:
    """A request whose body has only begun to arrive."""
    with socket.create_connection(("127.0.0.1", files.port)) as connection:
        head = f"POST {CERTIFICATES} HTTP/1.1\r\nHost: server\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 10)
        in_progress = "omnilytics_http_requests_in_progress 1.0"
        wait_for(
            lambda: in_progress in httpx.get(files.operations + "/metrics").text, "an upload begun"
        )
        yield connection


def test_sigterm_lets_an_upload_end(files: ServerFiles) -> None:
    with running_server(files) as server:
        server.wait_ready()
        with upload_begun(files) as connection:
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: any(x["event"] == "stopping" for x in files.lines()), "stopping")
            connection.sendall(b"x" * 990)
            assert connection.recv(4_096).startswith(b"HTTP/1.1 ")
        assert server.wait(TERM_SECONDS) == 0


def test_sigterm_does_not_wait_for_an_upload_that_never_ends(files: ServerFiles) -> None:
    files.settings["operations"]["shutdown_seconds"] = 1
    files.write()
    with running_server(files) as server:
        server.wait_ready()
        with upload_begun(files) as connection:
            server.process.send_signal(signal.SIGTERM)
            assert server.wait(TERM_SECONDS) == 0
            answer = connection.recv(4_096)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 2" in answer


def test_a_second_signal_ends_at_once(files: ServerFiles) -> None:
    with running_server(files) as server:
        server.wait_ready()
        with upload_begun(files):
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: any(x["event"] == "stopping" for x in files.lines()), "stopping")
            assert server.stop() == 128 + signal.SIGTERM


def test_one_folder_and_one_port_have_one_process(
    world: World, files: ServerFiles, tmp_path: Path
) -> None:
    with running_server(files) as server:
        server.wait_ready()
        fails_to_run(files, 3, "another process runs on this data folder")
        other = new_server(world, tmp_path / "other", registered=False)
        other.settings["server"]["listen"] = f"127.0.0.1:{files.port}"
        other.write()
        fails_to_run(other, 3, "the port is in use", "server.listen")
        assert server.stop() == 0


def test_keys_that_do_not_fit(world: World, files: ServerFiles) -> None:
    (files.folder / "password").write_text("not the password\n")
    fails_to_run(files, 4, "wrong password")
    (files.folder / "password").write_text(PASSWORD)
    (files.folder / "hpke").chmod(0o644)
    fails_to_run(files, 4, "others may read", "chmod 600")
    (files.folder / "hpke").chmod(0o600)
    (files.folder / "hpke").write_text("11" * 32)
    fails_to_run(files, 4, "another HPKE key is registered", "set-profile")


def test_a_chain_that_does_not_fit(world: World, files: ServerFiles) -> None:
    chain = files.settings["chain"]
    chain["chain_id"] = 1
    files.write()
    fails_to_run(files, 6, "another chain")
    del chain["chain_id"]
    good, chain["market"] = chain["market"], "0x" + "11" * 20
    files.write()
    fails_to_run(files, 6, "no contract at this address")
    chain["market"], chain["url"] = good, f"http://127.0.0.1:{free_ports(1)[0]}/v3/ACCESSKEY"
    files.write()
    fails_to_run(files, 6, "no answer from the node")
    assert "ACCESSKEY" not in run_command(files, "run").stderr


def test_an_unknown_setting_is_refused(files: ServerFiles) -> None:
    files.settings["chain"]["pol_seconds"] = 3
    files.write()
    fails_to_run(files, 3, "unknown setting", "did you mean chain.poll_seconds?")


def test_a_restart_finishes_what_was_left_in_the_outbox(world: World, files: ServerFiles) -> None:
    """A crash between writing a call down and sending it; the database also keeps the events."""

    def store() -> Repository:
        return Repository(
            files.folder / "data",
            chain_id=world.chain.chain_id,
            contract=world.market.address,
            server=files.key.address,
        )

    target = Address(b"\x77" * 20)

    class Crashing(DatabaseOutbox):
        def put(self, call: OutgoingCall) -> None:
            super().put(call)
            raise InterruptedError

    before = store()
    outbox = Crashing(before.outbox, files.key.address)
    sender = Sender(world.chain, files.key.secret, outbox=outbox)
    with pytest.raises(InterruptedError):
        sender.send(target, b"", value=Wei(3), gas=21_000)
    (call,) = outbox.pending()
    before.close()
    with running_server(files) as server:
        server.wait_ready()
        server.wait_for(lambda: world.chain.receipt(call.hashes[0]) is not None, "mined")
        server.wait_for(
            lambda: any(line["event"] == "finished a call" for line in files.lines()), "finished"
        )
        assert server.stop() == 0
    assert world.chain.balance(target) == 3
    after = store()
    assert after.outbox.rows(files.key.address) == []
    cursors, logs = EventLog(after.database, first_block=0).read(-1)
    after.close()
    assert cursors[-1].block_hash == world.chain.block_hash(cursors[-1].block_number)
    assert logs
    no_secret_in(files, call.transactions[0].hex())


def test_it_outlives_its_chain(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    state = tmp_path / "state.json"
    with anvil_at(port, state) as anvil, world_at(anvil.url) as world:
        files = new_server(world, tmp_path / "server")
        server = RunningServer(files)
        try:
            server.wait_ready()
        except BaseException:
            server.kill()
            raise
    with running_process(server):
        server.wait_for(lambda: check(server, "chain") not in (None, "ok"), "not ready")
        assert "no answer from the node" in str(check(server, "chain"))
        assert httpx.get(files.endpoint + "/healthz").status_code == 200
        public = httpx.get(files.endpoint + "/readyz")
        assert public.status_code == 503
        assert public.json()["checks"]["chain"] == "failed"
        assert public.headers["retry-after"]
        with anvil_at(port, None):  # a new chain on the old port is none of ours
            server.wait_for(lambda: "no contract" in str(check(server, "chain")), "chain refused")
        with anvil_at(port, state):
            server.wait_ready()
            assert server.stop() == 0
    events = [line["event"] for line in files.lines()]
    assert "chain lost" in events
    assert "chain is back" in events
    no_secret_in(files)


def test_a_node_that_hangs_stalls_no_other_request(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with anvil_at(port, None) as anvil, world_at(anvil.url) as world:
        files = new_server(world, tmp_path / "server")
        files.settings["chain"]["request_seconds"] = 4
        files.write()
        with running_server(files) as server, ThreadPoolExecutor() as pool:
            server.wait_ready()
            anvil.process.send_signal(signal.SIGSTOP)
            path = files.endpoint + "/v1/tasks/1/artefacts/" + "0" * 64
            hung = [pool.submit(httpx.put, path, content=b"x", timeout=60) for _ in range(3)]
            answered = 0
            while not all(each.done() for each in hung):
                assert httpx.get(files.endpoint + "/healthz", timeout=2).status_code == 200
                assert httpx.get(files.endpoint + "/v1/blobs/" + "0" * 64, timeout=2).is_error
                answered += 1
            assert answered >= 3
            assert [each.result().status_code for each in hung] == [503] * 3
            assert all(each.result().headers["retry-after"] for each in hung)
            anvil.process.send_signal(signal.SIGCONT)
            server.wait_ready()
            assert server.stop() == 0


@contextmanager
def running_process(server: RunningServer) -> Iterator[None]:
    try:
        yield
    finally:
        server.kill()


def check(server: RunningServer, name: str) -> str | None:
    found = server.ready()
    return None if found is None else found["checks"][name]


def test_registration_by_the_command_line(world: World, tmp_path: Path) -> None:
    files = new_server(world, tmp_path / "server", registered=False)
    status = json.loads(run_command(files, "status", "--json").stdout)
    assert status["registered"] is False
    looked = run_command(files, "register", "--stake", "0.5 ether", "--dry-run", "--json")
    assert looked.returncode == 0, looked.stderr
    plan = json.loads(looked.stdout)["plan"]
    assert plan["value_wei"] == str(ETHER // 2)
    assert plan["network"] == "development chain"
    for phrase in ("0.5 ether", "registry 0x", "comes back", "server withdraw", "at most"):
        assert phrase in looked.stderr
    assert run_command(files, "register").returncode == 2  # nobody to ask
    assert json.loads(run_command(files, "status", "--json").stdout)["registered"] is False
    assert run_command(files, "register", "--yes").returncode == 0
    assert run_command(files, "add-stake", "1 ether", "--yes").returncode == 0
    too_much = run_command(files, "add-stake", "1000 ether", "--yes")
    assert too_much.returncode == 5
    offered = run_command(files, "offer", "--min-fee", "1000", "--max-stake", "1 gwei", "--yes")
    assert offered.returncode == 0, offered.stderr
    assert run_command(files, "withdraw", "--yes").returncode == 2
    assert run_command(files, "leave", "--yes").returncode == 0
    status = json.loads(run_command(files, "status", "--json").stdout)
    assert status["endpoint"] == files.endpoint
    assert status["leaving"] is True
    assert int(status["stake_wei"]) == ETHER + world.market.min_stake()
    world.chain.wait_for_time(status["free_at"])
    assert run_command(files, "withdraw", "--yes").returncode == 0
    assert json.loads(run_command(files, "status", "--json").stdout)["registered"] is False


def test_a_restored_server_is_silent_until_it_is_reconciled(
    files: ServerFiles, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    with running_server(files) as server:
        server.wait_ready()
        done = run_command(files, "backup", str(saved), "--json")  # while it runs
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["lost"] == []
        assert server.stop() == 0
    files.settings["server"]["data"] = "again"
    files.write()
    assert run_command(files, "restore", str(saved)).returncode == 0
    fails_to_run(files, 3, "omnilytics server reconcile")
    assert run_command(files, "reconcile").returncode == 0
    assert run_command(files, "migrate").returncode == 0
    with running_server(files) as server:
        server.wait_ready()
        assert run_command(files, "reconcile").returncode == 3  # not while it runs
        assert server.stop() == 0


# a round


def test_processes_settle_rounds_and_tell_no_secret(tmp_path: Path) -> None:
    async def scenario() -> None:
        (port,) = free_ports(1)
        with anvil_at(port, None) as anvil:
            async with distributed(anvil, tmp_path, rounds=2, word_workers=2) as world:
                await world.publish()
                for _ in range(2):
                    played = await play_round(world, world.market.owners[:2])
                    await check_round(world, played, set(played.entries))
                status = json.loads(run_command(world.server(1).files, "status", "--json").stdout)
                assert [task["job"]["worked_on"] for task in status["tasks"]] == [True]
                text = httpx.get(world.server(2).files.operations + "/metrics").text
                assert "omnilytics_rounds_settled_total 2.0" in text
                assert 'omnilytics_locks_given_total{kind="final"} 2.0' in text
                assert "omnilytics_submissions_stored_total 4.0" in text
                started = [os.pidfd_open(child) for child in children(world.servers[0].process.pid)]
                assert len(started) >= 2  # the first server's, which computed its words
                await _stop_while_the_node_hangs(world)
                assert all(wait_for_end(each, seconds=30) for each in started)
                check_logs(world)
                for server in world.servers:
                    lines = server.files.lines()
                    assert any((x.get("task"), x.get("round")) == (1, 2) for x in lines)

    asyncio.run(scenario())


async def _stop_while_the_node_hangs(world: Distributed) -> None:
    """Steps are under way that wait for the node much longer than the process may."""
    world.anvil.process.send_signal(signal.SIGSTOP)
    for server in world.servers:
        server.wait_for(partial(_hangs, server), "waiting for the node")
    for server in world.servers:
        server.process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    assert [server.wait() for server in world.servers] == [0] * len(world.servers)
    assert time.monotonic() - started < TERM_SECONDS


def _hangs(server: RunningServer) -> bool:
    """Tell whether the server is in one step, which every step asks the node in, for two looks."""
    first, second = (
        [
            line
            for line in httpx.get(server.files.operations + "/metrics").text.splitlines()
            if line.startswith("omnilytics_round_steps")
        ]
        for _ in range(2)
    )
    return first == second and "omnilytics_round_steps_in_progress 1.0" in first
