"""Claiming rewards and fees, and accounts and tokens that make it hard."""

from __future__ import annotations

from machine_choices import (
    PARTIES,
    Choosing,
    Dice,
    hash_from,
)
from machine_state import Call
from machine_world import (
    DRAW_FEE,
    KEYS,
    OWNERS,
    TOKENS,
)

from omnilytics.chain.bindings import market
from omnilytics.foundation.units import Address


class PaymentActions(Choosing):
    """Calls that pay."""

    def claim(self, dice: Dice) -> None:
        """Claim a data owner's rewards of one task."""
        self.tick(dice)
        number, owner, amount, proof = self.leaf(dice)
        self.world.call(
            dice.choice(PARTIES), "claim", number, owner, amount, proof, value=self.value(dice)
        )

    def claim_many(self, dice: Dice) -> None:
        """Claim a data owner's rewards of several tasks."""
        self.tick(dice)
        _, owner, _, _ = self.leaf(dice)
        claims = []
        for _ in range(dice.choice([0, 1, 2, 2, 3])):
            number, _, amount, proof = self.leaf(dice, owner)
            claims.append(market.Claim(task=number, cumulative_wei=amount, proof=tuple(proof)))
        self.world.call(dice.choice(PARTIES), "claim_many", owner, claims)

    def claim_fees(self, dice: Dice) -> None:
        """Claim a server's fees."""
        self.tick(dice)
        number = self.pick(dice, list(self.world.state.tasks))
        task = self.task(number)
        index = dice.randrange(task.n if task else 3)
        if dice.random() < 0.05:
            index = dice.choice([task.n if task else 3, 13, 2**256 - 1])
        committee = self.committee(dice, number)
        self.world.call(dice.choice(PARTIES), "claim_fees", number, committee, index)

    def behave(self, dice: Dice) -> None:
        """Make an account refuse ether, call back when it is paid, or take it."""
        party = dice.choice(PARTIES)
        manner = dice.choice(["take", "take", "refuse", "refuse", "call back"])
        call = self._harm(dice, party) if manner == "call back" else None
        self.world.behave(party, manner, call)

    def _harm(self, dice: Dice, party: Address) -> Call:
        """Return a call that an account makes whenever it is paid."""
        number, owner, amount, proof = self.leaf(dice)
        number = number or 1
        task = self.task(number)
        committee = list(task.committee or ()) if task else []
        choices = [
            Call(party, "claim", (number, owner, amount, proof)),
            Call(party, "claim_fees", (number, committee, 0)),
            Call(party, "close_task", (number, committee)),
            Call(party, "open_round", (number, hash_from(dice))),
            Call(party, "void_round", (number,)),
            Call(party, "withdraw_stake", ()),
            Call(party, "withdraw_bond", ()),
            Call(party, "add_bond", (), 5),
            Call(party, "leave", ()),
            Call(party, "redraw", (number,), DRAW_FEE),
        ]
        return dice.choice(choices)

    def meddle(self, dice: Dice) -> None:
        """Make a token stop giving to somebody or start again, or change an allowance."""
        token, party = dice.choice(list(TOKENS)), dice.choice(PARTIES)
        if dice.random() < 0.5:
            self.world.block_token(token, party, dice.random() < 0.4)
        else:
            amount = dice.choice([0, 100, 2**140, 2**150, 2**150])
            self.world.approve(token, KEYS[dice.choice(OWNERS)].address, amount)
