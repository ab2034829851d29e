"""Full disks, databases that go away, power cuts: said clearly, and over without work by hand."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_cluster import Cluster, cluster, new_cluster
from small_disk import fill, small_disk
from sqlalchemy import create_engine, event, text
from storage_databases import BOTH, NEEDS_POSTGRESQL, address, digest, opened, url_fixture

from omnilytics.foundation.errors import ConfigError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.storage.backup import backup
from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.storage.repository import Repository
from omnilytics.storage.retention import FinishedRound, RetentionPolicy, collect_garbage

url = pytest.fixture(params=BOTH)(url_fixture)
TASK, ROUND, OWNER, COMMITMENT = TaskId(1), Round(1), address("owner"), digest("commitment")
SMALL_BYTES = 2 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    with small_disk(tmp_path / "small", SMALL_BYTES) as folder:
        yield folder


def submit(store: Repository, number: int, package: bytes) -> None:
    """What a server does before it signs a receipt."""
    with store.batch():
        owner = address(f"owner {number}")
        store.claim_receipt(TASK, ROUND, owner, COMMITMENT)
        store.add_package(TASK, ROUND, owner, COMMITMENT, package)


def _submit_many(store: Repository, padding: bytes) -> None:
    for number in range(1_000):
        submit(store, number, b"%d" % number + padding)


def _open_often(folder: Path, url: str) -> None:
    for _ in range(1_000):  # until the database has read its settings again
        with opened(folder, url):
            pass


def packages(store: Repository) -> int:
    return store.owner_count(TASK, ROUND)


def test_a_full_disk_leaves_no_part_and_no_row(disk: Path, tmp_path: Path, url: str) -> None:
    """The files are on the small disk, the database is elsewhere."""
    with opened(disk / "data", url) as store:
        with pytest.raises(StorageUnavailableError, match="disk is full") as caught:
            _submit_many(store, bytes(200_000))
        assert caught.value.hint
        taken = packages(store)
        assert 5 < taken < 11
        assert len(list(store.files.names())) == taken
        files = [path for path in (disk / "data" / "content").rglob("*") if path.is_file()]
        assert len(files) == taken  # nothing under a temporary name
        with pytest.raises(StorageUnavailableError, match="disk is full"):
            submit(store, 1_000, bytes(300_000))
        with pytest.raises(StorageUnavailableError, match="disk is full"):
            backup(store, disk / "backup", now=0)
        # Reading goes on, and small things may still fit.
        first = store.package(TASK, ROUND, address("owner 0"), COMMITMENT)
        assert first is not None
        # Old rounds are deleted: on it goes.
        over = FinishedRound(task=TASK, round=ROUND, finished_at=0)
        assert collect_garbage(store, [over], 8 * 86_400, RetentionPolicy()).files == taken
        submit(store, 2_000, bytes(300_000))
        assert store.package(TASK, ROUND, address("owner 2000"), COMMITMENT) == bytes(300_000)


def test_a_full_disk_under_the_database_too(disk: Path) -> None:
    folder = disk / "data"
    database = f"sqlite:///{folder / 'server.db'}"
    with opened(folder, database) as store:
        ballast = disk / "ballast"
        fill(ballast)
        failed = 0
        for number in range(200):  # what its log has room for still goes in
            try:
                submit(store, number, b"%d" % number)
            except StorageUnavailableError as error:
                assert "full" in str(error)  # noqa: PT017
                failed += 1
        assert failed > 0
        before = packages(store)
        assert before == 200 - failed
        with pytest.raises(StorageUnavailableError, match="full"):
            _submit_many(store, b"")
        ballast.unlink()
        submit(store, 500, bytes(1_000))
        assert packages(store) == before + 1
    with opened(folder, database) as store:
        assert packages(store) == before + 1
        for number in range(200):
            owner = address(f"owner {number}")
            has_receipt = store.knows_owner(TASK, ROUND, owner)
            assert has_receipt == store.has_package(TASK, ROUND, owner, COMMITMENT)


def test_everything_is_flushed_before_a_receipt_may_be_given(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flush(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        steps.append(f"flush {'folder' if path.is_dir() else 'file'} {len(path.name)}")
        fsync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(path, target)

    with opened(tmp_path / "data", url) as store:
        monkeypatch.setattr(os, "fsync", flush)
        monkeypatch.setattr(Path, "replace", rename)
        event.listen(store.database.engine, "commit", lambda _connection: steps.append("commit"))
        submit(store, 1, b"package")
        draft = f"flush file {len(str(os.getpid()) + '.') + 16}"
        shard, content = "flush folder 2", f"flush folder {len('content')}"
        assert steps == [content, content, draft, "rename", shard, "commit"]
        # The same bytes again: whoever wrote them may not have flushed their name yet.
        steps.clear()
        submit(store, 2, b"package")
        assert steps == [shard, "commit"]


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from storage_databases import address, open_store
from test_storage_trouble import submit
store = open_store(Path({folder!r}), {url!r})
for number in range(10_000):
    submit(store, number, b"%d" % number + bytes(1_000))
    print(number, flush=True)
"""


def test_a_killed_server_keeps_every_receipt_it_gave(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "data"
    code = _KILLED.format(path=sys.path, folder=str(folder), url=url)
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        given = [int(server.stdout.readline()) for _ in range(30)]
        server.send_signal(signal.SIGKILL)
        given += [int(line) for line in server.stdout if line.endswith("\n")]
    with opened(folder, url) as store:
        for number in given:
            package = store.package(TASK, ROUND, address(f"owner {number}"), COMMITMENT)
            assert package == b"%d" % number + bytes(1_000)
        assert len(given) <= packages(store) <= len(given) + 1


@pytest.mark.parametrize("place", ["nothing", "folder", "copy"])
def test_nothing_is_acknowledged_into_a_database_file_that_is_gone(
    tmp_path: Path, place: str
) -> None:
    """SQLite itself would go on, and lose it all with the process."""
    path, moved = tmp_path / "server.db", tmp_path / "moved.db"
    with opened(tmp_path, f"sqlite:///{path}") as store:
        submit(store, 1, b"package")
        path.rename(moved)
        if place == "folder":
            path.mkdir()
        elif place == "copy":
            shutil.copy(moved, path)
        for _ in range(2):
            with pytest.raises(StorageUnavailableError, match="gone or was replaced") as caught:
                submit(store, 2, b"package")
            assert "restore" in (caught.value.hint or "")
        with pytest.raises(StorageUnavailableError, match="gone or was replaced"):
            packages(store)
        with pytest.raises(StorageUnavailableError, match="gone or was replaced"):
            store.check_writable()
        assert path.exists() == (place != "nothing")  # no empty database was begun
        if place == "folder":
            path.rmdir()
        moved.rename(path)
        submit(store, 2, b"package")  # nothing by hand, not even a restart
        assert packages(store) == 2


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    started = new_cluster()
    yield started
    started.remove()


@NEEDS_POSTGRESQL
def test_a_database_that_went_away_comes_back(tmp_path: Path, own_cluster: Cluster) -> None:
    with opened(tmp_path, own_cluster.new_database()) as store:
        submit(store, 1, b"package")
        own_cluster.stop()
        for number in (2, 3):
            with pytest.raises(StorageUnavailableError, match="does not answer") as caught:
                submit(store, number, b"package")
            assert caught.value.hint
        with pytest.raises(StorageUnavailableError, match="does not answer"):
            store.records(TASK, ROUND, ["words"])
        own_cluster.start()
        submit(store, 2, b"package")  # nothing by hand, not even a restart
        assert packages(store) == 2


@NEEDS_POSTGRESQL
def test_a_database_that_would_lose_receipts_is_refused(tmp_path: Path) -> None:
    address_of = cluster().new_database()
    engine = create_engine(address_of, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ALTER SYSTEM SET full_page_writes = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    try:
        with pytest.raises(ConfigError, match="power cut") as caught:
            _open_often(tmp_path, address_of)
        assert "full_page_writes = on" in (caught.value.hint or "")
    finally:
        with engine.connect() as connection:
            connection.execute(text("ALTER SYSTEM RESET full_page_writes"))
            connection.execute(text("SELECT pg_reload_conf()"))
        engine.dispose()
