"""How far an indexer has read the chain, and what it found: logs as the chain gave them.

A cursor keeps a short history of blocks, by number and hash, so that after a re-organisation the
indexer finds the latest block that it and the chain still agree on, rewinds to it and reads on from
there. What was read and the cursor move in one transaction, so every log is read exactly once,
whatever happens in between, and by whichever of several processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Delete, Row, delete, select

from omnilytics.foundation.units import Address, Hash32
from omnilytics.storage import schema
from omnilytics.storage.database import EVENTS_LOCK, Database

_marks = schema.cursors.c
_logs = schema.chain_logs.c


@dataclass(frozen=True)
class BlockMark:
    """A block that was read."""

    block: int
    hash: Hash32


@dataclass(frozen=True, kw_only=True)
class LogRow:
    """A log of a contract, undecoded."""

    block: int
    log_index: int
    block_hash: Hash32
    transaction_hash: Hash32
    address: Address
    topics: bytes
    """Words of 32 bytes, one after the other."""
    data: bytes = field(repr=False)


class ChainLogs:
    """The logs of a database's market up to a cursor, which has a name."""

    def __init__(self, database: Database, name: str) -> None:
        """Follow the cursor of this name; what other ones found is forgotten."""
        self._database = database
        self._name = name
        with database.batch() as connection:
            database.hold(EVENTS_LOCK)
            others = delete(schema.cursors).where(_marks.name != name)
            if connection.execute(others).rowcount:
                connection.execute(delete(schema.chain_logs))

    def marks(self) -> list[BlockMark]:
        """Return the blocks that are remembered, the earliest first."""
        query = select(_marks.block, _marks.hash).where(_marks.name == self._name)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(_marks.block))
            return [BlockMark(row.block, Hash32(row.hash)) for row in rows]

    def read(self, block: int) -> tuple[list[BlockMark], list[LogRow]]:
        """Return the marks, and the logs after a block, as of one moment."""
        query = select(schema.chain_logs).where(_logs.block > block)
        ordered = query.order_by(_logs.block, _logs.log_index)
        with self._database.batch() as connection:
            self._database.hold(EVENTS_LOCK)
            return self.marks(), [_log(row) for row in connection.execute(ordered)]

    def advance(
        self, before: BlockMark | None, mark: BlockMark, logs: Iterable[LogRow], *, keep: int
    ) -> bool:
        """Record that everything after `before`, up to and including `mark`, was read.

        Args:
            before: The cursor as this reader knows it.
            mark: A later block; numbers may be left out.
            logs: What the blocks in between have.
            keep: How many blocks are remembered.

        Returns:
            False, and nothing is changed, where the cursor is another by now.
        """
        with self._database.batch() as connection:
            self._database.hold(EVENTS_LOCK)
            marks = self.marks()
            if (marks[-1] if marks else None) != before:
                return False
            for log in logs:
                self._database.insert(schema.chain_logs, **vars(log))
            self._database.insert(schema.cursors, name=self._name, block=mark.block, hash=mark.hash)
            if len(marks) >= keep:
                connection.execute(self._delete_marks(_marks.block <= marks[-keep].block))
        return True

    def rewind(self, block: int) -> None:
        """Forget everything after `block`."""
        with self._database.batch() as connection:
            self._database.hold(EVENTS_LOCK)
            connection.execute(self._delete_marks(_marks.block > block))
            connection.execute(delete(schema.chain_logs).where(_logs.block > block))

    def _delete_marks(self, which: ColumnElement[bool]) -> Delete:
        return delete(schema.cursors).where((_marks.name == self._name) & which)


def _log(row: Row[tuple[object, ...]]) -> LogRow:
    return LogRow(**row._asdict())
