"""Which rounds are over for good, so that what a server keeps of them may go one day."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from wire_samples import address, digest

from omnilytics.chain.bindings.market import CommitteeFixed, RoundVoided, TaskClosed
from omnilytics.chain.happenings import MarketEvent, Position
from omnilytics.chain.reader import MarketReader
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.service.housekeeping import Housekeeping, finished_rounds
from omnilytics.service.metrics import Metrics
from omnilytics.service.reconciling import reconcile_with_chain
from omnilytics.service.settings import RetentionSection
from omnilytics.storage.repository import Repository
from omnilytics.storage.retention import rounds_with_shares

OWN, OTHER = address("own"), address("other")
CONFIRMATIONS = 3


def at(block: int) -> Position:
    return Position(
        block_number=block, block_hash=digest("b"), transaction_hash=digest("t"), log_index=0
    )


def fixed(task: int, member: Any) -> CommitteeFixed:
    return CommitteeFixed(position=at(1), task=TaskId(task), committee=(member,), profiles=0)


def voided(task: int, number: int, block: int) -> RoundVoided:
    return RoundVoided(position=at(block), task=TaskId(task), round=Round(number))


class FakeMarket:
    """A chain whose blocks are ten seconds apart."""

    def __init__(self, *events: MarketEvent, head: int = 100) -> None:
        self._events = events
        self.chain = SimpleNamespace(
            head=lambda: head,
            block_timestamp=lambda number: 10 * number,
            head_timestamp=lambda: 10 * head,
            is_development=False,
        )

    def events(self, task: TaskId | None = None) -> tuple[MarketEvent, ...]:
        return tuple(
            event for event in self._events if task is None or cast(Any, event).task == task
        )

    def task(self, task: TaskId) -> Any:
        windows = SimpleNamespace(confirmations=CONFIRMATIONS)
        return SimpleNamespace(terms=SimpleNamespace(windows=windows))

    def round_state(self, task: TaskId) -> Any:
        return SimpleNamespace(round=5)


def market(*events: MarketEvent) -> MarketReader:
    return cast(MarketReader, FakeMarket(*events))


def test_only_confirmed_ends_of_own_tasks_count() -> None:
    found = list(
        finished_rounds(
            market(
                fixed(1, OWN),
                fixed(2, OTHER),
                voided(1, 1, 50),
                voided(1, 2, 97),
                voided(1, 3, 98),
                voided(2, 1, 50),
            ),
            OWN,
        )
    )
    assert [(each.task, each.round, each.finished_at) for each in found] == [
        (1, 1, 500),
        (1, 2, 970),
    ]
    assert {each.task_closed_at for each in found} == {None}


@pytest.mark.parametrize(("block", "closed_at"), [(97, 970), (98, None)])
def test_a_closed_task_says_when(block: int, closed_at: int | None) -> None:
    closed = TaskClosed(position=at(block), task=TaskId(1), unspent_wei=0)
    (found,) = finished_rounds(market(fixed(1, OWN), voided(1, 1, 50), closed), OWN)
    assert found.task_closed_at == closed_at


@pytest.fixture
def repository(tmp_path: Path) -> Any:
    found = Repository(
        tmp_path, chain_id=1, contract=address("market"), server=OWN, reconcile_when_new=True
    )
    yield found
    found.close()


def test_old_shares_go_and_others_stay(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = market(fixed(1, OWN), voided(1, 6, 50))
    monkeypatch.setattr("time.time", lambda: 1_000.0)
    reconcile_with_chain(repository, reader, OWN, stale_seconds=60)
    for number in (6, 7):
        repository.add_package(TaskId(1), Round(number), OTHER, digest("c"), b"share" * 100)
    metrics = Metrics()
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    settings = RetentionSection(shares_days=1, every_seconds=60)
    keeping = Housekeeping(repository, reader, OWN, settings, metrics)

    def rounds_left(now: float, elapsed: float) -> list[int]:
        monkeypatch.setattr("time.time", lambda: now)
        clock[0] += elapsed
        keeping.run_if_due()
        return [number for _, number in rounds_with_shares(repository)]

    old = 500 + 86_400
    assert rounds_left(old, 59) == [6, 7]  # not due
    assert rounds_left(old - 1, 2) == [6, 7]  # not old enough
    assert rounds_left(old, 61) == [7]
    # The other round has the same bytes, so the file stays.
    assert metrics.registry.get_sample_value("omnilytics_freed_bytes_total") == 0


def test_no_reconciliation_with_a_node_that_is_behind(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1_061.0)
    reader = market(fixed(1, OWN))
    with pytest.raises(ChainError, match="behind"):
        reconcile_with_chain(repository, reader, OWN, stale_seconds=60)
    monkeypatch.setattr("time.time", lambda: 1_060.0)
    done = reconcile_with_chain(repository, reader, OWN, stale_seconds=60)
    assert done.barred == {1: 5}
    repository.check_reconciled()
