"""Deleting what a server need not keep (protocol.md section 7).

Shares are kept until the faults of their round can no longer be claimed, then deleted: the packages
of this server and the sealed ones it holds for others. What proves the market's money (records,
transcripts, openings, artefacts) is kept until long after the task was closed, because every payout
root is computed from all of them. Locks are never deleted.

Nothing of a round is touched that the caller does not name as finished, and a file only while no
row names it. The rows go first, the files after; whatever a crash leaves in between, the next
collection finishes, because it looks for files without rows and not for what it meant to delete.

What is not promised: that deleted bytes cannot be read from the medium. SQLite overwrites deleted
rows in the database file (`secure_delete`), but its write-ahead log, PostgreSQL's dead rows until
VACUUM, file system journals, copy-on-write, SSDs, snapshots and back-ups keep copies. For shares to
be gone keep the store on an encrypted volume, keep back-ups no longer than `shares_seconds`, and
destroy the HPKE key of a task with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import Connection, delete, exists, select, union

from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.storage import schema
from omnilytics.storage.database import FILES_LOCK
from omnilytics.storage.file_guard import guarded
from omnilytics.storage.repository import Repository

DAY_SECONDS = 86_400
_FILES_AT_ONCE = 200
"""Writers wait while that many files are deleted."""


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """For how long what is kept, in seconds."""

    shares_seconds: int = 7 * DAY_SECONDS
    """Packages, from the round's settlement or its end without one. At least the contract's period
    for faults, and as long as a model owner may take to ask for its sum."""
    evidence_seconds: int = 365 * DAY_SECONDS
    """Records, receipts and published content of a task, from the day it was closed."""
    nonce_seconds: int = DAY_SECONDS
    """Nonces of requests; much longer than a request may be old."""

    def __post_init__(self) -> None:
        if self.nonce_seconds < 3_600:  # requests are refused after 300 s by the clocks of both
            raise UsageError("nonces are kept too briefly", got=self.nonce_seconds, want=">= 3600")
        if min(self.shares_seconds, self.evidence_seconds) < 0:
            raise UsageError("a period is negative")


@dataclass(frozen=True, kw_only=True)
class FinishedRound:
    """A round that was settled or ended without, finally so, and when."""

    task: TaskId
    round: Round
    finished_at: int
    """Unix seconds."""
    task_closed_at: int | None = None
    """When its task was closed, if it is: nobody can claim from it any more."""


@dataclass(kw_only=True)
class Collected:
    """What was deleted."""

    rounds: list[tuple[TaskId, Round]] = field(default_factory=list)
    """Rounds whose shares went now."""
    packages: int = 0
    held_packages: int = 0
    records: int = 0
    receipts: int = 0
    published: int = 0
    nonces: int = 0
    files: int = 0
    bytes_freed: int = 0
    """Sizes of the deleted files; the file system gives back a little more."""


def rounds_with_shares(repository: Repository) -> list[tuple[TaskId, Round]]:
    """Return the rounds of which packages are stored: those to ask the chain about."""
    tables = (schema.submissions, schema.held_packages)
    query = union(*(select(table.c.task, table.c.round) for table in tables))
    with repository.database.reading() as connection:
        rows = connection.execute(query).all()
    return sorted((TaskId(task), Round(number)) for task, number in rows)


def collect_garbage(
    repository: Repository,
    finished_rounds: Iterable[FinishedRound],
    now: int,
    policy: RetentionPolicy,
) -> Collected:
    """Delete what `policy` says is old enough; safe to repeat and to interrupt.

    Args:
        repository: The store; other processes may be at work on it.
        finished_rounds: Rounds that are finally over. Rounds that are not named keep everything.
        now: Unix seconds, by the clock of `finished_at` and of the nonces.
        policy: How long what is kept.

    Raises:
        StorageUnavailableError: A back-up is being made of the files; try again later.
    """
    collected = Collected()
    for finished in finished_rounds:
        if finished.finished_at + policy.shares_seconds <= now:
            _delete_shares(repository, finished, collected)
        closed = finished.task_closed_at
        if closed is not None and closed + policy.evidence_seconds <= now:
            _delete_evidence(repository, finished, collected)
    with repository.database.batch() as connection:
        nonces = schema.request_nonces
        old = nonces.c.used_at < now - policy.nonce_seconds
        collected.nonces = connection.execute(delete(nonces).where(old)).rowcount
    with guarded(repository.files, exclusive=True):
        _delete_files(repository, collected)
    repository.files.sweep_leftovers()
    return collected


def _delete_shares(repository: Repository, finished: FinishedRound, collected: Collected) -> None:
    with repository.database.batch() as connection:
        packages = _delete_round(connection, "submissions", finished)
        held = _delete_round(connection, "held_packages", finished)
    collected.bytes_freed += repository.answers.drop_round(finished.task, finished.round)
    if packages or held:
        collected.rounds.append((finished.task, finished.round))
    collected.packages += packages
    collected.held_packages += held


def _delete_evidence(repository: Repository, finished: FinishedRound, collected: Collected) -> None:
    uses, published = schema.published_for, schema.published
    with repository.database.batch() as connection:
        collected.records += _delete_round(connection, "records", finished)
        collected.receipts += _delete_round(connection, "receipts", finished)
        mine = select(uses.c.content).where(uses.c.task == finished.task)
        names = connection.execute(mine).scalars().all()
        connection.execute(delete(uses).where(uses.c.task == finished.task))
        for name in names:  # another task may have published the same
            used = exists().where(uses.c.content == name)
            gone = delete(published).where(published.c.content == name, ~used)
            collected.published += connection.execute(gone).rowcount


def _delete_round(connection: Connection, name: str, finished: FinishedRound) -> int:
    table = schema.metadata.tables[name]
    round_rows = (table.c.task == finished.task) & (table.c.round == finished.round)
    return connection.execute(delete(table).where(round_rows)).rowcount


def _delete_files(repository: Repository, collected: Collected) -> None:
    with repository.database.reading() as connection:
        named = file_names(connection)
    unnamed = (name for name in repository.files.names() if name not in named)
    while some := list(islice(unnamed, _FILES_AT_ONCE)):
        with repository.database.batch() as connection:
            # A file may be there before its row is committed: wait for that, then look again (!).
            repository.database.hold(FILES_LOCK)
            for name in set(some) - file_names(connection, some):
                collected.bytes_freed += repository.files.delete(name)
                collected.files += 1


def file_names(connection: Connection, among: Sequence[Hash32] | None = None) -> set[Hash32]:
    """Return the names of files that a row has, of all or of some."""
    found: set[Hash32] = set()
    for column in _FILE_COLUMNS:
        query = select(column) if among is None else select(column).where(column.in_(among))
        found.update(Hash32(bytes(name)) for name in connection.execute(query).scalars())
    return found


_FILE_COLUMNS = (
    schema.submissions.c.package,
    schema.held_packages.c.package,
    schema.published.c.content,
)
"""Every column that names a file."""
