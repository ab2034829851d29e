"""What happens while the API waits, told to whoever wants to show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omnilytics.foundation.units import Round, TaskId


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened.

    `kind` is stable: calibrated, published, opened, submitted, forced, answered, waiting, settled,
    recovered, voided, joined, bonded, claimed, closed. Waits repeat `waiting` at every poll.
    """

    kind: str
    message: str
    """One sentence for people; never a secret."""
    task: TaskId | None = None
    round: Round | None = None
    until: int | None = None
    """Of `waiting`: the deadline, a block number or unix seconds as the message says."""


OnEvent = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Tell nobody."""
