"""Accounts that are contracts: refusing, calling back and gas-burning ones harm only themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from contract_parties import BURN, CALL_BACK, LOCKED, REFUSE, TAKE, ContractAccount
from contract_world import ETHER, STAKE, World, offer, payouts_tree, refused, rewound, shared_world

from omnilytics.chain.bindings import market
from omnilytics.chain.writer import contract_terms
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, TaskId, Wei

UNBONDING = 14 * 86400
KEY = b"k" * 32


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


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


def test_the_reason_of_a_refusing_receiver_is_told(world: World) -> None:
    bad = ContractAccount(world)
    task, proofs = credited(world, bad.address, world.key().address)
    bad.behave(REFUSE)
    with refused("no, thank you"):
        world.owner_writer.claim(task, bad.address, Wei(1_000), proofs[bad.address])


@pytest.mark.parametrize("outer", ["claim", "claim_many"])
def test_a_claim_cannot_be_re_entered(world: World, outer: str) -> None:
    thief, other = ContractAccount(world), world.key().address
    task, proofs = credited(world, thief.address, other)
    own = market.Claim(task=task, cumulative_wei=1_000, proof=proofs[thief.address])
    calls: dict[str, tuple[Any, ...]] = {
        "claim": (task, thief.address, 1_000, own.proof),
        "other claim": (task, other, 1_000, proofs[other]),
        "claim_many": (thief.address, [own]),
        "claim_fees": (task, world.committee, 0),
        "close_task": (task, world.committee),
        "top_up": (task, 1),
        "create_task": (contract_terms(world.terms()), world.committee, 2**256 - 1, []),
        "create_drawn_task": (contract_terms(world.terms()), 5),
    }
    held = world.chain.balance(world.address)
    for inner, arguments in calls.items():
        name = inner.removeprefix("other ")
        with rewound(world):
            thief.behave(CALL_BACK, name, *arguments)
            world.send(outer, *calls[outer])
            assert thief.outcome == LOCKED
            assert world.chain.balance(thief.address) == 1_000
            assert world.chain.balance(world.address) == held - 1_000
            if inner in ("other claim", "claim_fees", "close_task"):  # else a good call
                world.send(name, *arguments)


def test_what_moves_no_money_may_be_called_back(world: World) -> None:
    """Rounds go on inside of a claim as they would after it."""
    owner = ContractAccount(world)
    task = owner.create(world.terms())
    owner.call("open_round", task, world.hash())
    world.seal(task)
    world.to_settle_time(task)
    root, proofs = payouts_tree({owner.address: 1_000})
    world.settle(task, payouts_root=root)
    owner.behave(CALL_BACK, "open_round", task, world.hash())
    world.owner_writer.claim(task, owner.address, Wei(1_000), proofs[owner.address])
    assert owner.outcome[:2] == (1, 1)
    assert world.reader.round_state(task).round == 2
    assert world.reader.task(task).claimed_wei == 1_000
    assert world.chain.balance(owner.address) == 1_000


def committee_with(world: World, server: ContractAccount) -> None:
    """Have a contract register as a server; it cannot sign, so it is in no named committee."""
    server.call("register_server", "http://x", KEY, value=STAKE)


@pytest.mark.parametrize("inner", ["withdraw_stake", "withdraw_bond", "register_server"])
def test_a_server_takes_its_stake_once(world: World, inner: str) -> None:
    server = ContractAccount(world)
    committee_with(world, server)
    server.call("add_bond", value=5)
    server.call("leave")
    server.call("leave_bond")
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    arguments = ("http://y", KEY) if inner == "register_server" else ()
    server.behave(CALL_BACK, inner, *arguments)
    held = world.chain.balance(world.reader.registry)
    server.call("withdraw_stake")
    if inner == "register_server":  # is not locked, but has no stake to send along
        assert server.outcome[:2] == (1, 0)
    else:
        assert server.outcome == LOCKED
    assert world.chain.balance(server.address) == STAKE
    assert world.chain.balance(world.reader.registry) == held - STAKE


@pytest.mark.parametrize("inner", ["withdraw_bond", "withdraw_stake"])
def test_an_owner_takes_its_bond_once(world: World, inner: str) -> None:
    owner = ContractAccount(world)
    committee_with(world, owner)
    owner.call("add_bond", value=5)
    owner.call("leave")
    owner.call("leave_bond")
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    owner.behave(CALL_BACK, inner)
    owner.call("withdraw_bond")
    assert owner.outcome == LOCKED
    assert world.chain.balance(owner.address) == 5


@pytest.mark.parametrize("manner", [REFUSE, BURN])
def test_who_cannot_be_paid_back_keeps_its_stake_and_bond(world: World, manner: int) -> None:
    party = ContractAccount(world)
    committee_with(world, party)
    party.call("add_bond", value=5)
    party.call("leave")
    party.call("leave_bond")
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    party.behave(manner)
    for name in ("withdraw_stake", "withdraw_bond"):
        with pytest.raises(ChainError):
            party.call(name)
    assert world.reader.server(party.address).stake_wei == STAKE
    assert world.reader.bond(party.address).amount_wei == 5
    party.behave(TAKE)
    for name in ("withdraw_stake", "withdraw_bond"):
        party.call(name)
    assert world.chain.balance(party.address) == STAKE + 5


def used_task(world: World, owner: ContractAccount) -> TaskId:
    """A contract's task of one round, which was voided."""
    task = owner.create(world.terms(rounds=1))
    owner.call("open_round", task, world.hash())
    world.chain.wait_for_time(world.reader.round_state(task).seal_deadline)
    world.owner_writer.void_round(task)
    return task


@pytest.mark.parametrize("manner", [REFUSE, BURN])
def test_a_model_owner_that_cannot_be_paid_locks_no_stake(world: World, manner: int) -> None:
    owner = ContractAccount(world)
    task = used_task(world, owner)
    owner.behave(manner)
    anyone = world.writer(world.servers[0])
    anyone.close_task(task)
    record = world.reader.task(task)
    assert (record.closed, record.refunded) == (True, False)
    with pytest.raises(ChainError):
        anyone.close_task(task)
    for server in world.servers:
        world.writer(server).leave()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    for server in world.servers:
        world.writer(server).withdraw_stake()
    assert world.chain.balance(world.reader.registry) == 0
    owner.behave(TAKE)
    anyone.close_task(task)
    assert world.reader.task(task).refunded
    assert world.chain.balance(owner.address) == world.terms(rounds=1).escrow_wei - 5 * 2
    assert world.chain.balance(world.address) == 5 * 2
    with refused("already refunded"):
        anyone.close_task(task)


@pytest.mark.parametrize("inner", ["close_task", "claim_fees"])
def test_a_refund_cannot_be_re_entered(world: World, inner: str) -> None:
    owner = ContractAccount(world)
    task = used_task(world, owner)
    other = world.task()
    extra = (0,) if inner == "claim_fees" else ()
    owner.behave(CALL_BACK, inner, task, world.committee, *extra)
    owner.call("close_task", task, world.committee)
    assert owner.outcome == LOCKED
    assert world.chain.balance(owner.address) == world.terms(rounds=1).escrow_wei - 5 * 2
    left = 5 * 2 + world.reader.task(other).terms.escrow_wei
    assert world.chain.balance(world.address) == left


@pytest.mark.parametrize("inner", ["top_up", "open_round", "redraw"])
def test_a_refunded_task_is_over_when_its_owner_is_paid(world: World, inner: str) -> None:
    owner = ContractAccount(world)
    task = used_task(world, owner)
    arguments = {"top_up": (task, 1), "open_round": (task, world.hash()), "redraw": (task,)}
    owner.behave(CALL_BACK, inner, *arguments[inner])
    owner.call("close_task", task, world.committee)
    called, succeeded, answer = owner.outcome
    assert (called, succeeded) == (1, 0)
    assert inner == "top_up" or b"task closed" in answer


@pytest.mark.parametrize("manner", [REFUSE, BURN])
def test_a_server_that_cannot_be_paid_stops_nobody(world: World, manner: int) -> None:
    """A contract can serve when it is drawn: its fees wait for it."""
    server = ContractAccount(world)
    committee_with(world, server)
    server.call("set_offer", bytes(20), True, 0, 2**96 - 1)
    for member in world.servers[:4]:
        world.writer(member).set_offer(offer(0))
    task = world.owner_writer.create_drawn_task(world.terms())
    world.chain.mine(5)
    world.owner_writer.reveal_draw(task)
    world.owner_writer.draw_committee(task)
    committee = world.reader.task(task).committee
    index = committee.index(server.address)
    world.open(task)
    world.chain.wait_for_time(world.reader.round_state(task).seal_deadline)
    world.owner_writer.void_round(task)
    server.behave(manner)
    for j in range(5):
        if j == index:
            with pytest.raises(ChainError):
                world.owner_writer.claim_fees(task, committee, j)
        else:
            world.owner_writer.claim_fees(task, committee, j)
    assert world.reader.fees_paid(task, index) == 0
    world.owner_writer.close_task(task)
    server.behave(CALL_BACK, "claim_fees", task, committee, index)
    world.owner_writer.claim_fees(task, committee, index)
    assert server.outcome == LOCKED
    assert world.chain.balance(server.address) == 13 // 5
    assert world.chain.balance(world.address) == 0


def test_a_reporter_is_paid_once(world: World) -> None:
    """A reporter that calls back from its share finds the registry locked."""
    reporter = ContractAccount(world)
    task = world.task()
    arguments = world.report(task, 4)
    reporter.behave(CALL_BACK, "report_fault", *arguments)
    reporter.call("report_fault", *arguments)
    assert reporter.outcome == LOCKED
    assert world.chain.balance(reporter.address) == STAKE // 20
    assert world.reader.server(world.committee[4]).stake_wei == 0


def test_a_reporter_that_cannot_be_paid_reports_nothing(world: World) -> None:
    reporter = ContractAccount(world)
    task = world.task()
    arguments = world.report(task, 4)
    reporter.behave(REFUSE)
    with refused("no, thank you"):
        reporter.call("report_fault", *arguments)
    assert world.reader.server(world.committee[4]).stake_wei == STAKE
    world.send("report_fault", *arguments)
    assert world.reader.server(world.committee[4]).stake_wei == 0


@pytest.mark.filterwarnings("ignore:SELFDESTRUCT opcode")
def test_ether_sent_by_force_changes_nothing(world: World) -> None:
    """A contract that dies in the market's favour: the books do not read the balance."""
    task = world.task(rounds=1)
    # PUSH20 market, SELFDESTRUCT
    world.model_owner.send(None, b"\x73" + world.address + b"\xff", value=ETHER, gas=200_000)
    assert world.chain.balance(world.address) == world.terms(rounds=1).escrow_wei + ETHER
    world.round(task)
    for index in range(5):
        world.owner_writer.claim_fees(task, world.committee, index)
    world.owner_writer.close_task(task)
    assert world.chain.balance(world.address) == ETHER + 10 * 1_000
