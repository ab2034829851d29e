"""The model of both contracts: what a call must do, or the reason with which it must be refused.

Written from docs/contract.md and the contracts' NatSpec with plain records, not packed words;
signatures are recovered and proofs folded from what the call really carries. It is single-threaded.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import Any

from machine_books import Books
from machine_market import MarketModel
from machine_registry import RegistryModel
from machine_state import NO_REASON, Call, RefusedError, State, refuse_if

from omnilytics.foundation.units import Address
from omnilytics.wire.eip712 import Domain

PAYABLE = frozenset(
    {
        "create_task",
        "create_drawn_task",
        "redraw",
        "top_up",
        "register_server",
        "add_stake",
        "add_bond",
        "pin_draw",
    }
)
SENDING = frozenset(
    {
        "create_task",
        "create_drawn_task",
        "top_up",
        "close_task",
        "claim",
        "claim_many",
        "claim_fees",
        "withdraw_stake",
        "withdraw_bond",
        "report_fault",
        "convict_of_two_words",
        "convict_of_two_seeds",
        "convict_of_two_finals",
    }
)
"""Calls during which a contract takes no other of these: it may be sending money."""


class Model:
    """Both contracts, everybody's money and the tokens."""

    def __init__(self, state: State, domain: Domain) -> None:
        self.books = Books(state, domain, call_back=self._call_back)
        self.registry = RegistryModel(self.books)
        self.market = MarketModel(self.books, self.registry)

    @property
    def state(self) -> State:
        """The present state; every call may put another object in its place."""
        return self.books.state

    def at(self, block: int, time: int) -> None:
        """Set block number and time of the next calls."""
        self.books.block, self.books.time = block, time

    def execute(self, call: Call) -> str | None:
        """Make a call; return why it is refused, or None."""
        self.books.logs.clear()
        self.books.locked.clear()
        try:
            self._attempt(call)
        except RefusedError as refusal:
            return str(refusal)
        return None

    def _attempt(self, call: Call) -> None:
        before, logged = pickle.dumps(self.state, pickle.HIGHEST_PROTOCOL), len(self.books.logs)
        locked = set(self.books.locked)
        try:
            self._enter(call)
        except RefusedError:
            self.books.state = pickle.loads(before)  # noqa: S301 - our own bytes
            del self.books.logs[logged:]
            raise
        finally:
            self.books.locked = locked

    def _enter(self, call: Call) -> None:
        in_market = hasattr(self.market, call.name)
        contract = self.state.market if in_market else self.state.registry
        refuse_if(call.value > 0 and call.name not in PAYABLE, NO_REASON)
        if call.name in SENDING:
            self.books.lock(contract)
        self._move(call.sender, contract, call.value)
        effect: Callable[..., None] = getattr(
            self.market if in_market else self.registry, call.name
        )
        effect(call.sender, call.value, *call.arguments)

    def _move(self, sender: Address, contract: Address, value: int) -> None:
        ether = self.state.ether
        ether[sender] = ether.get(sender, 0) - value
        ether[contract] = ether.get(contract, 0) + value

    def _call_back(self, call: Call) -> None:
        with contextlib.suppress(RefusedError):
            self._attempt(call)

    def expected_logs(self) -> list[tuple[Address, str, dict[str, Any]]]:
        """Return what the last call must have logged, in order."""
        return list(self.books.logs)
