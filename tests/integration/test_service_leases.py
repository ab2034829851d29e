"""Two processes on one database: one at a time steps a task, and the other takes over."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from sqlalchemy import text
from storage_databases import NEEDS_POSTGRESQL, POSTGRESQL, new_url, open_store, opened

from omnilytics.foundation.units import TaskId
from omnilytics.service.leases import Leases
from omnilytics.storage.jobs import FREE

pytestmark = NEEDS_POSTGRESQL
TASK = TaskId(1)
LEASE_SECONDS = 2
STEPS = 60
"""At a twentieth of a second each: longer than a lease."""


def step_on(folder: Path, url: str, steps: Connection, stop: Event) -> None:
    """Step the task whenever it may be; say of each step whether it was alone."""
    with opened(folder, url) as store:
        leases = Leases(store.jobs, seconds=LEASE_SECONDS)
        leases.start()
        while not stop.is_set():
            if not leases.may_step(TASK):
                continue
            with store.database.engine.connect() as connection:
                step = text("SELECT pg_try_advisory_xact_lock(7), pg_sleep(0.05)")
                alone, _ = connection.execute(step).one()
            steps.send_bytes(b"alone" if alone else b"not alone")
        leases.stop()
        leases.release()


@dataclass
class Stepping:
    """A process that steps the task while it may."""

    process: BaseProcess
    steps: Connection
    stop: Event


@contextmanager
def two_stepping(folder: Path, url: str) -> Iterator[list[Stepping]]:
    open_store(folder, url).close()
    spawn = multiprocessing.get_context("spawn")
    both = []
    for _ in range(2):
        ours, theirs = spawn.Pipe(duplex=False)
        stop = spawn.Event()
        process = spawn.Process(target=step_on, args=(folder, url, theirs, stop))
        process.start()
        theirs.close()
        both.append(Stepping(process, ours, stop))
    try:
        yield both
    finally:
        for each in both:
            each.process.kill()
            each.process.join()
            each.steps.close()


def next_step(of: list[Stepping]) -> Stepping | None:
    """Return who made the next step; None where the first to be heard of has ended."""
    ready = wait([each.steps for each in of], timeout=60)
    who = next(each for each in of if each.steps in ready)
    try:
        assert who.steps.recv_bytes() == b"alone", "two processes at one task"
    except EOFError:
        return None
    return who


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_one_steps_and_the_other_takes_over(tmp_path: Path, end: str) -> None:
    url = new_url(POSTGRESQL, tmp_path)
    with two_stepping(tmp_path / "data", url) as both:
        first = next_step(both)
        assert first is not None
        (other,) = [each for each in both if each is not first]
        # Long past the end of a lease it is still the first one's.
        assert all(next_step(both) is first for _ in range(STEPS))
        if end == "killed":
            first.process.kill()
        else:
            first.stop.set()
        while next_step([first]) is first:
            pass
        assert all(next_step([other]) is other for _ in range(STEPS))
        first.process.join(20)
        assert (first.process.exitcode == 0) == (end == "stopped")
        other.stop.set()
        while next_step([other]) is other:
            pass
        other.process.join(20)
        with opened(tmp_path / "data", url) as store:
            (job,) = store.jobs.all()
            assert job.lease_owner == FREE
