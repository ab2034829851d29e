"""Back-up and restoration of a server's store, with everything verified.

A back-up is a folder:

    manifest.json       format, schema, identity, and the hash of everything else
    manifest.blake3     the hash of manifest.json
    rows/<table>.jsonl  the rows of each table in the order of its key, bytes as hex
    content/            every file that a row names, under its hash

It is the same for SQLite and PostgreSQL, so it also moves a server from one to the other. It is
made while the server runs: all rows are of one moment, and garbage collection waits until the files
are copied. It appears under its name only when it is complete and flushed.

It holds shares in clear and outlives their deletion here: keep it encrypted, and not for longer
than the retention of shares.

A restored store has forgotten what was answered since. It is marked in the transaction that fills
it and refuses to answer until `reconciliation.reconcile`: read that module before restoring.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from blake3 import blake3
from sqlalchemy import Connection, LargeBinary, MetaData, Table, insert, select

from omnilytics.foundation.errors import ConfigError
from omnilytics.foundation.units import Hash32
from omnilytics.storage import schema
from omnilytics.storage.database import MIGRATION_LOCK, Database, default_url
from omnilytics.storage.errors import disk_errors
from omnilytics.storage.file_guard import guarded
from omnilytics.storage.files import ContentFiles, sync
from omnilytics.storage.migration import REVISIONS, Schema, read_state, upgrade
from omnilytics.storage.repository import Repository
from omnilytics.storage.retention import file_names
from omnilytics.wire.hashing import content_hash

FORMAT = 1
RESTORED = "restored"
"""Cause of a reconciliation."""
_ROWS_AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class BackupManifest:
    """What a back-up consists of."""

    format: int
    revision: str
    """Of the schema."""
    created: int
    """Unix seconds."""
    tables: dict[str, str]
    """BLAKE3 of each table's file of rows, in hex."""
    rows: dict[str, int]
    """How many there are."""
    files: dict[str, int]
    """Hash and size in bytes of each file."""
    lost: tuple[str, ...]
    """Hashes of files that rows name, but that were missing or damaged when it was made."""


def backup(repository: Repository, target: Path, *, now: int) -> BackupManifest:
    """Write a back-up of the whole store to a new folder; the server may be running.

    Args:
        repository: The store.
        target: A folder that does not exist yet; best on another disk.
        now: Unix seconds, for the manifest.

    Raises:
        ConfigError: `target` exists.
        StorageUnavailableError: Garbage is being collected, or the disk is full.
    """
    if target.exists():
        raise ConfigError("the folder for the back-up exists", hint="name a new one", folder=target)
    partial = target.with_name(f"{target.name}.{os.urandom(4).hex()}.partial")
    with disk_errors(target), guarded(repository.files, exclusive=False):
        (partial / "rows").mkdir(mode=0o700, parents=True)
        partial.chmod(0o700)
        with repository.database.snapshot() as connection:
            manifest = _write_backup(repository, connection, partial, now)
        sync(partial / "rows")
        sync(partial)
        partial.rename(target)
        sync(target.parent)
    return manifest


def restore(source: Path, folder: Path, *, database_url: str | None = None) -> BackupManifest:
    """Fill an empty store from a back-up and mark it as not reconciled.

    Everything is verified against the manifest before the database is touched. After a crash the
    same call starts over.

    Args:
        source: The back-up.
        folder: The data folder; it has no database yet.
        database_url: The database, empty; None for SQLite in `folder`.

    Raises:
        ConfigError: The back-up is damaged, incomplete or of an unknown version, or the database
            is not empty.
    """
    manifest = verify_backup(source)
    with disk_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    database = Database(database_url or default_url(folder))
    try:
        with database.reading() as connection:
            _check_empty(database, connection)
        files = ContentFiles(folder / "content")
        for name in manifest.files:  # before the rows that name them
            files.put((source / "content" / name).read_bytes())
        with database.batch() as connection:
            database.hold(MIGRATION_LOCK)
            _check_empty(database, connection)
            # One transaction: without its rows and its mark the store would look new.
            _fill(connection, source, manifest)
            database.insert(schema.reconciliation, only=1, cause=RESTORED)
    finally:
        database.close()
    return manifest


def verify_backup(source: Path) -> BackupManifest:
    """Return the manifest of a back-up; raises ConfigError unless all of it is there and whole."""
    manifest = _read_manifest(source)
    for name, digest in manifest.tables.items():
        if _hash_file(source / "rows" / f"{name}.jsonl") != digest:
            raise _damaged(source, f"rows/{name}.jsonl")
    for name in manifest.files:
        if _hash_file(source / "content" / name) != name:
            raise _damaged(source, f"content/{name}")
    return manifest


# writing


def _write_backup(
    repository: Repository, connection: Connection, folder: Path, now: int
) -> BackupManifest:
    tables, rows = {}, {}
    for table in schema.metadata.sorted_tables:
        path = folder / "rows" / f"{table.name}.jsonl"
        tables[table.name], rows[table.name] = _write_rows(connection, table, path)
    files, lost = _copy_files(repository, file_names(connection), folder / "content")
    manifest = BackupManifest(
        format=FORMAT,
        revision=REVISIONS[-1],
        created=now,
        tables=tables,
        rows=rows,
        files=files,
        lost=tuple(lost),
    )
    text = json.dumps(asdict(manifest), indent=1).encode()
    _write_file(folder / "manifest.json", text)
    _write_file(folder / "manifest.blake3", content_hash(text).hex().encode())
    return manifest


def _write_rows(connection: Connection, table: Table, path: Path) -> tuple[str, int]:
    digest, count = blake3(), 0
    query = select(table).order_by(*table.primary_key.columns)
    with path.open("xb") as file:
        for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query):
            plain = {name: _plain(value) for name, value in row._asdict().items()}
            line = json.dumps(plain).encode() + b"\n"
            file.write(line)
            digest.update(line)
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), count


def _plain(value: object) -> object:
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else value


def _copy_files(
    repository: Repository, names: set[Hash32], folder: Path
) -> tuple[dict[str, int], list[str]]:
    """Copy what is whole; return sizes, and the names of what is not."""
    folder.mkdir(mode=0o700)
    copied, lost = {}, []
    for name in sorted(names):
        try:
            content = repository.files.get(name)
        except ConfigError:
            content = None
        if content is None:
            lost.append(name.hex())
            continue
        _write_file(folder / name.hex(), content)
        copied[name.hex()] = len(content)
    sync(folder)
    return copied, lost


def _write_file(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


# reading


def _read_manifest(source: Path) -> BackupManifest:
    try:
        text = (source / "manifest.json").read_bytes()
        stated = (source / "manifest.blake3").read_text()
    except FileNotFoundError as error:
        raise ConfigError("no back-up there, or an unfinished one", folder=source) from error
    if content_hash(text).hex() != stated:
        raise _damaged(source, "manifest.json")
    fields = json.loads(text)
    if fields.get("format") != FORMAT or fields.get("revision") not in REVISIONS:
        raise ConfigError(
            "the back-up is of another version",
            got=f"format {fields.get('format')}, schema {fields.get('revision')}",
            want=f"format {FORMAT}, schema <= {REVISIONS[-1]}",
            hint="install the version that made it or a later one",
            folder=source,
        )
    fields["lost"] = tuple(fields["lost"])
    return BackupManifest(**fields)


def _fill(connection: Connection, source: Path, manifest: BackupManifest) -> None:
    upgrade(connection, read_state(connection), manifest.revision)
    as_backed_up = MetaData()
    as_backed_up.reflect(connection)
    for name in manifest.tables:
        table = as_backed_up.tables[name]
        rows = _read_rows(table, source / "rows" / f"{name}.jsonl")
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            connection.execute(insert(table), some)
    upgrade(connection, read_state(connection))


def _read_rows(table: Table, path: Path) -> Iterator[dict[str, object]]:
    binary = {column.name for column in table.columns if isinstance(column.type, LargeBinary)}
    with path.open("rb") as file:
        for line in file:
            yield {
                name: bytes.fromhex(value) if name in binary and value is not None else value
                for name, value in json.loads(line).items()
            }


def _check_empty(database: Database, connection: Connection) -> None:
    if read_state(connection).schema != Schema.EMPTY:
        raise ConfigError(
            "a back-up is restored into an empty database only",
            hint="name a new data folder, or an empty database",
            database=database.place,
        )


def _hash_file(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            digest = blake3()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except FileNotFoundError:
        return None
    return str(digest.hexdigest())


def _damaged(source: Path, name: str) -> ConfigError:
    return ConfigError(
        "the back-up is damaged", hint="use another back-up", got=name, folder=source
    )
