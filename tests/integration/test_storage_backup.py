"""Back-ups are whole and consistent; a restored store gives no second answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import text
from storage_databases import (
    BOTH,
    NEEDS_POSTGRESQL,
    address,
    digest,
    new_url,
    opened,
    outbox_row,
    url_fixture,
)

from omnilytics.foundation.errors import ConfigError, VerificationError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.protocol.locks import FINAL_LOCK, SEED_LOCK
from omnilytics.storage import backup as backup_module
from omnilytics.storage import schema
from omnilytics.storage.backup import BackupManifest, backup, restore, verify_backup
from omnilytics.storage.chain_logs import BlockMark, ChainLogs, LogRow
from omnilytics.storage.database import Database
from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.storage.migration import REVISIONS, Schema, schema_state
from omnilytics.storage.reconciliation import OwnAnswer, reconcile, require_reconciliation
from omnilytics.storage.repository import PublicRecord, Repository
from omnilytics.wire.hashing import content_hash

url = pytest.fixture(params=BOTH)(url_fixture)
TASK, OTHER_TASK = TaskId(1), TaskId(2)
OWNER, NEWCOMER, SENDER = address("owner"), address("newcomer"), address("sender")
FIRST, SECOND = digest("first"), digest("second")


def fill(store: Repository) -> None:
    """Put something into every table; rounds 1 and 2 of a task."""
    record = PublicRecord(kind="words", server=1, subject=b"\x00\xff", body=b"", received_block=9)
    store.add_record(TASK, Round(1), record)
    store.add_package(TASK, Round(1), OWNER, FIRST, b"a package")
    store.claim_receipt(TASK, Round(1), OWNER, FIRST)
    store.add_held(TASK, Round(2), 3, OWNER, b"a sealed package")
    store.lock(TASK, Round(1), SEED_LOCK, FIRST * 2)
    store.lock(TASK, Round(3), "artefact 0", FIRST)
    store.publish(b"an artefact", task=TASK)
    store.publish(b"")
    store.use_nonce(digest("nonce"))
    logs = ChainLogs(store.database, "market")
    assert logs.advance(None, BlockMark(7, FIRST), [LOG], keep=9)
    assert store.jobs.acquire(TASK, "me", lease_seconds=10**6)
    store.outbox.add([outbox_row(SENDER, 0, FIRST)])


LOG = LogRow(
    block=7,
    log_index=0,
    block_hash=FIRST,
    transaction_hash=SECOND,
    address=OWNER,
    topics=bytes(32),
    data=b"data",
)


def rows(store: Repository) -> dict[str, list[tuple[object, ...]]]:
    found = {}
    with store.database.snapshot() as connection:
        for table in schema.metadata.sorted_tables:
            query = table.select().order_by(*table.primary_key.columns)
            found[table.name] = [tuple(row) for row in connection.execute(query)]
    return found


def make_backup(folder: Path, url: str, target: Path) -> BackupManifest:
    with opened(folder, url) as store:
        fill(store)
        return backup(store, target, now=5)


@pytest.mark.parametrize(
    "to", [pytest.param("sqlite"), pytest.param("postgresql", marks=NEEDS_POSTGRESQL)]
)
def test_a_restored_store_holds_the_same(tmp_path: Path, url: str, to: str) -> None:
    manifest = make_backup(tmp_path / "data", url, tmp_path / "backup")
    assert manifest.lost == ()
    assert len(manifest.files) == 4
    assert manifest == verify_backup(tmp_path / "backup")
    target = new_url(to, tmp_path / "new")
    restore(tmp_path / "backup", tmp_path / "new", database_url=target)
    with opened(tmp_path / "data", url) as old, opened(tmp_path / "new", target) as new:
        before, after = rows(old), rows(new)
        assert after.pop("reconciliation") == [(1, "restored")]
        assert before.pop("reconciliation") == []
        empty = [name for name, entries in before.items() if not entries]
        assert empty == ["barred_rounds"]
        assert after == before
        assert new.package(TASK, Round(1), OWNER, FIRST) == b"a package"
        assert new.held(TASK, Round(2), 3, OWNER) == b"a sealed package"
        assert new.published(content_hash(b"an artefact")) == b"an artefact"
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700


def test_a_backup_is_of_one_moment(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written while it is made is in all of it or in none of it."""
    begun, written = Event(), Event()
    real = backup_module._write_rows

    def write_rows(*arguments: object) -> tuple[str, int]:
        result = real(*arguments)  # type: ignore[arg-type]
        begun.set()
        assert written.wait(30)
        return result

    monkeypatch.setattr(backup_module, "_write_rows", write_rows)
    with opened(tmp_path / "data", url) as store:
        fill(store)
        made: list[BackupManifest] = []
        worker = Thread(target=lambda: made.append(backup(store, tmp_path / "backup", now=5)))
        worker.start()
        assert begun.wait(30)
        with store.batch():  # the server goes on
            for number in range(10, 20):
                store.claim_receipt(TASK, Round(number), NEWCOMER, FIRST)
                store.add_package(TASK, Round(number), NEWCOMER, FIRST, b"late %d" % number)
                store.lock(TASK, Round(number), SEED_LOCK, FIRST)
        written.set()
        worker.join()
    assert made[0].rows["receipts"] == 1
    assert made[0].rows["submissions"] == 1
    assert made[0].rows["locks"] == 2
    assert len(made[0].files) == 4


def test_a_restored_store_is_silent_until_reconciled(tmp_path: Path, url: str) -> None:
    make_backup(tmp_path / "data", url, tmp_path / "backup")
    shutil.rmtree(tmp_path / "data")
    target = new_url("sqlite", tmp_path / "new")
    restore(tmp_path / "backup", tmp_path / "new", database_url=target)
    for _ in range(2):  # a restart changes nothing
        with opened(tmp_path / "new", target) as store:
            for ask in (
                store.check_reconciled,
                lambda: store.lock(TASK, Round(1), SEED_LOCK, FIRST * 2),
                lambda: store.lock(OTHER_TASK, Round(9), SEED_LOCK, FIRST),
                lambda: store.claim_receipt(TASK, Round(1), OWNER, FIRST),
                lambda: store.add_held(TASK, Round(5), 3, OWNER, b"new"),
                lambda: store.use_nonce(digest("new nonce")),
            ):
                with pytest.raises(StorageUnavailableError, match="forgotten") as caught:
                    ask()
                assert "omnilytics server reconcile" in (caught.value.hint or "")
            assert store.package(TASK, Round(1), OWNER, FIRST) == b"a package"


def test_after_reconciliation_no_answer_is_given_twice(tmp_path: Path, url: str) -> None:
    """The server answered rounds 2 and 3 after the back-up, then lost its disk."""
    target = tmp_path / "backup"
    with opened(tmp_path / "data", url) as store:
        fill(store)
        backup(store, target, now=5)
        store.lock(TASK, Round(2), SEED_LOCK, FIRST)  # forgotten
        store.lock(TASK, Round(1), FINAL_LOCK, FIRST)  # forgotten
        store.claim_receipt(TASK, Round(2), NEWCOMER, FIRST)  # forgotten
    new = new_url("sqlite", tmp_path / "new")
    restore(target, tmp_path / "new", database_url=new)
    with opened(tmp_path / "new", new) as store:
        done = reconcile(store, {TASK: Round(3), OTHER_TASK: Round(0)})
        assert done.barred == {TASK: 3, OTHER_TASK: 0}
        assert (done.recovered, done.abandoned) == (0, 1)
    with opened(tmp_path / "new", new) as store:
        store.check_reconciled()
        # What the back-up holds may be repeated, and nothing else said.
        assert store.lock(TASK, Round(1), SEED_LOCK, SECOND) == FIRST * 2
        store.claim_receipt(TASK, Round(1), OWNER, FIRST)
        for number in (1, 2, 3):
            for value in (FIRST, SECOND):
                with pytest.raises(VerificationError, match="may have answered"):
                    store.lock(TASK, Round(number), FINAL_LOCK, value)
        for number in (2, 3):
            with pytest.raises(VerificationError, match="may have answered"):
                store.lock(TASK, Round(number), SEED_LOCK, SECOND)
        with pytest.raises(VerificationError, match="may have answered"):
            store.claim_receipt(TASK, Round(2), NEWCOMER, SECOND)
        with pytest.raises(VerificationError, match="may have answered"):
            store.add_held(TASK, Round(2), 3, NEWCOMER, b"another")
        with store.database.reading() as connection:  # a refusal leaves nothing
            assert connection.execute(text("SELECT count(*) FROM locks")).scalar_one() == 2
        # The next rounds are served.
        assert store.lock(TASK, Round(4), SEED_LOCK, SECOND) == SECOND
        store.claim_receipt(TASK, Round(4), NEWCOMER, SECOND)
        assert store.lock(OTHER_TASK, Round(1), SEED_LOCK, SECOND) == SECOND
        # The work of the lost process is free again; its transaction is not sent any more, and
        # the chain is read anew.
        assert store.jobs.acquire(TASK, "another", lease_seconds=60)
        assert store.outbox.rows(SENDER) == []
        assert ChainLogs(store.database, "market").read(-1) == ([], [])
        # Once more bars more, and never less.
        assert reconcile(store, {TASK: Round(6), OTHER_TASK: Round(1)}).barred[TASK] == 6
        assert reconcile(store, {TASK: Round(4), OTHER_TASK: Round(1)}).barred[TASK] == 6
        assert store.lock(TASK, Round(4), SEED_LOCK, FIRST) == SECOND


def test_a_chain_that_is_behind_does_not_reconcile(tmp_path: Path, url: str) -> None:
    with opened(tmp_path, url, reconcile_when_new=True) as store:
        reconcile(store, {})
        fill(store)
        store.lock(TASK, Round(5), SEED_LOCK, FIRST)
        require_reconciliation(store)
        for behind in ({}, {TASK: Round(4)}, {OTHER_TASK: Round(9)}):
            with pytest.raises(VerificationError, match="fewer rounds"):
                reconcile(store, behind)
            with pytest.raises(StorageUnavailableError):
                store.check_reconciled()
            with store.database.reading() as connection:
                query = text("SELECT count(*) FROM barred_rounds")
                assert connection.execute(query).scalar_one() == 0
        reconcile(store, {TASK: Round(5)})
        store.check_reconciled()


def test_own_answers_come_back_from_peers(tmp_path: Path, url: str) -> None:
    with opened(tmp_path, url, reconcile_when_new=True) as store:
        known = OwnAnswer(task=TASK, round=Round(2), kind=SEED_LOCK, value=FIRST)
        assert reconcile(store, {TASK: Round(2)}, own_answers=[known, known]).recovered == 1
        assert store.lock(TASK, Round(2), SEED_LOCK, SECOND) == FIRST
        with pytest.raises(VerificationError, match="may have answered"):
            store.lock(TASK, Round(2), FINAL_LOCK, FIRST)
        two = OwnAnswer(task=TASK, round=Round(2), kind=SEED_LOCK, value=SECOND)
        require_reconciliation(store)
        with pytest.raises(VerificationError, match="signed two answers"):
            reconcile(store, {TASK: Round(2)}, own_answers=[two])
        with pytest.raises(StorageUnavailableError):
            store.check_reconciled()


def test_a_lost_store_begun_afresh_is_silent_too(tmp_path: Path, url: str) -> None:
    with (
        opened(tmp_path, url, reconcile_when_new=True) as store,
        pytest.raises(StorageUnavailableError, match="forgotten"),
    ):
        store.lock(TASK, Round(1), SEED_LOCK, FIRST)
    with opened(tmp_path, url, reconcile_when_new=True) as store:
        reconcile(store, {TASK: Round(1)})
    with opened(tmp_path, url, reconcile_when_new=True) as store:  # it is not new any more
        assert store.lock(TASK, Round(2), SEED_LOCK, FIRST) == FIRST


def damage(folder: Path, name: str) -> None:
    path = next(folder.glob(name))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "name", ["manifest.json", "manifest.blake3", "rows/locks.jsonl", "content/*"]
)
@pytest.mark.parametrize("gone", [False, True])
def test_a_damaged_backup_is_not_restored(tmp_path: Path, name: str, gone: bool) -> None:
    url = new_url("sqlite", tmp_path / "data")
    make_backup(tmp_path / "data", url, tmp_path / "backup")
    content = sorted((tmp_path / "backup").glob(name), key=lambda path: path.stat().st_size)[-1]
    if gone:
        content.unlink()
    else:
        damage(tmp_path / "backup", str(content.relative_to(tmp_path / "backup")))
    with pytest.raises(ConfigError, match=r"damaged|no back-up"):
        restore(tmp_path / "backup", tmp_path / "new")
    assert schema_state(f"sqlite:///{tmp_path / 'new' / 'server.db'}").schema == Schema.EMPTY


def test_only_an_empty_database_is_filled(tmp_path: Path, url: str) -> None:
    make_backup(tmp_path / "data", url, tmp_path / "backup")
    with pytest.raises(ConfigError, match="empty database only"):
        restore(tmp_path / "backup", tmp_path / "data", database_url=url)
    with opened(tmp_path / "data", url) as store:
        store.check_reconciled()
    with opened(tmp_path / "data", url) as store, pytest.raises(ConfigError, match="exists"):
        backup(store, tmp_path / "backup", now=5)


def test_a_crash_while_restoring_leaves_no_store_that_looks_new(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_backup(tmp_path / "source", new_url("sqlite", tmp_path / "source"), tmp_path / "backup")
    folder = tmp_path / "new"

    def crash(*_arguments: object, **_values: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Database, "insert", crash)  # after all rows, before the mark
        with pytest.raises(KeyboardInterrupt):
            restore(tmp_path / "backup", folder, database_url=url)
    assert schema_state(url).schema == Schema.EMPTY
    restore(tmp_path / "backup", folder, database_url=url)
    with opened(folder, url) as store, pytest.raises(StorageUnavailableError):
        store.check_reconciled()


def test_a_backup_of_an_earlier_schema_is_migrated(tmp_path: Path, url: str) -> None:
    """Made by an earlier version: its tables alone, in its form."""
    source = tmp_path / "backup"
    make_backup(tmp_path / "source", new_url("sqlite", tmp_path / "source"), source)
    manifest = json.loads((source / "manifest.json").read_text())
    manifest["revision"] = REVISIONS[0]
    kept = {"identity", "locks", "request_nonces"}
    manifest["tables"] = {name: manifest["tables"][name] for name in kept}
    for name, added in (("identity", {"schema_version": 1}), ("request_nonces", {})):
        path = source / "rows" / f"{name}.jsonl"
        row = json.loads(path.read_text()) | added
        row.pop("used_at", None)
        path.write_text(json.dumps(row) + "\n")
        manifest["tables"][name] = content_hash(path.read_bytes()).hex()
    written = json.dumps(manifest).encode()
    (source / "manifest.json").write_bytes(written)
    (source / "manifest.blake3").write_text(content_hash(written).hex())
    restore(source, tmp_path / "new", database_url=url)
    with opened(tmp_path / "new", url) as store:
        reconcile(store, {TASK: Round(1)})
        assert store.lock(TASK, Round(1), SEED_LOCK, SECOND) == FIRST * 2
        assert not store.use_nonce(digest("nonce"))


def test_a_backup_of_a_later_version_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "backup"
    make_backup(tmp_path / "data", new_url("sqlite", tmp_path / "data"), source)
    written = (
        (source / "manifest.json").read_bytes().replace(f'"{REVISIONS[-1]}"'.encode(), b'"9999"')
    )
    (source / "manifest.json").write_bytes(written)
    (source / "manifest.blake3").write_text(content_hash(written).hex())
    with pytest.raises(ConfigError, match="another version") as caught:
        restore(source, tmp_path / "new")
    assert "install" in (caught.value.hint or "")


def test_what_was_lost_before_is_said(tmp_path: Path) -> None:
    url = new_url("sqlite", tmp_path / "data")
    with opened(tmp_path / "data", url) as store:
        fill(store)
        store.files.delete(content_hash(b"a package"))
        damage(tmp_path / "data" / "content", f"*/{content_hash(b'an artefact').hex()}")
        manifest = backup(store, tmp_path / "backup", now=5)
    lost = sorted(content_hash(one).hex() for one in (b"a package", b"an artefact"))
    assert list(manifest.lost) == lost
    restore(tmp_path / "backup", tmp_path / "new")
    with opened(tmp_path / "new", f"sqlite:///{tmp_path / 'new' / 'server.db'}") as store:
        assert store.package(TASK, Round(1), OWNER, FIRST) is None
        assert store.held(TASK, Round(2), 3, OWNER) == b"a sealed package"


def test_an_unfinished_backup_has_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_url("sqlite", tmp_path / "data")

    def crash(*_arguments: object, **_values: object) -> None:
        raise KeyboardInterrupt

    with opened(tmp_path / "data", url) as store:
        fill(store)
        with monkeypatch.context() as patch:
            patch.setattr(backup_module, "_copy_files", crash)
            with pytest.raises(KeyboardInterrupt):
                backup(store, tmp_path / "backup", now=5)
        assert not (tmp_path / "backup").exists()
        with pytest.raises(ConfigError, match="no back-up"):
            restore(next(tmp_path.glob("*.partial")), tmp_path / "new")
        backup(store, tmp_path / "backup", now=5)
    verify_backup(tmp_path / "backup")
