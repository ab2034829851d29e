"""The market's events: decoding, and an index that follows the chain.

The index keeps a cursor with the hashes of the blocks it read last. Before it reads on, it compares
them with the chain; after a re-organisation it forgets what came from blocks that are gone and
reads again from the last common one. Where it has a store, what was read and the cursor move on
there together, and a later process goes on from it: the same comparison tells whether it may.

Behind one URL may be several nodes, and one that lags answers for blocks that it does not have with
no logs at all. So the last blocks are read again with each new one; what was missing is then found.

Not guaranteed: a re-organisation deeper than what is remembered, or another chain, is an error, not
repaired. Logs that a node leaves out for longer than `READ_AGAIN_BLOCKS` stay unknown.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol, TypeVar

from omnilytics.chain.abi import Codec
from omnilytics.chain.connection import Chain, RawLog
from omnilytics.chain.happenings import MarketEvent, RoundEvent, TaskEvent
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId

REMEMBERED_BLOCKS = 256
BLOCKS_PER_REQUEST = 2_000
READ_AGAIN_BLOCKS = 12
"""How far a node that answers may be behind the newest block."""
_ATTEMPTS = 5
"""So often another process may move the store's cursor while this one reads."""

_Task = TypeVar("_Task", bound=TaskEvent)
_Round = TypeVar("_Round", bound=RoundEvent)
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


class EventStore(Protocol):
    """Where what was read outlives the process. Every change is durable, and whole or not there."""

    def cursors(self) -> list[Cursor]:
        """Return the blocks that are remembered, the earliest first."""

    def read(self, block_number: int) -> tuple[list[Cursor], list[RawLog]]:
        """Return those blocks, and the logs of blocks after this one, as of one moment."""

    def advance(self, before: Cursor | None, cursor: Cursor, logs: Sequence[RawLog]) -> bool:
        """Move the cursor on with what was read; False where it is not at `before`."""

    def rewind(self, block_number: int) -> None:
        """Forget everything after this block."""


class EventIndex:
    """Events of a market and its registry in chain order, read once each."""

    def __init__(self, chain: Chain, codecs: Codecs, first_block: int = 0) -> None:
        self._chain = chain
        self._codecs = codecs
        self._origin = max(first_block - 1, 0)
        """The block before all events; the first one of a chain has none."""
        self._lock = threading.RLock()
        self._store: EventStore | None = None
        self._is_loaded = True
        self._cursors: list[Cursor] = []
        self._forget_events()

    def keep_in(self, store: EventStore) -> None:
        """Go on from what the store has, and keep in it what is read."""
        with self._lock:
            self._store, self._is_loaded = store, False
            self._cursors = []
            self._forget_events()

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

    def of_kind(self, kind: type[_Task], task: TaskId) -> tuple[_Task, ...]:
        """Return a task's events of this kind, oldest first."""
        with self._lock:
            self._follow()
            found = self._kinds.get((kind, task), ())
            return tuple(event for event in found if isinstance(event, kind))

    def of_round(self, kind: type[_Round], task: TaskId, round_number: Round) -> tuple[_Round, ...]:
        """Return a round's events of this kind, oldest first."""
        with self._lock:
            self._follow()
            found = self._rounds.get((kind, task, round_number), ())
            return tuple(event for event in found if isinstance(event, kind))

    def _follow(self) -> None:
        if not self._is_loaded:
            self._catch_up()
            self._is_loaded = True
        for _ in range(_ATTEMPTS):
            head = self._head()
            if head == self.cursor:
                return
            self._forget_replaced(head.block_number)
            if self._read_to(head):
                return
            if self._store is not None:
                self._catch_up()
        raise ChainError("another process moves the events' cursor all the time", hint="try again")

    def _head(self) -> Cursor:
        block = self._chain.latest()
        known = self.cursor
        if known and block.number <= known.block_number and block.hash != known.block_hash:
            self._chain.look_again()  # what this thread saw may be older than what another read
            block = self._chain.latest()
        return Cursor(block.number, block.hash)

    def _read_to(self, head: Cursor) -> bool:
        """Read up to `head`; False where it has to begin again.

        Another process moved the store's cursor, or a node had left out logs of earlier blocks.
        """
        if not self._cursors and head.block_number >= self._origin:
            origin = Cursor(self._origin, self._chain.block_hash(self._origin))
            if not self._advance(origin, ()):
                return False
        while self._cursors and self._cursors[-1].block_number < head.block_number:
            first = self._cursors[-1].block_number + 1
            last = min(head.block_number, first + BLOCKS_PER_REQUEST - 1)
            is_head = last == head.block_number
            block_hash = head.block_hash if is_head else self._chain.block_hash(last)
            found = self._logs(max(first - READ_AGAIN_BLOCKS, self._origin + 1), last)
            if self._chain.block_hash(last) != block_hash:
                raise ChainError("the chain re-organised while it was read", hint="try again")
            known = [log for log in found if log.position.block_number < first]
            if self._forget_incomplete(known):
                return False
            if not self._advance(Cursor(last, block_hash), found[len(known) :]):
                return False
        return True

    def _logs(self, first: int, last: int) -> list[RawLog]:
        found = [log for address in self._codecs for log in self._chain.logs(address, first, last)]
        return sorted(found, key=lambda log: (log.position.block_number, log.position.log_index))

    def _forget_incomplete(self, logs: Sequence[RawLog]) -> bool:
        """Go back to before the first of these logs that was not there when its block was read."""
        if not logs:
            return False
        first = logs[0].position.block_number
        later = takewhile(lambda event: event.position.block_number >= first, self._events[::-1])
        known = {(event.position.block_number, event.position.log_index) for event in later}
        places = ((log.position.block_number, log.position.log_index) for log in logs)
        missed = next((number for number, index in places if (number, index) not in known), None)
        if missed is None:
            return False
        self._go_back([cursor for cursor in self._cursors if cursor.block_number < missed])
        return True

    def _advance(self, cursor: Cursor, logs: Sequence[RawLog]) -> bool:
        events = decode_logs(self._codecs, logs)
        if self._store is not None and not self._store.advance(self.cursor, cursor, logs):
            return False
        for event in events:
            self._add(event)
        self._cursors.append(cursor)
        del self._cursors[:-REMEMBERED_BLOCKS]
        return True

    def _catch_up(self) -> None:
        """Take over what the store has, of an earlier process or of another one."""
        assert self._store is not None, "nobody else has it"
        stored = set(self._store.cursors())
        common = next((cursor for cursor in reversed(self._cursors) if cursor in stored), None)
        cursors, logs = self._store.read(common.block_number if common else -1)
        if common is not None and common not in cursors:  # it was rewound in between
            common = None
            cursors, logs = self._store.read(-1)
        self._keep_through(common.block_number if common else -1)
        for event in decode_logs(self._codecs, logs):
            self._add(event)
        self._cursors = cursors

    def _add(self, event: MarketEvent) -> None:
        self._events.append(event)
        if isinstance(event, TaskEvent):
            self._tasks.setdefault(event.task, []).append(event)
            self._kinds.setdefault((type(event), event.task), []).append(event)
        if isinstance(event, RoundEvent):
            self._rounds.setdefault((type(event), event.task, event.round), []).append(event)

    def _forget_events(self) -> None:
        self._events: list[MarketEvent] = []
        self._tasks: dict[TaskId, list[TaskEvent]] = {}
        self._kinds: dict[tuple[type[TaskEvent], TaskId], list[TaskEvent]] = {}
        self._rounds: dict[tuple[type[RoundEvent], TaskId, Round], list[RoundEvent]] = {}

    def _keep_through(self, block_number: int) -> None:
        kept = [event for event in self._events if event.position.block_number <= block_number]
        self._forget_events()
        for event in kept:
            self._add(event)

    def _forget_replaced(self, head: int) -> None:
        kept = list(self._cursors)
        while kept and not self._still_there(kept[-1], head):
            kept.pop()
        if len(kept) == len(self._cursors):
            return
        if not kept:
            read = self._cursors[0]
            raise ChainError(
                "another chain, or one that re-organised too deeply",
                got=f"head {head}",
                want=f"block {read.block_number} with hash 0x{read.block_hash.hex()}",
                hint="name the node of the right chain, in sync; if it did lose these blocks, "
                "a server forgets them by `omnilytics server reconcile`",
            )
        self._go_back(kept)

    def _go_back(self, cursors: list[Cursor]) -> None:
        """Forget everything after the last of these."""
        last = cursors[-1].block_number
        if self._store is not None:
            self._store.rewind(last)
        self._keep_through(last)
        self._cursors = cursors

    def _still_there(self, cursor: Cursor, head: int) -> bool:
        return (
            cursor.block_number <= head
            and self._chain.block_hash(cursor.block_number) == cursor.block_hash
        )
