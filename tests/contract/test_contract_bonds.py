"""Bonds of data owners: adding, asking back, staying after all, and the delay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract_world import World, refused, shared_world

from omnilytics.chain.bindings.registry import BondAdded, BondWithdrawn, OwnerLeaving
from omnilytics.chain.records import BondRecord
from omnilytics.foundation.units import Wei

UNBONDING = 14 * 86400
NO_BOND = BondRecord(amount_wei=Wei(0), free_at=0)


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


def test_adds(world: World) -> None:
    owner = world.writer(world.account())
    held = world.chain.balance(world.reader.registry)
    assert world.reader.bond(owner.address) == NO_BOND
    with refused("no bond"):
        owner.add_bond(Wei(0))
    (event,) = owner.add_bond(Wei(5)).events
    assert isinstance(event, BondAdded)
    assert (event.owner, event.amount_wei) == (owner.address, 5)
    owner.add_bond(Wei(6))
    assert world.reader.bond(owner.address) == BondRecord(amount_wei=Wei(11), free_at=0)
    assert world.chain.balance(world.reader.registry) == held + 11


def test_leaves_and_is_paid_back(world: World) -> None:
    owner = world.writer(world.account())
    for call in (owner.leave_bond, owner.withdraw_bond):
        with refused("no bond" if call == owner.leave_bond else "not leaving"):
            call()
    owner.add_bond(Wei(5))
    with refused("not leaving"):
        owner.withdraw_bond()
    (leaving,) = owner.leave_bond().events
    assert isinstance(leaving, OwnerLeaving)
    assert leaving.free_at == world.chain.head_timestamp() + UNBONDING
    bond = world.reader.bond(owner.address)
    assert bond == BondRecord(amount_wei=Wei(5), free_at=leaving.free_at)
    assert not bond.covers(5)
    with refused("already leaving"):
        owner.leave_bond()
    world.chain.wait_for_time(leaving.free_at - 2)
    with refused("still unbonding"):
        owner.withdraw_bond()
    world.chain.mine(1)
    before = world.chain.balance(owner.address)
    receipt = owner.withdraw_bond()
    assert world.chain.balance(owner.address) == before + 5 - receipt.gas_cost_wei
    (event,) = receipt.events
    assert isinstance(event, BondWithdrawn)
    assert (event.owner, event.amount_wei) == (owner.address, 5)
    assert world.reader.bond(owner.address) == NO_BOND
    with refused("not leaving"):
        owner.withdraw_bond()


def test_one_that_adds_again_stays(world: World) -> None:
    owner = world.writer(world.account())
    owner.add_bond(Wei(5))
    owner.leave_bond()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING + 1)
    owner.add_bond(Wei(1))
    bond = world.reader.bond(owner.address)
    assert bond == BondRecord(amount_wei=Wei(6), free_at=0)
    assert bond.covers(6)
    assert not bond.covers(7)
    with refused("not leaving"):
        owner.withdraw_bond()
    owner.leave_bond()
    with refused("still unbonding"):
        owner.withdraw_bond()


def test_owners_have_their_own(world: World) -> None:
    one, other = world.writer(world.account()), world.writer(world.account())
    one.add_bond(Wei(5))
    one.leave_bond()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    with refused("not leaving"):
        other.withdraw_bond()
    other.add_bond(Wei(9))
    one.withdraw_bond()
    assert world.reader.bond(other.address) == BondRecord(amount_wei=Wei(9), free_at=0)


def test_a_servers_stake_is_no_bond(world: World) -> None:
    assert world.reader.bond(world.committee[0]) == NO_BOND
    server = world.writer(world.servers[0])
    server.add_bond(Wei(3))
    stake = world.reader.server(world.committee[0]).stake_wei
    server.leave_bond()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    server.withdraw_bond()
    assert world.reader.server(world.committee[0]).stake_wei == stake
