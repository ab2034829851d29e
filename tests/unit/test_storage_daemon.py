"""Jobs with leases, the outbox, the chain cursor: durable and one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from wire_samples import address, digest

from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Hash32
from omnilytics.storage.cursors import BlockMark, Cursors
from omnilytics.storage.database import Database, default_url
from omnilytics.storage.jobs import DONE, FAILED, READY, RUNNING, Job, Jobs
from omnilytics.storage.migration import migrate
from omnilytics.storage.outbox import (
    ABANDONED,
    FINAL,
    MINED,
    QUEUED,
    REPLACED,
    SENT,
    Outbox,
    OutboxEntry,
    SignedTransaction,
)

SENDER = address("sender")
MARKET = "market"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    migrate(default_url(tmp_path))
    database = Database(default_url(tmp_path))
    yield database
    database.close()


# Jobs


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


def take(jobs: Jobs, owner: str = "one", now: int = 100) -> Job:
    job = jobs.acquire(owner, now=now, lease_seconds=10)
    assert job is not None
    return job


def test_a_job_is_added_once_and_finished_once(jobs: Jobs) -> None:
    assert jobs.add("settle", "1/2")
    assert not jobs.add("settle", "1/2")
    job = take(jobs)
    assert (job.kind, job.key, job.state, job.attempts) == ("settle", "1/2", RUNNING, 1)
    assert (job.lease_owner, job.lease_until) == ("one", 110)
    assert jobs.acquire("two", now=100, lease_seconds=10) is None
    assert jobs.finish(job)
    assert not jobs.finish(job)
    assert not jobs.add("settle", "1/2")  # it is done, and not to be done again
    assert jobs.acquire("two", now=10_000, lease_seconds=10) is None
    found = jobs.find("settle", "1/2")
    assert found is not None
    assert found.state == DONE
    assert jobs.find("settle", "1/3") is None


def test_the_longest_due_comes_first_and_nothing_before_its_time(jobs: Jobs) -> None:
    jobs.add("settle", "late", due_at=200)
    jobs.add("settle", "second", due_at=50)
    jobs.add("seal", "first", due_at=40)
    assert take(jobs, now=199).key == "first"
    only = jobs.acquire("one", now=199, lease_seconds=10, kinds=["seal"])
    assert only is None
    assert take(jobs, now=199).key == "second"
    assert jobs.acquire("one", now=199, lease_seconds=1_000) is None
    assert take(jobs, now=200).key == "late"


def test_a_lease_that_ran_out_is_anothers(jobs: Jobs) -> None:
    jobs.add("settle", "1/2")
    slow = take(jobs, "slow", now=100)
    assert jobs.acquire("fast", now=109, lease_seconds=10) is None
    assert jobs.renew(slow, now=109, lease_seconds=10)
    assert jobs.acquire("fast", now=118, lease_seconds=10) is None
    fast = take(jobs, "fast", now=119)
    assert fast.attempts == 2
    for change in (
        jobs.renew(slow, now=119, lease_seconds=10),
        jobs.finish(slow),
        jobs.fail(slow, "too late", retry_at=0),
    ):
        assert not change
    again = take(jobs, "slow", now=129)  # the same worker, another attempt
    assert not jobs.finish(slow)
    assert not jobs.finish(fast)
    assert jobs.finish(again)


def test_a_failure_is_kept_and_tried_again(jobs: Jobs) -> None:
    jobs.add("settle", "1/2")
    job = take(jobs)
    assert jobs.fail(job, "no gas\x00\ud800" + "!" * 10_000, retry_at=150)
    found = jobs.find("settle", "1/2")
    assert found is not None
    assert (found.state, found.due_at, found.attempts) == (READY, 150, 1)
    assert found.last_error.startswith("no gas?!")
    assert len(found.last_error) < 2_001
    assert jobs.acquire("one", now=149, lease_seconds=10) is None
    assert jobs.fail(take(jobs, now=150), "no gas", retry_at=None)
    assert jobs.acquire("one", now=10_000, lease_seconds=10) is None
    assert [job.state for job in jobs.in_state(FAILED)] == [FAILED]
    assert jobs.revive("settle", "1/2", due_at=300)
    assert not jobs.revive("settle", "1/2", due_at=300)
    assert not jobs.forget("settle", "1/2")
    assert jobs.finish(take(jobs, now=300))
    assert jobs.forget("settle", "1/2")
    assert jobs.find("settle", "1/2") is None


class LeaseMachine(RuleBasedStateMachine):
    """Workers that stall and come back: at most one holds a job, and nothing is done twice."""

    folder: Path
    numbers = count()

    def __init__(self) -> None:
        super().__init__()
        url = f"sqlite:///{self.folder / f'{next(self.numbers)}.db'}"
        migrate(url)
        self.database = Database(url)
        self.jobs = Jobs(self.database)
        self.now = 0
        self.leases: list[Job] = []  # all ever given, also those that ran out
        self.added: set[str] = set()
        self.finished: list[str] = []

    @rule(key=st.sampled_from("abc"))
    def add(self, key: str) -> None:
        assert self.jobs.add("work", key) == (key not in self.added)
        self.added.add(key)

    @rule(owner=st.sampled_from(["one", "two"]), lease=st.integers(1, 5))
    def acquire(self, owner: str, lease: int) -> None:
        job = self.jobs.acquire(owner, now=self.now, lease_seconds=lease)
        if job is None:
            return
        assert job.key not in self.finished
        for held in self.leases:
            assert held.key != job.key or held.lease_until <= self.now
        self.leases.append(job)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.leases))
        done = self.jobs.renew(job, now=self.now, lease_seconds=3)
        assert done == self._is_latest(job)
        if done:
            self.leases[self.leases.index(job)] = replace(job, lease_until=self.now + 3)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), retry=st.booleans())
    def end(self, data: st.DataObject, retry: bool) -> None:
        job = data.draw(st.sampled_from(self.leases))
        latest = self._is_latest(job)
        if retry:
            assert self.jobs.fail(job, "failed", retry_at=self.now) == latest
        else:
            assert self.jobs.finish(job) == latest
        if latest:
            self.leases = [one for one in self.leases if one.key != job.key]
            self.finished += [] if retry else [job.key]

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_done_twice(self) -> None:
        assert len(self.finished) == len(set(self.finished))
        assert {job.key for job in self.jobs.in_state(DONE)} == set(self.finished)

    def _is_latest(self, job: Job) -> bool:
        attempts = [one.attempts for one in self.leases if one.key == job.key]
        return job.attempts == max(attempts)

    def teardown(self) -> None:
        self.database.close()


def test_leases_hold_in_every_order(tmp_path: Path) -> None:
    LeaseMachine.folder = tmp_path
    run_state_machine_as_test(
        LeaseMachine, settings=settings(max_examples=15, stateful_step_count=15, deadline=None)
    )


# The outbox


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database)


def sign_as(label: str) -> _Signer:
    return _Signer(label)


class _Signer:
    def __init__(self, label: str) -> None:
        self._label = label

    def __call__(self, nonce: int) -> SignedTransaction:
        name = f"{self._label} {nonce}"
        return SignedTransaction(name.encode(), digest(name))


def queue(outbox: Outbox, purpose: str, *, label: str = "", chain_nonce: int = 0) -> OutboxEntry:
    return outbox.queue(
        SENDER, purpose, chain_nonce=chain_nonce, sign=sign_as(label or purpose), now=1
    )


def state(outbox: Outbox, entry: OutboxEntry) -> str:
    found = outbox.find(entry.hash)
    assert found is not None
    return found.state


def test_a_purpose_has_one_transaction_and_a_nonce_too(outbox: Outbox) -> None:
    seal = queue(outbox, "seal 1/1", chain_nonce=5)
    assert (seal.nonce, seal.state, seal.raw_transaction) == (5, QUEUED, b"seal 1/1 5")
    assert queue(outbox, "seal 1/1", label="again", chain_nonce=6) == seal
    settle = queue(outbox, "settle 1/1", chain_nonce=5)
    assert settle.nonce == 6
    other = outbox.queue(address("other"), "seal 1/1", chain_nonce=0, sign=sign_as("other"), now=1)
    assert other.nonce == 0
    assert queue(outbox, "late", chain_nonce=20).nonce == 20  # others were sent elsewhere
    assert [entry.nonce for entry in outbox.pending(SENDER)] == [5, 6, 20]


def test_the_way_of_a_transaction(outbox: Outbox) -> None:
    entry = queue(outbox, "seal 1/1")
    assert not outbox.final(entry)
    assert outbox.sent(entry)
    assert not outbox.sent(entry)
    outbox.mined(entry)
    assert state(outbox, entry) == MINED
    assert outbox.unmined(entry)
    assert state(outbox, entry) == SENT
    outbox.mined(entry)
    assert not outbox.served(SENDER, "seal 1/1")
    assert outbox.final(entry)
    assert outbox.served(SENDER, "seal 1/1")
    assert outbox.pending(SENDER) == []
    assert queue(outbox, "seal 1/1", label="again").hash == entry.hash  # served once
    assert queue(outbox, "next").nonce == 1
    for change in (outbox.sent, outbox.abandon, outbox.unmined, outbox.final):
        assert not change(entry)
    outbox.mined(entry)
    assert state(outbox, entry) == FINAL


def test_a_higher_fee_takes_the_place(outbox: Outbox) -> None:
    first = queue(outbox, "seal 1/1")
    outbox.sent(first)
    second = outbox.replace(first, sign=sign_as("more"), now=2)
    assert (second.nonce, second.purpose, second.state) == (0, "seal 1/1", QUEUED)
    assert outbox.find(first.hash) == replace(first, state=REPLACED, replaced_by=second.hash)
    assert outbox.pending(SENDER) == [second]
    assert queue(outbox, "seal 1/1") == second
    with pytest.raises(UsageError, match="cannot be replaced"):
        outbox.replace(first, sign=sign_as("again"), now=3)
    assert outbox.under_nonce(SENDER, 0) == [
        replace(first, state=REPLACED, replaced_by=second.hash),
        second,
    ]
    outbox.mined(first)  # the cheaper one was mined after all
    assert (state(outbox, first), state(outbox, second)) == (MINED, REPLACED)
    with pytest.raises(UsageError, match="cannot be replaced"):
        outbox.replace(first, sign=sign_as("again"), now=3)


def test_a_replacement_that_is_the_same_changes_nothing(outbox: Outbox) -> None:
    first = queue(outbox, "seal 1/1")
    with pytest.raises(UsageError, match="recorded already"):
        outbox.replace(first, sign=sign_as("seal 1/1"), now=2)
    assert state(outbox, first) == QUEUED


def test_what_is_given_up_leaves_no_gap(outbox: Outbox) -> None:
    first, second = queue(outbox, "first"), queue(outbox, "second")
    assert outbox.abandon(first)
    assert state(outbox, first) == ABANDONED
    third = queue(outbox, "third")
    assert (second.nonce, third.nonce) == (1, 0)
    assert queue(outbox, "first", label="anew").nonce == 2


def test_a_transaction_that_comes_back_after_its_purpose_found_another(outbox: Outbox) -> None:
    first = queue(outbox, "seal 1/1")
    outbox.abandon(first)
    queue(outbox, "in between")
    second = queue(outbox, "seal 1/1", label="anew")
    outbox.mined(first)
    assert state(outbox, first) == FINAL
    assert state(outbox, second) == QUEUED
    assert [entry.hash for entry in outbox.pending(SENDER)] == [second.hash]


# The cursor


def mark(block: int, branch: str = "") -> BlockMark:
    return BlockMark(block, Hash32(digest(f"block {block} {branch}")))


def test_a_cursor_moves_on_and_back(database: Database) -> None:
    cursors = Cursors(database)
    assert cursors.latest(MARKET) is None
    assert cursors.rewind(MARKET, 5) is None
    for block in (3, 5, 6):
        cursors.advance(MARKET, mark(block))
    cursors.advance("another", mark(1))
    assert cursors.latest(MARKET) == mark(6)
    assert cursors.history(MARKET) == [mark(6), mark(5), mark(3)]
    for block in (6, 5):
        with pytest.raises(UsageError, match="cursors move on"):
            cursors.advance(MARKET, mark(block, "other"))
    assert cursors.rewind(MARKET, 5) == mark(5)
    cursors.advance(MARKET, mark(6, "other"))
    assert cursors.history(MARKET) == [mark(6, "other"), mark(5), mark(3)]
    assert cursors.rewind(MARKET, 4) == mark(3)
    assert cursors.latest("another") == mark(1)


def test_a_cursor_forgets_what_is_deep(database: Database) -> None:
    cursors = Cursors(database)
    for block in range(10):
        cursors.advance(MARKET, mark(block), keep=3)
    assert [one.block for one in cursors.history(MARKET)] == [9, 8, 7, 6]
    cursors.advance(MARKET, mark(100), keep=3)
    assert cursors.history(MARKET) == [mark(100)]


def test_a_cursor_moves_with_what_was_read_or_not_at_all(database: Database) -> None:
    cursors, jobs = Cursors(database), Jobs(database)

    def read(block: int, *, crash: bool) -> None:
        with database.batch():
            jobs.add("event", str(block))
            cursors.advance(MARKET, mark(block))
            if crash:
                raise KeyboardInterrupt

    read(1, crash=False)
    with pytest.raises(KeyboardInterrupt):
        read(2, crash=True)
    assert cursors.latest(MARKET) == mark(1)
    assert jobs.find("event", "2") is None
