"""Accounts that are contracts: refusing, calling back and gas-burning ones harm only themselves."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from contract_world import STAKE, World, payouts_tree
from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle

from omnilytics.chain.abi import Codec, market_codec
from omnilytics.chain.events import terms_tuple
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, TaskId, Wei

HARNESS = Path(__file__).parent / "harness"
TAKE, REFUSE, CALL_BACK, BURN = range(4)


@cache
def compiled() -> tuple[Codec, bytes]:
    bundle = FilesystemInputBundle([HARNESS])
    source = bundle.load_file("Account.vy")
    output = compile_from_file_input(source, bundle, output_formats=["abi", "bytecode"])
    return Codec(output["abi"]), bytes.fromhex(output["bytecode"][2:])


class ContractAccount:
    """One such account."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.codec, code = compiled()
        address = world.model_owner.send(None, code, gas=3_000_000).contract
        assert address is not None
        self.address: Address = address

    def behave(self, manner: int, data: bytes = b"") -> None:
        call = self.codec.call("behave", manner, self.world.address, data)
        self.world.model_owner.send(self.address, call, gas=3_000_000)

    def execute(self, data: bytes, amount: int = 0) -> None:
        call = self.codec.call("execute", self.world.address, data, amount)
        sender = self.world.model_owner
        sender.send(self.address, call, value=Wei(amount), gas=3_000_000)

    def seen(self, name: str) -> Any:
        data = self.world.chain.call(self.address, self.codec.call(name))
        return self.codec.result(name, data)[0]


@pytest.fixture
def world() -> World:
    return World()


def credited(world: World, *owners: Address) -> tuple[TaskId, dict[Address, Any]]:
    task = world.task()
    root, proofs = payouts_tree(dict.fromkeys(owners, 1_000))
    world.round(task, payouts_root=root, accepted_count=10)
    return task, proofs


@pytest.mark.parametrize("manner", [REFUSE, BURN])
def test_an_owner_that_cannot_be_paid_stops_nobody(world: World, manner: int) -> None:
    bad, good = ContractAccount(world), world.key().address
    task, proofs = credited(world, bad.address, good)
    bad.behave(manner)
    with pytest.raises(ChainError):
        world.owner_writer.claim(task, bad.address, Wei(1_000), proofs[bad.address])
    world.owner_writer.claim(task, good, Wei(1_000), proofs[good])
    assert world.reader.claimed(task, bad.address) == 0
    bad.behave(TAKE)
    world.owner_writer.claim(task, bad.address, Wei(1_000), proofs[bad.address])
    assert world.chain.balance(bad.address) == 1_000


@pytest.mark.parametrize("inner", ["the same claim", "another claim", "fees"])
def test_a_claim_cannot_be_re_entered(world: World, inner: str) -> None:
    thief, other = ContractAccount(world), world.key().address
    task, proofs = credited(world, thief.address, other)
    codec = market_codec()
    calls = {
        "the same claim": codec.call(
            "claim", task, thief.address, 1_000, list(proofs[thief.address])
        ),
        "another claim": codec.call("claim", task, other, 1_000, list(proofs[other])),
        "fees": codec.call("claim_fees", task, list(world.committee), 0),
    }
    thief.behave(CALL_BACK, calls[inner])
    held = world.chain.balance(world.address)
    world.owner_writer.claim(task, thief.address, Wei(1_000), proofs[thief.address])
    assert (thief.seen("called"), thief.seen("succeeded")) == (1, 0)
    assert world.chain.balance(thief.address) == 1_000
    assert world.chain.balance(world.address) == held - 1_000
    if inner != "the same claim":  # outside of the claim it is a good call
        world.model_owner.send(world.address, calls[inner], gas=200_000)


def test_a_server_takes_its_stake_once(world: World) -> None:
    server = ContractAccount(world)
    codec = market_codec()
    server.execute(codec.call("register_server", "http://x", b"k" * 32), STAKE)
    server.behave(CALL_BACK, codec.call("unregister_server"))
    held = world.chain.balance(world.address)
    server.execute(codec.call("unregister_server"))
    assert (server.seen("called"), server.seen("succeeded")) == (1, 0)
    assert world.chain.balance(server.address) == STAKE
    assert world.chain.balance(world.address) == held - STAKE


def owned_task(world: World, owner: ContractAccount) -> TaskId:
    terms = world.terms(rounds=1)
    arguments = (terms_tuple(terms), list(terms.committee))
    owner.execute(market_codec().call("create_task", *arguments), terms.escrow_wei)
    task = TaskId(world.reader.task_count())
    owner.execute(market_codec().call("open_round", task, world.hash()))
    world.chain.wait_for_time(world.reader.round_state(task).seal_deadline)
    world.owner_writer.void_round(task)
    return task


@pytest.mark.parametrize("manner", [REFUSE, BURN])
def test_a_model_owner_that_cannot_be_paid_locks_no_stake(world: World, manner: int) -> None:
    owner = ContractAccount(world)
    task = owned_task(world, owner)
    owner.behave(manner)
    world.writer(world.servers[0]).refund(task)
    record = world.reader.task(task)
    assert (record.closed, record.refunded) == (True, False)
    for server in world.servers:
        world.writer(server).unregister_server()
    owner.behave(TAKE)
    world.writer(world.servers[0]).refund(task)
    assert world.reader.task(task).refunded
    assert world.chain.balance(owner.address) == world.terms(rounds=1).escrow_wei - 5 * 2
    assert world.chain.balance(world.address) == 5 * 2
    with pytest.raises(ChainError, match="already refunded"):
        world.writer(world.servers[0]).refund(task)


def test_a_refund_cannot_be_re_entered(world: World) -> None:
    owner = ContractAccount(world)
    task = owned_task(world, owner)
    other = world.task()
    refund = market_codec().call("refund", task, list(world.committee))
    owner.behave(CALL_BACK, refund)
    owner.execute(refund)
    assert (owner.seen("called"), owner.seen("succeeded")) == (1, 0)
    assert world.chain.balance(owner.address) == world.terms(rounds=1).escrow_wei - 5 * 2
    left = 5 * STAKE + 5 * 2 + world.reader.task(other).terms.escrow_wei
    assert world.chain.balance(world.address) == left
