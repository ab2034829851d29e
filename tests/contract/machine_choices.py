"""Choosing: which task and party, at what time, and with what flaw; and signing.

Choices are mostly right and now and then wrong in one way. What must happen then is the model's
business alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from machine_payouts import Payouts
from machine_state import DAYS_14, Phase, Task
from machine_world import (
    DATA_OWNERS,
    DOMAIN,
    KEYS,
    NAMES,
    SERVERS,
    World,
)

from omnilytics.chain.abi import Signature
from omnilytics.chain.writer import compact_signature
from omnilytics.foundation.units import Address, Hash32
from omnilytics.wire.eip712 import TypedMessage
from omnilytics.wire.signatures import SigningKey

Dice = random.Random
DAY = 86_400
HIGH_S = Signature(r=Hash32(b"\1" * 32), vs=2**255 - 1)
NO_SIGNATURE = Signature(r=Hash32(bytes(32)), vs=0)
KEY_OF: dict[Address, SigningKey] = {key.address: key for key in KEYS.values()}
SERVER_ADDRESSES = [KEYS[name].address for name in SERVERS]
PARTIES = list(NAMES)


def sign(member: Address, message: TypedMessage) -> Signature:
    """Return a party's compact signature."""
    return compact_signature(KEY_OF[member].sign(message, DOMAIN))


def one_of(dice: Dice, chance: float, *flaws: str) -> str | None:
    """Return one of the flaws by chance, or none."""
    return dice.choice(flaws) if dice.random() < chance else None


def hash_from(dice: Dice) -> Hash32:
    """Return a random hash."""
    return Hash32(dice.randbytes(32))


class Choosing:
    """What all parties need to choose their calls, over one example."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.payouts = Payouts()
        self.focus: int | None = None
        self.hopeless: set[int] = set()

    # Choosing

    def tasks(self, *phases: Phase, closed: bool = False) -> list[int]:
        """Return the tasks in some phases."""
        tasks = self.world.state.tasks.items()
        return [
            number
            for number, task in tasks
            if (not phases or task.phase in phases) and task.closed == closed
        ]

    def pick(self, dice: Dice, likely: Sequence[int]) -> int:
        """Return a likely task, now and then any number; rather the one in focus."""
        if self.focus is not None and self.focus in likely and dice.random() < 0.8:
            return self.focus
        if likely and dice.random() < 0.93:
            return dice.choice(likely)
        return dice.randint(0, len(self.world.state.tasks) + 1)

    def task(self, number: int) -> Task | None:
        """Return a task."""
        return self.world.state.tasks.get(number)

    def caller(self, dice: Dice, right: Address | None) -> Address:
        """Return who should call, now and then somebody else."""
        if right is None or dice.random() < 0.07:
            return dice.choice(PARTIES)
        return right

    def value(self, dice: Dice, right: int = 0) -> int:
        """Return the ether that should be sent along, now and then a wei more or less."""
        if dice.random() < 0.03:
            return max(0, right + dice.choice([-1, 1]))
        return right

    def committee(self, dice: Dice, number: int) -> list[Address]:
        """Return a task's committee, now and then a wrong one."""
        task = self.task(number)
        committee = list(task.committee or ()) if task else []
        if dice.random() < 0.04:
            committee = dice.choice([[], committee[::-1], committee[:-1], SERVER_ADDRESSES[:3]])
        return committee

    # Time

    def tick(self, dice: Dice) -> None:
        """Let little or no time pass."""
        blocks = dice.choice([0, 0, 1, 1, 1, 1, 2])
        self.world.advance(blocks, dice.randint(1, 6))

    def arrive(
        self, dice: Dice, *, first: int, last: int | None = None, blocks: bool = False
    ) -> None:
        """Go where a call is taken (from `first` to `last`), or to a border, or hardly anywhere.

        Long ways are seldom gone: every task's round would miss its deadlines.
        """
        roll = dice.random()
        if not blocks and first > self.world.chain.time + DAY and dice.random() < 0.6:
            roll = 1.0
        borders = [first - 1, first]
        if last is not None:
            borders += [last, last + 1]
        now = self.world.chain.block if blocks else self.world.chain.time
        if roll < 0.72 and now < first:
            to = first if last is None else dice.randint(first, min(last, first + 3))
        elif roll < 0.9:
            to = dice.choice(borders)
        else:
            to = now
        if to <= now:
            self.tick(dice)
        elif blocks:
            self.world.advance(to - now, (to - now) * dice.randint(1, 3))
        else:
            self.world.advance(min(dice.randint(1, 3), to - now), to - now)

    def wait(self, dice: Dice) -> None:
        """Let much time pass."""
        blocks, seconds = dice.choice(
            [
                (1, DAYS_14),
                (1, DAYS_14 + 1),
                (257, 600),
                (5, 60),
                (20, 20),
                (1, 700),
                (1, 86_400),
                (1, 366 * 86_400),
            ]
        )
        self.world.advance(blocks, max(blocks, seconds))

    # Payouts

    def leaf(
        self, dice: Dice, owner: Address | None = None
    ) -> tuple[int, Address, int, list[Hash32]]:
        """Return task, owner, amount and proof; mostly a leaf of one of the task's two roots."""
        found = [
            (number, member, root)
            for number, task in self.world.state.tasks.items()
            for root in (task.root, task.root, task.previous_root)
            for member in self.payouts.amounts.get(root, {})
            if owner in (None, member)
        ]
        fresh = [leaf for leaf in found if not self.world.state.tasks[leaf[0]].claimed.get(leaf[1])]
        if dice.random() < 0.6:
            found = fresh or found
        if not found:
            return dice.randint(0, 2), owner or dice.choice(PARTIES), dice.randint(0, 9), []
        number, member, root = dice.choice(found)
        if dice.random() < 0.04:
            root = dice.choice(list(self.payouts.amounts))
        amount = self.payouts.amounts[root].get(member, 0)
        proof = list(self.payouts.proofs[root].get(member, ()))
        flaw = one_of(dice, 0.1, "more", "less", "short", "long", "owner", "task")
        if flaw in ("more", "less"):
            amount = min(2**256 - 1, max(0, amount + (1 if flaw == "more" else -1)))
        if flaw == "short":
            proof = proof[:-1]
        if flaw == "long":
            proof = [*proof, hash_from(dice)][-32:]
        if flaw == "owner" and owner is None:
            member = KEYS[dice.choice(DATA_OWNERS)].address
        if flaw == "task":
            number = dice.randint(0, 3)
        return number, member, amount, proof


def bits(bitmap: int, n: int) -> list[int]:
    return [index for index in range(n) if bitmap >> index & 1]


def subset(dice: Dice, n: int, e: int, flaw: str | None) -> int:
    """Return a bitmap of at least n - e signers, or of one fewer, or of e servers alone."""
    size = n - dice.choice([0, e])
    if flaw == "thin":
        size = max(0, n - e - 1)
    if flaw == "framed":
        size = e
    signers = sum(1 << index for index in dice.sample(range(n), size))
    return signers | 1 << n if flaw == "beyond" else signers


def votes(
    dice: Dice, committee: list[Address], e: int, message: TypedMessage, flaw: str | None
) -> tuple[int, list[Signature]]:
    """Return signers and their signatures of a message."""
    n = len(committee)
    signers = subset(dice, n, min(e, n), flaw)
    signatures = [sign(committee[index], message) for index in bits(signers, n)]
    return signers, spoilt(signatures, flaw, dice, message)


def spoilt(
    signatures: list[Signature], flaw: str | None, dice: Dice, message: TypedMessage
) -> list[Signature]:
    """Return signatures with one missing, by another key, or malleable."""
    if not signatures:
        return signatures
    place = dice.randrange(len(signatures))
    if flaw == "few":
        return signatures[:place] + signatures[place + 1 :]
    if flaw in ("signer", "high s"):
        other = sign(dice.choice(PARTIES), message)
        wrong = HIGH_S if flaw == "high s" else dice.choice([other, NO_SIGNATURE])
        return [*signatures[:place], wrong, *signatures[place + 1 :]]
    return signatures
