"""The model's money: who has how much ether and of which token, and who takes what is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from machine_chain import block_hash
from machine_state import ETHER, NO_REASON, Call, Manner, State, refuse_if

from omnilytics.foundation.units import Address, Hash32
from omnilytics.wire.eip712 import Domain


@dataclass
class Books:
    """State, time and logs, shared by the models of the two contracts.

    Attributes:
        call_back: Executes what a receiver calls when it is paid; a refusal changes nothing.
        locked: Contracts that are sending money, and take no other call that may send any.
    """

    state: State
    domain: Domain
    block: int = 0
    time: int = 0
    has_history: bool = True
    logs: list[tuple[Address, str, dict[str, Any]]] = field(default_factory=list)
    locked: set[Address] = field(default_factory=set)
    call_back: Callable[[Call], None] = field(default=lambda call: None)

    def log(self, contract: Address, event: str, **values: Any) -> None:
        """Record an event that the contract must log."""
        self.logs.append((contract, event, values))

    def block_hash(self, number: int) -> Hash32:
        """Return the hash of a block that the chain still knows."""
        known = 8_191 if self.has_history else 256
        refuse_if(self.block - number > known, "block hash missed")
        return block_hash(number)

    def lock(self, contract: Address) -> None:
        """Refuse a call from within another one that sends money."""
        refuse_if(contract in self.locked, NO_REASON)
        self.locked.add(contract)

    def transfer(self, giver: Address, receiver: Address, amount: int) -> None:
        """Send ether; the receiver may refuse it, or call back."""
        ether = self.state.ether
        no_wallet = receiver in (self.state.market, self.state.registry, *self.state.tokens)
        refuse_if(no_wallet or receiver in self.state.refusing, NO_REASON)
        ether[giver] = ether.get(giver, 0) - amount
        ether[receiver] = ether.get(receiver, 0) + amount
        if receiver in self.state.calling_back:
            self.call_back(self.state.calling_back[receiver])

    def pay(self, token: Address, receiver: Address, amount: int) -> None:
        """Pay somebody out of the market."""
        state = self.state
        if token == ETHER:
            self.transfer(state.market, receiver, amount)
            return
        books = state.tokens[token]
        stuck = books.balances.get(state.market, 0) < amount or receiver in books.blocked
        refuse_if(stuck, "token refused" if books.manner is Manner.SHY else "no transfer")
        _move(books.balances, state.market, receiver, amount)
        if books.manner is Manner.TAXED and amount:
            books.balances[receiver] -= 1

    def take(self, payer: Address, value: int, token: Address, amount: int, extra: int) -> None:
        """Take exactly an amount from a model owner, and extra ether."""
        state = self.state
        refuse_if(value != (amount if token == ETHER else 0) + extra, "wrong escrow")
        if token == ETHER:
            return
        refuse_if(token not in state.tokens, NO_REASON)
        books = state.tokens[token]
        shy = books.manner is Manner.SHY
        allowed = books.allowances.get(payer, 0)
        refuse_if(allowed < amount, "token refused" if shy else "no allowance")
        stuck = books.balances.get(payer, 0) < amount or state.market in books.blocked
        refuse_if(stuck, "token refused" if shy else "no transfer")
        books.allowances[payer] = allowed - amount
        _move(books.balances, payer, state.market, amount)
        refuse_if(books.manner is Manner.TAXED and amount > 0, "wrong escrow")


def _move(balances: dict[Address, int], giver: Address, receiver: Address, amount: int) -> None:
    balances[giver] = balances.get(giver, 0) - amount
    balances[receiver] = balances.get(receiver, 0) + amount
