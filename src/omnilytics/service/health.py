"""Whether a server can do its work now: each condition with its own reason.

`/healthz` only says that the process answers; restart it where it does not. `/readyz` says whether
requests should go to it; a server that is not ready goes on trying by itself.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.logging import get_logger
from omnilytics.service.metrics import Metrics
from omnilytics.service.registration import Registration
from omnilytics.service.watch import ChainWatch
from omnilytics.storage.repository import Repository

_LOG = get_logger("omnilytics.health")


@dataclass(frozen=True)
class Check:
    """One condition: whether it holds, and in words why not."""

    name: str
    passed: bool
    reason: str = ""


class Health:
    """Looks at everything that a server needs."""

    def __init__(
        self,
        *,
        watch: ChainWatch,
        repository: Repository,
        registration: Registration,
        folder: Path,
        least_free_bytes: int,
        stale_seconds: float,
        is_development: bool,
        metrics: Metrics,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._watch = watch
        self._repository = repository
        self._registration = registration
        self._folder = folder
        self._least_free_bytes = least_free_bytes
        self._stale_seconds = stale_seconds
        self._is_development = is_development
        self._metrics = metrics
        self._now = now
        self.stopping = False

    def checks(self) -> tuple[Check, ...]:
        """Return all readiness checks, made now; may block for the database and the disk."""
        found = (
            self._running(),
            self._chain(),
            self._head(),
            self._key(),
            self._database(),
            self._disk(),
        )
        for check in found:
            self._metrics.checks.labels(check=check.name).set(check.passed)
        return found

    def measure(self) -> None:
        """Bring the gauges of chain and disk up to date."""
        status = self._watch.status
        self._metrics.reachable.set(status.problem is None)
        if status.head is not None:
            self._metrics.head_block.set(status.head.number)
            self._metrics.head_lag.set(max(0.0, self._now() - status.head.timestamp))
        self._metrics.disk_free.set(shutil.disk_usage(self._folder).free)

    def _running(self) -> Check:
        return Check("running", not self.stopping, "the server is stopping")

    def _chain(self) -> Check:
        """The node answers, and is on the right chain with the right code."""
        problem = self._watch.status.problem
        return Check("chain", problem is None, problem or "")

    def _head(self) -> Check:
        """The head is fresh; a development chain makes blocks only when it is asked to."""
        status = self._watch.status
        silent = time.monotonic() - status.seen_at
        if status.head is None or silent > self._stale_seconds:
            return Check("head", False, f"the node was not heard for {silent:.0f} seconds")
        age = self._now() - status.head.timestamp
        if age > self._stale_seconds and not self._is_development:
            return Check("head", False, f"the latest block is {age:.0f} seconds old")
        return Check("head", True)

    def _key(self) -> Check:
        problem = self._registration.problem
        return Check("key", problem is None, problem or "")

    def _database(self) -> Check:
        try:
            self._repository.check_reconciled()
            self._repository.check_writable()
        except OmniLyticsError as error:
            return Check("database", False, str(error))
        except Exception as error:
            _LOG.exception("the database does not answer")
            return Check("database", False, f"the database does not answer ({_kind(error)})")
        return Check("database", True)

    def _disk(self) -> Check:
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            return Check("disk", False, f"the data folder is gone ({error.strerror})")
        reason = f"{free} bytes free, {self._least_free_bytes} wanted"
        return Check("disk", free >= self._least_free_bytes, reason)


def _kind(error: Exception) -> str:
    return type(error).__name__
