"""Closing tasks: who may when, what is returned, and that nobody keeps stakes bound."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract_world import World, refused, shared_world

from omnilytics.chain.bindings.market import TaskClosed, TaskRefunded
from omnilytics.chain.bindings.registry import ServersReleased
from omnilytics.chain.records import IDLE_SECONDS
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.units import TaskId

DAY = 86_400


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


@pytest.fixture
def other(world: World) -> MarketWriter:
    """Somebody who is not the model owner."""
    return world.writer(world.servers[0])


def test_an_unused_task_returns_its_whole_escrow(world: World) -> None:
    task = world.task()
    before = world.chain.balance(world.model_owner.address)
    receipt = world.owner_writer.close_task(task)
    escrow = world.terms().escrow_wei
    spent = receipt.gas_cost_wei
    assert world.chain.balance(world.model_owner.address) == before + escrow - spent
    released, closed, refunded = receipt.events
    assert isinstance(released, ServersReleased)
    assert (released.task, released.servers) == (task, world.committee)
    assert isinstance(closed, TaskClosed)
    assert isinstance(refunded, TaskRefunded)
    assert refunded.model_owner == world.model_owner.address
    assert closed.unspent_wei == refunded.amount_wei == escrow
    record = world.reader.task(task)
    assert (record.closed, record.refunded) == (True, True)
    assert world.reader.server(world.committee[0]).active_tasks == 0


def test_a_task_is_closed_and_refunded_once(world: World, other: MarketWriter) -> None:
    task = world.task()
    world.owner_writer.close_task(task)
    for writer in (world.owner_writer, other):
        with refused("already refunded"):
            writer.close_task(task)
    with refused("task closed"):
        world.open(task)
    assert world.reader.server(world.committee[0]).active_tasks == 0


def test_closing_waits_for_the_active_round(world: World) -> None:
    task = world.task()
    world.open(task)
    with refused("not idle"):
        world.owner_writer.close_task(task)
    world.seal(task)
    with refused("not idle"):
        world.owner_writer.close_task(task)
    world.to_settle_time(task)
    world.settle(task)
    world.owner_writer.close_task(task)


def test_what_was_earned_stays(world: World) -> None:
    """Rewards of accepted owners, fees of servers in V and opening fees, but for their dust."""
    task = world.task()
    world.round(task, accepted_count=7, signers=(0, 1, 2, 3), v_bitmap=0b01111)
    before = world.chain.balance(world.model_owner.address)
    receipt = world.owner_writer.close_task(task)
    gained = world.chain.balance(world.model_owner.address) - before + receipt.gas_cost_wei
    assert gained == world.terms().escrow_wei - 7 * 1_000 - 4 * 70 - 5 * (13 // 5)


def test_closing_needs_the_committee(world: World, other: MarketWriter) -> None:
    task = world.task(rounds=1)
    for wrong in (list(reversed(world.committee)), [], list(world.committee[:4])):
        with refused("wrong committee"):
            world.send("close_task", task, wrong)
    world.round(task)
    world.send("close_task", task, list(world.committee), sender=other.sender)
    world.send("close_task", task, [], sender=other.sender)  # the refund does not


def test_others_close_once_all_rounds_were_opened(world: World, other: MarketWriter) -> None:
    task = world.task(rounds=1)
    with refused("not model owner"):
        other.close_task(task)
    world.open(task)
    with refused("not idle"):
        other.close_task(task)
    world.chain.wait_for_time(world.reader.round_state(task).seal_deadline)
    other.void_round(task)
    other.close_task(task)
    assert world.reader.task(task).closed


def test_more_rounds_keep_others_from_closing(world: World, other: MarketWriter) -> None:
    task = world.task(rounds=1)
    world.round(task)
    world.owner_writer.top_up(task, 1)
    with refused("not model owner"):
        other.close_task(task)


def test_who_closes_anothers_task_does_not_pay_it_out(world: World, other: MarketWriter) -> None:
    """Stakes are free after the first call, whatever the second one does."""
    task = world.task(rounds=1)
    world.round(task)
    before = world.chain.balance(world.model_owner.address)
    released, closed = other.close_task(task).events
    assert isinstance(released, ServersReleased)
    assert isinstance(closed, TaskClosed)
    record = world.reader.task(task)
    assert (record.closed, record.refunded) == (True, False)
    assert world.chain.balance(world.model_owner.address) == before
    assert world.reader.server(world.committee[0]).active_tasks == 0
    with refused("task closed"):
        world.owner_writer.top_up(task, 1)
    (refund,) = other.close_task(task).events  # anyone; the model owner is paid
    assert isinstance(refund, TaskRefunded)
    assert refund.amount_wei == closed.unspent_wei
    assert world.chain.balance(world.model_owner.address) == before + refund.amount_wei
    assert world.reader.server(world.committee[0]).active_tasks == 0
    with refused("already refunded"):
        other.close_task(task)


def idle_from(world: World, task: TaskId) -> int:
    """When a task's last windows ended, as its views tell."""
    state = world.reader.round_state(task)
    return state.seal_deadline


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_others_close_an_idle_task(world: World, other: MarketWriter, rounds: int) -> None:
    task = world.task()
    for _ in range(rounds):
        world.round(task)
    created = world.chain.block_timestamp(world.reader.task(task).created_block)
    ended = idle_from(world, task)
    assert rounds or ended == created + world.terms().windows.seal_seconds
    world.chain.wait_for_time(ended + IDLE_SECONDS - 1)
    with refused("not model owner"):
        other.close_task(task)  # would be mined at exactly the limit
    world.chain.mine(1)
    other.close_task(task)
    assert world.reader.task(task).closed


def test_a_task_that_is_never_drawn_is_closed(world: World, other: MarketWriter) -> None:
    """By its owner at any time, by others when it is idle; no server is named, none released."""
    terms = world.terms()
    mine, idle = (world.owner_writer.create_drawn_task(t) for t in (terms, world.terms()))
    before = world.chain.balance(world.model_owner.address)
    receipt = world.owner_writer.close_task(mine)
    closed, refunded = receipt.events
    assert isinstance(closed, TaskClosed)
    assert isinstance(refunded, TaskRefunded)
    gained = world.chain.balance(world.model_owner.address) - before + receipt.gas_cost_wei
    assert gained == terms.escrow_wei  # the draw's fee is gone
    with refused("not model owner"):
        other.close_task(idle)
    world.chain.wait_for_time(idle_from(world, idle) + IDLE_SECONDS)
    (closed,) = other.close_task(idle).events
    assert isinstance(closed, TaskClosed)
    assert world.reader.task(idle).closed
    world.owner_writer.close_task(idle)
    assert world.reader.task(idle).refunded
    assert world.chain.balance(world.address) == 0


def test_asking_for_another_draw_counts_as_activity(world: World, other: MarketWriter) -> None:
    task = world.owner_writer.create_drawn_task(world.terms())
    world.chain.wait_for_time(idle_from(world, task) + IDLE_SECONDS - 1_000)
    world.chain.mine(256)
    world.owner_writer.redraw(task)
    asked = world.chain.head_timestamp()
    world.chain.wait_for_time(asked + IDLE_SECONDS)
    with refused("not model owner"):
        other.close_task(task)
    world.chain.wait_for_time(idle_from(world, task) + IDLE_SECONDS)
    other.close_task(task)


def test_no_round_opens_a_year_after_the_creation(world: World, other: MarketWriter) -> None:
    """Stakes are not bound for ever: after that the task idles and anyone closes it."""
    task = world.task()
    created = world.chain.block_timestamp(world.reader.task(task).created_block)
    first_day_too_late = (created // DAY + 367) * DAY
    world.chain.wait_for_time(first_day_too_late - 2)
    world.open(task)  # mined in the last second
    world.chain.wait_for_time(idle_from(world, task))
    world.owner_writer.void_round(task)
    with refused("task expired"):
        world.open(task)
    world.owner_writer.top_up(task, 1)  # is of no use
    with refused("task expired"):
        world.open(task)
    world.chain.wait_for_time(idle_from(world, task) + IDLE_SECONDS)
    other.close_task(task)


def test_a_task_expires_by_the_day(world: World) -> None:
    task = world.task()
    created = world.chain.block_timestamp(world.reader.task(task).created_block)
    world.chain.wait_for_time((created // DAY + 367) * DAY - 1)
    with refused("task expired"):
        world.open(task)
