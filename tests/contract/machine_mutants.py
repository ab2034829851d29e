"""Bugs planted into copies of the contracts: the machine has to find every one of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from machine_world import Bytecode, present_bytecode

from omnilytics.chain.compile import CONTRACTS, compile_contract


@dataclass(frozen=True)
class Mutant:
    """A change of one contract: the first occurrence of `old` becomes `new`.

    A rare one takes thousands of steps to show: `make campaign` looks for it, CI does not.
    """

    name: str
    contract: str
    old: str
    new: str = ""
    rare: bool = False


MUTANTS = (
    Mutant(
        "claims go beyond credit",
        "Market",
        "    assert amount_wei <= unsafe_sub(ledger & _M120, claimed_wei), ",
        '    assert True, "beyond credit"  # ',
    ),
    Mutant("claims are forgotten", "Market", "    self.claimed[task][owner] = cumulative_wei\n"),
    Mutant(
        "the sum of claims is forgotten",
        "Market",
        "unsafe_add(ledger, amount_wei << _CLAIMED)",
        "ledger",
    ),
    Mutant(
        "refunds keep the servers' fees",
        "Market",
        "        left_wei -= self._fees_earned(task, index)\n",
        "        pass\n",
    ),
    Mutant(
        "top_up takes no money",
        "Market",
        "    self._take(self._tasks[task].token, amount_wei, 0)\n",
    ),
    Mutant("all servers earn the fee", "Market", "((v_bitmap >> index) & 1)", "1", rare=True),
    Mutant(
        "any previous root will do",
        "Market",
        "        settlement.previous_payouts_root == self._tasks[task].payouts_root\n",
        "        True\n",
        rare=True,
    ),
    Mutant(
        "refunds repeat",
        "Market",
        '    assert progress & _REFUNDED == 0, "already refunded"\n',
        rare=True,
    ),
    Mutant(
        "a task's release is forgotten",
        "Registry",
        "self._servers[server].standing - _ONE_TASK",
        "self._servers[server].standing",
    ),
    Mutant(
        "stakes are free at once",
        "Registry",
        "leaving_time + UNBONDING_SECONDS, ",
        "leaving_time, ",
    ),
    Mutant(
        "parties are judged again",
        "Registry",
        '    assert not self.judged[case], "already judged"\n',
        rare=True,
    ),
    Mutant(
        "late stakes are drawn",
        "Registry",
        " or (standing >> _SINCE) & _M40 > pinned_block",
        rare=True,
    ),
    Mutant(
        "late offers are drawn",
        "Registry",
        "        and offer >> _OFFER_BLOCK <= pinned_block\n",
        rare=True,
    ),
    Mutant(
        "reports take whole stakes",
        "Registry",
        "min(self._servers[party].standing & _M96, risk.min_stake_wei)",
        "self._servers[party].standing & _M96",
    ),
    Mutant(
        "places move while a draw is under way",
        "Registry",
        '    assert block.number > self.draws_until, "draw under way"\n',
        rare=True,
    ),
    Mutant(
        "another unbonding period is forgotten",
        "Registry",
        "        if leaving_time != 0:\n            # The stake",
        "        if leaving_time == 1:\n            # The stake",
    ),
)


@cache
def mutated(mutant: Mutant, scratch: Path) -> Bytecode:
    """Return the contracts with one bug in them."""
    folder = scratch / "contracts"
    shutil.copytree(CONTRACTS, folder)
    source = folder / f"{mutant.contract}.vy"
    text = source.read_text()
    assert mutant.old in text, f"{mutant.name}: the source has changed"
    source.write_text(text.replace(mutant.old, mutant.new, 1))
    code = compile_contract(mutant.contract, folder)["bytecode"]
    changed = bytes.fromhex(str(code)[2:])
    sound = present_bytecode()
    if mutant.contract == "Market":
        return Bytecode(changed, sound.registry)
    return Bytecode(sound.market, changed)
