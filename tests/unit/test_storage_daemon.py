"""Jobs with leases, the outbox's rows, the chain's logs: durable and one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from wire_samples import address, digest

from omnilytics.foundation.units import Address, Hash32, TaskId, Wei
from omnilytics.storage.chain_logs import BlockMark, ChainLogs, LogRow
from omnilytics.storage.database import Database, default_url
from omnilytics.storage.jobs import FREE, Job, Jobs
from omnilytics.storage.migration import migrate
from omnilytics.storage.outbox import Outbox, OutboxRow

SENDER, OTHER = address("sender"), address("other")
TASK = TaskId(3)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    migrate(default_url(tmp_path))
    database = Database(default_url(tmp_path))
    yield database
    database.close()


# Jobs


class Clocked(Database):
    """A database whose clock a test moves."""

    seconds = 100

    def now(self) -> int:
        return self.seconds


@pytest.fixture
def clocked(database: Database) -> Iterator[Clocked]:
    found = Clocked(str(database.engine.url))
    yield found
    found.close()


def the(jobs: Jobs) -> Job:
    (job,) = jobs.all()
    return job


def test_a_job_is_one_process_at_a_time(clocked: Clocked) -> None:
    jobs = Jobs(clocked)
    assert jobs.all() == []
    assert jobs.acquire(TASK, "one", lease_seconds=10)
    job = Job(task=TASK, lease_owner="one", lease_until=110, attempts=0, last_error="")
    assert the(jobs) == job
    assert not jobs.acquire(TASK, "two", lease_seconds=10)
    clocked.seconds = 109
    assert not jobs.acquire(TASK, "two", lease_seconds=10)
    assert jobs.acquire(TASK, "one", lease_seconds=10)  # for longer
    clocked.seconds = 118
    assert not jobs.acquire(TASK, "two", lease_seconds=10)
    clocked.seconds = 119
    assert jobs.acquire(TASK, "two", lease_seconds=10)
    for change in (
        jobs.acquire(TASK, "one", lease_seconds=10),
        jobs.succeeded(TASK, "one"),
        jobs.failed(TASK, "one", "too late"),
        jobs.release(TASK, "one"),
        jobs.forget(TASK, "one"),
    ):
        assert not change
    assert the(jobs) == replace(job, lease_owner="two", lease_until=129)
    assert jobs.release(TASK, "two")
    assert the(jobs).lease_owner == FREE
    assert jobs.acquire(TASK, "one", lease_seconds=10)
    assert jobs.forget(TASK, "one")
    assert jobs.all() == []


def test_failures_are_counted_until_one_success(clocked: Clocked) -> None:
    jobs = Jobs(clocked)
    jobs.acquire(TASK, "one", lease_seconds=10)
    jobs.acquire(TaskId(1), "two", lease_seconds=10)
    assert jobs.failed(TASK, "one", "no gas\x00\ud800" + "!" * 10_000)
    assert jobs.failed(TASK, "one", "no gas\x00\ud800" + "!" * 10_000)
    other, job = jobs.all()
    assert (other.task, other.attempts) == (1, 0)
    assert job.attempts == 2
    assert job.last_error.startswith("no gas?!")
    assert len(job.last_error) < 2_001
    jobs.release(TASK, "one")
    jobs.acquire(TASK, "two", lease_seconds=10)
    assert jobs.all()[1].attempts == 2  # whoever takes over goes on counting
    assert jobs.succeeded(TASK, "two")
    assert (jobs.all()[1].attempts, jobs.all()[1].last_error) == (0, "")


def test_all_leases_are_given_up_at_once(clocked: Clocked) -> None:
    jobs = Jobs(clocked)
    for task in (1, 2):
        jobs.acquire(TaskId(task), "dead", lease_seconds=10)
    jobs.release_all()
    assert all(jobs.acquire(TaskId(task), "one", lease_seconds=10) for task in (1, 2))


class LeaseMachine(RuleBasedStateMachine):
    """Processes that stall and come back: at most one holds a job, and it alone changes it."""

    folder: Path
    numbers = count()

    def __init__(self) -> None:
        super().__init__()
        url = f"sqlite:///{self.folder / f'{next(self.numbers)}.db'}"
        migrate(url)
        self.database = Clocked(url)
        self.jobs = Jobs(self.database)
        self.holder: dict[int, tuple[str, int]] = {}
        self.attempts: dict[int, int] = {}

    tasks, owners = st.integers(1, 2), st.sampled_from(["one", "two", "three"])

    @rule(task=tasks, owner=owners, lease=st.integers(1, 5))
    def acquire(self, task: int, owner: str, lease: int) -> None:
        holder, until = self.holder.get(task, (FREE, 0))
        free = holder in (FREE, owner) or until <= self.database.seconds
        assert self.jobs.acquire(TaskId(task), owner, lease_seconds=lease) == free
        if free:
            self.holder[task] = (owner, self.database.seconds + lease)
            self.attempts.setdefault(task, 0)

    @rule(task=tasks, owner=owners)
    def fail(self, task: int, owner: str) -> None:
        mine = self.holder.get(task, (FREE, 0))[0] == owner
        assert self.jobs.failed(TaskId(task), owner, "failed") == mine
        if mine:
            self.attempts[task] += 1

    @rule(task=tasks, owner=owners)
    def release(self, task: int, owner: str) -> None:
        mine = self.holder.get(task, (FREE, 0))[0] == owner
        assert self.jobs.release(TaskId(task), owner) == mine
        if mine:
            self.holder[task] = (FREE, 0)

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.database.seconds += seconds
        assert {job.task: job.attempts for job in self.jobs.all()} == self.attempts

    def teardown(self) -> None:
        self.database.close()


def test_leases_hold_in_every_order(tmp_path: Path) -> None:
    LeaseMachine.folder = tmp_path
    run_state_machine_as_test(
        LeaseMachine, settings=settings(max_examples=15, stateful_step_count=15, deadline=None)
    )


# The outbox


def row(nonce: int, replacement: int = 0, *, sender: Address = SENDER) -> OutboxRow:
    name = f"{nonce} {replacement}"
    return OutboxRow(
        sender=sender,
        nonce=nonce,
        replacement=replacement,
        hash=digest(name),
        raw_transaction=name.encode(),
        target=None,
        data=b"",
        value_wei=Wei(2**256 - 1),
        gas=21_000,
        max_fee_wei=Wei(10**30),
        priority_fee_wei=Wei(0),
    )


def test_transactions_are_kept_by_sender_and_nonce(database: Database) -> None:
    outbox = Outbox(database)
    outbox.add([row(6), row(6, 1)])
    outbox.add([row(5), row(5, sender=OTHER)])
    outbox.add([replace(row(5), raw_transaction=b"another"), row(5, 1)])  # what is there stays
    assert outbox.rows(SENDER) == [row(5), row(5, 1), row(6), row(6, 1)]
    assert outbox.remove(SENDER, 5)
    assert not outbox.remove(SENDER, 5)
    assert outbox.rows(SENDER) == [row(6), row(6, 1)]
    assert outbox.rows(OTHER) == [row(5, sender=OTHER)]


def test_rows_show_no_signed_transaction() -> None:
    assert "b'5 0'" not in repr(row(5))


# The chain's logs


def mark(block: int, branch: str = "") -> BlockMark:
    return BlockMark(block, Hash32(digest(f"block {block} {branch}")))


def log(block: int, index: int = 0) -> LogRow:
    return LogRow(
        block=block,
        log_index=index,
        block_hash=mark(block).hash,
        transaction_hash=digest("t"),
        address=OTHER,
        topics=bytes(64),
        data=b"",
    )


def test_logs_and_cursor_move_on_and_back_together(database: Database) -> None:
    logs = ChainLogs(database, "market")
    assert logs.read(-1) == ([], [])
    assert logs.advance(None, mark(3), [], keep=9)
    assert logs.advance(mark(3), mark(5), [log(5, 1), log(4), log(5, 0)], keep=9)
    assert logs.advance(mark(5), mark(6), [log(6)], keep=9)
    assert logs.marks() == [mark(3), mark(5), mark(6)]
    assert logs.read(4) == (logs.marks(), [log(5, 0), log(5, 1), log(6)])
    # Another reader that knows an older cursor, or one of another branch, changes nothing.
    for before in (None, mark(5), mark(6, "other")):
        assert not logs.advance(before, mark(7), [log(7)], keep=9)
    logs.rewind(5)
    assert logs.read(-1) == ([mark(3), mark(5)], [log(4), log(5, 0), log(5, 1)])
    assert logs.advance(mark(5), mark(6, "other"), [], keep=9)
    logs.rewind(4)
    assert logs.read(-1) == ([mark(3)], [log(4)])


def test_a_cursor_forgets_what_is_deep(database: Database) -> None:
    logs = ChainLogs(database, "market")
    before = None
    for block in range(10):
        assert logs.advance(before, mark(block), [log(block)], keep=3)
        before = mark(block)
    assert logs.marks() == [mark(7), mark(8), mark(9)]
    assert len(logs.read(-1)[1]) == 10


def test_what_another_cursor_found_is_forgotten(database: Database) -> None:
    ChainLogs(database, "from 1").advance(None, mark(1), [log(1)], keep=3)
    assert ChainLogs(database, "from 1").read(-1) == ([mark(1)], [log(1)])
    assert ChainLogs(database, "from 0").read(-1) == ([], [])


def test_a_crash_leaves_both_or_neither(database: Database) -> None:
    logs = ChainLogs(database, "market")

    def crash() -> None:
        with database.batch():
            assert logs.advance(None, mark(1), [log(1)], keep=3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert logs.read(-1) == ([], [])
