"""One database by URL, SQLite or PostgreSQL, with the same promises on both.

A write is on the device when the method that made it returns, or with the others of its `batch`
when that ends. SQLite runs in WAL mode with a full sync and one writer at a time. PostgreSQL runs
READ COMMITTED with `synchronous_commit`; a server that has `fsync` switched off is refused, because
a receipt must survive a power cut (protocol.md section 6.2).

What is not promised: a batch that meets a deadlock on PostgreSQL fails as a whole with
StorageUnavailableError; its caller repeats it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError

from omnilytics.foundation.errors import ConfigError
from omnilytics.storage.errors import database_busy, database_errors
from omnilytics.storage.sqlite_file import SameFile

POSTGRESQL = "postgresql+psycopg"
BUSY_SECONDS = 5
"""How long a statement waits for another writer before it fails."""

_WRITES = "omnilytics_writes"
_LOCK_SPACE = 0x6F6D6E69  # tells this program's advisory locks from others in one database
FILES_LOCK = 1
"""Held while files and the rows that name them change together."""
MIGRATION_LOCK = 2
OUTBOX_LOCK = 3
EVENTS_LOCK = 4


def default_url(folder: Path) -> str:
    """Return the URL of the SQLite database that a data folder has by default."""
    return f"sqlite:///{folder.absolute() / 'server.db'}"


class _Batches(threading.local):
    """The open transaction of each thread."""

    connection: Connection | None = None


class Database:
    """Connections to one database; see the module docstring."""

    def __init__(self, url: str) -> None:
        """Prepare connections; raises ConfigError for a URL of another kind."""
        parsed = _parse(url)
        self.place = parsed.render_as_string(hide_password=True)
        """The URL as it may be shown."""
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(parsed) if self.is_sqlite else _postgresql_engine(parsed)
        self._batches = _Batches()
        self._writers = threading.Lock()

    def close(self) -> None:
        """Release the connections."""
        self.engine.dispose()

    @contextmanager
    def batch(self) -> Iterator[Connection]:
        """Commit all writes of the block together, at its end; none if it raises.

        Of this thread only, and with no waiting inside: on SQLite the database is locked
        meanwhile. A batch inside another one is a part of it.
        """
        if self._batches.connection is not None:
            yield self._batches.connection
            return
        options = {_WRITES: True}
        with (
            self._one_writer(),
            database_errors(self.place),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            self._batches.connection = connection
            try:
                yield connection
            finally:
                self._batches.connection = None

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        """Let this process's writers to SQLite follow each other without a pause.

        SQLite looks again after ever longer pauses: of many writers the unlucky ones wait seconds.
        """
        if not self.is_sqlite:
            yield
            return
        if not self._writers.acquire(timeout=BUSY_SECONDS):
            raise database_busy(self.place)
        try:
            yield
        finally:
            self._writers.release()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give the connection of this thread's batch, which sees its own writes, or a fresh one."""
        if self._batches.connection is not None:
            yield self._batches.connection
            return
        with database_errors(self.place), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Give a connection whose queries all see the database as of one moment."""
        level = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with (
            database_errors(self.place),
            self.engine.connect().execution_options(**level) as connection,
            connection.begin(),
        ):
            yield connection

    def insert(self, table: Table, **values: object) -> bool:
        """Insert a row; return False where its key exists. Committed at once or by `batch`.

        Of several processes that insert one key at the same time, one gets True; the others get
        False only once that row is committed.
        """
        insert = sqlite.insert if self.is_sqlite else postgresql.insert
        statement = insert(table).values(**values).on_conflict_do_nothing()
        with self.batch() as connection:
            # Of an insertion the number of rows is else not kept on every driver.
            options = {"preserve_rowcount": True}
            return connection.execute(statement, execution_options=options).rowcount == 1

    def hold(self, lock: int, *, shared: bool = False) -> None:
        """Exclude other processes' holders of `lock` until this batch ends.

        Shared holders exclude only the others. On SQLite every batch excludes all others anyway.
        """
        connection = self._batches.connection
        assert connection is not None, "a lock is held by a batch"
        if not self.is_sqlite:
            function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
            connection.execute(text(f"SELECT {function}({_LOCK_SPACE}, {lock})"))

    @contextmanager
    def exclusive(self, lock: int, *, wait_seconds: int) -> Iterator[None]:
        """Exclude other processes' holders of `lock`, with no transaction open on any table.

        For work that waits for others, on a connection of its own: if the process ends, or loses
        the database, the lock is free. SQLite, which serves one process, needs none.

        Raises:
            StorageUnavailableError: Another process holds it for longer than `wait_seconds`, or
                the database was lost meanwhile: others may have held it then.
        """
        if self.is_sqlite:
            yield
            return
        with database_errors(self.place), self.engine.connect() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{wait_seconds}s'"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_SPACE}, {lock})"))
            yield

    def now(self) -> int:
        """Return the unix time in seconds of the clock that all users of this database share."""
        if self.is_sqlite:
            return int(time.time())
        with self.reading() as connection:
            query = text("SELECT CAST(floor(extract(epoch FROM clock_timestamp())) AS bigint)")
            return int(connection.execute(query).scalar_one())


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            "not the URL of a database", want=f"sqlite:///... or {POSTGRESQL}://..."
        ) from error
    in_file = parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:")
    if not in_file and parsed.drivername != POSTGRESQL:
        raise ConfigError(
            "no such kind of database",
            got=parsed.drivername,
            want=f"sqlite:///file or {POSTGRESQL}://user@host/name",
        )
    return parsed


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, hide_parameters=True)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    SameFile(Path(url.database or "")).watch(engine)
    return engine


def _configure_sqlite(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # transactions begin below
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute(f"PRAGMA busy_timeout = {1_000 * BUSY_SECONDS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a receipt must survive a power cut
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer that starts as a reader fails at once where another wrote in between, however long
    # it would have waited.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,  # the database may have been restarted since
        connect_args={
            "connect_timeout": BUSY_SECONDS,
            "application_name": "omnilytics",
            "options": f"-c synchronous_commit=on -c lock_timeout={BUSY_SECONDS}s",
        },
    )
    event.listen(engine, "connect", _check_postgresql)
    return engine


def _check_postgresql(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    try:
        for setting in ("fsync", "full_page_writes"):
            (value,) = cursor.execute(f"SHOW {setting}").fetchone()
            if value != "on":
                raise ConfigError(
                    "the database would lose receipts in a power cut",
                    got=f"{setting} = {value}",
                    want=f"{setting} = on",
                    hint=f"set `{setting} = on` in postgresql.conf and reload",
                )
    finally:
        cursor.close()
        connection.rollback()  # type: ignore[attr-defined]
