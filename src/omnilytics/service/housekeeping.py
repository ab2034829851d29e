"""Deleting what a server need not keep, by what the chain says is over (protocol.md section 7).

Only rounds whose end has its confirmations are named to the store, which then decides by age. A
round that never ended on the chain keeps everything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from omnilytics.chain.bindings.market import RoundSettled, RoundVoided, TaskClosed
from omnilytics.chain.reader import MarketReader
from omnilytics.foundation.logging import get_logger
from omnilytics.foundation.units import Address, TaskId
from omnilytics.service.metrics import Metrics
from omnilytics.service.reconciling import own_tasks
from omnilytics.service.settings import RetentionSection
from omnilytics.storage.repository import Repository
from omnilytics.storage.retention import FinishedRound, collect_garbage

_LOG = get_logger("omnilytics.housekeeping")


class Housekeeping:
    """Collects garbage of one server's store now and then."""

    def __init__(
        self,
        repository: Repository,
        market: MarketReader,
        server: Address,
        settings: RetentionSection,
        metrics: Metrics,
    ) -> None:
        self._repository = repository
        self._market = market
        self._server = server
        self._settings = settings
        self._metrics = metrics
        self._due_at = time.monotonic() + settings.every_seconds

    def run_if_due(self) -> None:
        """Collect if the last time was long enough ago; blocks for chain, database and disk."""
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + self._settings.every_seconds
        finished = list(finished_rounds(self._market, self._server))
        uploads = self._repository.uploads
        dropped = uploads.drop_idle() + sum(
            uploads.drop_round(each.task, each.round) for each in finished
        )
        collected = collect_garbage(
            self._repository,
            finished,
            int(time.time()),
            self._settings.policy(),
        )
        self._metrics.freed.inc(collected.bytes_freed)
        _LOG.info(
            "collected garbage",
            rounds=len(collected.rounds),
            packages=collected.packages + collected.held_packages,
            files=collected.files,
            partial_uploads=dropped,
            freed_bytes=collected.bytes_freed,
        )


def finished_rounds(market: MarketReader, server: Address) -> Iterator[FinishedRound]:
    """Yield the rounds of a server's tasks that ended for good, by the chain's events."""
    for task in own_tasks(market, server):
        yield from _finished_of(market, task)


def _finished_of(market: MarketReader, task: TaskId) -> Iterator[FinishedRound]:
    settled_by = market.chain.head() - market.task(task).terms.windows.confirmations
    timestamp = market.chain.block_timestamp
    events = market.events(task)
    closed_at = next(
        (
            timestamp(event.position.block_number)
            for event in events
            if isinstance(event, TaskClosed) and event.position.block_number <= settled_by
        ),
        None,
    )
    for event in events:
        if (
            isinstance(event, RoundSettled | RoundVoided)
            and event.position.block_number <= settled_by
        ):
            yield FinishedRound(
                task=task,
                round=event.round,
                finished_at=timestamp(event.position.block_number),
                task_closed_at=closed_at,
            )
