"""Event loops in threads of their own, so that blocking work stalls no request.

Reading a chain blocks for as long as the node takes to answer. Requests are therefore worked on by
a few threads, each with its own event loop, while the main loop only moves bytes; the rounds have
one more. What is asked beyond the threads and a bounded queue is refused at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from omnilytics.api.problems import BusyError
from omnilytics.api.work import Work
from omnilytics.foundation.loop_thread import LoopThread

_Result = TypeVar("_Result")


class Workers(Work):
    """A few `LoopThread`s and a bounded queue before them."""

    def __init__(
        self,
        count: int,
        waiting: int,
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Start `count` threads; let `waiting` further calls wait for one.

        Args:
            count: How many.
            waiting: How many calls.
            around: Entered in the thread for each call: it has the thread to itself meanwhile.
        """
        self._around = around
        self.threads = [LoopThread(f"worker-{index}") for index in range(1, count + 1)]
        self._idle = list(self.threads)
        self._most = count + waiting
        self._present = 0
        self._free = asyncio.Semaphore(count)

    async def run(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Return what `work()` gives, worked on in one of the threads.

        A caller that is cancelled leaves its work to end by itself: a receipt half given must not
        be lost.

        Raises:
            BusyError: All threads are at work and the queue is full.
        """
        if self._present >= self._most:
            raise BusyError("the server is at work on as many requests as it takes")
        self._present += 1
        try:
            await self._free.acquire()
        except BaseException:
            self._present -= 1
            raise
        thread = self._idle.pop()
        task = asyncio.ensure_future(asyncio.wrap_future(thread.submit(_call(work, self._around))))
        task.add_done_callback(lambda done: self._give_back(thread, done))
        return await asyncio.shield(task)

    def stop(self, *, timeout_seconds: float = 1.0) -> None:
        """Stop the threads that are idle; the others are daemons and end with the process."""
        for thread in self._idle:
            thread.stop(timeout_seconds=timeout_seconds)

    def _give_back(self, thread: LoopThread, done: asyncio.Future[Any]) -> None:
        if not done.cancelled():
            done.exception()  # its caller may be gone
        self._present -= 1
        self._idle.append(thread)
        self._free.release()


async def _call(
    work: Callable[[], Awaitable[_Result]], around: Callable[[], AbstractContextManager[object]]
) -> _Result:
    with around():
        return await work()
