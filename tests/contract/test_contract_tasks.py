"""Creating tasks and paying for more rounds: every rule and every refusal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from contract_world import World, built_world, refused, rewound, shared_world

from omnilytics.chain.bindings import market
from omnilytics.chain.bindings.market import CommitteeFixed, RoundsAdded, TaskCreated
from omnilytics.chain.bindings.registry import ServersEnlisted
from omnilytics.chain.reader import committee_hash
from omnilytics.chain.records import EMPTY_ROOT, Phase, TaskTerms
from omnilytics.chain.writer import compact_signature, contract_terms
from omnilytics.foundation.units import Address, Hash32, TaskId, Wei

DAYS_30 = 30 * 86400
BIG = 2**255


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


def arguments(world: World, terms: TaskTerms) -> tuple[object, ...]:
    """Return the arguments of an honest creation."""
    expires = world.chain.head_timestamp() + 3_600
    consents = world.consents(terms, world.committee, world.model_owner.address, expires)
    compact = [compact_signature(consent) for consent in consents]
    return contract_terms(terms), world.committee, expires, compact


def test_creates(world: World) -> None:
    terms = world.terms(
        min_bond_wei=Wei(2**96 - 1), allow_root=Hash32(b"\x05" * 32), forced_seconds=600
    )
    task = world.create(terms)
    assert (task, world.reader.task_count()) == (1, 1)
    record = world.reader.task(task)
    assert (record.terms, record.committee) == (terms, world.committee)
    assert record.profiles == (1,) * 5
    assert record.model_owner == world.model_owner.address
    assert record.created_block == world.chain.head()
    assert record.payouts_root == record.previous_payouts_root == EMPTY_ROOT
    assert (record.opened_rounds, record.settled_rounds, record.credited_wei) == (0, 0, 0)
    assert record.attested_rounds == (0,) * 5
    assert (record.closed, record.refunded, record.claimed_wei) == (False, False, 0)
    state = world.reader.round_state(task)
    assert (state.round, state.phase) == (0, Phase.IDLE)
    receipt = world.owner_writer.last_receipt
    assert receipt is not None
    created, enlisted, fixed = receipt.events
    assert isinstance(created, TaskCreated)
    assert created.model_owner == world.model_owner.address
    assert (created.n, created.escrow_wei) == (5, terms.escrow_wei)
    flat = vars(contract_terms(terms))
    assert {name: getattr(created, name) for name in flat} == flat
    assert isinstance(enlisted, ServersEnlisted)
    assert isinstance(fixed, CommitteeFixed)
    assert (fixed.task, fixed.committee) == (task, world.committee)
    assert fixed.profiles == sum(1 << 16 * index for index in range(5))
    assert world.task() == 2


def test_tells_the_registry_what_is_at_risk(world: World) -> None:
    task = world.task(e=0, min_bond_wei=Wei(77))
    assert world.of_market(market.risk(task)) == market.Risk(
        committee_hash=committee_hash(world.committee),
        n=5,
        e=0,
        min_stake_wei=10**17,
        min_bond_wei=77,
    )
    nothing = world.of_market(market.risk(task + 1))
    assert nothing.committee_hash == bytes(32)


def test_escrow_is_exact(world: World) -> None:
    terms = world.terms()
    assert terms.escrow_wei == 4 * (1_000 * 1_000 + 5 * 70 + 13)
    call = arguments(world, terms)
    for wrong in (terms.escrow_wei - 1, terms.escrow_wei + 1, 0):
        with refused("wrong escrow"):
            world.send("create_task", *call, value=wrong)
    before = world.chain.balance(world.address)
    world.send("create_task", *call, value=terms.escrow_wei)
    assert world.chain.balance(world.address) == before + terms.escrow_wei


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"t": 0}, "bad threshold"),
        ({"t": 1, "e": 2}, "bad threshold"),
        ({"e": BIG}, "bad threshold"),
        ({"t": BIG}, "too few servers"),
        ({"t": 2**256 - 1, "e": 2**256 - 1}, "too few servers"),
        ({"t": 2}, "too few servers"),
        ({"t": 6, "e": 0}, "too few servers"),
        ({"min_stake_wei": 0}, "bad stake"),
        ({"min_stake_wei": 10**17 - 1}, "bad stake"),
        ({"min_stake_wei": 2**96}, "bad stake"),
        ({"min_bond_wei": 2**96}, "bad stake"),
        ({"rounds": 0}, "bad rounds"),
        ({"rounds": 7}, "bad rounds"),
        ({"max_rounds": 2**16}, "bad rounds"),
        ({"rounds": BIG, "max_rounds": BIG}, "bad rounds"),
        ({"min_owners": 0}, "bad owners"),
        ({"min_owners": 1_001}, "bad owners"),
        ({"max_owners": 2**32}, "bad owners"),
        ({"reward_wei": 2**96}, "bad price"),
        ({"fee_wei": 2**96}, "bad price"),
        ({"opening_fee_wei": 2**96}, "bad price"),
        ({"reward_wei": 2**88, "max_owners": 2**32 - 1, "max_rounds": 6}, "bad price"),
        ({"reward_wei": 2**88, "max_owners": 2**16, "max_rounds": 2**16 - 1}, None),
        ({"reward_wei": 2**88 + 2**73, "max_owners": 2**16, "max_rounds": 2**16 - 1}, "bad price"),
        ({"submission_seconds": 0, "forced_seconds": 0}, "bad seconds"),
        ({"submission_seconds": DAYS_30 + 1}, "bad seconds"),
        ({"forced_seconds": 601}, "bad seconds"),
        ({"forced_seconds": BIG}, "bad seconds"),
        ({"seal_seconds": 0}, "bad seconds"),
        ({"seal_seconds": DAYS_30 + 1}, "bad seconds"),
        ({"delta": 0}, "bad blocks"),
        ({"delta": 256, "words_blocks": 300, "openings_blocks": 300}, "bad blocks"),
        ({"confirmations": 256}, "bad blocks"),
        ({"delta": BIG, "confirmations": BIG}, "bad blocks"),
        ({"confirmations": 3}, "bad blocks"),
        ({"words_blocks": 9}, "bad blocks"),
        ({"openings_blocks": 12}, "bad blocks"),
        ({"settlement_blocks": 8_000}, "bad blocks"),
        ({"settlement_blocks": BIG}, "bad blocks"),
    ],
)
def test_refuses_terms(world: World, changes: dict[str, Any], reason: str | None) -> None:
    terms = world.terms(**changes)
    call: tuple[Any, ...] = (contract_terms(terms), world.committee, 2**256 - 1, [])
    # What passes the terms is stopped by the missing money.
    with refused("wrong escrow" if reason is None else reason):
        world.send("create_task", *call)
    with refused("wrong escrow" if reason is None else reason):
        world.send("create_drawn_task", call[0], 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 2**16 - 1, "max_rounds": 2**16 - 1, "reward_wei": 0},
        {"rounds": 1, "max_rounds": 1, "min_owners": 1, "max_owners": 1},
        {"max_owners": 2**32 - 1, "min_owners": 2**32 - 1, "reward_wei": 1},
        {"submission_seconds": DAYS_30, "seal_seconds": DAYS_30, "forced_seconds": DAYS_30},
        {"submission_seconds": 1, "seal_seconds": 1, "forced_seconds": 0},
        {"delta": 1, "confirmations": 0},
        {"settlement_blocks": 252},
        {"delta": 100, "confirmations": 50, "words_blocks": 151, "openings_blocks": 151,
         "settlement_blocks": 152, "reason": "block hash missed"},
        {"words_blocks": 4, "openings_blocks": 4, "settlement_blocks": 5},
        {"t": 2, "e": 0},
        {"reward_wei": 0, "fee_wei": 0, "opening_fee_wei": 0},
    ],
)  # fmt: skip
def test_accepts_terms_at_their_bounds(world: World, changes: dict[str, Any]) -> None:
    changes = dict(changes)
    reason = changes.pop("reason", None)
    terms = world.terms(**changes)
    if reason is not None:  # all but the chain, which forgets block hashes too early
        with refused(reason):
            world.create(terms)
        return
    assert world.reader.task(world.create(terms)).terms == terms


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
        (13, 6, 0, True),
        (4, 1, 1, False),
        (6, 2, 1, False),
        (9, 3, 1, False),
        (12, 4, 1, False),
        (12, 6, 0, False),
        (2, 1, 0, False),
        (1, 1, 0, False),
        (10, 3, 2, False),
        (13, 3, 3, True),
        (12, 3, 3, False),
    ],
)
def test_numbers_of_servers(n: int, t: int, e: int, fits: bool) -> None:
    world = built_world(13)
    with rewound(world):
        terms = world.terms(n=n, t=t, e=e)
        committee = world.committee[:n]
        if fits:
            assert world.reader.task(world.create(terms, committee=committee)).terms == terms
        else:
            with refused("too few servers"):
                world.create(terms, committee=committee)


def test_unknown_tasks_are_refused(world: World) -> None:
    for number in (0, 1, 2**200):
        task = TaskId(number)
        with refused("no such task"):
            world.reader.task(task)
        with refused("no such task"):
            world.reader.round_state(task)
        with refused("not model owner"):
            world.owner_writer.open_round(task, world.hash())
        with refused("not model owner"):
            world.send("top_up", number, 1)
        with refused("not model owner"):
            world.owner_writer.redraw(task)
        with refused("not drawing"):
            world.owner_writer.draw_committee(task)
        with refused("no such task"):
            world.send("close_task", number, list(world.committee))
        with refused("round not open"):
            world.owner_writer.force_submission(task, b"x")
        with refused("round not open"):
            world.send("seal", number, world.hash(), 1, [], 0, [])
        with refused("no active round"):
            world.owner_writer.void_round(task)
        with refused("wrong committee"):
            world.owner_writer.claim_fees(task, world.committee, 0)
        with refused("not in payouts"):
            world.owner_writer.claim(task, world.committee[0], Wei(1), ())


def test_nobody_is_the_model_owner_of_no_task(world: World) -> None:
    """An unknown task's owner is the zero address, which sends nothing."""
    assert world.reader.task_of(Address(bytes(20)), Hash32(bytes(32))) is None


def test_tops_up(world: World) -> None:
    terms = world.terms(rounds=1, max_rounds=4)
    task = world.create(terms)
    held = world.chain.balance(world.address)
    (event,) = world.owner_writer.top_up(task, 2).events
    assert isinstance(event, RoundsAdded)
    assert (event.task, event.rounds, event.amount_wei) == (task, 2, 2 * terms.round_wei)
    assert world.chain.balance(world.address) == held + 2 * terms.round_wei
    record = world.reader.task(task)
    assert (record.terms.rounds, record.terms.max_rounds) == (3, 4)
    for _ in range(3):
        world.round(task)
    with refused("no rounds left"):
        world.open(task)
    world.owner_writer.top_up(task, 1)
    world.round(task)
    assert world.reader.task(task).settled_rounds == 4


@pytest.mark.parametrize("rounds", [0, 4, 2**16, BIG, 2**256 - 1])
def test_refuses_rounds_that_servers_did_not_agree_to(world: World, rounds: int) -> None:
    terms = world.terms(rounds=1, max_rounds=4)
    task = world.create(terms)
    with refused("bad rounds"):
        world.send("top_up", task, rounds, value=min(rounds, 4) * terms.round_wei)
    world.owner_writer.top_up(task, 3)
    with refused("bad rounds"):
        world.owner_writer.top_up(task, 1)


def test_a_top_up_is_paid_exactly(world: World) -> None:
    task = world.task()
    price = world.terms().round_wei
    for wrong in (0, price - 1, price + 1, 2 * price):
        with refused("wrong escrow"):
            world.send("top_up", task, 1, value=wrong)
    world.send("top_up", task, 1, value=price)


def test_only_the_model_owner_tops_up_an_unclosed_task(world: World) -> None:
    task = world.task()
    with refused("not model owner"):
        world.writer(world.servers[0]).top_up(task, 1)
    world.owner_writer.close_task(task)
    with refused("task closed"):
        world.owner_writer.top_up(task, 1)


def test_tops_up_during_a_round(world: World) -> None:
    """Nothing of the round changes."""
    task = world.task(rounds=1)
    for step in (world.open, world.seal):
        step(task)
        before = world.reader.round_state(task)
        world.owner_writer.top_up(task, 1)
        assert world.reader.round_state(task) == before
    world.to_settle_time(task)
    world.settle(task)
    assert world.reader.task(task).terms.rounds == 3


def test_tops_up_before_the_draw(world: World) -> None:
    world.offers(0)
    task = world.owner_writer.create_drawn_task(world.terms(rounds=1))
    world.owner_writer.top_up(task, 1)
    assert world.reader.task(task).terms.rounds == 2
    assert world.reader.round_state(task).phase is Phase.DRAWING


def test_a_topped_up_task_returns_all_of_it(world: World) -> None:
    terms = world.terms(rounds=1)
    task = world.create(terms)
    world.owner_writer.top_up(task, 2)
    before = world.chain.balance(world.model_owner.address)
    receipt = world.owner_writer.close_task(task)
    gained = world.chain.balance(world.model_owner.address) - before + receipt.gas_cost_wei
    assert gained == 3 * terms.round_wei
    assert world.chain.balance(world.address) == 0
