"""A server's tasks as jobs: each is one process's at a time, by a lease.

A task is stepped by the process that holds its lease. A process renews its leases while it lives;
one whose lease ran out may find the task in other hands: every change names its process, and is
refused (returns False) once another one has the job. Work must be safe to do twice: a lease cannot
stop a process that stalled from finishing what it is at.

Times are unix seconds of the database's clock, which all processes on it share.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Row, Update, delete, or_, select, update

from omnilytics.foundation.units import TaskId
from omnilytics.storage import schema
from omnilytics.storage.database import Database

MAX_ERROR_CHARACTERS = 2_000
FREE = ""
"""The owner of a job that nobody holds."""

_columns = schema.jobs.c


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the database has it."""

    task: TaskId
    lease_owner: str
    lease_until: int
    attempts: int
    """How often in a row it failed."""
    last_error: str
    """Of the latest failure; empty once the task was stepped without one."""


class Jobs:
    """The jobs in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Job]:
        """Return all jobs by their tasks."""
        with self._database.reading() as connection:
            query = select(schema.jobs).order_by(_columns.task)
            return [_job(row) for row in connection.execute(query)]

    def acquire(self, task: TaskId, owner: str, *, lease_seconds: int) -> bool:
        """Take a task's job, or keep it for longer; False while another process holds it.

        Args:
            task: The task; it gets a job with the first call.
            owner: This process's name, 1 .. 64 characters that no other process ever has.
            lease_seconds: After that long without another call, another process may take it.
        """
        now = self._database.now()
        free = or_(_columns.lease_owner.in_((owner, FREE)), _columns.lease_until <= now)
        change = update(schema.jobs).where((_columns.task == task) & free)
        lease = {"lease_owner": owner, "lease_until": now + lease_seconds}
        with self._database.batch():
            new = self._database.insert(schema.jobs, task=task, attempts=0, last_error="", **lease)
            return new or self._done(change.values(**lease))

    def succeeded(self, task: TaskId, owner: str) -> bool:
        """Record that the task was stepped without an error."""
        return self._done(_of(task, owner).values(attempts=0, last_error=""))

    def failed(self, task: TaskId, owner: str, error: str) -> bool:
        """Record a failure: one attempt more, and what went wrong, without secrets, shortened."""
        # PostgreSQL takes no zero characters, and neither database takes half a surrogate.
        text = error[:MAX_ERROR_CHARACTERS].replace("\x00", "").encode(errors="replace").decode()
        return self._done(_of(task, owner).values(attempts=_columns.attempts + 1, last_error=text))

    def release(self, task: TaskId, owner: str) -> bool:
        """Give the job up for another process to take at once."""
        return self._done(_of(task, owner).values(lease_owner=FREE, lease_until=0))

    def forget(self, task: TaskId, owner: str) -> bool:
        """Delete the job of a task that is over."""
        with self._database.batch() as connection:
            return connection.execute(delete(schema.jobs).where(_held(task, owner))).rowcount == 1

    def release_all(self) -> None:
        """Give up all leases; only where no other process can be at work on this database."""
        self._done(update(schema.jobs).values(lease_owner=FREE, lease_until=0))

    def _done(self, statement: Update) -> bool:
        with self._database.batch() as connection:
            return connection.execute(statement).rowcount > 0


def _held(task: TaskId, owner: str) -> ColumnElement[bool]:
    return (_columns.task == task) & (_columns.lease_owner == owner)


def _of(task: TaskId, owner: str) -> Update:
    return update(schema.jobs).where(_held(task, owner))


def _job(row: Row[tuple[object, ...]]) -> Job:
    return Job(**row._asdict())
