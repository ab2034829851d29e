"""The transactions of calls to the chain that are not finished, durable before they are sent.

A call has a nonce of its sender and one row for each transaction that was signed for it: the first,
then its replacements at higher fees. Rows are only added, and deleted when the call is finished.
What they mean is the sender's to know (chain/outbox.py); this is where they are kept, and what
lets one process at a time hand out nonces.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Row, delete, select

from omnilytics.foundation.errors import ConflictError
from omnilytics.foundation.units import Address, Hash32, Wei
from omnilytics.storage import schema
from omnilytics.storage.database import OUTBOX_LOCK, Database

OWNED_SECONDS = 60
"""How long to wait for another process to have handed out its nonce: the node may be slow."""

_columns = schema.outbox.c


@dataclass(frozen=True, kw_only=True)
class OutboxRow:
    """A signed transaction."""

    sender: Address
    nonce: int
    replacement: int
    """0 for the call's first transaction, then counted."""
    hash: Hash32
    raw_transaction: bytes = field(repr=False)
    target: Address | None
    data: bytes = field(repr=False)
    value_wei: Wei
    gas: int
    max_fee_wei: Wei
    priority_fee_wei: Wei


class Outbox:
    """The transactions of one database's senders."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Exclude other threads, and other processes on this database, from handing out nonces.

        Raises:
            StorageUnavailableError: Another process kept it for longer than `OWNED_SECONDS`.
        """
        with self._lock, self._database.exclusive(OUTBOX_LOCK, wait_seconds=OWNED_SECONDS):
            yield

    def rows(self, sender: Address) -> list[OutboxRow]:
        """Return a sender's transactions by nonce, then in the order in which they were signed."""
        query = select(schema.outbox).where(_columns.sender == sender)
        with self._database.reading() as connection:
            ordered = query.order_by(_columns.nonce, _columns.replacement)
            return [_row(row) for row in connection.execute(ordered)]

    def add(self, rows: Iterable[OutboxRow]) -> None:
        """Keep these transactions; those that are there already stay.

        Raises:
            ConflictError: In the place of one is another; nothing was kept.
        """
        with self._database.batch():
            for row in rows:
                amounts = {
                    name: str(getattr(row, name))
                    for name in ("value_wei", "max_fee_wei", "priority_fee_wei")
                }
                if not self._database.insert(schema.outbox, **{**vars(row), **amounts}):
                    self._check_same(row)

    def _check_same(self, row: OutboxRow) -> None:
        kept = next(
            known
            for known in self.rows(row.sender)
            if (known.nonce, known.replacement) == (row.nonce, row.replacement)
        )
        if kept.hash != row.hash:
            raise ConflictError(
                "the outbox has another transaction in this place",
                got="0x" + row.hash.hex(),
                want="0x" + kept.hash.hex(),
                hint="another process sends for this account; try again",
                nonce=row.nonce,
            )

    def remove(self, sender: Address, nonce: int) -> bool:
        """Forget all transactions of a nonce; tell whether there were any."""
        mine = (_columns.sender == sender) & (_columns.nonce == nonce)
        with self._database.batch() as connection:
            return connection.execute(delete(schema.outbox).where(mine)).rowcount > 0


def _row(row: Row[tuple[object, ...]]) -> OutboxRow:
    values = row._asdict()
    for name in ("value_wei", "max_fee_wei", "priority_fee_wei"):
        values[name] = Wei(int(values[name]))
    return OutboxRow(**values)
