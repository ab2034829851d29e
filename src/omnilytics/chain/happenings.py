"""Events of the contracts: where they stand in the chain, and what they have in common."""

from __future__ import annotations

from dataclasses import dataclass

from omnilytics.foundation.units import Hash32, Round, TaskId


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where in the chain an event is."""

    block_number: int
    block_hash: Hash32
    transaction_hash: Hash32
    log_index: int


@dataclass(frozen=True, kw_only=True)
class MarketEvent:
    """Base of all events of the market and its registry."""

    position: Position


@dataclass(frozen=True, kw_only=True)
class TaskEvent(MarketEvent):
    """Base of the events of one task."""

    task: TaskId


@dataclass(frozen=True, kw_only=True)
class RoundEvent(TaskEvent):
    """Base of the events of one round."""

    round: Round
