"""A market in one process for the Python API: clients in threads, one loop, a chain on demand.

The conductor is the clock. Clients tell it when they wait; once all of them do, it lets the servers
step, and when nobody has anything left to do it moves the chain to what the servers wait for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from omnilytics.client.connection import Connection
from omnilytics.demo.market import DemoMarket, set_up_market
from omnilytics.demo.options import check_options
from omnilytics.foundation.loop_thread import LoopThread
from omnilytics.foundation.units import TaskId
from omnilytics.roles.server import StepResult

MAX_STILL = 60
"""Moves of the chain in a row that lead to nothing."""


class ConductorError(Exception):
    """Nobody goes on: everybody waits for ever."""


class Conductor:
    """Steps servers and moves the chain when all clients wait."""

    def __init__(self, market: DemoMarket, loop: LoopThread) -> None:
        self.market = market
        self.loop = loop
        self._clients: set[str] = set()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._still = 0
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection(self, name: str, data: Path) -> Connection:
        """Return a client's connection: "buyer" or "owner-K", K from 1."""
        market = self.market
        party = (
            market.model_owner if name == "buyer" else market.owners[int(name.split("-")[1]) - 1]
        )
        self.loop.loop.call_soon_threadsafe(self._clients.add, name)
        return Connection(
            key=party.key,
            market=market.reader,
            writer=party.writer,
            connect=market.network.connect,
            data=data,
            loop=self.loop,
            pause=lambda: self._pause(name),
            release=lambda: self.loop.submit(self._leave(name)).result(),
        )

    def expect(self, *names: str) -> None:
        """Count on clients that will come: nothing moves before they wait."""

        async def add() -> None:
            self._clients.update(names)

        self.loop.submit(add()).result()

    async def _leave(self, name: str) -> None:
        self._clients.discard(name)
        await self._move()

    async def _pause(self, name: str) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting[name] = future
        if set(self._waiting) >= self._clients:
            task = asyncio.get_running_loop().create_task(self._move())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await future
        finally:
            if self._waiting.get(name) is future:
                del self._waiting[name]

    async def _move(self) -> None:
        async with self._turn:
            await self._move_once()

    async def _move_once(self) -> None:
        if not self._waiting or not set(self._waiting) >= self._clients:
            return
        tasks = [TaskId(each) for each in range(1, self.market.reader.task_count() + 1)]
        steps = [
            await server.step(task)
            for task in tasks
            if self.market.reader.round_state(task).round
            for server in self.market.servers
            if server.node.address in self.market.reader.task(task).committee
        ]
        self._still = 0 if any(step.changed for step in steps) else self._still + 1
        if self._still >= 2 and self._still % 2 == 0:  # all have looked since the last move
            self._advance(steps)
        failure = None
        if self._still > MAX_STILL:
            states = [self.market.reader.round_state(task) for task in tasks]
            failure = ConductorError(f"everybody waits: {states}, {steps}")
        released, self._waiting = self._waiting, {}  # whoever waits again waits anew
        for future in released.values():
            if future.done():
                continue
            if failure:
                future.set_exception(failure)
            else:
                future.set_result(None)

    def _advance(self, steps: list[StepResult]) -> None:
        chain = self.market.chain
        times = [step.wait_for_time for step in steps if step.wait_for_time is not None]
        blocks = [step.wait_for_block for step in steps if step.wait_for_block is not None]
        ahead = [moment for moment in times if moment > chain.head_timestamp()]
        if ahead:
            chain.wait_for_time(min(ahead))
        elif later := [block for block in blocks if block > chain.head()]:
            chain.wait_for_block(min(later))
        else:
            chain.wait_for_block(chain.head() + 1)


@contextmanager
def client_world(folder: Path) -> Iterator[Conductor]:
    """Run servers without a task, for clients to publish one."""
    options = check_options(dataset="breast-cancer", owners=5, rounds=3)
    market = set_up_market(options, folder)
    loop = LoopThread("market")
    conductor = Conductor(market, loop)
    try:
        yield conductor
    finally:
        loop.submit(market.close()).result()
        loop.stop()


def in_threads(*works: Callable[[], None]) -> None:
    """Run all at once; raise what the first of them raised."""
    problems: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive() or problems
    if problems:
        raise problems[0]
