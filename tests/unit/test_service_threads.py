"""Workers: blocking work runs beside the loop, at most so much at a time, and ends by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from omnilytics.api.problems import BusyError
from omnilytics.foundation.loop_thread import LoopThread
from omnilytics.service.threads import Workers


def run_workers(count: int, waiting: int) -> Workers:
    return Workers(count, waiting)


class Gate:
    """Blocking work that a test lets go."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.open = threading.Event()
        self.done = 0

    async def work(self) -> int:
        self.started.release()
        assert self.open.wait(20)
        self.done += 1
        return self.done


@contextmanager
def noted(events: list[str]) -> Iterator[None]:
    events.append(f"in {threading.current_thread().name}")
    try:
        yield
    finally:
        events.append(f"out {threading.current_thread().name}")


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


async def has_started(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.started.acquire, True, 20)


def test_blocking_work_does_not_hold_up_the_loop(gate: Gate) -> None:
    async def scenario() -> None:
        workers = run_workers(2, 4)
        first = asyncio.create_task(workers.run(gate.work))
        await has_started(gate)
        assert await workers.run(_answer) == 42  # the other worker serves meanwhile
        assert not first.done()
        gate.open.set()
        assert await first == 1
        workers.stop()

    asyncio.run(scenario())


async def _answer() -> int:
    return 42


def test_beyond_the_queue_it_refuses_and_afterwards_serves(gate: Gate) -> None:
    async def scenario() -> None:
        workers = run_workers(1, 1)
        tasks = [asyncio.create_task(workers.run(gate.work)) for _ in range(2)]
        await has_started(gate)
        with pytest.raises(BusyError):
            await workers.run(_answer)
        gate.open.set()
        assert await asyncio.gather(*tasks) == [1, 2]
        assert await workers.run(_answer) == 42
        workers.stop()

    asyncio.run(scenario())


def test_a_caller_that_leaves_lets_its_work_end(gate: Gate) -> None:
    async def scenario() -> None:
        workers = run_workers(1, 1)
        task = asyncio.create_task(workers.run(gate.work))
        await has_started(gate)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        waiting = asyncio.create_task(workers.run(_answer))
        gate.open.set()
        assert await waiting == 42  # only once the thread is free
        assert gate.done == 1
        workers.stop()

    asyncio.run(scenario())


def test_a_waiting_caller_that_leaves_makes_room(gate: Gate) -> None:
    async def scenario() -> None:
        workers = run_workers(1, 1)
        first = asyncio.create_task(workers.run(gate.work))
        await has_started(gate)
        waiting = asyncio.create_task(workers.run(_answer))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        again = asyncio.create_task(workers.run(_answer))
        gate.open.set()
        assert await first == 1
        assert await again == 42
        workers.stop()

    asyncio.run(scenario())


def test_errors_come_back_and_the_worker_goes_on() -> None:
    async def fail() -> None:
        raise ValueError("no")

    async def scenario() -> None:
        workers = run_workers(1, 0)
        with pytest.raises(ValueError, match="no"):
            await workers.run(fail)
        await asyncio.sleep(0)
        assert await workers.run(_answer) == 42
        workers.stop()

    asyncio.run(scenario())


def test_the_context_goes_along() -> None:
    async def context() -> dict[str, object]:
        return get_contextvars()

    async def scenario() -> None:
        workers = run_workers(1, 0)
        with bound_contextvars(request="abc"):
            assert await workers.run(context) == {"request": "abc"}
        workers.stop()

    asyncio.run(scenario())


def test_a_loop_thread_ends() -> None:
    thread = LoopThread("test")
    assert thread.submit(_answer()).result(20) == 42
    assert thread.stop(timeout_seconds=20)
    assert thread.loop.is_closed()


def test_each_call_is_surrounded_in_its_own_thread() -> None:
    events: list[str] = []

    async def fails() -> None:
        events.append(threading.current_thread().name)
        raise BusyError("for the test")

    async def scenario() -> None:
        workers = Workers(1, 4, lambda: noted(events))
        assert await workers.run(_answer) == 42
        with pytest.raises(BusyError):
            await workers.run(fails)
        workers.stop()

    asyncio.run(scenario())
    name = events[0].removeprefix("in ")
    assert name != threading.current_thread().name
    assert events == [f"in {name}", f"out {name}", f"in {name}", name, f"out {name}"]
