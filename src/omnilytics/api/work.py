"""Where requests are worked on: what reads a chain, a database or a disk may block.

In one process with one party's patience that may be the event loop itself; a server for many has
threads for it, so that no request waits for another one's node.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TypeVar

_Result = TypeVar("_Result")


class Work(ABC):
    """Does what may block, and gives its result."""

    @abstractmethod
    async def run(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Return what awaiting `work()` gives."""

    async def call(self, work: Callable[[], _Result]) -> _Result:
        """Return what `work()` gives."""

        async def awaited() -> _Result:
            return work()

        return await self.run(awaited)


class InPlace(Work):
    """Works in the event loop itself."""

    async def run(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Return what awaiting `work()` gives."""
        return await work()
