"""Words computed by a few processes of this machine.

Jobs (`protocol.word_jobs`) go to worker processes through pipes and name files; shares are read
from the files by whoever needs them, so the page cache is the memory that all share. Nothing of a
job is on a command line, in the environment or in a log.

A worker that dies, killed or out of memory, takes the pool with it: a new one does again what was
under way, so a death costs time and never gives a wrong word. Workers end when the server does,
even if it is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final

from omnilytics.algebra import kernels
from omnilytics.foundation.errors import ConfigError
from omnilytics.foundation.logging import get_logger
from omnilytics.protocol.word_jobs import (
    PART_ENTRIES,
    WordExecutor,
    WordJob,
    packed,
    run_packed,
)

JOBS_AHEAD: Final = 2
"""Jobs that are handed out for each worker: one under way and one that waits."""
MOST_DEATHS: Final = 3
"""Pools that may break one after the other before a single job is done."""
_LOG = get_logger("omnilytics.words")


def default_workers() -> int:
    """Return one less than the cores that this process may use, at least 1."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


class PoolWords(WordExecutor):
    """Does jobs in worker processes, which start with the first job and stay.

    Args:
        workers: How many; each takes one core while there are jobs.
        part_entries: See `WordExecutor`.
    """

    def __init__(self, workers: int, part_entries: int = PART_ENTRIES) -> None:
        super().__init__(part_entries)
        self._count = workers
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"PoolWords({self._count} workers)"

    def run_all(self, jobs: Iterable[WordJob]) -> Iterator[Any]:
        """Yield the result of each job in order; several threads may do so at once.

        Raises:
            ConfigError: Workers die again and again, or the pool was closed.
            OmniLyticsError: What a job raised.
        """
        source = iter(jobs)
        waiting: deque[tuple[WordJob, Future[Any]]] = deque()
        while True:
            while len(waiting) < JOBS_AHEAD * self._count and (job := next(source, None)):
                waiting.append((job, self._submit(job)))
            if not waiting:
                return
            yield self._first_result(waiting)

    def close(self) -> None:
        """Take no more jobs and wait for the workers to end, after at most a job each."""
        with self._lock:
            self._closed, pool = True, self._pool
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def process_ids(self) -> list[int]:
        """Return the process ids of the workers that run now."""
        with self._lock:
            pool = self._pool
        return [] if pool is None else list(pool._processes or ())

    def _first_result(self, waiting: deque[tuple[WordJob, Future[Any]]]) -> Any:
        """Return the result of the job that waited longest, done again where workers died."""
        for _ in range(MOST_DEATHS):
            try:
                result = waiting[0][1].result()
            except CancelledError:
                raise ConfigError("the processes that compute words were stopped") from None
            except BrokenProcessPool:
                _LOG.warning("a process that computes words died; its jobs are done again")
                for place, (job, future) in enumerate(waiting):
                    if not future.done() or future.exception() is not None:
                        waiting[place] = (job, self._submit(job))
                continue
            waiting.popleft()
            return result
        raise ConfigError(
            "the processes that compute words die again and again",
            hint="see the system's log for what kills them; words.workers = 1 does without them",
        )

    def _submit(self, job: WordJob) -> Future[Any]:
        for _ in range(MOST_DEATHS):
            with self._lock:
                if self._closed:
                    raise ConfigError("the processes that compute words were stopped")
                if self._pool is None:
                    self._pool = _start_pool(self._count)
                pool = self._pool
            try:
                return pool.submit(run_packed, packed(job))
            except BrokenProcessPool:
                self._forget(pool)
        raise ConfigError("the processes that compute words do not start")

    def _forget(self, broken: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is broken:  # else another thread was faster
                self._pool = None


def _start_pool(workers: int) -> ProcessPoolExecutor:
    # (!) Not by fork: the server has threads, whose locks a fork would copy as they are.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal; the server decides
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    kernels.warm_up()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
