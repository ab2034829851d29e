"""Transactions that were signed: written down before they are sent, forgotten when they are mined.

One account has one outbox, and its nonces are handed out by whoever holds `owned`. After a crash
what was written down is sent again as it is, so that no call is made twice; a transaction that is
not mined in time is replaced by one with the same nonce and a higher fee, so that at most one of
them counts. `MemoryOutbox` is for as long as a process lives; a server's is in its database.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from omnilytics.foundation.units import Address, Hash32, Wei


@dataclass(frozen=True, kw_only=True)
class OutgoingCall:
    """A call that has a nonce, and every transaction that was signed for it, cheapest first."""

    nonce: int
    target: Address | None
    data: bytes = field(repr=False)
    value_wei: Wei
    gas: int
    transactions: tuple[bytes, ...] = field(repr=False)
    hashes: tuple[Hash32, ...]
    max_fee_wei: Wei
    """Of the latest transaction, per gas."""
    priority_fee_wei: Wei


class Outbox(Protocol):
    """Where an account's unfinished calls are kept. Writes are durable when they return."""

    def owned(self) -> AbstractContextManager[object]:
        """Exclude, meanwhile, whoever else hands out this account's nonces, in any process."""

    def pending(self) -> tuple[OutgoingCall, ...]:
        """Return the calls that are not finished, by nonce."""

    def put(self, call: OutgoingCall) -> None:
        """Keep a call; one with its nonce is replaced."""

    def finish(self, nonce: int) -> bool:
        """Forget the call with this nonce: one of its transactions is mined, or none can be.

        Tells whether it was there.
        """


class MemoryOutbox:
    """An outbox for as long as the process lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[int, OutgoingCall] = {}

    def owned(self) -> AbstractContextManager[object]:
        """Exclude other threads."""
        return self._lock

    def pending(self) -> tuple[OutgoingCall, ...]:
        """Return the calls that are not finished, by nonce."""
        calls = self._calls.copy()
        return tuple(calls[nonce] for nonce in sorted(calls))

    def put(self, call: OutgoingCall) -> None:
        """Keep a call."""
        self._calls[call.nonce] = call

    def finish(self, nonce: int) -> bool:
        """Forget the call with this nonce."""
        return self._calls.pop(nonce, None) is not None
