"""Words computed by a Ray cluster, for operators who outgrow one machine (`omnilytics[ray]`).

The jobs are those of `word_pool`. They name files, so every node of the cluster has the server's
data folder at the same path, on a shared file system. Nodes read shares and are trusted as the
server itself is: put no one else's work on them.

A worker that dies is replaced by Ray, which does its job again. Not guaranteed: that a node
computes honestly; the server signs what comes back.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from omnilytics.foundation.errors import ConfigError, OmniLyticsError
from omnilytics.protocol.word_jobs import (
    PART_ENTRIES,
    WordExecutor,
    WordJob,
    packed,
    run_packed,
)

JOBS_AHEAD: Final = 2
"""Jobs that are handed out for each core of the cluster."""
OBJECT_STORE_BYTES: Final = 100 << 20
"""Of a local cluster: jobs and their results take a few kilobytes."""
DEATHS_OF_A_JOB: Final = 5
"""So often a job is done again whose worker died."""


class ClusterWords(WordExecutor):
    """Does jobs on a Ray cluster.

    Args:
        address: HOST:PORT of a cluster, or "local" for processes of this machine.
        workers: How many processes a local cluster has.
        part_entries: See `WordExecutor`.

    Raises:
        ConfigError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, address: str, workers: int, part_entries: int = PART_ENTRIES) -> None:
        super().__init__(part_entries)
        self._ray = _import_ray()
        # Ray reports usage to its makers by default; a server tells no one of its work.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        size: dict[str, Any] = {}
        if address == "local":
            size = {
                "num_cpus": workers,
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            }
        try:
            self._ray.init(
                address=address, log_to_driver=False, logging_level=logging.WARNING, **size
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                "the Ray cluster does not answer",
                got=type(error).__name__,
                want="words.ray_address = HOST:PORT of its head, or local",
            ) from None
        self._run = self._ray.remote(num_cpus=1, max_retries=DEATHS_OF_A_JOB)(run_packed)

    def __repr__(self) -> str:
        return "ClusterWords()"

    def run_all(self, jobs: Iterable[WordJob]) -> Iterator[Any]:
        """Yield the result of each job in order.

        Raises:
            ConfigError: The cluster cannot do a job.
            OmniLyticsError: What a job raised.
        """
        source = iter(jobs)
        most = JOBS_AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        waiting: deque[Any] = deque()
        while True:
            while len(waiting) < most and (job := next(source, None)):
                waiting.append(self._run.remote(packed(job)))
            if not waiting:
                return
            yield self._result(waiting.popleft())

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        self._ray.shutdown()

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OmniLyticsError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            raise ConfigError(
                "the Ray cluster does not do its jobs", got=type(error).__name__
            ) from None


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError("Ray is not installed", hint="pip install 'omnilytics[ray]'") from None
    return ray
