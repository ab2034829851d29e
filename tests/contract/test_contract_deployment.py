"""Deploying market and registry: bounds, who belongs to whom, and what only the market may call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from contract_world import ETHER, STAKE, World, refused, shared_world

from omnilytics.chain.abi import constructor_arguments
from omnilytics.chain.artefact import load_artefact
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import contract_terms
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Wei
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.task_specification import ETHER_TOKEN

NO_DRAW = registry.Draw(draws=0, pinned_block=0, pool=0, randomness=Hash32(bytes(32)))


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


def deployed(world: World, contract: str, *arguments: object) -> Address:
    data = load_artefact(contract).bytecode + constructor_arguments(contract, *arguments)
    address = world.model_owner.send(None, data, gas=6_000_000).contract
    assert address is not None
    return address


def test_each_names_the_other(world: World) -> None:
    assert world.of_market(market.registry()) == world.reader.registry
    assert world.of_registry(registry.market()) == world.address
    assert world.of_market(market.interface_version()) == 2
    domain = Domain(world.chain.chain_id, world.address).separator()
    assert world.of_market(market.domain_separator()) == domain
    assert world.of_registry(registry.domain_separator()) == domain  # the market's


@pytest.mark.parametrize(("stake", "fee"), [(1, 1), (2**96 - 1, 2**96 - 1)])
def test_prices_are_the_deployments(world: World, stake: int, fee: int) -> None:
    address = deploy_market(world.model_owner, min_stake_wei=Wei(stake), draw_fee_wei=Wei(fee))
    reader = MarketReader(world.chain, address)
    assert (reader.min_stake(), reader.draw_fee()) == (stake, fee)
    assert reader.servers() == ()
    assert MarketReader(world.chain, deploy_market(world.model_owner)).min_stake() == 10**17


@pytest.mark.parametrize(
    ("stake", "fee", "reason"),
    [
        (0, 1, "bad stake"),
        (2**96, 1, "bad stake"),
        (2**255, 1, "bad stake"),
        (1, 0, "bad price"),
        (1, 2**96, "bad price"),
        (1, 2**255, "bad price"),
    ],
)
def test_refuses_prices(world: World, stake: int, fee: int, reason: str) -> None:
    with refused(reason):
        deploy_market(world.model_owner, min_stake_wei=Wei(stake), draw_fee_wei=Wei(fee))


def test_a_market_refuses_the_registry_of_another(world: World) -> None:
    with refused("registry of another market"):
        deployed(world, "Market", world.reader.registry)
    astray = deployed(world, "Registry", world.key().address, STAKE, 1)
    with refused("registry of another market"):
        deployed(world, "Market", astray)
    for nothing in (world.key().address, world.address):  # no registry at all
        with pytest.raises(ChainError, match="reverted without a reason"):
            deployed(world, "Market", nothing)


def test_a_deployer_that_sends_something_else_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_nonce = world.chain.next_nonce

    def wrong(address: Address) -> int:
        monkeypatch.setattr(world.chain, "next_nonce", true_nonce)
        return true_nonce(address) + 1

    monkeypatch.setattr(world.chain, "next_nonce", wrong)
    deployer = Sender(world.chain, world.owner_key.secret)
    with refused("registry of another market"):
        deploy_market(deployer)


@pytest.mark.parametrize(
    ("name", "value"), [("enlist", 0), ("pin_draw", 10**15), ("draw", 0), ("release", 0)]
)
def test_only_the_market_moves_committees(world: World, name: str, value: int) -> None:
    task = world.task()
    servers = list(world.committee)
    arguments: dict[str, tuple[Any, ...]] = {
        "enlist": (servers, STAKE, world.hash(), []),
        "pin_draw": (task,),
        "draw": (task, 5, STAKE, ETHER_TOKEN, 70),
        "release": (task, servers),
    }
    # The registry alone would do it: nothing but the caller is wrong.
    for sender in (world.model_owner, world.servers[0]):
        with refused("not the market"):
            world.send(name, *arguments[name], sender=sender, value=value)
    assert world.reader.server(world.committee[0]).active_tasks == 1
    assert world.reader.draw_state(task) == NO_DRAW


def test_a_minimum_above_all_stakes_is_kept(world: World) -> None:
    other = World.__new__(World)
    other.__dict__.update(world.__dict__)
    other.address = deploy_market(world.model_owner, min_stake_wei=ETHER)
    other.reader = MarketReader(world.chain, other.address)
    writer = other.writer(other.servers[0])
    with refused("stake too small"):
        writer.register_server("http://x", Hash32(b"k" * 32), Wei(ETHER - 1))
    writer.register_server("http://x", Hash32(b"k" * 32), ETHER)
    terms = world.terms(min_stake_wei=Wei(ETHER - 1))
    with refused("bad stake"):  # a task may not ask for less than the market
        other.send("create_drawn_task", contract_terms(terms), 5)
