"""Registration of servers: every call, every refusal."""

from __future__ import annotations

import pytest
from contract_world import STAKE, World

from omnilytics.chain.records import ServerRegistered
from omnilytics.foundation.errors import ChainError, FundsError
from omnilytics.foundation.units import Wei


@pytest.fixture
def world() -> World:
    return World()


def test_registers(world: World) -> None:
    sender = world.account()
    receipt = world.writer(sender).register_server("https://ü.example:1", b"k" * 32, STAKE)
    record = world.reader.server(sender.address)
    assert (record.endpoint, record.hpke_key) == ("https://ü.example:1", b"k" * 32)
    assert (record.stake_wei, record.active_tasks) == (STAKE, 0)
    (event,) = receipt.events
    assert isinstance(event, ServerRegistered)
    assert event.server == sender.address
    assert [server.address for server in world.reader.servers()] == [
        *world.committee,
        sender.address,
    ]


@pytest.mark.parametrize(
    ("endpoint", "key", "stake", "reason"),
    [
        ("http://x", b"k" * 32, STAKE - 1, "stake too small"),
        ("", b"k" * 32, STAKE, "no endpoint"),
        ("http://x", bytes(32), STAKE, "no key"),
    ],
)
def test_refuses_registration(
    world: World, endpoint: str, key: bytes, stake: int, reason: str
) -> None:
    writer = world.writer(world.account())
    with pytest.raises(ChainError, match=reason):
        writer.register_server(endpoint, key, Wei(stake))


def test_refuses_second_registration(world: World) -> None:
    with pytest.raises(ChainError, match="already registered"):
        world.writer(world.servers[0]).register_server("http://x", b"k" * 32, STAKE)


def test_unregistering_returns_the_stake(world: World) -> None:
    server = world.servers[0]
    before = world.chain.balance(server.address)
    receipt = world.writer(server).unregister_server()
    assert world.chain.balance(server.address) == before + STAKE - receipt.gas_cost_wei
    assert world.chain.balance(world.address) == 4 * STAKE
    with pytest.raises(ChainError, match="server not registered"):
        world.reader.server(server.address)
    with pytest.raises(ChainError, match="not registered"):
        world.writer(server).unregister_server()
    world.writer(server).register_server("http://again", b"n" * 32, STAKE)
    assert world.reader.server(server.address).endpoint == "http://again"


def test_stake_stays_while_a_task_is_unclosed(world: World) -> None:
    tasks = [world.task(), world.task()]
    assert world.reader.server(world.committee[0]).active_tasks == 2
    for task in tasks:
        with pytest.raises(ChainError, match="in a task"):
            world.writer(world.servers[0]).unregister_server()
        world.owner_writer.refund(task)
    world.writer(world.servers[0]).unregister_server()


def test_plain_ether_is_refused(world: World) -> None:
    with pytest.raises(ChainError):
        world.model_owner.send(world.address, b"", value=Wei(1), gas=50_000)


def test_a_poor_account_is_told(world: World) -> None:
    poor = world.account()
    with pytest.raises(FundsError, match="cannot pay"):
        world.writer(poor).register_server("http://x", b"k" * 32, Wei(10**21))
