"""Letting a store that was restored, or lost and begun afresh, answer again (protocol.md 7, (!)).

Every round of this server's tasks that the chain shows is barred: what the store remembers stays,
what it does not remember is never answered. The chain must not be behind, so its head has to be
fresh; whether the node tells the truth cannot be known from it alone.
"""

from __future__ import annotations

import time

from omnilytics.chain.bindings.market import CommitteeFixed
from omnilytics.chain.reader import MarketReader
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.storage.reconciliation import Reconciled, reconcile
from omnilytics.storage.repository import Repository


def own_tasks(market: MarketReader, server: Address) -> tuple[TaskId, ...]:
    """Return all tasks in whose committee a server is or was."""
    return tuple(
        event.task
        for event in market.events()
        if isinstance(event, CommitteeFixed) and server in event.committee
    )


def reconcile_with_chain(
    repository: Repository, market: MarketReader, server: Address, *, stale_seconds: float
) -> Reconciled:
    """Bar what the server may have answered, by the chain; it may run again afterwards.

    Raises:
        ChainError: The node's head is older than `stale_seconds`.
        VerificationError: The chain shows less than the store remembers.
    """
    chain = market.chain
    age = time.time() - chain.head_timestamp()
    if age > stale_seconds and not chain.is_development:
        raise ChainError(
            "the node is behind: what was answered since could not be known",
            got=f"a head of {age:.0f} seconds ago",
            want=f"<= {stale_seconds:.0f}",
            hint="wait until the node is in sync",
        )
    opened = {task: Round(market.round_state(task).round) for task in own_tasks(market, server)}
    return reconcile(repository, opened)
