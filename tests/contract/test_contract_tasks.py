"""Creating, closing and refunding tasks: every rule and every refusal."""

from __future__ import annotations

from typing import Any

import pytest
from contract_world import World

from omnilytics.chain.events import terms_tuple
from omnilytics.chain.records import (
    EMPTY_ROOT,
    IDLE_SECONDS,
    Phase,
    TaskClosed,
    TaskCreated,
    TaskRefunded,
)
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, TaskId, Wei

DAYS_30 = 30 * 86400


@pytest.fixture
def world() -> World:
    return World()


def test_creates(world: World) -> None:
    terms = world.terms()
    task = world.owner_writer.create_task(terms)
    assert (task, world.reader.task_count()) == (1, 1)
    record = world.reader.task(task)
    assert record.terms == terms
    assert record.model_owner == world.model_owner.address
    assert record.created_block == world.chain.head()
    assert record.payouts_root == record.previous_payouts_root == EMPTY_ROOT
    assert (record.opened_rounds, record.settled_rounds, record.credited_wei) == (0, 0, 0)
    assert not record.closed
    state = world.reader.round_state(task)
    assert (state.round, state.phase) == (0, Phase.IDLE)
    (event,) = world.reader.events(task)
    assert isinstance(event, TaskCreated)
    assert (event.terms, event.escrow_wei) == (terms, terms.escrow_wei)
    assert world.owner_writer.create_task(terms) == 2


def test_escrow_is_exact(world: World) -> None:
    terms = world.terms()
    assert terms.escrow_wei == 4 * (1_000 * 1_000 + 5 * 70 + 13)
    arguments = (terms_tuple(terms), list(terms.committee))
    for wrong in (terms.escrow_wei - 1, terms.escrow_wei + 1, 0):
        with pytest.raises(ChainError, match="wrong escrow"):
            world.send("create_task", *arguments, value=wrong)
    before = world.chain.balance(world.address)
    world.send("create_task", *arguments, value=terms.escrow_wei)
    assert world.chain.balance(world.address) == before + terms.escrow_wei


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"t": 0}, "bad threshold"),
        ({"t": 1, "e": 2}, "bad threshold"),
        ({"t": 2**255}, "bad threshold"),
        ({"t": 2}, "too few servers"),
        ({"rounds": 0}, "bad rounds"),
        ({"rounds": 2**16}, "bad rounds"),
        ({"min_owners": 0}, "bad owners"),
        ({"min_owners": 1_001}, "bad owners"),
        ({"max_owners": 2**32}, "bad owners"),
        ({"reward_wei": 2**96}, "bad price"),
        ({"fee_wei": 2**96}, "bad price"),
        ({"opening_fee_wei": 2**96}, "bad price"),
        ({"submission_seconds": 0}, "bad seconds"),
        ({"submission_seconds": DAYS_30 + 1}, "bad seconds"),
        ({"seal_seconds": 0}, "bad seconds"),
        ({"seal_seconds": DAYS_30 + 1}, "bad seconds"),
        ({"delta": 0}, "bad blocks"),
        ({"delta": 2**255, "confirmations": 2**255}, "bad blocks"),
        ({"confirmations": 3}, "bad blocks"),
        ({"words_blocks": 9}, "bad blocks"),
        ({"openings_blocks": 12}, "bad blocks"),
        ({"settlement_blocks": 253}, "bad blocks"),
        ({"settlement_blocks": 2**255}, "bad blocks"),
    ],
)
def test_refuses_terms(world: World, changes: dict[str, Any], reason: str) -> None:
    terms = world.terms(**changes)
    with pytest.raises(ChainError, match=reason):
        world.send("create_task", terms_tuple(terms), list(terms.committee))


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 2**16 - 1, "reward_wei": 0, "min_owners": 1, "max_owners": 1},
        {"max_owners": 2**32 - 1, "min_owners": 2**32 - 1, "reward_wei": 1},
        {"submission_seconds": DAYS_30, "seal_seconds": DAYS_30},
        {"submission_seconds": 1, "seal_seconds": 1},
        {"delta": 1, "confirmations": 0},
        {"settlement_blocks": 252},
        {"words_blocks": 4, "openings_blocks": 4, "settlement_blocks": 5},
        {"t": 2, "e": 0},
        {"reward_wei": 0, "fee_wei": 0, "opening_fee_wei": 0},
    ],
)
def test_accepts_terms_at_their_bounds(world: World, changes: dict[str, Any]) -> None:
    terms = world.terms(**changes)
    assert world.reader.task(world.owner_writer.create_task(terms)).terms == terms


@pytest.mark.parametrize(
    ("n", "t", "e", "fits"),
    [
        (5, 1, 1, True),
        (7, 2, 1, True),
        (10, 3, 1, True),
        (13, 4, 1, True),
        (11, 3, 2, True),
        (3, 1, 0, True),
        (5, 2, 0, True),
        (4, 1, 1, False),
        (6, 2, 1, False),
        (9, 3, 1, False),
        (12, 4, 1, False),
        (2, 1, 0, False),
        (10, 3, 2, False),
        (13, 3, 3, True),
        (12, 3, 3, False),
    ],
)
def test_numbers_of_servers(n: int, t: int, e: int, fits: bool) -> None:
    world = _world_of_13()
    terms = world.terms(t=t, e=e, committee=world.committee[:n])
    if fits:
        assert world.reader.task(world.owner_writer.create_task(terms)).terms.n == n
    else:
        with pytest.raises(ChainError, match="too few servers"):
            world.owner_writer.create_task(terms)


_WORLDS: list[World] = []


def _world_of_13() -> World:
    if not _WORLDS:
        _WORLDS.append(World(13))
    return _WORLDS[0]


def test_committee_is_registered_and_distinct(world: World) -> None:
    stranger = world.key().address
    for member, reason in (
        (stranger, "server not registered"),
        (Address(bytes(20)), "server not registered"),
        (world.committee[0], "server twice"),
    ):
        with pytest.raises(ChainError, match=reason):
            world.task(committee=(*world.committee[:4], member))
    fourteen = world.terms(committee=world.committee * 2 + world.committee[:4])
    with pytest.raises(ChainError):
        world.owner_writer.create_task(fourteen)


def test_unknown_tasks_are_refused(world: World) -> None:
    for number in (0, 1, 2**200):
        task = TaskId(number)
        with pytest.raises(ChainError, match="no such task"):
            world.reader.task(task)
        with pytest.raises(ChainError, match="no such task"):
            world.reader.round_state(task)
        with pytest.raises(ChainError, match="no such task"):
            world.owner_writer.open_round(task, world.hash())
        with pytest.raises(ChainError, match="no such task"):
            world.send("refund", number, list(world.committee))
        with pytest.raises(ChainError, match="no active round"):
            world.owner_writer.void_round(task)
        with pytest.raises(ChainError, match="wrong committee"):
            world.owner_writer.claim_fees(task, world.committee, 0)
        with pytest.raises(ChainError, match="not in payouts"):
            world.owner_writer.claim(task, world.committee[0], Wei(1), ())


def test_refund_of_an_unused_task_is_the_whole_escrow(world: World) -> None:
    task = world.task()
    before = world.chain.balance(world.model_owner.address)
    receipt = world.owner_writer.refund(task)
    escrow = world.terms().escrow_wei
    spent = receipt.gas_cost_wei
    assert world.chain.balance(world.model_owner.address) == before + escrow - spent
    closed, refunded = receipt.events
    assert isinstance(closed, TaskClosed)
    assert isinstance(refunded, TaskRefunded)
    assert closed.unspent_wei == refunded.amount_wei == escrow
    record = world.reader.task(task)
    assert record.closed
    assert record.refunded
    assert world.reader.server(world.committee[0]).active_tasks == 0


def test_refund_is_paid_once_and_ends_the_task(world: World) -> None:
    task = world.task()
    world.owner_writer.refund(task)
    with pytest.raises(ChainError, match="already refunded"):
        world.owner_writer.refund(task)
    with pytest.raises(ChainError, match="task closed"):
        world.open(task)


def test_refund_waits_for_the_active_round(world: World) -> None:
    task = world.task()
    world.open(task)
    with pytest.raises(ChainError, match="round active"):
        world.owner_writer.refund(task)
    world.seal(task)
    with pytest.raises(ChainError, match="round active"):
        world.owner_writer.refund(task)
    world.to_settle_time(task)
    world.settle(task)
    world.owner_writer.refund(task)


def test_refund_needs_the_committee(world: World) -> None:
    task = world.task()
    with pytest.raises(ChainError, match="wrong committee"):
        world.send("refund", task, list(reversed(world.committee)))
    world.send("refund", task, list(world.committee))


def test_others_close_only_an_idle_or_finished_task(world: World) -> None:
    other = world.writer(world.servers[0])
    task, used = world.task(), world.task(rounds=1)
    with pytest.raises(ChainError, match="not model owner"):
        other.refund(task)
    created = world.chain.block_timestamp(world.reader.task(task).created_block)
    world.round(used)
    before = world.chain.balance(world.model_owner.address)
    other.refund(used)
    assert world.chain.balance(world.model_owner.address) > before  # it goes to the model owner
    world.chain.wait_for_time(created + IDLE_SECONDS - 1)
    with pytest.raises(ChainError, match="not model owner"):
        other.refund(task)  # would be mined at exactly the limit
    world.chain.mine(1)
    other.refund(task)
