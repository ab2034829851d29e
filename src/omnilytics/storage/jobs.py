"""Durable work for a daemon: jobs that one worker at a time holds by a lease.

    ready --acquire--> running --finish--> done
      ^                   |---- retry ----> ready, due later
      |                   |---- give up --> failed
      +-- the lease ran out: another worker may acquire it

A worker that stalls past its lease may find the job in other hands: every change names the
attempt it belongs to, and is refused (returns False) once another attempt began. Work must be
safe to do twice: a lease cannot stop a stalled worker from finishing what it is at.

Times are unix seconds from the caller's clock, which all workers must share to within a small
part of a lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Row, delete, or_, select, update

from omnilytics.storage import schema
from omnilytics.storage.database import Database

READY, RUNNING, DONE, FAILED = "ready", "running", "done", "failed"
MAX_ERROR_CHARACTERS = 2_000

_columns = schema.jobs.c


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the database has it."""

    kind: str
    key: str
    """What the work is about; one job for each kind and key."""
    state: str
    due_at: int
    lease_owner: str
    lease_until: int
    attempts: int
    """How often it was acquired; tells this attempt from others."""
    last_error: str


class Jobs:
    """The jobs in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, kind: str, key: str, *, due_at: int = 0) -> bool:
        """Add a job unless there is one, in whatever state; tell whether it is new."""
        return self._database.insert(
            schema.jobs,
            kind=kind,
            key=key,
            state=READY,
            due_at=due_at,
            lease_owner="",
            lease_until=0,
            attempts=0,
            last_error="",
        )

    def find(self, kind: str, key: str) -> Job | None:
        """Return a job."""
        with self._database.reading() as connection:
            row = connection.execute(select(schema.jobs).where(_is(kind, key))).one_or_none()
        return None if row is None else _job(row)

    def in_state(self, state: str) -> list[Job]:
        """Return all jobs in a state, the first due first."""
        query = select(schema.jobs).where(_columns.state == state)
        query = query.order_by(_columns.due_at, _columns.kind, _columns.key)
        with self._database.reading() as connection:
            return [_job(row) for row in connection.execute(query)]

    def acquire(
        self, owner: str, *, now: int, lease_seconds: int, kinds: Sequence[str] | None = None
    ) -> Job | None:
        """Take the job that has been due for longest, or whose lease ran out; None without one.

        Args:
            owner: This worker's name, 1 .. 64 characters.
            now: Unix seconds.
            lease_seconds: After that long without `renew` another worker may take it.
            kinds: Only jobs of these kinds.
        """
        with self._database.batch() as connection:
            free = or_(
                (_columns.state == READY) & (_columns.due_at <= now),
                (_columns.state == RUNNING) & (_columns.lease_until <= now),
            )
            query = select(schema.jobs).where(free)
            if kinds is not None:
                query = query.where(_columns.kind.in_(kinds))
            query = query.order_by(_columns.due_at, _columns.kind, _columns.key).limit(1)
            # Another worker's choice is skipped, not waited for.
            row = connection.execute(query.with_for_update(skip_locked=True)).one_or_none()
            if row is None:
                return None
            taken = (
                update(schema.jobs)
                .where(_is(row.kind, row.key))
                .values(
                    state=RUNNING,
                    lease_owner=owner,
                    lease_until=now + lease_seconds,
                    attempts=row.attempts + 1,
                )
                .returning(schema.jobs)
            )
            return _job(connection.execute(taken).one())

    def renew(self, job: Job, *, now: int, lease_seconds: int) -> bool:
        """Lengthen the lease; False where the job is in other hands, and work on it must stop."""
        return self._change(job, lease_until=now + lease_seconds)

    def finish(self, job: Job) -> bool:
        """Mark the job done; False where it is in other hands."""
        return self._change(job, state=DONE, lease_owner="", lease_until=0, last_error="")

    def fail(self, job: Job, error: str, *, retry_at: int | None) -> bool:
        """Give the job back, or up; False where it is in other hands.

        Args:
            job: As it was acquired.
            error: What went wrong, without secrets; shortened to `MAX_ERROR_CHARACTERS`.
            retry_at: When it is due again; None gives it up for good.
        """
        values = {"state": FAILED} if retry_at is None else {"state": READY, "due_at": retry_at}
        # PostgreSQL takes no zero characters, and neither database takes half a surrogate.
        text = error[:MAX_ERROR_CHARACTERS].replace("\x00", "").encode(errors="replace").decode()
        return self._change(job, lease_owner="", lease_until=0, last_error=text, **values)

    def revive(self, kind: str, key: str, *, due_at: int) -> bool:
        """Make a done or failed job ready once more; False where it is in no such state."""
        over = _is(kind, key) & _columns.state.in_((DONE, FAILED))
        statement = update(schema.jobs).where(over).values(state=READY, due_at=due_at)
        with self._database.batch() as connection:
            return connection.execute(statement).rowcount == 1

    def forget(self, kind: str, key: str) -> bool:
        """Delete a done or failed job; False where it is in no such state."""
        over = _is(kind, key) & _columns.state.in_((DONE, FAILED))
        with self._database.batch() as connection:
            return connection.execute(delete(schema.jobs).where(over)).rowcount == 1

    def _change(self, job: Job, **values: object) -> bool:
        mine = (
            _is(job.kind, job.key)
            & (_columns.state == RUNNING)
            & (_columns.lease_owner == job.lease_owner)
            & (_columns.attempts == job.attempts)
        )
        with self._database.batch() as connection:
            statement = update(schema.jobs).where(mine).values(**values)
            return connection.execute(statement).rowcount == 1


def _is(kind: str, key: str) -> ColumnElement[bool]:
    return (_columns.kind == kind) & (_columns.key == key)


def _job(row: Row[tuple[object, ...]]) -> Job:
    return Job(**row._asdict())
