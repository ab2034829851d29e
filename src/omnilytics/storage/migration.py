"""Which schema a database has, and the step to this program's.

A fresh database is made by the migrations too, so there is one way to every schema. A database
with another schema is refused, never changed unasked. A migration is one transaction: it is there
or not, whatever happens meanwhile.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, inspect, make_url, text

from omnilytics.foundation.errors import ConfigError
from omnilytics.storage.database import MIGRATION_LOCK, Database

REVISIONS = ("0001", "0002", "0003")
"""All schemas that this program knows, in their order; the last is the one it works with."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_ALEMBIC = threading.Lock()  # alembic keeps what it works on in global variables


class Schema(StrEnum):
    """How a database's schema relates to this program's."""

    EMPTY = "empty"
    CURRENT = "current"
    OLDER = "older"
    UNKNOWN = "unknown"
    """Of a later program, most likely."""
    FOREIGN = "foreign"
    """Tables that are not this program's."""


@dataclass(frozen=True)
class SchemaState:
    """What `schema_state` found."""

    schema: Schema
    revision: str | None
    """The database's own name for its schema."""
    want: str = REVISIONS[-1]


def schema_state(url: str) -> SchemaState:
    """Return the state of the schema of the database at `url`, which is not changed."""
    database = Database(url)
    try:
        if _is_missing_file(url):
            return SchemaState(Schema.EMPTY, None)
        with database.reading() as connection:
            return read_state(connection)
    finally:
        database.close()


def migrate(url: str) -> SchemaState:
    """Bring the database at `url` to this program's schema; return the state it was in before.

    Back up first: there is no way back.

    Raises:
        ConfigError: The schema is not one that this program knows.
    """
    database = Database(url)
    try:
        with database.batch() as connection:
            database.hold(MIGRATION_LOCK)  # another process may be doing the same
            before = read_state(connection)
            _refuse(before, database.place, Schema.UNKNOWN, Schema.FOREIGN)
            upgrade(connection, before)
        return before
    finally:
        database.close()


def open_schema(database: Database) -> None:
    """Make the schema of an empty database; raises ConfigError where it has another one."""
    with database.reading() as connection:
        state = read_state(connection)
    if state.schema == Schema.CURRENT:
        return
    with database.batch() as connection:
        database.hold(MIGRATION_LOCK)
        state = read_state(connection)
        _refuse(state, database.place, Schema.UNKNOWN, Schema.FOREIGN, Schema.OLDER)
        upgrade(connection, state)


def upgrade(connection: Connection, state: SchemaState, revision: str = REVISIONS[-1]) -> None:
    """Run the migrations from `state` up to a revision, in the transaction of `connection`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _ALEMBIC:
        if state.schema == Schema.OLDER and not inspect(connection).has_table("alembic_version"):
            command.stamp(config, REVISIONS[0])  # made before there were migrations
        command.upgrade(config, revision)


def read_state(connection: Connection) -> SchemaState:
    """Return the state of the schema, seen from within a transaction."""
    tables = set(inspect(connection).get_table_names())
    revision = None
    if "alembic_version" in tables:
        row = connection.execute(text("SELECT version_num FROM alembic_version")).one_or_none()
        revision = None if row is None else str(row[0])
    if revision is None:
        return _unnumbered(tables - {"alembic_version"}, connection)
    if revision == REVISIONS[-1]:
        return SchemaState(Schema.CURRENT, revision)
    known = Schema.OLDER if revision in REVISIONS else Schema.UNKNOWN
    return SchemaState(known, revision)


def _unnumbered(tables: set[str], connection: Connection) -> SchemaState:
    """Tell the schema of version 0.1, which had a number of its own, from an empty database."""
    if not tables:
        return SchemaState(Schema.EMPTY, None)
    if "identity" not in tables or "schema_version" not in {
        column["name"] for column in inspect(connection).get_columns("identity")
    }:
        return SchemaState(Schema.FOREIGN, None)
    number = connection.execute(text("SELECT schema_version FROM identity")).scalar()
    return SchemaState(Schema.OLDER if number == 1 else Schema.UNKNOWN, f"schema {number}")


def _refuse(state: SchemaState, place: str, *refused: Schema) -> None:
    if state.schema not in refused:
        return
    message, hint = {
        Schema.OLDER: (
            "the database has the schema of an earlier version",
            "stop the server, back up, then run `omnilytics server migrate`",
        ),
        Schema.UNKNOWN: (
            "the database has a schema that this version does not know",
            "install the version that made it or a later one, then run `omnilytics server migrate`",
        ),
        Schema.FOREIGN: (
            "the database holds tables of another program",
            "name an empty database, then run `omnilytics server migrate`",
        ),
    }[state.schema]
    raise ConfigError(message, got=state.revision, want=state.want, hint=hint, database=place)


def _is_missing_file(url: str) -> bool:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database is None:
        return False
    return not Path(parsed.database).exists()
