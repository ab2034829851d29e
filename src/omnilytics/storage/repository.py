"""A server's durable state (protocol.md sections 6 and 7), over SQLAlchemy.

Rules that live here because a database enforces them across restarts: one commitment per owner and
round for a receipt, one value per lock (seed lock, final lock), one use per request nonce, and
public records that are only ever added. Every write is committed before the method
returns, or with the others of its `batch`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    CompoundSelect,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    bindparam,
    create_engine,
    event,
    func,
    select,
    union,
)
from sqlalchemy.dialects import sqlite

from omnilytics.foundation.errors import ConfigError, VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, show_address
from omnilytics.storage.files import ContentFiles
from omnilytics.wire.hashing import content_hash

SCHEMA_VERSION = 1

_metadata = MetaData()
_identity = Table(
    "identity",
    _metadata,
    Column("only", Integer, primary_key=True),
    Column("schema_version", Integer, nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("contract", LargeBinary(20), nullable=False),
    Column("server", LargeBinary(20), nullable=False),
)
_records = Table(
    "records",
    _metadata,
    Column("task", BigInteger),
    Column("round", Integer),
    Column("kind", String(32)),
    Column("server", Integer),
    Column("subject", LargeBinary(64)),
    Column("digest", LargeBinary(32)),
    Column("body", LargeBinary, nullable=False),
    Column("received_block", BigInteger, nullable=False),
    PrimaryKeyConstraint("task", "round", "kind", "server", "subject", "digest"),
)
_submissions = Table(
    "submissions",
    _metadata,
    Column("task", BigInteger),
    Column("round", Integer),
    Column("owner", LargeBinary(20)),
    Column("commitment", LargeBinary(32)),
    Column("package", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("task", "round", "owner", "commitment"),
)
_receipts = Table(
    "receipts",
    _metadata,
    Column("task", BigInteger),
    Column("round", Integer),
    Column("owner", LargeBinary(20)),
    Column("commitment", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("task", "round", "owner"),
)
_held = Table(
    "held_packages",
    _metadata,
    Column("task", BigInteger),
    Column("round", Integer),
    Column("server", Integer),
    Column("owner", LargeBinary(20)),
    Column("package", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("task", "round", "server", "owner"),
)
_locks = Table(
    "locks",
    _metadata,
    Column("task", BigInteger),
    Column("round", Integer),
    Column("kind", String(32)),
    Column("value", LargeBinary(64), nullable=False),
    PrimaryKeyConstraint("task", "round", "kind"),
)
_nonces = Table("request_nonces", _metadata, Column("nonce", LargeBinary(32), primary_key=True))
_published = Table("published", _metadata, Column("content", LargeBinary(32), primary_key=True))


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


class _Batches(threading.local):
    """The open batch of each thread."""

    connection: Connection | None = None


_INSERTS = {"sqlite": sqlite.insert}

# The most frequent query, built once: building it anew costs more than running it.
_RECORDS = (
    select(_records)
    .where(
        _records.c.task == bindparam("task"),
        _records.c.round == bindparam("round"),
        _records.c.kind.in_(bindparam("kinds", expanding=True)),
    )
    .order_by(_records.c.kind, _records.c.server, _records.c.subject, _records.c.digest)
)


class Repository:
    """One server's database and files in one folder."""

    def __init__(self, folder: Path, *, chain_id: int, contract: Address, server: Address) -> None:
        """Open or create; raises ConfigError where the folder is another server's or schema's."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)  # it holds shares, whatever its mode was before
        self.files = ContentFiles(folder / "content")
        self._engine = create_engine(f"sqlite:///{folder / 'server.db'}", hide_parameters=True)
        self._batches = _Batches()
        event.listen(self._engine, "connect", _configure_sqlite)
        _metadata.create_all(self._engine)
        self._claim_identity(folder, chain_id, contract, server)

    def close(self) -> None:
        """Release the database connections."""
        self._engine.dispose()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Commit all writes of the block together, at its end; none if it raises.

        Of this thread only, and with no waiting inside: the database is locked meanwhile.
        """
        with self._engine.begin() as connection:
            self._batches.connection = connection
            try:
                yield
            finally:
                self._batches.connection = None

    # public records

    def add_record(self, task: TaskId, round_number: Round, record: PublicRecord) -> bool:
        """Add a record; return False where the same one was there already."""
        return self._insert(
            _records,
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
        with self._reading() as connection:
            return [
                PublicRecord(
                    kind=row.kind,
                    server=row.server,
                    subject=row.subject,
                    body=row.body,
                    received_block=row.received_block,
                )
                for row in connection.execute(_RECORDS, values)
            ]

    # submissions

    def add_package(
        self, task: TaskId, round_number: Round, owner: Address, commitment: Hash32, package: bytes
    ) -> None:
        """Store a checked package durably; a repeat changes nothing."""
        if self.package(task, round_number, owner, commitment) is not None:
            return
        name = self.files.put(package)  # on disk before the row that names it
        self._insert(
            _submissions,
            task=task,
            round=round_number,
            owner=owner,
            commitment=commitment,
            package=name,
        )

    def package(
        self, task: TaskId, round_number: Round, owner: Address, commitment: Hash32
    ) -> bytes | None:
        """Return the stored package of one submission."""
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
        columns = _submissions.c
        query = select(columns.package).where(
            columns.task == task,
            columns.round == round_number,
            columns.owner == owner,
            columns.commitment == commitment,
        )
        with self._reading() as connection:
            name = connection.execute(query).scalar_one_or_none()
        return None if name is None else Hash32(name)

    def claim_receipt(
        self, task: TaskId, round_number: Round, owner: Address, commitment: Hash32
    ) -> None:
        """Record that a receipt is given; raises VerificationError for a second commitment."""
        self._insert(_receipts, task=task, round=round_number, owner=owner, commitment=commitment)
        columns = _receipts.c
        query = select(columns.commitment).where(
            columns.task == task, columns.round == round_number, columns.owner == owner
        )
        with self._reading() as connection:
            first = Hash32(connection.execute(query).scalar_one())
        if first != commitment:
            raise VerificationError(
                "the owner already submitted in this round",
                got=commitment.hex(),
                want=first.hex(),
                owner=show_address(owner),
            )

    def owner_count(self, task: TaskId, round_number: Round) -> int:
        """Return how many owners have a receipt or a held package in this round."""
        query = select(func.count()).select_from(_owners(task, round_number).subquery())
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def knows_owner(self, task: TaskId, round_number: Round, owner: Address) -> bool:
        """Tell whether the owner has a receipt or a held package in this round."""
        with self._reading() as connection:
            rows = connection.execute(_owners(task, round_number))
            return any(bytes(row.owner) == owner for row in rows)

    def add_held(
        self, task: TaskId, round_number: Round, server: int, owner: Address, package: bytes
    ) -> Hash32:
        """Keep another server's sealed package; return the hash of the one kept first."""
        first = self._held_name(task, round_number, server, owner)
        if first is not None:  # a second one must not fill the disk
            return first
        name = self.files.put(package)
        self._insert(_held, task=task, round=round_number, server=server, owner=owner, package=name)
        kept = self._held_name(task, round_number, server, owner)
        assert kept is not None
        return kept

    def held(self, task: TaskId, round_number: Round, server: int, owner: Address) -> bytes | None:
        """Return the sealed package kept for `server`, if any."""
        name = self._held_name(task, round_number, server, owner)
        return None if name is None else self.files.get(name)

    # locks, nonces, published content

    def lock(self, task: TaskId, round_number: Round, kind: str, value: bytes) -> bytes:
        """Store `value` unless the lock already has one; return the value that holds."""
        self._insert(_locks, task=task, round=round_number, kind=kind, value=value)
        columns = _locks.c
        query = select(columns.value).where(
            columns.task == task, columns.round == round_number, columns.kind == kind
        )
        with self._reading() as connection:
            return bytes(connection.execute(query).scalar_one())

    def use_nonce(self, nonce: Hash32) -> bool:
        """Record a request's nonce; return False where it was used before."""
        return self._insert(_nonces, nonce=nonce)

    def publish(self, content: bytes) -> Hash32:
        """Store content that anyone may fetch by its hash."""
        name = self.files.put(content)
        self._insert(_published, content=name)
        return name

    def published(self, name: Hash32) -> bytes | None:
        """Return published content; shares, which are files too, are never returned."""
        query = select(_published).where(_published.c.content == name)
        with self._reading() as connection:
            if connection.execute(query).one_or_none() is None:
                return None
        return self.files.get(name)

    def _held_name(
        self, task: TaskId, round_number: Round, server: int, owner: Address
    ) -> Hash32 | None:
        columns = _held.c
        query = select(columns.package).where(
            columns.task == task,
            columns.round == round_number,
            columns.server == server,
            columns.owner == owner,
        )
        with self._reading() as connection:
            name = connection.execute(query).scalar_one_or_none()
        return None if name is None else Hash32(name)

    def _insert(self, table: Table, **values: object) -> bool:
        """Insert a row; return False where its key exists. Committed at once or by `batch`."""
        insert = _INSERTS[self._engine.dialect.name]
        statement = insert(table).values(**values).on_conflict_do_nothing()
        connection = self._batches.connection
        if connection is not None:
            return connection.execute(statement).rowcount == 1
        with self._engine.begin() as fresh:
            return fresh.execute(statement).rowcount == 1

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Give the connection of this thread's batch, which sees its own writes, or a fresh one."""
        if self._batches.connection is not None:
            yield self._batches.connection
        else:
            with self._engine.connect() as connection:
                yield connection

    def _claim_identity(
        self, folder: Path, chain_id: int, contract: Address, server: Address
    ) -> None:
        mine = (SCHEMA_VERSION, chain_id, contract, server)
        self._insert(
            _identity,
            only=1,
            schema_version=SCHEMA_VERSION,
            chain_id=chain_id,
            contract=contract,
            server=server,
        )
        with self._engine.connect() as connection:
            row = connection.execute(select(_identity)).one()
        stored = (row.schema_version, row.chain_id, row.contract, row.server)
        if stored != mine:
            self.close()
            raise ConfigError(
                "the data folder belongs to another server, contract or version",
                got=_show_identity(*stored),
                want=_show_identity(*mine),
                hint="name another data folder",
                folder=folder,
            )


def _show_identity(schema: int, chain_id: int, contract: Address, server: Address) -> str:
    return (
        f"schema {schema}, chain {chain_id}, "
        f"contract {show_address(contract)}, server {show_address(server)}"
    )


def _owners(task: TaskId, round_number: Round) -> CompoundSelect[Any]:
    """Select the owners with a receipt or a held package."""
    return union(
        *(
            select(table.c.owner).where(table.c.task == task, table.c.round == round_number)
            for table in (_receipts, _held)
        )
    )


def _configure_sqlite(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a receipt must survive a power cut
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.close()
