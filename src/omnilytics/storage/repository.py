"""A server's durable state (protocol.md sections 6 and 7), over SQLAlchemy.

Rules that live here because a database enforces them across restarts: one commitment per owner and
round for a receipt, one value per lock (seed lock, final lock), one use per request nonce, and
public records that are only ever added. Every write is on the device before the method returns, or
with the others of its `batch`. What one of them answers holds for all processes on one database.

A restored store forgot what happened after its back-up: it refuses to answer until it is
reconciled, and afterwards in every round that it may have forgotten (reconciliation.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import CompoundSelect, Select, bindparam, func, select, union

from omnilytics.foundation.errors import ConfigError, ConflictError, VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, show_address
from omnilytics.storage import schema
from omnilytics.storage.answers import Answers
from omnilytics.storage.database import FILES_LOCK, Database, default_url
from omnilytics.storage.errors import StorageUnavailableError, disk_errors
from omnilytics.storage.files import ContentFiles, Draft, sync
from omnilytics.storage.jobs import Jobs
from omnilytics.storage.migration import open_schema
from omnilytics.storage.outbox import Outbox
from omnilytics.storage.packages import StoredPackage
from omnilytics.storage.uploads import Uploads
from omnilytics.wire.hashing import content_hash

Stored: TypeAlias = bytes | memoryview | Draft
"""Content to be stored, or a draft that holds it."""
LOST = "lost"
"""Cause of a reconciliation: a fresh database of a server that may have had another one."""


@dataclass(frozen=True, kw_only=True)
class PublicRecord:
    """A public record of a round: who made it, what about, and its bytes."""

    kind: str
    server: int
    """Committee index that made it, 0 where no server did."""
    subject: bytes
    body: bytes
    received_block: int

    @property
    def digest(self) -> Hash32:
        """Hash that tells this record from others of its kind, server and subject."""
        return content_hash(self.body)


# The most frequent query, built once: building it anew costs more than running it.
_RECORDS = (
    select(schema.records)
    .where(
        schema.records.c.task == bindparam("task"),
        schema.records.c.round == bindparam("round"),
        schema.records.c.kind.in_(bindparam("kinds", expanding=True)),
    )
    .order_by(
        schema.records.c.kind,
        schema.records.c.server,
        schema.records.c.subject,
        schema.records.c.digest,
    )
)
# With the server the primary key finds them, however many others the round has.
_RECORDS_ABOUT = _RECORDS.where(
    schema.records.c.server == bindparam("server"),
    schema.records.c.subject == bindparam("subject"),
)


class Repository:
    """One server's database and files."""

    def __init__(
        self,
        folder: Path,
        *,
        chain_id: int,
        contract: Address,
        server: Address,
        database_url: str | None = None,
        reconcile_when_new: bool = False,
    ) -> None:
        """Open or create; raises ConfigError where the store is another server's or schema's.

        Args:
            folder: Where the files are, and the SQLite database.
            chain_id: The chain of `contract`.
            contract: The market.
            server: The server whose store this is.
            database_url: `sqlite:///...` or `postgresql+psycopg://...` for another database.
            reconcile_when_new: A fresh store answers nothing before `reconcile`: a server with a
                past, whose store was lost, may have answered already (protocol.md section 7).
        """
        with disk_errors(folder):
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync(folder.parent)
        folder.chmod(0o700)  # it holds shares, whatever its mode was before
        self.folder = folder
        self.files = ContentFiles(folder / "content")
        self.uploads = Uploads(folder / "uploads")
        self.answers = Answers(folder / "answers")
        self.database = Database(database_url or default_url(folder))
        self.jobs = Jobs(self.database)
        self.outbox = Outbox(self.database)
        try:
            open_schema(self.database)
            self._claim_identity(chain_id, contract, server, reconcile_when_new)
            sync(folder)  # the name of a new database must outlast a power cut too
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the database connections."""
        self.database.close()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Commit all writes of the block together, at its end; none if it raises.

        Of this thread only, and with no waiting inside: the database is locked meanwhile.
        """
        with self.database.batch():
            yield

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Like `batch`, for files together with the rows that name them.

        Garbage collection, which deletes files that no row names, waits meanwhile.
        """
        with self.database.batch():
            self.database.hold(FILES_LOCK, shared=True)
            yield

    def check_reconciled(self) -> None:
        """Raise StorageUnavailableError if the store was restored and not reconciled since."""
        with self.database.reading() as connection:
            cause = connection.execute(select(schema.reconciliation.c.cause)).scalar_one_or_none()
        if cause is not None:
            raise StorageUnavailableError(
                "the store may have forgotten answers that this server gave",
                got=cause,
                hint="run `omnilytics server reconcile`; until then the server stays silent",
            )

    def check_writable(self) -> None:
        """Raise StorageUnavailableError unless the database lets this process write now."""
        with self.database.batch():
            pass

    # public records

    def add_record(self, task: TaskId, round_number: Round, record: PublicRecord) -> bool:
        """Add a record; return False where the same one was there already."""
        return self.database.insert(
            schema.records,
            task=task,
            round=round_number,
            kind=record.kind,
            server=record.server,
            subject=record.subject,
            digest=record.digest,
            body=record.body,
            received_block=record.received_block,
        )

    def records(
        self, task: TaskId, round_number: Round, kinds: Sequence[str]
    ) -> list[PublicRecord]:
        """Return the round's records of these kinds, in one order on every server."""
        values = {"task": task, "round": round_number, "kinds": list(kinds)}
        return self._records(_RECORDS, values)

    def records_about(
        self, task: TaskId, round_number: Round, kinds: Sequence[str], server: int, subject: bytes
    ) -> list[PublicRecord]:
        """Return those of a round's records that are of one server and one subject."""
        values = {"task": task, "round": round_number, "kinds": list(kinds)}
        return self._records(_RECORDS_ABOUT, values | {"server": server, "subject": subject})

    def _records(self, query: Select[Any], values: dict[str, object]) -> list[PublicRecord]:
        with self.database.reading() as connection:
            return [
                PublicRecord(
                    kind=row.kind,
                    server=row.server,
                    subject=row.subject,
                    body=row.body,
                    received_block=row.received_block,
                )
                for row in connection.execute(query, values)
            ]

    # submissions

    def add_package(
        self, task: TaskId, round_number: Round, owner: Address, commitment: Hash32, package: Stored
    ) -> None:
        """Store a checked package durably; a repeat changes nothing.

        Args:
            task: The task.
            round_number: The round.
            owner: Whose it is.
            commitment: To which submission it belongs.
            package: The encoded `Opening`, or a draft of it in this repository's files.
        """
        if self.has_package(task, round_number, owner, commitment):
            return
        with self.storing():
            # on disk before the row that names it
            name = package.keep() if isinstance(package, Draft) else self.files.put(package)
            self.database.insert(
                schema.submissions,
                task=task,
                round=round_number,
                owner=owner,
                commitment=commitment,
                package=name,
            )

    def stored_package(
        self, task: TaskId, round_number: Round, owner: Address, commitment: Hash32
    ) -> StoredPackage | None:
        """Return the stored package of one submission, to be read from its file."""
        name = self._package_name(task, round_number, owner, commitment)
        return None if name is None else StoredPackage(self.files, name)

    def package(
        self, task: TaskId, round_number: Round, owner: Address, commitment: Hash32
    ) -> bytes | None:
        """Return the whole stored package of one submission, as the encoded `Opening`."""
        name = self._package_name(task, round_number, owner, commitment)
        return None if name is None else self.files.get(name)

    def has_package(
        self, task: TaskId, round_number: Round, owner: Address, commitment: Hash32
    ) -> bool:
        """Tell whether a submission's package is stored, without reading it."""
        name = self._package_name(task, round_number, owner, commitment)
        return name is not None and self.files.has(name)

    def _package_name(
        self, task: TaskId, round_number: Round, owner: Address, commitment: Hash32
    ) -> Hash32 | None:
        columns = schema.submissions.c
        query = select(columns.package).where(
            columns.task == task,
            columns.round == round_number,
            columns.owner == owner,
            columns.commitment == commitment,
        )
        with self.database.reading() as connection:
            name = connection.execute(query).scalar_one_or_none()
        return None if name is None else Hash32(name)

    def claim_receipt(
        self, task: TaskId, round_number: Round, owner: Address, commitment: Hash32
    ) -> None:
        """Record that a receipt is given; raises ConflictError for a second commitment."""
        columns = schema.receipts.c
        query = select(columns.commitment).where(
            columns.task == task, columns.round == round_number, columns.owner == owner
        )
        with self.database.batch() as connection:
            if self._may_answer(task, round_number):
                self.database.insert(
                    schema.receipts,
                    task=task,
                    round=round_number,
                    owner=owner,
                    commitment=commitment,
                )
            first = connection.execute(query).scalar_one_or_none()
        if first is None:
            raise _forgotten(task, round_number)
        if first != commitment:
            raise ConflictError(
                "the owner already submitted in this round",
                got=commitment.hex(),
                want=first.hex(),
                owner=show_address(owner),
            )

    def owner_count(self, task: TaskId, round_number: Round) -> int:
        """Return how many owners have a receipt or a held package in this round."""
        query = select(func.count()).select_from(_owners(task, round_number).subquery())
        with self.database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def knows_owner(self, task: TaskId, round_number: Round, owner: Address) -> bool:
        """Tell whether the owner has a receipt or a held package in this round."""
        with self.database.reading() as connection:
            rows = connection.execute(_owners(task, round_number))
            return any(bytes(row.owner) == owner for row in rows)

    def add_held(
        self,
        task: TaskId,
        round_number: Round,
        server: int,
        owner: Address,
        package: bytes | memoryview,
    ) -> Hash32:
        """Keep another server's sealed package; return the hash of the one kept first."""
        first = self._held_name(task, round_number, server, owner)
        if first is not None:  # a second one must not fill the disk
            return first
        with self.storing():
            if not self._may_answer(task, round_number):
                raise _forgotten(task, round_number)
            name = self.files.put(package)
            self.database.insert(
                schema.held_packages,
                task=task,
                round=round_number,
                server=server,
                owner=owner,
                package=name,
            )
        kept = self._held_name(task, round_number, server, owner)
        assert kept is not None
        return kept

    def held_part(
        self,
        task: TaskId,
        round_number: Round,
        server: int,
        owner: Address,
        *,
        first: int,
        count: int,
    ) -> tuple[int, bytes] | None:
        """Return the size of the package kept for `server` and up to `count` of its bytes."""
        name = self._held_name(task, round_number, server, owner)
        return None if name is None else self.files.part(name, first, count)

    def held(self, task: TaskId, round_number: Round, server: int, owner: Address) -> bytes | None:
        """Return the sealed package kept for `server`, if any."""
        name = self._held_name(task, round_number, server, owner)
        return None if name is None else self.files.get(name)

    # locks, nonces, published content

    def lock(self, task: TaskId, round_number: Round, kind: str, value: bytes) -> bytes:
        """Store `value` unless the lock already has one; return the value that holds.

        Raises:
            VerificationError: The lock has no value, and a reconciliation found that this server
                may have given it one before the store was restored.
            StorageUnavailableError: The store was restored and not reconciled since.
        """
        columns = schema.locks.c
        query = select(columns.value).where(
            columns.task == task, columns.round == round_number, columns.kind == kind
        )
        with self.database.batch() as connection:
            if self._may_answer(task, round_number):
                self.database.insert(
                    schema.locks, task=task, round=round_number, kind=kind, value=value
                )
            held = connection.execute(query).scalar_one_or_none()
        if held is None:
            raise _forgotten(task, round_number)
        return bytes(held)

    def _may_answer(self, task: TaskId, round_number: Round) -> bool:
        """Tell whether this store remembers all answers of the round that were given."""
        self.check_reconciled()
        barred = schema.barred_rounds.c
        query = select(barred.through_round).where(barred.task == task)
        with self.database.reading() as connection:
            through = connection.execute(query).scalar_one_or_none()
        return through is None or round_number > through

    def use_nonce(self, nonce: Hash32, *, now: int | None = None) -> bool:
        """Record a request's nonce; return False where it was used before.

        Args:
            nonce: Of the request.
            now: Unix seconds by the clock that judges the age of requests; None for the system's.
        """
        used_at = int(time.time()) if now is None else now
        with self.database.batch():
            self.check_reconciled()
            return self.database.insert(schema.request_nonces, nonce=nonce, used_at=used_at)

    def publish(self, content: bytes, *, task: TaskId | None = None) -> Hash32:
        """Store content that anyone may fetch by its hash.

        Args:
            content: Anything public.
            task: What it belongs to, so that it can be deleted long after the task was closed;
                None keeps it for ever.
        """
        with self.storing():
            name = self.files.put(content)
            self.database.insert(schema.published, content=name)
            if task is not None:
                self.database.insert(schema.published_for, task=task, content=name)
        return name

    def published(self, name: Hash32) -> bytes | None:
        """Return published content; shares, which are files too, are never returned."""
        return self.files.get(name) if self._is_published(name) else None

    def published_part(self, name: Hash32, *, first: int, count: int) -> tuple[int, bytes] | None:
        """Return the size of published content and up to `count` of its bytes."""
        return self.files.part(name, first, count) if self._is_published(name) else None

    def _is_published(self, name: Hash32) -> bool:
        query = select(schema.published).where(schema.published.c.content == name)
        with self.database.reading() as connection:
            return connection.execute(query).one_or_none() is not None

    def _held_name(
        self, task: TaskId, round_number: Round, server: int, owner: Address
    ) -> Hash32 | None:
        columns = schema.held_packages.c
        query = select(columns.package).where(
            columns.task == task,
            columns.round == round_number,
            columns.server == server,
            columns.owner == owner,
        )
        with self.database.reading() as connection:
            name = connection.execute(query).scalar_one_or_none()
        return None if name is None else Hash32(name)

    def _claim_identity(
        self, chain_id: int, contract: Address, server: Address, reconcile_when_new: bool
    ) -> None:
        mine = {"chain_id": chain_id, "contract": contract, "server": server}
        with self.database.batch() as connection:
            if self.database.insert(schema.identity, only=1, **mine) and reconcile_when_new:
                self.database.insert(schema.reconciliation, only=1, cause=LOST)
            row = connection.execute(select(schema.identity)).one()
        stored = (row.chain_id, bytes(row.contract), bytes(row.server))
        if stored != (chain_id, contract, server):
            raise ConfigError(
                "the store belongs to another server or contract",
                got=_show_identity(*stored),
                want=_show_identity(chain_id, contract, server),
                hint="name another data folder or database",
                folder=self.folder,
                database=self.database.place,
            )


def _show_identity(chain_id: int, contract: bytes, server: bytes) -> str:
    shown = (show_address(Address(one)) for one in (contract, server))
    return "chain {}, contract {}, server {}".format(chain_id, *shown)


def _forgotten(task: TaskId, round_number: Round) -> VerificationError:
    return VerificationError(
        "this server may have answered in this round before its store was restored",
        hint="it answers again from the next round on",
        task=task,
        round=round_number,
    )


def _owners(task: TaskId, round_number: Round) -> CompoundSelect[Any]:
    """Select the owners with a receipt or a held package."""
    return union(
        *(
            select(table.c.owner).where(table.c.task == task, table.c.round == round_number)
            for table in (schema.receipts, schema.held_packages)
        )
    )
