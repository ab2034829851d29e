"""The pool that committees are drawn from, against a model in Python in any order of calls."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from contract_world import STAKE, World, built_world, refused, rewound, shared_world
from hypothesis import given, settings
from hypothesis import strategies as st

from omnilytics.chain.bindings import registry
from omnilytics.chain.bindings.registry import PoolSwept
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.units import Address, Hash32, Wei

UNBONDING = 14 * 86400
DRAW_BLOCKS = 256
KEY = Hash32(b"k" * 32)
NOBODY = Address(bytes(20))


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


def pool_of(world: World) -> list[Address]:
    """The pool as the registry has it, one place more than it should have."""
    size = world.of_registry(registry.pool_size())
    return [world.of_registry(registry.pool(place)) for place in range(size + 1)]


def gone(world: World, index: int) -> MarketWriter:
    """Have a server leave and take its stake back."""
    writer = world.writer(world.servers[index])
    writer.leave()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    writer.withdraw_stake()
    return writer


def pin(world: World) -> None:
    """Put a draw under way; nobody offers, so that it cannot succeed."""
    world.owner_writer.create_drawn_task(world.terms())


def test_places_are_by_registration(world: World) -> None:
    assert pool_of(world) == [*world.committee, NOBODY]


@pytest.mark.parametrize("index", range(5))
def test_the_last_one_fills_the_hole(world: World, index: int) -> None:
    gone(world, index)
    want = list(world.committee)
    want[index] = want[-1]
    assert pool_of(world) == [*want[:-1], NOBODY]
    with refused("no place"):
        world.owner_writer.sweep(world.committee[index])


def test_the_pool_can_become_empty_and_grow_again(world: World) -> None:
    for index in (4, 0, 1, 2, 3):
        gone(world, index)
    assert pool_of(world) == [NOBODY]
    world.writer(world.servers[2]).register_server("http://x", KEY, STAKE)
    assert pool_of(world) == [world.committee[2], NOBODY]


def test_places_stay_while_a_draw_is_under_way(world: World) -> None:
    writer = world.writer(world.servers[1])
    writer.leave()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    pin(world)
    until = world.of_registry(registry.draws_until())
    assert until == world.chain.head() + DRAW_BLOCKS
    with refused("still registered"):
        world.owner_writer.sweep(world.committee[1])
    writer.withdraw_stake()
    assert pool_of(world) == [*world.committee, NOBODY]
    with refused("draw under way"):
        world.owner_writer.sweep(world.committee[1])
    world.chain.wait_for_block(until - 1)
    with refused("draw under way"):
        world.owner_writer.sweep(world.committee[1])  # would be mined in that block
    world.chain.mine(1)
    (event,) = world.owner_writer.sweep(world.committee[1]).events  # anyone may
    assert isinstance(event, PoolSwept)
    assert event.server == world.committee[1]
    assert pool_of(world) == [*(world.committee[j] for j in (0, 4, 2, 3)), NOBODY]
    with refused("no place"):
        world.owner_writer.sweep(world.committee[1])
    with refused("no place"):
        world.owner_writer.sweep(world.key().address)


def test_one_that_comes_back_before_it_is_swept_has_its_place(world: World) -> None:
    writer = world.writer(world.servers[1])
    writer.leave()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    pin(world)
    writer.withdraw_stake()
    writer.register_server("http://x", KEY, STAKE)
    assert pool_of(world) == [*world.committee, NOBODY]
    world.chain.mine(DRAW_BLOCKS)
    with refused("still registered"):
        world.owner_writer.sweep(world.committee[1])


class Model:
    """The pool, as a list with holes that are filled from its end."""

    def __init__(self, world: World, accounts: list[Sender]) -> None:
        self.world = world
        self.writers = [world.writer(account) for account in accounts]
        self.places = list(world.committee)
        self.registered: set[Address] = set(world.committee)
        self.leaving: set[Address] = set()
        self.draws_until = -1

    @property
    def locked(self) -> bool:
        """Whether a draw is under way in the next block."""
        return self.world.chain.head() + 1 <= self.draws_until

    def remove(self, address: Address) -> None:
        place = self.places.index(address)
        mover = self.places.pop()
        if mover != address:
            self.places[place] = mover

    def register(self, who: MarketWriter) -> None:
        call = partial(who.register_server, "http://x", KEY, Wei(STAKE))
        if who.address in self.registered:
            refuses("already registered", call)
            return
        call()
        self.registered.add(who.address)
        if who.address not in self.places:
            self.places.append(who.address)

    def leave(self, who: MarketWriter) -> None:
        if who.address not in self.registered:
            refuses("not registered", who.leave)
        elif who.address in self.leaving:
            refuses("already leaving", who.leave)
        else:
            who.leave()
            self.leaving.add(who.address)

    def withdraw(self, who: MarketWriter) -> None:
        if who.address not in self.registered:
            refuses("not registered", who.withdraw_stake)
        elif who.address not in self.leaving:
            refuses("not leaving", who.withdraw_stake)
        else:
            self.world.chain.wait_for_time(self.world.reader.server(who.address).free_at)
            locked = self.locked
            who.withdraw_stake()
            self.registered.remove(who.address)
            self.leaving.remove(who.address)
            if not locked:
                self.remove(who.address)

    def sweep(self, who: MarketWriter) -> None:
        call = partial(self.writers[0].sweep, who.address)
        if who.address in self.registered:
            refuses("still registered", call)
        elif who.address not in self.places:
            refuses("no place", call)
        elif self.locked:
            refuses("draw under way", call)
        else:
            call()
            self.remove(who.address)

    def pin(self, _: MarketWriter) -> None:
        pin(self.world)
        self.draws_until = self.world.chain.head() + DRAW_BLOCKS

    def wait(self, _: MarketWriter) -> None:
        if self.locked:
            self.world.chain.wait_for_block(self.draws_until)

    def check(self) -> None:
        assert pool_of(self.world) == [*self.places, NOBODY]
        stakes = len(self.registered) * STAKE
        burnt = self.world.of_registry(registry.burnt_wei())
        assert self.world.chain.balance(self.world.reader.registry) == stakes + burnt


def refuses(reason: str, call: Callable[[], object]) -> None:
    with refused(reason):
        call()


STEPS = ("register", "register", "leave", "leave", "withdraw", "withdraw", "sweep", "pin", "wait")


@given(
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 7)), min_size=15, max_size=40),
    st.randoms(use_true_random=False),
)
@settings(max_examples=4, deadline=None)
def test_pool_equals_its_model(steps: list[tuple[str, int]], source: random.Random) -> None:
    world = built_world()
    with rewound(world):
        strangers = [world.account() for _ in range(3)]
        accounts = [*world.servers, *strangers]
        source.shuffle(accounts)
        model = Model(world, accounts)
        for name, index in steps:
            getattr(model, name)(model.writers[index])
            model.check()
        for name in ("leave", "withdraw", "wait", "sweep"):  # everybody can go in the end
            for writer in model.writers:
                getattr(model, name)(writer)
                model.check()
        assert model.places == []
