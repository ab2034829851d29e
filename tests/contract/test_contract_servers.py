"""Servers: registering, profiles, stakes, offers, leaving and getting the stake back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract_world import ETHER, STAKE, World, offer, refused, shared_world
from eth_hash.auto import keccak

from omnilytics.chain.bindings import registry
from omnilytics.chain.bindings.registry import (
    OfferSet,
    PoolSwept,
    ProfileSet,
    ServerLeaving,
    ServerRegistered,
    ServersEnlisted,
    ServersReleased,
    StakeAdded,
    StakeWithdrawn,
)
from omnilytics.chain.records import Profile
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.errors import ChainError, FundsError, UsageError
from omnilytics.foundation.units import Address, Hash32, Wei
from omnilytics.wire.task_specification import ETHER_TOKEN

UNBONDING = 14 * 86400
KEY = Hash32(b"k" * 32)
TOKEN = Address(b"\x70" * 20)


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


def held(world: World) -> int:
    """What the registry holds."""
    return world.chain.balance(world.reader.registry)


def first(world: World) -> MarketWriter:
    return world.writer(world.servers[0])


def test_registers(world: World) -> None:
    sender = world.account()
    receipt = world.writer(sender).register_server("https://ü.example:1", KEY, Wei(STAKE + 5))
    record = world.reader.server(sender.address)
    assert (record.endpoint, record.hpke_key, record.profile) == ("https://ü.example:1", KEY, 1)
    assert (record.stake_wei, record.active_tasks) == (STAKE + 5, 0)
    assert (record.since_block, record.leaving_block, record.free_at) == (world.chain.head(), 0, 0)
    registered, profile = receipt.events
    assert isinstance(registered, ServerRegistered)
    assert (registered.server, registered.stake_wei) == (sender.address, STAKE + 5)
    assert isinstance(profile, ProfileSet)
    assert (profile.server, profile.profile) == (sender.address, 1)
    assert (profile.hpke_key, profile.endpoint) == (KEY, "https://ü.example:1")
    assert [server.address for server in world.reader.servers()] == [
        *world.committee,
        sender.address,
    ]
    assert held(world) == 6 * STAKE + 5


@pytest.mark.parametrize(
    ("endpoint", "key", "stake", "reason"),
    [
        ("http://x", KEY, STAKE - 1, "stake too small"),
        ("http://x", KEY, 0, "stake too small"),
        ("", KEY, STAKE, "no endpoint"),
        ("http://x", bytes(32), STAKE, "no key"),
    ],
)
def test_refuses_registration(
    world: World, endpoint: str, key: bytes, stake: int, reason: str
) -> None:
    writer = world.writer(world.account())
    with refused(reason):
        writer.register_server(endpoint, key, Wei(stake))
    with refused("server not registered"):
        world.reader.server(writer.address)


def test_refuses_second_registration(world: World) -> None:
    with refused("already registered"):
        first(world).register_server("http://x", KEY, STAKE)
    first(world).leave()
    with refused("already registered"):
        first(world).register_server("http://x", KEY, STAKE)


def test_profiles_are_numbered_and_stay(world: World) -> None:
    writer, address = first(world), world.committee[0]
    before = world.reader.profile(address, 1)
    (event,) = writer.set_profile("http://second", KEY).events
    assert isinstance(event, ProfileSet)
    assert (event.profile, event.endpoint, event.hpke_key) == (2, "http://second", KEY)
    writer.set_profile("e" * 256, Hash32(b"\xff" * 32))
    assert world.reader.profile(address, 1) == before
    assert world.reader.profile(address, 2) == Profile(hpke_key=KEY, endpoint="http://second")
    assert world.reader.profile(address, 3).endpoint == "e" * 256
    assert world.reader.server(address).profile == 3
    for number in (0, 4, 2**256 - 1):
        with pytest.raises(ChainError, match="no such profile"):
            world.reader.profile(address, number)


def test_profiles_are_counted_on_after_the_stake_is_back(world: World) -> None:
    writer, address = first(world), world.committee[0]
    writer.leave()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    writer.withdraw_stake()
    assert world.of_registry(registry.server(address)).profile == 1
    writer.register_server("http://again", KEY, STAKE)
    assert world.reader.server(address).profile == 2
    assert world.reader.profile(address, 1).endpoint == "http://server"
    assert [server.address for server in world.reader.servers()][-1] == address


def test_a_task_keeps_the_profiles_of_its_creation(world: World) -> None:
    first(world).set_profile("http://second", KEY)
    task = world.task()
    before = world.reader.profiles(task)
    assert world.reader.task(task).profiles == (2, 1, 1, 1, 1)
    assert before[0].endpoint == "http://second"
    first(world).set_profile("http://third", KEY)
    assert world.reader.profiles(task) == before
    assert world.reader.task(world.task()).profiles == (3, 1, 1, 1, 1)


def test_refuses_profiles(world: World) -> None:
    with refused("not registered"):
        world.owner_writer.set_profile("http://x", KEY)
    with refused("no endpoint"):
        first(world).set_profile("", KEY)
    with refused("no key"):
        first(world).set_profile("http://x", Hash32(bytes(32)))
    assert world.reader.server(world.committee[0]).profile == 1
    for endpoint, key in (("e" * 257, KEY), ("ü" * 129, KEY), ("http://x", KEY[:31])):
        with pytest.raises(UsageError, match="endpoint"):
            first(world).set_profile(endpoint, key)
        with pytest.raises(UsageError, match="endpoint"):
            first(world).register_server(endpoint, key, STAKE)
    with pytest.raises(ChainError, match="reverted without a reason"):
        world.send("set_profile", "e" * 257, KEY, sender=world.servers[0])


def test_adds_to_the_stake(world: World) -> None:
    (event,) = first(world).add_stake(Wei(7)).events
    assert isinstance(event, StakeAdded)
    assert (event.server, event.amount_wei) == (world.committee[0], 7)
    record = world.reader.server(world.committee[0])
    assert (record.stake_wei, record.since_block) == (STAKE + 7, world.chain.head())
    task = world.task()
    first(world).leave()
    before = world.reader.server(world.committee[0])
    first(world).add_stake(Wei(ETHER))  # nothing else of it changes
    after = world.reader.server(world.committee[0])
    assert after.stake_wei == STAKE + 7 + ETHER
    assert (after.active_tasks, after.profile) == (before.active_tasks, before.profile)
    assert (after.leaving_block, after.free_at) == (before.leaving_block, before.free_at)
    world.owner_writer.close_task(task)
    assert held(world) == 5 * STAKE + 7 + ETHER


def test_refuses_to_add_nothing_or_for_nobody(world: World) -> None:
    with refused("stake too small"):
        first(world).add_stake(Wei(0))
    with refused("not registered"):
        world.owner_writer.add_stake(STAKE)


def test_offers(world: World) -> None:
    writer, address = first(world), world.committee[0]
    assert world.reader.offer(address, ETHER_TOKEN) is None
    (event,) = writer.set_offer(offer(70, 5)).events
    assert isinstance(event, OfferSet)
    assert (event.server, event.token, event.open) == (address, ETHER_TOKEN, True)
    assert (event.min_fee_wei, event.max_stake_wei) == (70, 5)
    writer.set_offer(offer(0, 0), token=TOKEN)
    assert world.reader.offer(address, ETHER_TOKEN) == offer(70, 5)
    assert world.reader.offer(address, TOKEN) == offer(0, 0)
    writer.set_offer(offer(2**96 - 1, 2**96 - 1))
    assert world.reader.offer(address, ETHER_TOKEN) == offer(2**96 - 1, 2**96 - 1)
    (event,) = writer.set_offer(None).events
    assert isinstance(event, OfferSet)
    assert not event.open
    assert world.reader.offer(address, ETHER_TOKEN) is None
    assert world.reader.offer(address, TOKEN) == offer(0, 0)
    for wrong in (offer(2**96), offer(1, 2**96), offer(2**255, 2**255)):
        with refused("bad price"):
            writer.set_offer(wrong)
    with refused("not registered"):
        world.owner_writer.set_offer(offer(1))


def test_leaves_and_gets_the_stake_back(world: World) -> None:
    writer, address = first(world), world.committee[0]
    with refused("not leaving"):
        writer.withdraw_stake()
    (leaving,) = writer.leave().events
    assert isinstance(leaving, ServerLeaving)
    assert (leaving.server, leaving.free_at) == (
        address,
        world.chain.head_timestamp() + UNBONDING,
    )
    record = world.reader.server(address)
    assert (record.leaving_block, record.free_at) == (world.chain.head(), leaving.free_at)
    with refused("already leaving"):
        writer.leave()
    world.chain.wait_for_time(leaving.free_at - 2)
    with refused("still unbonding"):
        writer.withdraw_stake()
    world.chain.mine(1)
    before = world.chain.balance(address)
    receipt = writer.withdraw_stake()  # mined at exactly that time
    assert world.chain.head_timestamp() == leaving.free_at
    swept, withdrawn = receipt.events
    assert isinstance(swept, PoolSwept)
    assert isinstance(withdrawn, StakeWithdrawn)
    assert (withdrawn.server, withdrawn.amount_wei) == (address, STAKE)
    assert world.chain.balance(address) == before + STAKE - receipt.gas_cost_wei
    assert held(world) == 4 * STAKE
    with refused("server not registered"):
        world.reader.server(address)
    for call in (writer.leave, writer.withdraw_stake):
        with refused("not registered"):
            call()


def test_one_that_leaves_joins_no_task(world: World) -> None:
    first(world).leave()
    with refused("server leaving"):
        world.task()


def test_the_stake_stays_while_a_task_is_unclosed(world: World) -> None:
    tasks = [world.task(), world.task()]
    record = world.reader.server(world.committee[0])
    assert record.active_tasks == 2
    enlisted = [e for e in world.reader.events() if isinstance(e, ServersEnlisted)]
    assert [event.servers for event in enlisted] == [world.committee, world.committee]
    first(world).leave()
    world.chain.jump(world.chain.head_timestamp() + 2 * UNBONDING)
    for task in tasks:
        with refused("in a task"):
            first(world).withdraw_stake()
        events = world.owner_writer.close_task(task).events
        assert any(isinstance(e, ServersReleased) and e.servers == world.committee for e in events)
    assert world.reader.server(world.committee[0]).active_tasks == 0


def test_the_delay_starts_again_when_the_last_task_closes(world: World) -> None:
    """Who left long ago still answers for its last task for a while."""
    writer, address = first(world), world.committee[0]
    task = world.task()
    writer.leave()
    left = world.reader.server(address)
    world.chain.jump(left.free_at + 5)
    world.owner_writer.close_task(task)
    record = world.reader.server(address)
    assert record.free_at == world.chain.head_timestamp() + UNBONDING
    assert (record.leaving_block, record.stake_wei) == (left.leaving_block, STAKE)
    assert record.since_block == left.since_block
    with refused("still unbonding"):
        writer.withdraw_stake()
    world.chain.wait_for_time(record.free_at - 1)
    writer.withdraw_stake()


def test_closing_does_not_make_others_leave(world: World) -> None:
    world.owner_writer.close_task(world.task())
    assert world.reader.server(world.committee[1]).free_at == 0
    with refused("not leaving"):
        world.writer(world.servers[1]).withdraw_stake()


def test_plain_ether_is_refused(world: World) -> None:
    for address in (world.address, world.reader.registry):
        with pytest.raises(ChainError, match="reverted without a reason"):
            world.model_owner.send(address, b"", value=Wei(1), gas=50_000)


def test_ether_is_refused_where_none_is_asked_for(world: World) -> None:
    for name in ("leave", "withdraw_stake", "leave_bond", "withdraw_bond"):
        with pytest.raises(ChainError, match="reverted without a reason"):
            world.send(name, sender=world.servers[0], value=1)


def test_a_poor_account_is_told(world: World) -> None:
    poor = world.account()
    with pytest.raises(FundsError, match="cannot pay"):
        world.writer(poor).register_server("http://x", KEY, Wei(10**21))


def test_profiles_end_before_their_number_overflows(world: World) -> None:
    """Sixteen bits number a profile; the place in the pool is beside them."""
    writer, address = first(world), world.committee[0]
    place = 1 << 32 | 1
    slot = next(slot for slot in _member_slots(address) if world.stored(slot) == place)
    world.store(slot, 65_534 << 32 | 1)
    writer.set_profile("http://last", KEY)
    assert world.reader.server(address).profile == 65_535
    assert world.reader.task(world.task()).profiles == (65_535, 1, 1, 1, 1)
    with refused("too many profiles"):
        writer.set_profile("http://x", KEY)
    assert world.of_registry(registry.pool(0)) == address
    assert world.reader.server(address).endpoint == "http://last"


def _member_slots(address: Address) -> list[int]:
    """Where the second member of a struct in a map by address may be stored."""
    key = address.rjust(32, b"\0")
    return [int.from_bytes(keccak(base.to_bytes(32, "big") + key), "big") + 1 for base in range(32)]
