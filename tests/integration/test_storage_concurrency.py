"""Answer once, whoever asks: several processes on one database, SQLite and PostgreSQL."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import Thread
from typing import TypeVar

import pytest
from sqlalchemy import event, text
from storage_databases import (
    BOTH,
    NEEDS_POSTGRESQL,
    POSTGRESQL,
    address,
    digest,
    new_url,
    open_store,
    opened,
    outbox_row,
    url_fixture,
)

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.storage.repository import PublicRecord, Repository

url = pytest.fixture(params=BOTH)(url_fixture)
TASK, OWNER, SENDER = TaskId(1), address("owner"), address("sender")
PROCESSES, TURNS = 3, 15
Answer = TypeVar("Answer")


@dataclass
class _Worker:
    """What a process of the pool has."""

    repository: Repository
    barrier: Barrier
    number: int


_workers: list[_Worker] = []


def _start(folder: Path, url: str, barrier: Barrier, numbers: multiprocessing.Queue[int]) -> None:
    _workers.append(_Worker(open_store(folder, url), barrier, numbers.get()))


@contextmanager
def processes(folder: Path, url: str) -> Iterator[ProcessPoolExecutor]:
    """Run several processes that opened one store, which may be fresh, at the same time."""
    spawn = multiprocessing.get_context("spawn")
    numbers: multiprocessing.Queue[int] = spawn.Queue()
    for number in range(PROCESSES):
        numbers.put(number)
    arguments = (folder, url, spawn.Barrier(PROCESSES), numbers)
    with ProcessPoolExecutor(
        PROCESSES, mp_context=spawn, initializer=_start, initargs=arguments
    ) as pool:
        yield pool
    numbers.close()
    numbers.join_thread()


def everywhere(pool: ProcessPoolExecutor, work: Callable[[], list[Answer]]) -> list[list[Answer]]:
    """Run `work` in every process at once: each waits for all others before every turn."""
    return [future.result() for future in [pool.submit(work) for _ in range(PROCESSES)]]


def _turns() -> Iterator[tuple[int, Repository, Hash32]]:
    (worker,) = _workers
    for turn in range(TURNS):
        worker.barrier.wait(60)
        yield turn, worker.repository, digest(f"value {worker.number}")


def take_locks() -> list[bytes]:
    return [store.lock(TASK, Round(turn), "seed", mine) for turn, store, mine in _turns()]


def take_locks_in_batches() -> list[bytes]:
    taken = []
    for turn, store, mine in _turns():
        with store.batch():
            store.add_record(TASK, Round(turn), _record(mine))
            taken.append(store.lock(TASK, Round(turn), "final", mine))
    return taken


def claim_receipts() -> list[bool]:
    claimed = []
    for turn, store, mine in _turns():
        try:
            store.claim_receipt(TASK, Round(turn), OWNER, mine)
            claimed.append(True)
        except VerificationError:
            claimed.append(False)
    return claimed


def use_nonces() -> list[bool]:
    return [store.use_nonce(digest(f"nonce {turn}")) for turn, store, _ in _turns()]


def hold_packages() -> list[Hash32]:
    return [store.add_held(TASK, Round(turn), 2, OWNER, mine) for turn, store, mine in _turns()]


def take_jobs() -> list[bool]:
    (worker,) = _workers
    name = f"process {worker.number}"
    return [
        store.jobs.acquire(TaskId(turn), name, lease_seconds=600) for turn, store, _ in _turns()
    ]


def hand_out_nonces() -> list[int]:
    """Take the next free nonce in every turn; the table alone says which is free."""
    taken = []
    for _, store, mine in _turns():
        with store.outbox.owned():
            nonce = len(store.outbox.rows(SENDER))
            store.outbox.add([outbox_row(SENDER, nonce, mine)])
            taken.append(nonce)
    return taken


def _record(body: bytes) -> PublicRecord:
    return PublicRecord(kind="words", server=1, subject=b"", body=body, received_block=1)


def test_exactly_one_value_wins_in_all_processes(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "data"
    with processes(folder, url) as pool:
        for work in (take_locks, take_locks_in_batches):
            taken = everywhere(pool, work)
            for turn in range(TURNS):
                assert len({one[turn] for one in taken}) == 1
        claimed = everywhere(pool, claim_receipts)
        nonces = everywhere(pool, use_nonces)
        held = everywhere(pool, hold_packages)
        for turn in range(TURNS):
            assert sum(one[turn] for one in claimed) == 1
            assert sum(one[turn] for one in nonces) == 1
            assert len({one[turn] for one in held}) == 1
        seeds = take_again(folder, url)
    # The races were some: no process won all turns of all of them.
    won_some = any(0 < sum(one) < TURNS for one in (*claimed, *nonces))
    assert won_some or len(set(seeds)) > 1


def take_again(folder: Path, url: str) -> list[bytes]:
    """Return what every lock holds for who comes last."""
    with opened(folder, url) as store:
        values = [store.lock(TASK, Round(turn), "seed", digest("late")) for turn in range(TURNS)]
    assert digest("late") not in values
    return values


def test_every_job_has_one_holder(tmp_path: Path, url: str) -> None:
    with processes(tmp_path / "data", url) as pool:
        taken = everywhere(pool, take_jobs)
    assert [sum(one[turn] for one in taken) for turn in range(TURNS)] == [1] * TURNS


@NEEDS_POSTGRESQL
def test_no_nonce_is_handed_out_twice(tmp_path: Path) -> None:
    """Between looking and writing nobody else looks. SQLite serves one process."""
    with processes(tmp_path / "data", new_url(POSTGRESQL, tmp_path)) as pool:
        taken = everywhere(pool, hand_out_nonces)
    assert sorted(nonce for one in taken for nonce in one) == list(range(TURNS * PROCESSES))


@NEEDS_POSTGRESQL
def test_a_process_that_dies_frees_the_nonces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnilytics.storage.outbox.OWNED_SECONDS", 1)
    url = new_url(POSTGRESQL, tmp_path)
    with opened(tmp_path, url) as one, opened(tmp_path, url) as two:
        lost = pytest.raises(StorageUnavailableError, match="does not answer")
        with lost, one.outbox.owned():
            with pytest.raises(StorageUnavailableError, match="busy"), two.outbox.owned():
                pass
            with one.database.reading() as connection:  # as when its connection breaks
                kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                connection.execute(text(kill))
            with two.outbox.owned():
                two.outbox.add([outbox_row(SENDER, 0, digest("two"))])
        assert len(one.outbox.rows(SENDER)) == 1


def test_a_batch_is_seen_whole_or_not_at_all(tmp_path: Path, url: str) -> None:
    with opened(tmp_path, url) as store:
        with store.batch():
            store.add_record(TASK, Round(1), _record(b"one"))
            with store.batch():  # a part of the outer one
                store.add_record(TASK, Round(1), _record(b"two"))
            assert len(store.records(TASK, Round(1), ["words"])) == 2
            seen: list[int] = []
            other = Thread(
                target=lambda: seen.append(len(store.records(TASK, Round(1), ["words"])))
            )
            other.start()
            other.join()
            assert seen == [0]
        with pytest.raises(ZeroDivisionError):
            _fail_in_batch(store)
        assert len(store.records(TASK, Round(1), ["words"])) == 2
        assert store.lock(TASK, Round(1), "seed", b"y") == b"y"


def _fail_in_batch(store: Repository) -> None:
    with store.batch():
        store.add_record(TASK, Round(1), _record(b"three"))
        store.lock(TASK, Round(1), "seed", b"x")
        _ = 1 // 0


def test_records_are_in_one_order_whatever_the_locale(tmp_path: Path, url: str) -> None:
    kinds = ["seal-vote", "seed", "Words", "two-words", "words"]
    with opened(tmp_path, url) as store:
        for kind in kinds[::-1]:
            record = PublicRecord(kind=kind, server=1, subject=b"", body=b"", received_block=1)
            store.add_record(TASK, Round(1), record)
        found = [record.kind for record in store.records(TASK, Round(1), kinds)]
    assert found == sorted(kinds)


def test_a_busy_database_is_said_to_be_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnilytics.storage.database.BUSY_SECONDS", 0)
    url = f"sqlite:///{tmp_path / 'server.db'}"
    with opened(tmp_path, url) as one, opened(tmp_path, url) as two:
        with one.batch():
            one.lock(TASK, Round(1), "seed", b"one")
            with pytest.raises(StorageUnavailableError, match="busy") as caught:
                two.lock(TASK, Round(1), "seed", b"two")
            assert caught.value.hint
            assert two.records(TASK, Round(1), ["words"]) == []  # readers do not wait
        assert two.lock(TASK, Round(1), "seed", b"two") == b"one"  # nothing by hand


def test_writers_of_one_process_take_turns(tmp_path: Path) -> None:
    """SQLite never has to make one of them wait, which it does badly."""
    url = f"sqlite:///{tmp_path / 'server.db'}"

    def write(store: Repository, writer: int) -> int:
        return sum(
            store.use_nonce(Hash32(writer.to_bytes(16, "big") + number.to_bytes(16, "big")))
            for number in range(20)
        )

    with opened(tmp_path, url) as store, ThreadPoolExecutor(8) as pool:
        event.listen(
            store.database.engine,
            "checkout",
            lambda connection, _record, _proxy: connection.execute("PRAGMA busy_timeout = 0"),
        )
        written = [pool.submit(write, store, writer) for writer in range(8)]
        assert [each.result() for each in written] == [20] * 8


def test_a_writer_that_waits_too_long_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnilytics.storage.database.BUSY_SECONDS", 0)
    url = f"sqlite:///{tmp_path / 'server.db'}"
    with opened(tmp_path, url) as store, ThreadPoolExecutor(1) as pool:
        with store.batch(), pytest.raises(StorageUnavailableError, match="busy"):
            pool.submit(store.use_nonce, digest("nonce")).result()
        assert pool.submit(store.use_nonce, digest("nonce")).result()


def test_the_session_of_a_database_is_durable(tmp_path: Path, url: str) -> None:
    names = (
        ("PRAGMA journal_mode", "PRAGMA synchronous", "PRAGMA secure_delete")
        if url.startswith("sqlite")
        else ("SHOW synchronous_commit", "SHOW fsync", "SHOW transaction_isolation")
    )
    with opened(tmp_path, url) as store, store.database.reading() as connection:
        settings = [connection.execute(text(name)).scalar_one() for name in names]
    wanted = {"sqlite": ["wal", 2, 1], "postgresql": ["on", "on", "read committed"]}
    assert settings == wanted[store.database.engine.dialect.name]
