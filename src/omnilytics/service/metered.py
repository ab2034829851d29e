"""A server's repository that counts what it stores and what it locks."""

from __future__ import annotations

from pathlib import Path

from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.service.metrics import Metrics
from omnilytics.storage.repository import Repository, Stored


class MeteredRepository(Repository):
    """Counts new submissions, held packages and locks; else the repository itself."""

    def __init__(
        self,
        folder: Path,
        *,
        chain_id: int,
        contract: Address,
        server: Address,
        database_url: str | None,
        reconcile_when_new: bool,
        metrics: Metrics,
    ) -> None:
        super().__init__(
            folder,
            chain_id=chain_id,
            contract=contract,
            server=server,
            database_url=database_url,
            reconcile_when_new=reconcile_when_new,
        )
        self._metrics = metrics

    def add_package(
        self, task: TaskId, round_number: Round, owner: Address, commitment: Hash32, package: Stored
    ) -> None:
        """Store a package and count it if it is new."""
        is_new = not self.has_package(task, round_number, owner, commitment)
        super().add_package(task, round_number, owner, commitment, package)
        if is_new:
            self._metrics.submissions.inc()

    def add_held(
        self,
        task: TaskId,
        round_number: Round,
        server: int,
        owner: Address,
        package: bytes | memoryview,
    ) -> Hash32:
        """Keep another server's package and count it if it is new."""
        is_new = self._held_name(task, round_number, server, owner) is None
        kept = super().add_held(task, round_number, server, owner, package)
        if is_new:
            self._metrics.held.inc()
        return kept

    def lock(self, task: TaskId, round_number: Round, kind: str, value: bytes) -> bytes:
        """Lock a value and count a lock that it got; artefact places are no locks of answers."""
        held = super().lock(task, round_number, kind, value)
        if held == value and not kind.startswith("artefact"):
            self._metrics.locks.labels(kind=kind).inc()
        return held
