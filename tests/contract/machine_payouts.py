"""Payout trees that settlements name: honest, greedy, shrunk and invented ones."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from contract_world import payouts_tree
from machine_state import Task
from machine_world import DATA_OWNERS, KEYS, MARKET

from omnilytics.foundation.units import Address, Hash32

LARGEST = 2**256 - 1
Proof = tuple[Hash32, ...]
KINDS = ("honest", "honest", "honest", "greedy", "greedy", "shrunk", "same", "invented")


@dataclass
class Payouts:
    """All trees that anybody has named so far, by their roots."""

    amounts: dict[Hash32, Mapping[Address, int]] = field(default_factory=dict)
    proofs: dict[Hash32, Mapping[Address, Proof]] = field(default_factory=dict)

    def root_for(self, dice: random.Random, task: Task, accepted: int) -> Hash32:
        """Return a root for a settlement of a task that accepts so many owners."""
        kind = dice.choice(KINDS)
        before = dict(self.amounts.get(task.root, {}))
        owners = [KEYS[name].address for name in DATA_OWNERS]
        if kind == "same":
            return task.root
        if kind == "invented":
            return Hash32(dice.randbytes(32))
        if kind == "shrunk":
            return self._add({owner: amount // 2 for owner, amount in before.items()})
        for owner in dice.sample(owners, min(accepted, len(owners))):
            before[owner] = min(before.get(owner, 0) + task.terms.reward_wei, LARGEST)
        if kind == "greedy":
            thief = dice.choice([*owners, task.owner, MARKET])
            more = dice.choice([1, task.terms.reward_wei, task.escrow, 2**120, 2**256 - 1])
            before[thief] = min(before.get(thief, 0) + more, LARGEST)
        return self._add(before)

    def _add(self, amounts: Mapping[Address, int]) -> Hash32:
        if not amounts:
            return Hash32(bytes(32))
        root, self.proofs[root] = _tree(amounts)
        self.amounts[root] = amounts
        return root


def _tree(amounts: Mapping[Address, int]) -> tuple[Hash32, Mapping[Address, Proof]]:
    return payouts_tree(amounts)
