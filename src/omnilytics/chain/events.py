"""The market's events: decoding, and an index that follows the chain.

The index keeps a cursor with the hashes of the blocks it read last. Before it reads on, it compares
them with the chain; after a re-organisation it forgets what came from blocks that are gone and
reads again from the last common one.

Not guaranteed: a re-organisation deeper than `REMEMBERED_BLOCKS` reads is an error, not repaired.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from omnilytics.chain.abi import Codec
from omnilytics.chain.connection import Chain, RawLog
from omnilytics.chain.records import (
    FeesClaimed,
    MarketEvent,
    Position,
    RewardClaimed,
    RoundEvent,
    RoundOpened,
    RoundSealed,
    RoundSettled,
    RoundVoided,
    ServerRegistered,
    ServerUnregistered,
    TaskClosed,
    TaskCreated,
    TaskEvent,
    TaskRefunded,
    TaskTerms,
    Windows,
)
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId

REMEMBERED_BLOCKS = 256
BLOCKS_PER_REQUEST = 2_000

_Event = TypeVar("_Event", bound=RoundEvent)

_TERMS_BEFORE_WINDOWS = (
    "spec_hash",
    "t",
    "e",
    "reward_wei",
    "fee_wei",
    "opening_fee_wei",
    "rounds",
    "min_owners",
    "max_owners",
)
_WINDOWS = (
    "submission_seconds",
    "seal_seconds",
    "delta",
    "confirmations",
    "words_blocks",
    "openings_blocks",
    "settlement_blocks",
)
_SETTLEMENT = (
    "submissions_root",
    "seed",
    "accepted_root",
    "accepted_count",
    "v_bitmap",
    "previous_payouts_root",
    "payouts_root",
    "transcript_hash",
)


def terms_of(values: tuple[Any, ...], committee: tuple[Address, ...]) -> TaskTerms:
    """Return the contract's `Terms` tuple, with the committee, as a record."""
    named = dict(zip(_TERMS_BEFORE_WINDOWS + _WINDOWS, values, strict=True))
    windows = Windows(**{name: named.pop(name) for name in _WINDOWS})
    return TaskTerms(committee=committee, windows=windows, **named)


def terms_tuple(terms: TaskTerms) -> tuple[Any, ...]:
    """Return the record as the contract's `Terms` tuple."""
    first = [getattr(terms, name) for name in _TERMS_BEFORE_WINDOWS]
    return (*first, *(getattr(terms.windows, name) for name in _WINDOWS))


def _created(members: Mapping[str, Any]) -> dict[str, Any]:
    terms = terms_of(members["terms"], members["committee"])
    return {**members, "terms": terms} | {"committee": None}


def _settled(members: Mapping[str, Any]) -> dict[str, Any]:
    agreed = dict(zip(_SETTLEMENT, members["settlement"], strict=True))
    return {**members, **agreed} | {"settlement": None}


_Build = Callable[[Mapping[str, Any]], dict[str, Any]]
_KINDS: dict[str, tuple[type[MarketEvent], _Build]] = {
    kind.__name__: (kind, dict)
    for kind in (
        ServerRegistered,
        ServerUnregistered,
        RoundOpened,
        RoundSealed,
        RoundVoided,
        RewardClaimed,
        FeesClaimed,
        TaskClosed,
        TaskRefunded,
    )
} | {"TaskCreated": (TaskCreated, _created), "RoundSettled": (RoundSettled, _settled)}


def decode_logs(codec: Codec, logs: Iterable[RawLog]) -> tuple[MarketEvent, ...]:
    """Return the events in a contract's logs; raises ChainError on an unknown log."""
    return tuple(_event(codec, log) for log in logs)


def _event(codec: Codec, log: RawLog) -> MarketEvent:
    decoded = codec.log(log.topics, log.data)
    if decoded is None:
        raise ChainError("the contract logged something unknown", block=log.position.block_number)
    name, members = decoded
    kind, build = _KINDS[name]
    fields = {key: value for key, value in build(members).items() if value is not None}
    return kind(position=log.position, **fields)


@dataclass(frozen=True)
class Cursor:
    """Up to which block the events were read, and that block's hash."""

    block_number: int
    block_hash: Hash32


class EventIndex:
    """Events of one contract in chain order, read once each."""

    def __init__(self, chain: Chain, address: Address, codec: Codec, first_block: int = 0) -> None:
        self._chain = chain
        self._address = address
        self._codec = codec
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
            found = self._chain.logs(self._address, first, last)
            if self._chain.block_hash(last) != block_hash:
                raise ChainError("the chain re-organised while it was read", hint="try again")
            for event in decode_logs(self._codec, found):
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


__all__ = ["Cursor", "EventIndex", "Position", "decode_logs", "terms_of", "terms_tuple"]
