"""Who can be drawn, and that nothing after the pin makes anybody eligible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from contract_draws import (
    TOKEN,
    UNBONDING,
    drawn,
    drawn_task,
    pinned_block,
    to_draw,
    writers,
)
from contract_parties import Token
from contract_world import ETHER, STAKE, World, offer, refused, rewound, shared_world

from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.units import Wei


@pytest.fixture
def world() -> Iterator[World]:
    """A world of five servers that offer nothing yet."""
    yield from shared_world()


def four_offer(world: World) -> MarketWriter:
    """Let all but the first server offer, and return that one: it decides whether a draw works."""
    for writer in writers(world)[1:]:
        writer.set_offer(offer(70))
    return writers(world)[0]


def _nothing(_: MarketWriter) -> None:
    pass


def _leave_and_offer(writer: MarketWriter) -> None:
    writer.set_offer(offer(0))
    writer.leave()


def _withdraw_and_offer(writer: MarketWriter) -> None:
    _leave_and_offer(writer)
    chain = writer.reader.chain
    chain.jump(chain.head_timestamp() + UNBONDING)
    writer.withdraw_stake()


def _offer_and_take_back(writer: MarketWriter) -> None:
    writer.set_offer(offer(0))
    writer.set_offer(None)


@pytest.mark.parametrize(
    "act",
    [
        _nothing,
        partial(MarketWriter.set_offer, offer=offer(71)),
        partial(MarketWriter.set_offer, offer=offer(0), token=TOKEN),
        partial(MarketWriter.set_offer, offer=offer(0, STAKE - 1)),
        _leave_and_offer,
        _withdraw_and_offer,
        _offer_and_take_back,
    ],
    ids=[
        "no offer",
        "too dear",
        "another token",
        "too risky",
        "leaving",
        "gone",
        "offer taken back",
    ],
)
def test_the_unwilling_are_not_drawn(world: World, act: Callable[[MarketWriter], object]) -> None:
    fifth = four_offer(world)
    act(fifth)
    task = drawn_task(world)
    to_draw(world, task)
    with refused("too few servers offer"):
        world.owner_writer.draw_committee(task)


@pytest.mark.parametrize(("fee", "risk"), [(0, 2**96 - 1), (69, STAKE + 1), (70, STAKE)])
def test_the_willing_are_drawn(world: World, fee: int, risk: int) -> None:
    fifth = four_offer(world)
    fifth.set_offer(offer(fee, risk))
    assert sorted(drawn(world, drawn_task(world))) == sorted(world.committee)


def test_offers_are_per_token(world: World) -> None:
    token = Token(world)
    world.offers(70)
    terms = world.terms(token=token.address)
    task = world.owner_writer.create_drawn_task(terms)
    assert token.held == terms.escrow_wei
    to_draw(world, task)
    with refused("too few servers offer"):
        world.owner_writer.draw_committee(task)
    world.offers(70, token=token.address)
    other = world.owner_writer.create_drawn_task(world.terms(token=token.address))
    assert len(drawn(world, other)) == 5


def test_a_small_stake_is_not_drawn(world: World) -> None:
    world.offers(0)
    for writer in writers(world)[1:]:
        writer.add_stake(Wei(1))
    task = drawn_task(world, min_stake_wei=STAKE + 1)
    to_draw(world, task)
    with refused("too few servers offer"):
        world.owner_writer.draw_committee(task)
    assert len(drawn(world, drawn_task(world, min_stake_wei=STAKE))) == 5
    writers(world)[0].add_stake(Wei(1))
    assert len(drawn(world, drawn_task(world, min_stake_wei=STAKE + 1))) == 5


def test_who_joins_after_the_pin_is_not_drawn(world: World) -> None:
    for writer in writers(world)[1:]:
        writer.set_offer(offer(0))
    task = drawn_task(world)
    for _ in range(4):
        world.server().set_offer(offer(0))
    to_draw(world, task)
    with refused("too few servers offer"):
        world.owner_writer.draw_committee(task)
    assert len(drawn(world, drawn_task(world))) == 5  # the next time it is


def test_who_joins_again_after_the_pin_is_not_drawn(world: World) -> None:
    """It has its old place, and all else; but its stake could have followed the dice."""
    world.offers(0)
    fifth = writers(world)[0]
    fifth.leave()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    task = drawn_task(world)
    fifth.withdraw_stake()
    fifth.register_server("http://again", world.hash(), STAKE)
    to_draw(world, task)
    with refused("too few servers offer"):
        world.owner_writer.draw_committee(task)


def test_who_tops_up_after_the_pin_is_not_drawn(world: World) -> None:
    world.offers(0)
    task = drawn_task(world)
    to_draw(world, task)
    with rewound(world):
        writers(world)[0].add_stake(Wei(ETHER))
        with refused("too few servers offer"):
            world.owner_writer.draw_committee(task)
    world.owner_writer.draw_committee(task)


def test_who_tops_up_in_the_block_of_the_pin_is_drawn(world: World) -> None:
    """`since_block` is the pinned block at the latest; one transaction a block cannot show more."""
    world.offers(0)
    writers(world)[0].add_stake(Wei(1))
    task = drawn_task(world)
    assert world.reader.server(world.committee[0]).since_block == pinned_block(world, task) - 1
    assert len(drawn(world, task)) == 5


def test_who_leaves_after_the_pin_still_is_drawn(world: World) -> None:
    world.offers(0)
    task = drawn_task(world)
    for writer in writers(world):
        writer.leave()
    free_at = world.reader.server(world.committee[0]).free_at
    assert len(drawn(world, task)) == 5
    world.chain.wait_for_time(free_at)
    with refused("in a task"):
        writers(world)[0].withdraw_stake()


def test_who_offers_after_the_pin_is_not_drawn(world: World) -> None:
    """Nothing that happens after the pin makes a server eligible."""
    fifth = four_offer(world)
    task = drawn_task(world)
    fifth.set_offer(offer(0))
    to_draw(world, task)
    with refused("too few servers offer"):
        world.owner_writer.draw_committee(task)


def test_who_cheapens_its_offer_after_the_pin_is_not_drawn(world: World) -> None:
    fifth = four_offer(world)
    fifth.set_offer(offer(71))
    task = drawn_task(world)
    fifth.set_offer(offer(70))
    to_draw(world, task)
    with refused("too few servers offer"):
        world.owner_writer.draw_committee(task)


def test_who_repeats_its_offer_after_the_pin_is_not_drawn(world: World) -> None:
    """An offer has one block, its last: repeating it is a way out, as withdrawing it is."""
    world.offers(70)
    task = drawn_task(world)
    writers(world)[0].set_offer(offer(70))
    to_draw(world, task)
    with refused("too few servers offer"):
        world.owner_writer.draw_committee(task)


def test_who_is_slashed_below_the_stake_is_not_drawn(world: World) -> None:
    world.offers(0)
    other = world.task()
    task = drawn_task(world)
    world.slash(other, 0)
    to_draw(world, task)
    with refused("too few servers offer"):
        world.owner_writer.draw_committee(task)


def test_profiles_are_those_of_the_drawing(world: World) -> None:
    world.offers(0)
    task = drawn_task(world)
    writers(world)[2].set_profile("http://moved", world.hash())
    committee = drawn(world, task)
    want = [2 if address == world.committee[2] else 1 for address in committee]
    assert list(world.reader.task(task).profiles) == want
