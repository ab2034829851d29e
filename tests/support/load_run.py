"""One server process under many submissions: how fast, at what cost, with how much memory."""

from __future__ import annotations

import http.client
import sqlite3
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from threading import local
from typing import Any

from anvil_process import Anvil
from process_figures import cpu_seconds, peak_resident_bytes, resident_bytes
from server_process import RunningServer, ServerFiles, running_server
from submission_world import SubmissionWorld, Upload

from omnilytics.foundation.units import Hash32
from omnilytics.storage.files import ContentFiles
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.messages import Receipt

LOADED = 5
"""The server that runs: the last of (5,1,1), which gets an explicit share."""
MARKS = (20, 100, 200)
"""After so many submissions the memory is read, with no request under way."""


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What one run showed."""

    submissions: int
    dimension: int
    clients: int
    receipts: int
    """Valid ones that the clients got."""
    rows: int
    """Owners with a receipt and a package in the database."""
    files: int
    """Undamaged files on disk that those rows name."""
    bytes_per_submission: int
    seconds: float
    latencies_seconds: dict[str, float]
    resident_bytes: dict[str, int]
    server_cpu_seconds: float
    chain_cpu_seconds: float
    client_cpu_seconds: float
    chain_requests: dict[str, int]

    @property
    def growth_bytes(self) -> int:
        """How much more memory the server has at the end than after the first mark."""
        return self.resident_bytes["end"] - self.resident_bytes[f"after {MARKS[0]}"]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {**asdict(self), "growth_bytes": self.growth_bytes}


def run_load(
    world: SubmissionWorld,
    anvil: Anvil,
    *,
    submissions: int,
    clients: int,
    tell: Callable[[str], None] = lambda _text: None,
) -> LoadResult:
    """Send submissions of as many owners to one server, from `clients` at a time.

    Everything is built, signed but for the request, and on disk before the first one is sent.
    """
    files = world.servers[LOADED - 1]
    tell(f"preparing {submissions} owners and their packages")
    uploads = [world.upload(world.new_owner(), LOADED) for _ in range(submissions)]
    with running_server(files) as server:
        server.wait_ready()
        world.publish_at(files)
        tell(f"sending {submissions} submissions from {clients} clients")
        figures = _send_all(world, anvil, server, uploads, clients)
        assert server.stop() == 0
    rows, stored = _stored(files)
    return LoadResult(
        submissions=submissions,
        dimension=world.view.parameters.statement.dimension,
        clients=clients,
        rows=rows,
        files=stored,
        bytes_per_submission=sum(len(upload.body) for upload in uploads) // submissions,
        **figures,
    )


def _send_all(
    world: SubmissionWorld,
    anvil: Anvil,
    server: RunningServer,
    uploads: list[Upload],
    clients: int,
) -> dict[str, Any]:
    """Send in batches, each up to a mark; return what was seen meanwhile."""
    files, pids = server.files, (server.process.pid, anvil.process.pid)
    memory = {"start": resident_bytes(pids[0])}
    asked = anvil.requests()
    cpu = [*map(cpu_seconds, pids), time.process_time()]
    client = _Client(files.port)
    seconds, latencies, receipts, done = 0.0, [], 0, 0
    with closing(client), ThreadPoolExecutor(clients) as pool:
        for mark in [*(mark for mark in MARKS if mark < len(uploads)), len(uploads)]:
            batch = uploads[done:mark]
            started = time.perf_counter()
            answers = list(pool.map(client.send, batch))
            seconds += time.perf_counter() - started
            done = mark
            memory[f"after {mark}"] = memory["end"] = resident_bytes(pids[0])
            latencies += [latency for latency, _ in answers]
            receipts += sum(
                _is_receipt(world, files, upload, answer)
                for upload, (_, answer) in zip(batch, answers, strict=True)
            )
    memory["peak"] = peak_resident_bytes(pids[0])
    spent = [*map(cpu_seconds, pids), time.process_time()]
    used = [after - before for before, after in zip(cpu, spent, strict=True)]
    return {
        "receipts": receipts,
        "seconds": seconds,
        "latencies_seconds": _quantiles(latencies),
        "resident_bytes": memory,
        "server_cpu_seconds": used[0],
        "chain_cpu_seconds": used[1],
        "client_cpu_seconds": used[2],
        "chain_requests": dict(anvil.requests() - asked),
    }


class _Client:
    """Sends from many threads, each over a connection of its own that stays open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._own = local()
        self._connections: list[http.client.HTTPConnection] = []

    def send(self, upload: Upload) -> tuple[float, bytes]:
        """Return the seconds to the whole answer, and the answer; fails unless it is 200."""
        headers = upload.headers()
        connection = self._connection()
        started = time.perf_counter()
        connection.request("PUT", upload.path, upload.body, headers)
        response = connection.getresponse()
        answer: bytes = response.read()
        latency = time.perf_counter() - started
        assert response.status == 200, answer
        return latency, answer

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._connections:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            self._connections.append(self._own.connection)
        connection: http.client.HTTPConnection = self._own.connection
        return connection


def _is_receipt(world: SubmissionWorld, files: ServerFiles, upload: Upload, answer: bytes) -> bool:
    signed = decode_signed(answer)
    message = signed.message
    return (
        isinstance(message, Receipt)
        and message.owner == upload.owner.address
        and signed.signer(world.market.domain) == files.key.address
    )


def _stored(files: ServerFiles) -> tuple[int, int]:
    """Return (owners with a receipt and a package, undamaged package files), read from outside."""
    data = files.folder / "data"
    with closing(sqlite3.connect(data / "server.db")) as database:
        query = (
            "SELECT package FROM submissions JOIN receipts USING (task, round, owner, commitment)"
        )
        names = [Hash32(name) for (name,) in database.execute(query)]
    store = ContentFiles(data / "content")
    return len(names), sum(store.get(name) is not None for name in set(names))


def _quantiles(latencies: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(latencies)}
