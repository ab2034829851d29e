"""`omnilytics.DataOwner`: sells gradients over the user's data, which never leave this machine.

Not final: bodies. Final: names, arguments and results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from omnilytics.client.events import OnEvent
from omnilytics.client.terms import Amount
from omnilytics.foundation.units import Round, TaskId, Wei
from omnilytics.wire.task_specification import TaskSpecification


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What became of a submission."""

    round: Round
    receipts: int
    """Servers that gave a receipt."""
    clip_factor: float
    """What the gradient was multiplied by to stay within the bound, 1 if not shortened."""
    forced: bool
    """Whether the certificate had to be put on chain."""


class DataOwner:
    """A seller on one market; a context manager."""

    def __init__(
        self,
        *,
        config: Path | str | None = None,
        chain: str | None = None,
        market: str | None = None,
        keystore: Path | str | None = None,
        password_file: Path | str | None = None,
        data: Path | str | None = None,
        fewest_owners: int = 2,
        on_event: OnEvent | None = None,
    ) -> None:
        raise NotImplementedError

    def join(self, *, task: int, max_bond: Amount = 0) -> JoinedTask:
        """Fetch and check a task; bond what it asks for, if that is within `max_bond`."""
        raise NotImplementedError

    def close(self) -> None:
        """Release connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class JoinedTask:
    """A task that admits this owner."""

    number: TaskId
    specification: TaskSpecification

    def rounds(self, *, timeout: float | None = None) -> Iterator[JoinedRound]:
        """Give each round that takes submissions; attend to it until it is over."""
        raise NotImplementedError

    def claim(self) -> Wei:
        """Claim what settled rounds credited; return how much was paid."""
        raise NotImplementedError


class JoinedRound:
    """A round that takes submissions."""

    number: Round
    deadline: int
    """Unix seconds of the chain."""

    def submit(self, data: Any, *, transform: Callable[[Any], Any] | None = None) -> Submitted:
        """Compute the mean gradient over all samples of `data` and submit it.

        Args:
            data: DataLoader, Dataset, pair of arrays, or (inputs, labels) batches.
            transform: Applied to the inputs of every batch: the task's preprocessing.
        """
        raise NotImplementedError
