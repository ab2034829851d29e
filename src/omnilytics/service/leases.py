"""Which tasks this process may step: those whose job's lease it holds in the database.

A thread renews the leases, so a long step keeps its task. A process that stops gives them up; of
one that died they run out, and another process on the same database, say a standby machine's, takes
over. SQLite serves one process, whose predecessor is dead: it takes its tasks at once.

Not guaranteed: that a process which stalls for longer than a lease, in the middle of a step, does
nothing more. Steps are safe to do twice.
"""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import suppress

from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.logging import get_logger
from omnilytics.foundation.units import TaskId
from omnilytics.storage.jobs import Jobs

RENEWALS = 3
"""So many times in a lease it is renewed; a step begins while at least one is left."""
_LOG = get_logger("omnilytics.leases")


class Leases:
    """The leases of this process; every method may be called from any thread."""

    def __init__(self, jobs: Jobs, *, seconds: int) -> None:
        self._jobs = jobs
        self._seconds = seconds
        self._owner = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._until: dict[TaskId, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)

    def start(self) -> None:
        """Renew what is held, from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Renew nothing more; what was not released runs out."""
        self._stopping.set()

    def may_step(self, task: TaskId) -> bool:
        """Take the task, or tell whether it is held for long enough to begin a step.

        Raises:
            StorageUnavailableError: The database does not answer.
        """
        if self._until.get(task, 0.0) - time.monotonic() > self._seconds / RENEWALS:
            return True
        return self._acquire(task)

    def succeeded(self, task: TaskId) -> None:
        """Record that a task was stepped; no trouble of the database ends the step."""
        with suppress(OmniLyticsError):
            self._jobs.succeeded(task, self._owner)

    def failed(self, task: TaskId, error: Exception) -> None:
        """Record that a step failed, and why; what a defect says may hold anything."""
        known = isinstance(error, OmniLyticsError)
        text = str(error) if known else f"{type(error).__name__}: see the log"
        with suppress(OmniLyticsError):
            self._jobs.failed(task, self._owner, text)

    def release(self) -> None:
        """Give all tasks up; only where no step is under way."""
        with self._lock:
            tasks, self._until = list(self._until), {}
        with suppress(OmniLyticsError):  # they run out
            for task in tasks:
                self._jobs.release(task, self._owner)

    def forget(self, task: TaskId) -> None:
        """Drop the job of a task that is over."""
        with self._lock:
            self._until.pop(task, None)
        with suppress(OmniLyticsError):
            self._jobs.forget(task, self._owner)

    def _acquire(self, task: TaskId) -> bool:
        asked = time.monotonic()
        is_held = self._jobs.acquire(task, self._owner, lease_seconds=self._seconds)
        with self._lock:
            was_held = task in self._until
            if is_held:
                self._until[task] = asked + self._seconds
            else:
                self._until.pop(task, None)
        if was_held and not is_held:
            _LOG.warning("another process took the task", task=task)
        if is_held and not was_held:
            _LOG.info("took the task", task=task)
        return is_held

    def _renew(self) -> None:
        while not self._stopping.wait(self._seconds / RENEWALS / 2):
            for task in list(self._until):
                try:
                    if self._until[task] - time.monotonic() < self._seconds * (1 - 1 / RENEWALS):
                        self._acquire(task)
                except KeyError:
                    continue  # given up meanwhile
                except Exception:  # the thread must outlive any defect
                    _LOG.warning("a lease is not renewed", task=task, exc_info=True)
