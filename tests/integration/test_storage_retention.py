"""Garbage collection: what is old goes, what is named stays, whatever happens half-way."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from storage_databases import BOTH, address, digest, new_url, opened, url_fixture

from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.storage import retention
from omnilytics.storage.backup import backup
from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.storage.file_guard import guarded
from omnilytics.storage.files import ContentFiles
from omnilytics.storage.repository import PublicRecord, Repository
from omnilytics.storage.retention import (
    Collected,
    FinishedRound,
    RetentionPolicy,
    collect_garbage,
    rounds_with_shares,
)
from omnilytics.wire.hashing import content_hash

url = pytest.fixture(params=BOTH)(url_fixture)
TASK, OTHER_TASK = TaskId(1), TaskId(2)
OWNER, OTHER_OWNER = address("owner"), address("other owner")
COMMITMENT = digest("commitment")
POLICY = RetentionPolicy()
DAY = 86_400
END = 1_000 * DAY


def add_round(store: Repository, task: int, number: int) -> None:
    """A round with two packages, one held for another server, a record, a lock, an artefact."""
    place = (TaskId(task), Round(number))
    for owner in (OWNER, OTHER_OWNER):
        store.claim_receipt(*place, owner, COMMITMENT)
        store.add_package(*place, owner, COMMITMENT, package(task, number, owner))
    store.add_held(*place, 3, OWNER, b"sealed %d/%d" % place)
    record = PublicRecord(kind="words", server=1, subject=b"", body=b"words", received_block=1)
    store.add_record(*place, record)
    store.lock(*place, "seed", b"seed")
    store.answers.make(*place, COMMITMENT, [b"sealed ", b"sum"])
    store.publish(artefact(task, number), task=TaskId(task))


def package(task: int, number: int, owner: bytes) -> bytes:
    return b"share %d/%d of " % (task, number) + owner


def artefact(task: int, number: int) -> bytes:
    return b"artefact %d/%d" % (task, number)


def finished(task: int, number: int, at: int = END, closed: int | None = None) -> FinishedRound:
    return FinishedRound(
        task=TaskId(task), round=Round(number), finished_at=at, task_closed_at=closed
    )


def count(store: Repository, table: str) -> int:
    with store.database.reading() as connection:
        query = text(f"SELECT count(*) FROM {table}")  # noqa: S608  # names of this file
        return int(connection.execute(query).scalar_one())


def test_shares_go_after_their_time_and_nothing_else(tmp_path: Path, url: str) -> None:
    with opened(tmp_path, url) as store:
        for number in (1, 2, 3):
            add_round(store, 1, number)
        add_round(store, 2, 1)
        assert rounds_with_shares(store) == [(1, 1), (1, 2), (1, 3), (2, 1)]
        over = [finished(1, 1), finished(1, 2, END + DAY)]
        early = collect_garbage(store, over, END + POLICY.shares_seconds - 1, POLICY)
        assert (early.packages, early.files, early.rounds) == (0, 0, [])
        done = collect_garbage(store, over, END + POLICY.shares_seconds, POLICY)
        assert done.rounds == [(1, 1)]
        assert (done.packages, done.held_packages, done.files) == (2, 1, 3)
        freed = 2 * len(package(1, 1, OWNER)) + len(b"sealed 1/1") + len(b"sealed sum")
        assert done.bytes_freed == freed
        assert (done.records, done.receipts, done.published) == (0, 0, 0)
        assert rounds_with_shares(store) == [(1, 2), (1, 3), (2, 1)]
        assert store.package(TASK, Round(1), OWNER, COMMITMENT) is None
        assert store.held(TASK, Round(1), 3, OWNER) is None
        assert store.answers.find(TASK, Round(1), COMMITMENT) is None
        for task, number in ((1, 2), (1, 3), (2, 1)):
            place = (TaskId(task), Round(number))
            kept = store.package(*place, OWNER, COMMITMENT)
            assert kept == package(task, number, OWNER)
            assert store.held(*place, 3, OWNER) == b"sealed %d/%d" % (task, number)
            answer = store.answers.find(*place, COMMITMENT)
            assert answer is not None
            assert answer.read_bytes() == b"sealed sum"
        assert store.published(content_hash(artefact(1, 1))) is not None
        assert len(store.records(TASK, Round(1), ["words"])) == 1
        assert store.lock(TASK, Round(1), "seed", b"another") == b"seed"
        again = collect_garbage(store, over, END + POLICY.shares_seconds, POLICY)
        assert again == Collected()


def test_evidence_goes_long_after_its_task(tmp_path: Path, url: str) -> None:
    with opened(tmp_path, url) as store:
        for task in (1, 2):
            add_round(store, task, 1)
            store.publish(b"of both", task=TaskId(task))
        store.publish(b"of nobody")
        over = [finished(1, 1, closed=END)]
        now = END + POLICY.evidence_seconds
        before = collect_garbage(store, over, now - 1, POLICY)
        assert (before.records, before.receipts, before.published) == (0, 0, 0)
        done = collect_garbage(store, over, now, POLICY)
        assert (done.records, done.receipts, done.published, done.files) == (1, 2, 1, 1)
        assert store.published(content_hash(artefact(1, 1))) is None
        for kept in (artefact(2, 1), b"of both", b"of nobody"):
            assert store.published(content_hash(kept)) == kept
        assert store.lock(TASK, Round(1), "seed", b"another") == b"seed"  # for ever


def test_nonces_are_forgotten_by_age(tmp_path: Path, url: str) -> None:
    with opened(tmp_path, url) as store:
        assert store.use_nonce(digest("old"), now=END)
        assert store.use_nonce(digest("young"), now=END + 1)
        now = END + POLICY.nonce_seconds + 1
        assert collect_garbage(store, [], now, POLICY).nonces == 1
        assert not store.use_nonce(digest("young"), now=now)
        assert store.use_nonce(digest("old"), now=now)


def test_a_policy_that_forgets_nonces_at_once_is_refused() -> None:
    for wrong in (
        {"nonce_seconds": 300},
        {"shares_seconds": -1},
        {"evidence_seconds": -1},
    ):
        with pytest.raises(UsageError):
            RetentionPolicy(**wrong)


def test_a_file_stays_while_any_row_names_it(tmp_path: Path, url: str) -> None:
    with opened(tmp_path, url) as store:
        for number in (1, 2):
            place = (TASK, Round(number))
            store.add_package(*place, OWNER, COMMITMENT, b"the same bytes")
        store.add_held(TASK, Round(1), 3, OWNER, b"published too")
        store.publish(b"published too")
        done = collect_garbage(store, [finished(1, 1)], END + 7 * DAY, POLICY)
        assert (done.packages, done.held_packages, done.files) == (1, 1, 0)
        assert store.package(TASK, Round(2), OWNER, COMMITMENT) == b"the same bytes"
        done = collect_garbage(store, [finished(1, 2)], END + 7 * DAY, POLICY)
        assert (done.files, done.bytes_freed) == (1, len(b"the same bytes"))
        assert store.published(content_hash(b"published too")) == b"published too"


@pytest.mark.parametrize("survived", range(5))
def test_a_crash_half_way_is_made_good(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    """Stop after some files are deleted; 6 should go."""
    left = survived
    real = ContentFiles.delete

    def delete(files: ContentFiles, name: Hash32) -> int:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return real(files, name)

    over = [finished(1, 1), finished(1, 2)]
    with opened(tmp_path, url) as store:
        for number in (1, 2, 3):
            add_round(store, 1, number)
        with monkeypatch.context() as patch:
            patch.setattr(ContentFiles, "delete", delete)
            with pytest.raises(KeyboardInterrupt):
                collect_garbage(store, over, END + 7 * DAY, POLICY)
    with opened(tmp_path, url) as store:
        done = collect_garbage(store, over, END + 7 * DAY, POLICY)
        assert done.files == 6 - survived
        assert len(list(store.files.names())) == 3 + 3  # round 3, and all artefacts
        assert store.package(TASK, Round(3), OWNER, COMMITMENT) is not None


def test_what_a_crash_left_without_a_row_goes_too(tmp_path: Path, url: str) -> None:
    with opened(tmp_path, url) as store:
        store.files.put(b"stored, and then the process crashed")
        assert collect_garbage(store, [], END, POLICY).files == 1
        assert list(store.files.names()) == []


def test_a_file_whose_row_is_not_committed_yet_stays(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submission comes exactly while garbage is collected (!)."""
    stored, looked = Event(), Event()
    with opened(tmp_path, url) as store, opened(tmp_path, url) as collector:
        real = collector.files.names

        def submit() -> None:
            with store.storing():
                store.add_package(TASK, Round(1), OWNER, COMMITMENT, b"share")
                stored.set()
                assert looked.wait(30)

        def names() -> list[Hash32]:
            found = list(real())
            looked.set()
            return found

        monkeypatch.setattr(collector.files, "names", names)
        writer = Thread(target=submit)
        # On SQLite the writer would make the rest of the collection wait for it; so only the files.
        writer.start()
        assert stored.wait(30)
        collected = Collected()
        retention._delete_files(collector, collected)
        writer.join()
        assert looked.is_set()
        assert collected.files == 0
        assert store.package(TASK, Round(1), OWNER, COMMITMENT) == b"share"


def test_backup_and_collection_wait_for_each_other(tmp_path: Path, url: str) -> None:
    with opened(tmp_path / "data", url) as store:
        add_round(store, 1, 1)
        with guarded(store.files, exclusive=False):
            with pytest.raises(StorageUnavailableError, match="under way"):
                collect_garbage(store, [finished(1, 1)], END + 7 * DAY, POLICY)
            backup(store, tmp_path / "backup", now=0)  # two back-ups may run
        with (
            guarded(store.files, exclusive=True),
            pytest.raises(StorageUnavailableError, match="collection is under way"),
        ):
            backup(store, tmp_path / "another", now=0)
        assert collect_garbage(store, [], END, POLICY).files == 3


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rounds=st.lists(
        st.tuples(st.integers(1, 2), st.integers(1, 3)), min_size=1, max_size=5, unique=True
    ),
    data=st.data(),
)
def test_exactly_the_old_rounds_lose_their_shares(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[int, int]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("store")
    ages = {one: data.draw(st.none() | st.integers(0, 14 * DAY)) for one in rounds}
    with opened(folder, new_url("sqlite", folder)) as store:
        for task, number in rounds:
            place = (TaskId(task), Round(number))
            # Some rounds hold the same bytes.
            store.add_package(*place, OWNER, COMMITMENT, b"share %d" % (number % 2))
        over = [finished(*one, END - age) for one, age in ages.items() if age is not None]
        collect_garbage(store, over, END, POLICY)
        old = {one for one, age in ages.items() if age is not None and age >= 7 * DAY}
        assert set(rounds_with_shares(store)) == set(rounds) - old
        for task, number in set(rounds) - old:
            kept = store.package(TaskId(task), Round(number), OWNER, COMMITMENT)
            assert kept == b"share %d" % (number % 2)
        contents = {b"share %d" % (number % 2) for _, number in set(rounds) - old}
        assert set(store.files.names()) == {content_hash(one) for one in contents}
