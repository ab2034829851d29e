"""How far an indexer has read the chain: the blocks it last saw, by number and hash.

A cursor keeps a short history, so that after a re-organisation the indexer finds the latest block
that it and the chain still agree on, rewinds to it and reads on from there. Whoever writes what it
read and the cursor in one `batch` reads every event exactly once, whatever happens in between.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select

from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Hash32
from omnilytics.storage import schema
from omnilytics.storage.database import Database

HISTORY_BLOCKS = 256
"""How many blocks back a re-organisation is followed by default."""


@dataclass(frozen=True)
class BlockMark:
    """A block that was read."""

    block: int
    hash: Hash32


class Cursors:
    """The durable cursors of a daemon, each under a name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest(self, name: str) -> BlockMark | None:
        """Return the last block that was read, or None before the first."""
        history = self.history(name, limit=1)
        return history[0] if history else None

    def history(self, name: str, *, limit: int = HISTORY_BLOCKS) -> list[BlockMark]:
        """Return the last blocks that were read, the latest first."""
        columns = schema.cursors.c
        query = (
            select(columns.block, columns.hash)
            .where(columns.name == name)
            .order_by(columns.block.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [BlockMark(row.block, Hash32(row.hash)) for row in connection.execute(query)]

    def advance(self, name: str, mark: BlockMark, *, keep: int = HISTORY_BLOCKS) -> None:
        """Record that everything up to and including `mark` was read.

        Args:
            name: Of the cursor.
            mark: A block after the latest one; numbers may be left out.
            keep: How many blocks below it are remembered.

        Raises:
            UsageError: The block is not after the latest one; `rewind` first.
        """
        columns = schema.cursors.c
        with self._database.batch() as connection:
            latest = self.latest(name)
            if latest is not None and mark.block <= latest.block:
                raise UsageError("cursors move on", got=mark.block, want=f"> {latest.block}")
            self._database.insert(schema.cursors, name=name, block=mark.block, hash=mark.hash)
            old = (columns.name == name) & (columns.block < mark.block - keep)
            connection.execute(delete(schema.cursors).where(old))

    def rewind(self, name: str, block: int) -> BlockMark | None:
        """Forget the blocks after `block`; return the latest that stays, if any does."""
        columns = schema.cursors.c
        after = (columns.name == name) & (columns.block > block)
        with self._database.batch() as connection:
            connection.execute(delete(schema.cursors).where(after))
            return self.latest(name)
