"""All money, counted again from the logs alone: an auditor's view, without the model."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from machine_state import NOBODY

from omnilytics.chain.bindings import market, registry
from omnilytics.chain.happenings import MarketEvent
from omnilytics.foundation.units import Address

if TYPE_CHECKING:
    from machine_world import World


class Audit:
    """What the events say about each task and each party."""

    def __init__(self, draw_fee: int) -> None:
        self.draw_fee = draw_fee
        self.created: dict[int, market.TaskCreated] = {}
        self.escrow: Counter[int] = Counter()
        self.credited: Counter[int] = Counter()
        self.claimed: Counter[int] = Counter()
        self.opened: Counter[int] = Counter()
        self.fees_due: Counter[tuple[int, int]] = Counter()
        self.fees_paid: Counter[tuple[int, int]] = Counter()
        self.refunded: Counter[int] = Counter()
        self.stakes: Counter[Address] = Counter()
        self.bonds: Counter[Address] = Counter()
        self.burnt = 0

    def add(self, event: MarketEvent) -> None:
        """Read one more event."""
        if isinstance(event, market.TaskCreated):
            self.created[event.task] = event
            self.escrow[event.task] += event.escrow_wei
        elif isinstance(event, market.RoundsAdded):
            self.escrow[event.task] += event.amount_wei
        elif isinstance(event, market.RoundOpened):
            self.opened[event.task] += 1
        elif isinstance(event, market.RoundSettled):
            self._settled(event)
        elif isinstance(event, market.RewardClaimed):
            self.claimed[event.task] += event.amount_wei
        elif isinstance(event, market.FeesClaimed):
            self.fees_paid[event.task, event.index] += event.amount_wei
        elif isinstance(event, market.TaskRefunded):
            assert event.task not in self.refunded, "refunded twice"
            self.refunded[event.task] += event.amount_wei
        else:
            self._of_registry(event)

    def _settled(self, event: market.RoundSettled) -> None:
        created = self.created[event.task]
        self.credited[event.task] += event.accepted_count * created.reward_wei
        for index in range(created.n):
            if event.v_bitmap >> index & 1:
                self.fees_due[event.task, index] += created.fee_wei

    def _of_registry(self, event: MarketEvent) -> None:
        if isinstance(event, registry.ServerRegistered):
            self.stakes[event.server] += event.stake_wei
        elif isinstance(event, registry.StakeAdded):
            self.stakes[event.server] += event.amount_wei
        elif isinstance(event, registry.StakeWithdrawn):
            self.stakes[event.server] -= event.amount_wei
        elif isinstance(event, registry.BondAdded):
            self.bonds[event.owner] += event.amount_wei
        elif isinstance(event, registry.BondWithdrawn):
            self.bonds[event.owner] -= event.amount_wei
        elif isinstance(event, registry.DrawPinned):
            self.burnt += event.fee_wei
            assert event.fee_wei == self.draw_fee
        elif isinstance(event, registry.Slashed):
            (self.bonds if event.kind == 2 else self.stakes)[event.party] -= event.amount_wei
            assert event.share_wei == event.amount_wei // (20 if event.kind <= 2 else 4)
            self.burnt += event.amount_wei - event.share_wei

    def check(self, world: World) -> None:
        """Compare with what the contracts have, and nobody got more than it may."""
        assert all(amount >= 0 for amount in (*self.stakes.values(), *self.bonds.values()))
        at_risk = self.stakes.total() + self.bonds.total()
        assert at_risk + self.burnt == world.chain.balance(world.state.registry)
        ether_left = 0
        for task, created in self.created.items():
            left = self._left(task, created)
            assert left >= 0
            if created.token == NOBODY:
                ether_left += left
        assert ether_left == world.chain.balance(world.state.market)

    def _left(self, task: int, created: market.TaskCreated) -> int:
        """What the market still has of a task's escrow."""
        price = created.max_owners * created.reward_wei + created.n * created.fee_wei
        rounds, rest = divmod(self.escrow[task], price + created.opening_fee_wei or 1)
        assert rest == 0
        assert created.rounds <= max(rounds, created.rounds) <= created.max_rounds
        assert self.claimed[task] <= self.credited[task]
        due = paid = 0
        for index in range(created.n):
            share = self.opened[task] * created.opening_fee_wei // created.n
            due += self.fees_due[task, index] + share
            paid += self.fees_paid[task, index]
            assert self.fees_paid[task, index] <= self.fees_due[task, index] + share
        assert self.refunded[task] in (0, self.escrow[task] - self.credited[task] - due)
        return self.escrow[task] - self.claimed[task] - paid - self.refunded[task]
