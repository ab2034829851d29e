"""`omnilytics.ModelOwner`: buys gradients for the user's module, in the user's training loop.

Not final: bodies. Final: names, arguments and results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from omnilytics.client.events import OnEvent
from omnilytics.client.terms import Terms
from omnilytics.foundation.units import Round, TaskId, Wei
from omnilytics.wire.task_specification import TaskSpecification

if TYPE_CHECKING:
    from omnilytics.learning.carried import Module


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A task that is not published yet: nothing was sent or paid."""

    name: str
    specification: TaskSpecification
    clipping_rate: float | None
    """Predicted share of honest gradients that will be shortened; None if scales were given."""
    task: TaskId | None
    """The task, if it was published before: publishing resumes it and pays nothing."""

    @property
    def escrow_wei(self) -> Wei:
        """What publishing locks; unused money comes back by `close`."""
        raise NotImplementedError


class ModelOwner:
    """A buyer on one market; a context manager."""

    def __init__(
        self,
        *,
        config: Path | str | None = None,
        chain: str | None = None,
        market: str | None = None,
        keystore: Path | str | None = None,
        password_file: Path | str | None = None,
        data: Path | str | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        raise NotImplementedError

    def draft(self, net: Module, **terms: Unpack[Terms]) -> Draft:
        """Check a module and terms, measure scales; send nothing."""
        raise NotImplementedError

    def publish(self, net: Module, **terms: Unpack[Terms]) -> BoughtTask:
        """Draft a task and publish it; again with the same name it resumes."""
        raise NotImplementedError

    def publish_draft(self, net: Module, draft: Draft) -> BoughtTask:
        """Publish a task that was drafted."""
        raise NotImplementedError

    def resume(self, task: int, net: Module) -> BoughtTask:
        """Take up a task from its folder; the module gets the weights that it stopped at."""
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


class BoughtTask:
    """A published task of this buyer."""

    number: TaskId
    specification: TaskSpecification

    def rounds(
        self, *, timeout: float | None = None, void_missed: bool = True
    ) -> Iterator[BoughtRound]:
        """Open rounds one after another; give each once it is settled and final."""
        raise NotImplementedError

    def close(self) -> Wei:
        """Close the task and take back what no round used."""
        raise NotImplementedError


class BoughtRound:
    """A settled round, recovered."""

    number: Round
    owners: int
    """How many owners' gradients were accepted."""
    gradients: Mapping[str, Any]
    """Mean gradient by parameter name, float64 arrays."""
    lying_servers: tuple[int, ...]

    def fill_gradients(self, net: Module) -> None:
        """Set `.grad` of the module's parameters to the mean gradient."""
        raise NotImplementedError
