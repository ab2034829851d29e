"""Transactions to the chain, durable before they are sent.

One purpose (for example "seal 3/7") has at most one transaction in force, and one nonce of a sender
at most one, on whichever process: the database holds both, so a crash between signing and sending
repeats the same transaction and never makes a second one. A higher fee replaces a transaction under
the same nonce and purpose.

    queued --sent--> sent --mined--> mined --final--> final
       |               |               |--- the chain was re-organised: back to sent
       +---- replace --+--> replaced (by another under the same nonce)
       +---- abandon --+--> abandoned (never sent, or its nonce is spent)

`sent` is recorded before a node gets the transaction, so one that is queued was never seen by
anyone. A replaced transaction may still be the one that is mined: `mined` takes either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from sqlalchemy import ColumnElement, Row, select, update

from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.storage import schema
from omnilytics.storage.database import OUTBOX_LOCK, Database

QUEUED, SENT, MINED, FINAL = "queued", "sent", "mined", "final"
REPLACED, ABANDONED = "replaced", "abandoned"
_LIVE = (QUEUED, SENT, MINED)
_KEPT = (*_LIVE, FINAL)

_columns = schema.outbox.c


class SignedTransaction(NamedTuple):
    """What a signer returns."""

    raw: bytes
    hash: Hash32


@dataclass(frozen=True, kw_only=True)
class OutboxEntry:
    """A transaction as the database has it."""

    hash: Hash32
    sender: Address
    nonce: int
    purpose: str
    raw_transaction: bytes
    state: str
    created: int
    """Unix seconds."""
    replaced_by: Hash32 | None


class Outbox:
    """The transactions of one database's senders."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def queue(
        self,
        sender: Address,
        purpose: str,
        *,
        chain_nonce: int,
        sign: Callable[[int], SignedTransaction],
        now: int,
    ) -> OutboxEntry:
        """Return the purpose's transaction, or sign and record one under the next free nonce.

        Args:
            sender: The account; every transaction of it must go through this outbox.
            purpose: What it is for, at most 128 characters. It is served once: a repeat gets the
                same transaction, or what replaced it, also when it is final.
            chain_nonce: How many transactions of the sender the chain has mined.
            sign: Signs for a nonce; no waiting inside, the database is locked meanwhile.
            now: Unix seconds.
        """
        with self._database.batch():
            self._database.hold(OUTBOX_LOCK)
            known = self._select((_columns.sender == sender) & (_columns.purpose == purpose))
            kept = [entry for entry in known if entry.state in _KEPT]
            if kept:
                return kept[0]
            nonce = self._free_nonce(sender, chain_nonce)
            return self._add(sender, nonce, purpose, sign(nonce), now)

    def replace(
        self, entry: OutboxEntry, *, sign: Callable[[int], SignedTransaction], now: int
    ) -> OutboxEntry:
        """Record a transaction with a higher fee in the place of one that is not mined.

        Raises:
            UsageError: `entry` is mined, replaced or abandoned by now.
        """
        with self._database.batch() as connection:
            self._database.hold(OUTBOX_LOCK)
            signed = sign(entry.nonce)
            waiting = (_columns.hash == entry.hash) & _columns.state.in_((QUEUED, SENT))
            change = update(schema.outbox).where(waiting)
            done = connection.execute(change.values(state=REPLACED, replaced_by=signed.hash))
            if done.rowcount != 1:
                raise UsageError(
                    "the transaction cannot be replaced any more", purpose=entry.purpose
                )
            return self._add(entry.sender, entry.nonce, entry.purpose, signed, now)

    def sent(self, entry: OutboxEntry) -> bool:
        """Record that a node is about to get the transaction; False where it was not queued."""
        return self._move(entry, (QUEUED,), SENT)

    def mined(self, entry: OutboxEntry) -> None:
        """Record that the transaction is in a block; others under its nonce can never be."""
        others = _columns.hash != entry.hash
        live = (_columns.sender == entry.sender) & _columns.state.in_(_LIVE)
        displaced = live & others & (_columns.nonce == entry.nonce)
        with self._database.batch() as connection:
            self._database.hold(OUTBOX_LOCK)
            table = update(schema.outbox)
            gone = table.where(displaced).values(state=REPLACED, replaced_by=entry.hash)
            connection.execute(gone)
            # Given up before a re-organisation mined it: its purpose may have found another one.
            again = bool(self._select(live & others & (_columns.purpose == entry.purpose)))
            this = (_columns.hash == entry.hash) & (_columns.state != FINAL)
            state = FINAL if again else MINED
            connection.execute(table.where(this).values(state=state, replaced_by=None))

    def unmined(self, entry: OutboxEntry) -> bool:
        """Record that a re-organisation took the transaction out of its block."""
        return self._move(entry, (MINED,), SENT)

    def final(self, entry: OutboxEntry) -> bool:
        """Record that the transaction's block has its confirmations; the purpose is served."""
        return self._move(entry, (MINED,), FINAL)

    def abandon(self, entry: OutboxEntry) -> bool:
        """Give the transaction up; its nonce and its purpose are free for another one.

        Only if it was never sent, or a final transaction from elsewhere has its nonce: else both
        may be mined. To take back one that was sent, `replace` it by one that does nothing.
        """
        return self._move(entry, (QUEUED, SENT), ABANDONED)

    def find(self, name: Hash32) -> OutboxEntry | None:
        """Return the transaction of this hash."""
        found = self._select(_columns.hash == name)
        return found[0] if found else None

    def served(self, sender: Address, purpose: str) -> bool:
        """Tell whether a transaction for this purpose is final."""
        mine = (_columns.sender == sender) & (_columns.purpose == purpose)
        return bool(self._select(mine & (_columns.state == FINAL)))

    def pending(self, sender: Address) -> list[OutboxEntry]:
        """Return the transactions in force, in the order of their nonces."""
        return self._select((_columns.sender == sender) & _columns.state.in_(_LIVE))

    def under_nonce(self, sender: Address, nonce: int) -> list[OutboxEntry]:
        """Return all transactions of a nonce, also those replaced: any of them may be mined."""
        return self._select((_columns.sender == sender) & (_columns.nonce == nonce))

    def _free_nonce(self, sender: Address, first: int) -> int:
        """Return the first unused nonce from `first` on: a gap stops all after it."""
        taken = (_columns.sender == sender) & (_columns.nonce >= first)
        with self._database.reading() as connection:
            query = select(_columns.nonce).where(taken & _columns.state.in_(_KEPT))
            nonces = set(connection.execute(query).scalars())
        return next(nonce for nonce in count(first) if nonce not in nonces)

    def _add(
        self, sender: Address, nonce: int, purpose: str, signed: SignedTransaction, now: int
    ) -> OutboxEntry:
        entry = OutboxEntry(
            hash=signed.hash,
            sender=sender,
            nonce=nonce,
            purpose=purpose,
            raw_transaction=signed.raw,
            state=QUEUED,
            created=now,
            replaced_by=None,
        )
        if not self._database.insert(schema.outbox, **vars(entry)):
            raise UsageError("the transaction is recorded already", purpose=purpose, nonce=nonce)
        return entry

    def _move(self, entry: OutboxEntry, before: tuple[str, ...], after: str) -> bool:
        there = (_columns.hash == entry.hash) & _columns.state.in_(before)
        with self._database.batch() as connection:
            statement = update(schema.outbox).where(there).values(state=after)
            return connection.execute(statement).rowcount == 1

    def _select(self, where: ColumnElement[bool]) -> list[OutboxEntry]:
        query = select(schema.outbox).where(where).order_by(_columns.nonce, _columns.created)
        with self._database.reading() as connection:
            return [_entry(row) for row in connection.execute(query)]


def _entry(row: Row[tuple[object, ...]]) -> OutboxEntry:
    return OutboxEntry(**row._asdict())
