"""Contracts that take part in a market: accounts and tokens, friendly or not."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from contract_world import World
from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle

from omnilytics.chain.abi import Codec
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.compile import CONTRACTS
from omnilytics.chain.records import TaskTerms
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import compact_signature, contract_terms
from omnilytics.foundation.units import Address, TaskId, Wei
from omnilytics.wire.task_specification import ETHER_TOKEN

HARNESS = Path(__file__).parent / "harness"
GAS = 3_000_000
# What an account does with ether.
TAKE, REFUSE, CALL_BACK, BURN = range(4)
# What a token does with transfers.
(
    HONEST,
    RETURNS_FALSE,
    TAKES_A_FEE,
    CALLS_BACK,
    BURNS_GAS,
    LIES,
    KEEPS,
    REVERTS,
    ADDS,
    RETURNS_TWO,
) = range(10)


@cache
def harness(name: str) -> tuple[Codec, bytes]:
    """Return codec and init code of a contract for tests."""
    bundle = FilesystemInputBundle([CONTRACTS, HARNESS])
    source = bundle.load_file(f"{name}.vy")
    output = compile_from_file_input(source, bundle, output_formats=["abi", "bytecode"])
    return Codec(output["abi"]), bytes.fromhex(output["bytecode"][2:])


class Deployed:
    """A deployed contract of the harness."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.codec, code = harness(name)
        address = world.model_owner.send(None, code, gas=GAS).contract
        assert address is not None
        self.address: Address = address

    def do(self, name: str, *arguments: object, sender: Sender | None = None) -> None:
        """Call a function of it."""
        data = self.codec.calldata(name, *arguments)
        (sender or self.world.model_owner).send(self.address, data, gas=GAS)

    def seen(self, name: str, *arguments: object) -> Any:
        """Return what a view of it returns."""
        data = self.codec.calldata(name, *arguments)
        return self.codec.result(name, self.world.chain.call(self.address, data))


class Party(Deployed):
    """An account or token that calls the market or its registry, when told or when paid."""

    def behave(self, manner: int, name: str | None = None, *arguments: object) -> None:
        """Choose its manner, and which call it makes where that is to call back."""
        target, data = (
            (self.world.address, b"") if name is None else _call(self.world, name, arguments)
        )
        self.do("behave", manner, target, data)

    def call(self, name: str, *arguments: object, value: int = 0) -> None:
        """Have it call the market or its registry now."""
        target, data = _call(self.world, name, arguments)
        outer = self.codec.calldata("execute", target, data, value)
        self.world.model_owner.send(self.address, outer, value=Wei(value), gas=GAS)

    def create(self, terms: TaskTerms) -> TaskId:
        """Have it create a task, all servers consenting."""
        world = self.world
        expires = world.chain.head_timestamp() + 3_600
        consents = world.consents(terms, world.committee, self.address, expires)
        self.call(
            "create_task",
            contract_terms(terms),
            world.committee,
            expires,
            [compact_signature(consent) for consent in consents],
            value=terms.escrow_wei if terms.token == ETHER_TOKEN else 0,
        )
        return TaskId(world.reader.task_count())

    @property
    def outcome(self) -> tuple[int, int, bytes]:
        """How often it called back, how often that worked, and what it was last answered."""
        return self.seen("called"), self.seen("succeeded"), self.seen("answer")


LOCKED = (1, 0, b"")
"""Outcome of one call that ran into a re-entrancy lock: those have no reason."""


class ContractAccount(Party):
    """An account that is a contract."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "Account")


class Token(Party):
    """A token; every account of the world's owner has plenty and lets the market take it."""

    def __init__(self, world: World, name: str = "Token") -> None:
        super().__init__(world, name)
        self.supply(world.model_owner)

    def supply(self, account: Sender) -> None:
        """Give an account plenty and let the market take it."""
        self.do("mint", account.address, 10**30)
        self.do("approve", self.world.address, 10**30, sender=account)

    def balance(self, owner: Address) -> int:
        """Return an account's units."""
        return int(self.seen("balanceOf", owner))

    @property
    def held(self) -> int:
        """What the market has of it."""
        return self.balance(self.world.address)


def _call(world: World, name: str, arguments: tuple[object, ...]) -> tuple[Address, bytes]:
    if name in market.codec().names:
        return world.address, market.codec().calldata(name, *arguments)
    return world.reader.registry, registry.codec().calldata(name, *arguments)
