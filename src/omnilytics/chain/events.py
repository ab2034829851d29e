"""The market's events: decoding, and an index that follows the chain.

The index keeps a cursor with the hashes of the blocks it read last. Before it reads on, it compares
them with the chain; after a re-organisation it forgets what came from blocks that are gone and
reads again from the last common one.

Not guaranteed: a re-organisation deeper than `REMEMBERED_BLOCKS` reads is an error, not repaired.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from omnilytics.chain.abi import Codec
from omnilytics.chain.connection import Chain, RawLog
from omnilytics.chain.happenings import MarketEvent, RoundEvent, TaskEvent
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId

REMEMBERED_BLOCKS = 256
BLOCKS_PER_REQUEST = 2_000

_Event = TypeVar("_Event", bound=RoundEvent)
Codecs = Mapping[Address, Codec]
"""How to read the logs of each contract."""


def decode_logs(codecs: Codecs, logs: Iterable[RawLog]) -> tuple[MarketEvent, ...]:
    """Return the events in these contracts' logs, leaving out those of other contracts.

    Raises:
        ChainError: One of the contracts logged something unknown.
    """
    return tuple(_event(codecs[log.address], log) for log in logs if log.address in codecs)


def _event(codec: Codec, log: RawLog) -> MarketEvent:
    event = codec.log(log.topics, log.data, log.position)
    if event is None:
        raise ChainError("the contract logged something unknown", block=log.position.block_number)
    return event


@dataclass(frozen=True)
class Cursor:
    """Up to which block the events were read, and that block's hash."""

    block_number: int
    block_hash: Hash32


class EventIndex:
    """Events of a market and its registry in chain order, read once each."""

    def __init__(self, chain: Chain, codecs: Codecs, first_block: int = 0) -> None:
        self._chain = chain
        self._codecs = codecs
        self._first_block = first_block
        self._lock = threading.RLock()
        self._cursors: list[Cursor] = []
        self._events: list[MarketEvent] = []
        self._tasks: dict[TaskId, list[TaskEvent]] = {}
        self._rounds: dict[tuple[type[MarketEvent], TaskId, Round], RoundEvent] = {}

    @property
    def cursor(self) -> Cursor | None:
        """The last block that was read, or None before the first reading."""
        return self._cursors[-1] if self._cursors else None

    def events(self) -> tuple[MarketEvent, ...]:
        """Return all events up to the present head."""
        with self._lock:
            self._follow()
            return tuple(self._events)

    def of_task(self, task: TaskId) -> tuple[TaskEvent, ...]:
        """Return the events of a task up to the present head."""
        with self._lock:
            self._follow()
            return tuple(self._tasks.get(task, ()))

    def of_round(self, kind: type[_Event], task: TaskId, round_number: Round) -> _Event | None:
        """Return a round's event of this kind, or None if there is none yet."""
        with self._lock:
            self._follow()
            found = self._rounds.get((kind, task, round_number))
        return found if isinstance(found, kind) else None

    def _follow(self) -> None:
        head = self._chain.head()
        self._forget_replaced(head)
        first = self._cursors[-1].block_number + 1 if self._cursors else self._first_block
        while first <= head:
            last = min(head, first + BLOCKS_PER_REQUEST - 1)
            block_hash = self._chain.block_hash(last)
            found = [
                log for address in self._codecs for log in self._chain.logs(address, first, last)
            ]
            found.sort(key=lambda log: (log.position.block_number, log.position.log_index))
            if self._chain.block_hash(last) != block_hash:
                raise ChainError("the chain re-organised while it was read", hint="try again")
            for event in decode_logs(self._codecs, found):
                self._add(event)
            self._cursors.append(Cursor(last, block_hash))
            del self._cursors[:-REMEMBERED_BLOCKS]
            first = last + 1

    def _add(self, event: MarketEvent) -> None:
        self._events.append(event)
        if isinstance(event, TaskEvent):
            self._tasks.setdefault(event.task, []).append(event)
        if isinstance(event, RoundEvent):
            self._rounds[type(event), event.task, event.round] = event

    def _forget_replaced(self, head: int) -> None:
        known = len(self._cursors)
        while self._cursors and not self._still_there(self._cursors[-1], head):
            self._cursors.pop()
        if len(self._cursors) == known:
            return
        if not self._cursors and known >= REMEMBERED_BLOCKS:
            raise ChainError("the chain re-organised too deeply", got=f"head {head}")
        last = self._cursors[-1].block_number if self._cursors else self._first_block - 1
        kept = [event for event in self._events if event.position.block_number <= last]
        self._events, self._tasks, self._rounds = [], {}, {}
        for event in kept:
            self._add(event)

    def _still_there(self, cursor: Cursor, head: int) -> bool:
        return (
            cursor.block_number <= head
            and self._chain.block_hash(cursor.block_number) == cursor.block_hash
        )
