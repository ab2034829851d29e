"""Whose turn it is to bring a fault on chain, and whether that was done already.

One report suffices and the reporter's share pays for it, so servers take turns: first the round's
sequencer, then the next one after every `rotation_seconds`. Nobody waits for the party at fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import FaultKind
from omnilytics.foundation.errors import ChainError, FundsError
from omnilytics.foundation.units import Address, Round
from omnilytics.roles.task_view import TaskView

REPORTED = frozenset({FaultKind.SERVER, FaultKind.OWNER})
"""Kinds of faults that n - e servers report; the others prove themselves."""


@dataclass(frozen=True, kw_only=True)
class FinishedRound:
    """A round that was settled or voided."""

    round: Round
    since: int
    """When it ended, in unix seconds."""
    settled: RoundSettled | None

    @classmethod
    def of(cls, market: MarketReader, view: TaskView, round_number: Round) -> FinishedRound | None:
        """Return a round that ended, or None while the chain may still replace its end."""
        settled = market.round_settled(view.task, round_number)
        end = settled or market.round_voided(view.task, round_number)
        if end is None:
            return None
        block = end.position.block_number
        if market.chain.head() < block + view.specification.windows.confirmations:
            return None
        return cls(round=round_number, since=market.chain.block_timestamp(block), settled=settled)


def has_turn(
    view: TaskView, finished: FinishedRound, *, now: int, server: Address, party: Address
) -> bool:
    """Tell whether `server` is to bring the fault of `party` on chain now."""
    members = view.parameters.members
    first = finished.round % len(members)
    order = [member for member in members[first:] + members[:first] if member != party]
    turn = max(0, now - finished.since) // view.specification.windows.rotation_seconds
    return order[turn % len(order)] == server


def was_slashed(
    market: MarketReader, view: TaskView, round_number: Round, party: Address, kind: FaultKind
) -> bool:
    """Tell whether a fault was brought on chain: of a server, by a report, once in a task."""
    return any(
        event.party == party
        and (event.kind in REPORTED) == (kind in REPORTED)
        and (event.round == round_number or kind == FaultKind.SERVER)
        for event in market.slashes(view.task)
    )


def at_risk(market: MarketReader, party: Address, kind: FaultKind) -> bool:
    """Tell whether there is anything left to take from a party for this kind of fault."""
    if kind == FaultKind.OWNER:
        return market.bond(party).amount_wei > 0
    try:
        return market.server(party).stake_wei > 0
    except ChainError as error:
        if error.message != "server not registered":
            raise
        return False


def brought(send: Callable[[], object]) -> bool:
    """Send a report; tell whether it went.

    Another server may have been faster, and a server without ether for gas leaves it to the next
    one: neither may stop the rest of its work.
    """
    try:
        send()
    except (ChainError, FundsError):
        return False
    return True
