"""The schema: made by migrations alone, the same on both databases, any other one refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from storage_databases import BOTH, digest, open_store, opened, url_fixture

from omnilytics.foundation.errors import ConfigError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.storage import schema
from omnilytics.storage.database import Database
from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.storage.migration import (
    REVISIONS,
    Schema,
    SchemaState,
    migrate,
    read_state,
    schema_state,
    upgrade,
)

url = pytest.fixture(params=BOTH)(url_fixture)
EMPTY = SchemaState(Schema.EMPTY, None)
CURRENT = SchemaState(Schema.CURRENT, REVISIONS[-1])


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


def make(connection: Connection, revision: str) -> None:
    upgrade(connection, read_state(connection), revision)


def change(database: Database, statement: str) -> None:
    with database.batch() as connection:
        connection.execute(text(statement))


def test_the_migrations_make_exactly_the_tables_of_the_metadata(
    url: str, database: Database
) -> None:
    migrate(url)
    with database.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, schema.metadata) == []
        # What alembic does not compare.
        inspector = inspect(connection)
        for table in schema.metadata.sorted_tables:
            key = inspector.get_pk_constraint(table.name)["constrained_columns"]
            assert key == [column.name for column in table.primary_key.columns], table.name
            made = {column["name"]: column for column in inspector.get_columns(table.name)}
            assert list(made) == [column.name for column in table.columns], table.name
            for column in table.columns:
                assert made[column.name]["nullable"] == column.nullable, column
            indexes = {
                (one["name"], tuple(one["column_names"]), bool(one["unique"]))
                for one in inspector.get_indexes(table.name)
            }
            assert indexes == {
                (str(one.name), tuple(column.name for column in one.columns), one.unique or False)
                for one in table.indexes
            }


def test_the_comparison_would_notice_a_change(url: str, database: Database) -> None:
    migrate(url)
    change(database, "ALTER TABLE outbox DROP COLUMN gas")
    change(database, "DROP INDEX request_nonces_by_age")
    with database.reading() as connection:
        found = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    assert {str(one[0]) for one in found} == {"add_column", "add_index"}


def test_the_migrations_are_known_and_shipped() -> None:
    folder = resources.files("omnilytics.storage") / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(one.revision for one in scripts.walk_revisions())[::-1] == REVISIONS
    assert (folder / "env.py").is_file()


def test_every_state_is_told_apart(url: str, database: Database) -> None:
    assert schema_state(url) == EMPTY
    assert migrate(url) == EMPTY
    assert schema_state(url) == CURRENT
    assert migrate(url) == CURRENT  # again changes nothing
    change(database, "UPDATE alembic_version SET version_num = '0001'")
    assert schema_state(url) == SchemaState(Schema.OLDER, "0001")
    change(database, "UPDATE alembic_version SET version_num = '9999'")
    assert schema_state(url) == SchemaState(Schema.UNKNOWN, "9999")
    change(database, "DROP TABLE alembic_version")
    assert schema_state(url) == SchemaState(Schema.FOREIGN, None)


def test_looking_makes_no_file(tmp_path: Path) -> None:
    assert schema_state(f"sqlite:///{tmp_path / 'server.db'}") == EMPTY
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("statement", "message", "command"),
    [
        ("UPDATE alembic_version SET version_num = '0001'", "earlier version", "server migrate"),
        ("UPDATE alembic_version SET version_num = '9999'", "does not know", "later one"),
        ("DROP TABLE alembic_version", "another program", "server migrate"),
    ],
)
def test_another_schema_is_refused_with_what_to_do(
    tmp_path: Path, url: str, database: Database, statement: str, message: str, command: str
) -> None:
    open_store(tmp_path / "data", url).close()
    change(database, statement)
    with pytest.raises(ConfigError, match=message) as caught:
        open_store(tmp_path / "data", url)
    assert caught.value.hint is not None
    assert command in caught.value.hint
    assert "omnilytics server migrate" in caught.value.hint


@pytest.mark.parametrize(
    "statement",
    ["UPDATE alembic_version SET version_num = '9999'", "DROP TABLE alembic_version"],
)
def test_what_is_unknown_is_not_migrated(url: str, database: Database, statement: str) -> None:
    migrate(url)
    change(database, statement)
    with pytest.raises(ConfigError, match=r"does not know|another program"):
        migrate(url)


def test_a_store_of_the_first_schema_keeps_everything(
    tmp_path: Path, url: str, database: Database
) -> None:
    with database.batch() as connection:
        make(connection, "0001")
        rows = {"contract": digest("contract")[:20], "server": digest("server")[:20]}
        insert = "INSERT INTO identity VALUES (1, 1, 1, :contract, :server)"
        connection.execute(text(insert), rows)
        lock = {"value": digest("value"), "nonce": digest("nonce")}
        connection.execute(text("INSERT INTO locks VALUES (1, 2, 'seed', :value)"), lock)
        connection.execute(text("INSERT INTO request_nonces VALUES (:nonce)"), lock)
    with pytest.raises(ConfigError, match="earlier version"):
        open_store(tmp_path / "data", url)
    assert migrate(url) == SchemaState(Schema.OLDER, "0001")
    with opened(tmp_path / "data", url) as repository:
        held = repository.lock(TaskId(1), Round(2), "seed", digest("another"))
        assert held == digest("value")
        assert not repository.use_nonce(digest("nonce"))
        with repository.database.reading() as connection:
            used = connection.execute(text("SELECT used_at FROM request_nonces")).scalar_one()
            assert used > 1_600_000_000  # not so old that it is forgotten at once


def test_a_store_of_the_second_schema_keeps_everything(
    tmp_path: Path, url: str, database: Database
) -> None:
    """What the third throws away no process ever filled."""
    with database.batch() as connection:
        make(connection, "0002")
        rows = {"contract": digest("contract")[:20], "server": digest("server")[:20]}
        insert = "INSERT INTO identity VALUES (1, 1, :contract, :server)"
        connection.execute(text(insert), rows)
        lock = {"value": digest("value")}
        connection.execute(text("INSERT INTO locks VALUES (1, 2, 'seed', :value)"), lock)
        connection.execute(text("INSERT INTO cursors VALUES ('market', 7, :value)"), lock)
    with pytest.raises(ConfigError, match="earlier version"):
        open_store(tmp_path / "data", url)
    assert migrate(url) == SchemaState(Schema.OLDER, "0002")
    with opened(tmp_path / "data", url) as repository:
        held = repository.lock(TaskId(1), Round(2), "seed", digest("another"))
        assert held == digest("value")
        with repository.database.reading() as connection:
            assert connection.execute(text("SELECT count(*) FROM cursors")).scalar_one() == 0


def test_a_store_of_before_the_migrations_is_migrated(
    tmp_path: Path, url: str, database: Database
) -> None:
    with database.batch() as connection:
        make(connection, "0001")
        connection.execute(text("DROP TABLE alembic_version"))
        rows = {"contract": digest("contract")[:20], "server": digest("server")[:20]}
        insert = "INSERT INTO identity VALUES (1, 1, 1, :contract, :server)"
        connection.execute(text(insert), rows)
    assert schema_state(url) == SchemaState(Schema.OLDER, "schema 1")
    with pytest.raises(ConfigError, match="earlier version"):
        open_store(tmp_path / "data", url)
    migrate(url)
    open_store(tmp_path / "data", url).close()


def test_a_migration_that_fails_leaves_nothing(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Database.hold

    def hold_then_block(self: Database, lock: int, *, shared: bool = False) -> None:
        real(self, lock, shared=shared)
        with self.batch() as connection:  # the last table is there already
            connection.execute(text("CREATE TABLE outbox (hash INTEGER)"))
            connection.execute(text("CREATE TABLE identity_ (hash INTEGER)"))

    with monkeypatch.context() as patch:
        patch.setattr(Database, "hold", hold_then_block)
        patch.setattr("omnilytics.storage.migration.read_state", lambda _connection: EMPTY)
        with pytest.raises((StorageUnavailableError, Exception), match="outbox"):
            migrate(url)
    assert schema_state(url) == EMPTY
    assert migrate(url) == EMPTY


def test_many_openers_make_one_schema(tmp_path: Path, url: str) -> None:
    def once(_number: int) -> None:
        open_store(tmp_path / "data", url).close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(once, range(4)))
    assert schema_state(url) == CURRENT


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    path.write_bytes(b"not a database, but long enough to have been one" * 100)
    with pytest.raises((ConfigError, StorageUnavailableError)) as caught:
        open_store(tmp_path, f"sqlite:///{path}")
    assert str(path) in str(caught.value)
    assert path.read_bytes().startswith(b"not a database")


def test_another_programs_tables_stay_untouched(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    connection.close()
    with pytest.raises(ConfigError, match="another program"):
        open_store(tmp_path, f"sqlite:///{path}")
    assert schema_state(f"sqlite:///{path}").schema == Schema.FOREIGN


@pytest.mark.parametrize(
    "wrong", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://host/name"]
)
def test_urls_of_other_kinds_are_refused(wrong: str) -> None:
    with pytest.raises(ConfigError):
        Database(wrong)


def test_a_password_is_not_shown() -> None:
    url = "postgresql+psycopg://user:secret-word@127.0.0.1:1/name"
    database = Database(url)
    assert "secret-word" not in database.place
    with pytest.raises(StorageUnavailableError) as caught, database.reading():
        pass
    error = caught.value
    assert "secret-word" not in f"{error} {error.hint} {error!r} {error.__cause__}"
    database.close()
