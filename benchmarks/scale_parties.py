"""The owners and the model owner of `scale.py`, each a process of its own (Linux).

Owners protect and deliver one after another, or a few at a time, as `DataOwner` does but for the
gradient, which is a random vector of norm 1. The model owner fetches and checks the shares of the
sum as `ModelOwner` does, but has no model to step. What they saw goes to a file as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from omnilytics.algebra.fixed_point import from_field
from omnilytics.chain.connection import connect
from omnilytics.chain.reader import MarketReader
from omnilytics.foundation.mapping import mapped
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package_builder import PackageBuilder
from omnilytics.roles.data_owner.delivery import Delivery
from omnilytics.roles.task_view import TaskView, fetch_task, round_context
from omnilytics.sharing.recovery import recover_sum
from omnilytics.transport.authentication import authenticate
from omnilytics.transport.client import ServerClient, aggregate_path
from omnilytics.transport.hpke import HpkeKey, aggregate_binding
from omnilytics.transport.released import ReleasedShare, aggregate_bytes
from omnilytics.transport.sealed_files import write_sealed
from omnilytics.wire.signatures import SigningKey

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from process_figures import peak_resident_bytes
from submission_world import random_vector

CALL_SECONDS = 600.0
RANDOMNESS = SystemRandomness()


class Clock:
    """Adds up wall seconds by name."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add what passes within."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started


def main() -> None:
    """Play a party; the arguments are its name, the file that says what to do, and the result's."""
    _, party, task, result = sys.argv
    given = json.loads(Path(task).read_text())
    started, clock = time.perf_counter(), Clock()
    chain = connect(given["url"])
    try:
        market = MarketReader(chain, Address(bytes.fromhex(given["contract"])))
        play = {"owners": _owners, "model-owner": _model_owner}[party]
        asyncio.run(play(market, given, clock))
    finally:
        chain.close()
    figures = {
        "wall_seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time(),
        "peak_bytes": peak_resident_bytes(os.getpid()),
        "seconds": dict(clock.seconds),
    }
    Path(result).write_text(json.dumps(figures))


async def _owners(market: MarketReader, given: dict[str, Any], clock: Clock) -> None:
    keys = [SigningKey(bytes.fromhex(secret)) for secret in given["owners"]]
    async with httpx.AsyncClient(timeout=CALL_SECONDS) as http:
        task = TaskId(given["task"])
        view = await fetch_task(market, task, lambda endpoint: ServerClient(endpoint, http))
        context = round_context(market, task, Round(given["round"]))
        total = np.zeros(view.parameters.statement.dimension, dtype=np.int64)
        waiting = iter(keys)

        async def work() -> None:
            for key in waiting:
                await _contribute(view, context, key, http, total, clock)

        await asyncio.gather(*(work() for _ in range(given["at_once"])))
    np.save(given["total"], total)


async def _contribute(
    view: TaskView,
    context: RoundContext,
    key: SigningKey,
    http: httpx.AsyncClient,
    total: np.ndarray[Any, np.dtype[np.int64]],
    clock: Clock,
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="scale-owner-"))
    try:
        with clock.measure("vector"):
            vector = random_vector(view.parameters.statement.dimension)
            total += vector
        with clock.measure("protect"):
            builder = PackageBuilder(view.parameters, context, key, RANDOMNESS)
            packages = await asyncio.to_thread(builder.build, vector)
        with clock.measure("seal"):
            keys = [member.hpke_key for member in view.specification.committee]
            sealed = await asyncio.to_thread(write_sealed, packages, keys, context, folder)
        delivery = Delivery(
            view=view,
            context=context,
            key=key,
            connect=lambda endpoint: ServerClient(endpoint, http),
            now=time.time,
            randomness=RANDOMNESS,
            call_seconds=CALL_SECONDS,
        )
        with clock.measure("upload"):
            certificate = await delivery.certify(sealed)
        with clock.measure("certificate"):
            taken = await delivery.publish(certificate)
        servers = len(view.endpoints)
        if (len(certificate.receipts), len(taken)) != (servers, servers):
            raise RuntimeError(f"receipts {len(certificate.receipts)}, taken by {taken}")
    finally:
        shutil.rmtree(folder)


async def _model_owner(market: MarketReader, given: dict[str, Any], clock: Clock) -> None:
    key = SigningKey(bytes.fromhex(given["key"]))
    hpke_key = HpkeKey(bytes.fromhex(given["hpke_key"]))
    task, number = TaskId(given["task"]), Round(given["round"])
    folder = Path(tempfile.mkdtemp(prefix="scale-released-"))
    try:
        async with httpx.AsyncClient(timeout=CALL_SECONDS) as http:
            view = await fetch_task(market, task, lambda endpoint: ServerClient(endpoint, http))
            with clock.measure("release"):
                shares = await _collect(market, view, number, key, hpke_key, http, folder)
        with clock.measure("recover"):
            recovered = recover_sum(shares, view.parameters.committee, RANDOMNESS)
            total = from_field(recovered.values)
    finally:
        shutil.rmtree(folder)
    if not np.array_equal(total, np.load(given["total"])):
        raise RuntimeError("the recovered sum is not the sum of what the owners shared")
    if recovered.liars:
        raise RuntimeError(f"liars {recovered.liars}")


async def _collect(
    market: MarketReader,
    view: TaskView,
    number: Round,
    key: SigningKey,
    hpke_key: HpkeKey,
    http: httpx.AsyncClient,
    folder: Path,
) -> dict[int, ReleasedShare]:
    """Return the shares of the sum of all servers of V, as a model owner fetches them."""
    settled = market.round_settled(view.task, number)
    assert settled is not None
    context, dimension = (
        round_context(market, view.task, number),
        view.parameters.statement.dimension,
    )
    path = aggregate_path(view.task, number)

    def sign(body: bytes) -> dict[str, str]:
        return authenticate(
            method="POST",
            path=path,
            body=body,
            task=view.task,
            round_number=number,
            time=int(time.time()),
            key=key,
            domain=market.domain,
            randomness=RANDOMNESS,
        )

    async def share(server: int) -> ReleasedShare:
        answer = folder / str(server)
        with answer.open("xb") as out:
            client = ServerClient(view.endpoints[server - 1], http)
            limit = aggregate_bytes(dimension)
            await client.aggregate(view.task, number, sign, out, max_bytes=limit)
        binding = aggregate_binding(context, settled.accepted_root, server)
        return ReleasedShare(mapped(answer), hpke_key, binding, dimension)

    standing = [
        server for server in view.parameters.servers if settled.v_bitmap >> (server - 1) & 1
    ]
    shares = await asyncio.gather(*(share(server) for server in standing))
    return dict(zip(standing, shares, strict=True))


if __name__ == "__main__":
    main()
