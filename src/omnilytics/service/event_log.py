"""Where a server's index of events outlives its process: in the server's database."""

from __future__ import annotations

from collections.abc import Sequence

from omnilytics.chain.connection import RawLog
from omnilytics.chain.events import REMEMBERED_BLOCKS, Cursor
from omnilytics.chain.happenings import Position
from omnilytics.storage.chain_logs import BlockMark, ChainLogs, LogRow
from omnilytics.storage.database import Database

_WORD_BYTES = 32


class EventLog:
    """The events of the database's market (chain.events.EventStore)."""

    def __init__(self, database: Database, *, first_block: int) -> None:
        """Go on where the database is, unless it was read from another first block."""
        self._logs = ChainLogs(database, f"events from block {first_block}")

    def cursors(self) -> list[Cursor]:
        """Return the blocks that are remembered, the earliest first."""
        return [_cursor(mark) for mark in self._logs.marks()]

    def read(self, block_number: int) -> tuple[list[Cursor], list[RawLog]]:
        """Return those blocks, and the logs of later blocks than this one."""
        marks, rows = self._logs.read(block_number)
        return [_cursor(mark) for mark in marks], [_log(row) for row in rows]

    def advance(self, before: Cursor | None, cursor: Cursor, logs: Sequence[RawLog]) -> bool:
        """Move the cursor on with what was read; False where it is not at `before`."""
        return self._logs.advance(
            None if before is None else _mark(before),
            _mark(cursor),
            [_row(log) for log in logs],
            keep=REMEMBERED_BLOCKS,
        )

    def rewind(self, block_number: int) -> None:
        """Forget everything after this block."""
        self._logs.rewind(block_number)


def _cursor(mark: BlockMark) -> Cursor:
    return Cursor(mark.block, mark.hash)


def _mark(cursor: Cursor) -> BlockMark:
    return BlockMark(cursor.block_number, cursor.block_hash)


def _row(log: RawLog) -> LogRow:
    return LogRow(
        block=log.position.block_number,
        log_index=log.position.log_index,
        block_hash=log.position.block_hash,
        transaction_hash=log.position.transaction_hash,
        address=log.address,
        topics=b"".join(log.topics),
        data=log.data,
    )


def _log(row: LogRow) -> RawLog:
    starts = range(0, len(row.topics), _WORD_BYTES)
    return RawLog(
        address=row.address,
        topics=tuple(row.topics[start : start + _WORD_BYTES] for start in starts),
        data=row.data,
        position=Position(
            block_number=row.block,
            block_hash=row.block_hash,
            transaction_hash=row.transaction_hash,
            log_index=row.log_index,
        ),
    )
