"""Following the chain's head in a thread of its own, for whoever waits for it or must report it.

One thread asks the node at a steady pace, so that a node that hangs stalls neither requests nor
health checks. After an outage, and now and then, it makes sure that the node is still on the same
chain with the same contracts: a node that was set back or replaced is not followed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from omnilytics.chain.connection import Chain
from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.logging import error_fields, get_logger
from omnilytics.foundation.units import Hash32

VERIFY_SECONDS = 60.0
_LOG = get_logger("omnilytics.watch")


@dataclass(frozen=True)
class Head:
    """The chain's latest block, as last seen."""

    number: int
    block_hash: Hash32
    timestamp: int


@dataclass(frozen=True)
class ChainStatus:
    """What is known of the chain."""

    head: Head | None = None
    seen_at: float = 0.0
    """When the node last answered, by the monotonic clock."""
    problem: str | None = None
    """Why the chain is not usable now; None while it is."""
    is_foreign: bool = False
    """The node answers, but for another chain or contract."""


class ChainWatch:
    """Polls the node; see the module docstring."""

    def __init__(
        self,
        chain: Chain,
        verify: Callable[[], None],
        *,
        poll_seconds: float,
        on_slow_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Watch a chain.

        Args:
            chain: The chain.
            verify: Raises an OmniLyticsError unless the node is on the right chain with the right
                contracts.
            poll_seconds: Time between two questions.
            on_slow_tick: Called after each successful verification, from the watching thread.
        """
        self._chain = chain
        self._verify = verify
        self._poll_seconds = poll_seconds
        self._on_slow_tick = on_slow_tick
        self._listeners: list[Callable[[], None]] = []
        self._stopping = threading.Event()
        self._verified_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="chain-watch", daemon=True)
        self.status = ChainStatus(problem="the chain was not asked yet")

    def start(self) -> None:
        """Ask once, then go on in a thread."""
        self.poll()
        self._thread.start()

    def stop(self) -> None:
        """Stop asking."""
        self._stopping.set()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener`, from the watching thread, when the head or the problem changes."""
        self._listeners.append(listener)

    def poll(self) -> None:
        """Ask the node once and tell the listeners what changed."""
        before = self.status
        self.status = self._ask(before)
        if (before.head, before.problem) == (self.status.head, self.status.problem):
            return
        if self.status.problem and not before.problem:
            _LOG.warning("chain lost", problem=self.status.problem)
        elif before.problem and not self.status.problem and before.seen_at:
            _LOG.info("chain is back")
        for listener in self._listeners:
            listener()

    def _ask(self, before: ChainStatus) -> ChainStatus:
        try:
            latest = self._chain.latest()
            head = before.head
            if head is None or head.block_hash != latest.hash:
                timestamp = self._chain.block_timestamp(latest.number)
                head = Head(latest.number, latest.hash, timestamp)
        except OmniLyticsError as error:
            self._verified_at = float("-inf")
            return ChainStatus(before.head, before.seen_at, str(error))
        try:
            self._verify_sometimes()
        except OmniLyticsError as error:
            return ChainStatus(head, time.monotonic(), str(error), is_foreign=True)
        return ChainStatus(head, time.monotonic())

    def _verify_sometimes(self) -> None:
        if time.monotonic() - self._verified_at < VERIFY_SECONDS:
            return
        self._verify()
        self._verified_at = time.monotonic()
        self._on_slow_tick()

    def _run(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            try:
                self.poll()
            except Exception as error:  # the watch must outlive any defect of a listener
                _LOG.exception("watching the chain failed", **error_fields(error))
