"""Answer once, whoever asks: several processes on one database, SQLite and PostgreSQL."""

from __future__ import annotations

import multiprocessing
from collections import Counter
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
from storage_databases import BOTH, address, digest, open_store, opened, url_fixture

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.storage.jobs import DONE, RUNNING
from omnilytics.storage.outbox import SignedTransaction
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


@dataclass(frozen=True)
class _Signer:
    """Signs differently in every process."""

    purpose: str
    mine: Hash32

    def __call__(self, nonce: int) -> SignedTransaction:
        return SignedTransaction(b"raw", digest(f"{self.purpose} {nonce} {self.mine.hex()}"))


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


def do_jobs() -> list[str]:
    """Take jobs until none is left; return the keys of those finished."""
    (worker,) = _workers
    worker.barrier.wait(60)
    done = []
    jobs = worker.repository.jobs
    while (job := jobs.acquire(f"worker {worker.number}", now=100, lease_seconds=60)) is not None:
        assert jobs.finish(job)
        done.append(job.key)
    return done


def queue_transactions() -> list[tuple[str, int, Hash32]]:
    """Every process queues for purposes that all share, and for its own."""
    queued = []
    for turn, store, mine in _turns():
        for purpose in (f"shared {turn}", f"own {mine.hex()} {turn}"):
            entry = store.outbox.queue(
                SENDER, purpose, chain_nonce=7, now=0, sign=_Signer(purpose, mine)
            )
            queued.append((purpose, entry.nonce, entry.hash))
    return queued


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
    # The race was one: no process won all turns.
    assert len(set(seeds)) > 1


def take_again(folder: Path, url: str) -> list[bytes]:
    """Return what every lock holds for who comes last."""
    with opened(folder, url) as store:
        values = [store.lock(TASK, Round(turn), "seed", digest("late")) for turn in range(TURNS)]
    assert digest("late") not in values
    return values


def test_every_job_is_done_once_and_every_nonce_has_one_transaction(
    tmp_path: Path, url: str
) -> None:
    folder = tmp_path / "data"
    keys = [f"job {number:03}" for number in range(60)]
    with opened(folder, url) as store, store.batch():
        for key in keys:
            assert store.jobs.add("work", key)
    with processes(folder, url) as pool:
        done = everywhere(pool, do_jobs)
        queued = everywhere(pool, queue_transactions)
    assert sorted(key for one in done for key in one) == keys
    with opened(folder, url) as store:
        assert {job.key for job in store.jobs.in_state(DONE)} == set(keys)
        assert store.jobs.in_state(RUNNING) == []
        entries = store.outbox.pending(SENDER)
    purposes = TURNS * (PROCESSES + 1)
    assert [entry.nonce for entry in entries] == list(range(7, 7 + purposes))  # no gap
    assert len({entry.purpose for entry in entries}) == purposes
    answers = Counter(answer for one in queued for answer in one)
    shared = [count for (purpose, _, _), count in answers.items() if purpose.startswith("shared")]
    assert shared == [PROCESSES] * TURNS  # all got the same transaction


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
