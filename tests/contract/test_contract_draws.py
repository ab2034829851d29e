"""Drawn committees: who can be drawn, when, and that nothing but the dice decides."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import rlp
from contract_draws import (
    DELAY,
    DRAW_BLOCKS,
    FEE,
    UNBONDING,
    dice,
    drawn,
    drawn_task,
    pinned_block,
    reference,
    to_draw,
    to_reveal,
    writers,
)
from contract_world import STAKE, World, built_world, offer, refused, rewound, shared_world
from eth_hash.auto import keccak

from omnilytics.chain.bindings import registry
from omnilytics.chain.bindings.market import CommitteeFixed, TaskCreated
from omnilytics.chain.bindings.registry import DrawPinned, DrawRevealed, ServersEnlisted
from omnilytics.chain.records import Phase
from omnilytics.chain.writer import contract_terms
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, TaskId, Wei


@pytest.fixture
def world() -> Iterator[World]:
    """A world of five servers that offer nothing yet."""
    yield from shared_world()


@pytest.fixture
def offering() -> Iterator[World]:
    """A world of thirteen servers of which all offer from a fee of 70 on."""
    world = built_world(13)
    with rewound(world):
        world.offers(70)
        yield world


def test_draws(offering: World) -> None:
    world = offering
    terms = world.terms(n=5)
    market_before, registry_before = _held(world)
    burnt = world.of_registry(registry.burnt_wei())
    task = world.owner_writer.create_drawn_task(terms)
    assert _held(world) == (market_before + terms.escrow_wei, registry_before + FEE)
    assert world.of_registry(registry.burnt_wei()) == burnt + FEE
    receipt = world.owner_writer.last_receipt
    assert receipt is not None
    created, pinned = receipt.events
    assert isinstance(created, TaskCreated)
    assert (created.n, created.escrow_wei) == (5, terms.escrow_wei)
    assert isinstance(pinned, DrawPinned)
    head = world.chain.head()
    assert (pinned.task, pinned.draws, pinned.pinned_block) == (task, 1, head)
    assert (pinned.pool, pinned.fee_wei) == (13, FEE)
    assert world.reader.draw_state(task) == registry.Draw(
        draws=1, pinned_block=head, pool=13, randomness=Hash32(bytes(32))
    )
    before = world.reader.task(task)
    assert (before.committee, before.profiles, before.terms) == ((), (), terms)
    assert world.reader.round_state(task).phase is Phase.DRAWING
    with refused("not idle"):
        world.open(task)

    to_reveal(world, task)
    anyone = world.writer(world.account())
    world.chain.mine(1)
    (revealed,) = anyone.reveal_draw(task).events
    assert isinstance(revealed, DrawRevealed)
    assert revealed.randomness == keccak(b"\xa0" + dice(world, task))
    assert world.reader.draw_state(task).randomness == revealed.randomness
    enlisted, fixed = anyone.draw_committee(task).events
    record = world.reader.task(task)
    assert isinstance(enlisted, ServersEnlisted)
    assert isinstance(fixed, CommitteeFixed)
    assert fixed.committee == enlisted.servers == record.committee
    assert len(set(record.committee)) == 5
    assert record.profiles == (1,) * 5
    assert world.reader.round_state(task).phase is Phase.IDLE
    for address in world.committee:
        assert world.reader.server(address).active_tasks == (address in record.committee)
    with refused("not drawing"):
        world.owner_writer.draw_committee(task)
    with refused("not drawing"):
        world.owner_writer.redraw(task)


def test_a_drawn_task_runs_like_any_other(offering: World) -> None:
    world = offering
    task = drawn_task(world)
    world.committee = drawn(world, task)
    keys, world.keys = world.keys, [world.known[address] for address in world.committee]
    try:
        world.round(task)
        assert world.reader.task(task).settled_rounds == 1
        for index in range(5):
            world.owner_writer.claim_fees(task, world.committee, index)
        world.owner_writer.close_task(task)
        assert all(world.reader.server(address).active_tasks == 0 for address in world.committee)
    finally:
        world.keys = keys
        world.committee = tuple(key.address for key in keys)


def test_only_unclosed_drawing_tasks_are_drawn(offering: World) -> None:
    world = offering
    for task in (TaskId(0), TaskId(1), world.task(n=13)):
        with refused("not drawing"):
            world.owner_writer.draw_committee(task)
    closed = drawn_task(world)
    to_draw(world, closed)
    world.owner_writer.close_task(closed)
    with refused("not drawing"):
        world.owner_writer.draw_committee(closed)
    with refused("task closed"):
        world.owner_writer.redraw(closed)


def test_a_draw_waits_for_its_block(offering: World) -> None:
    world = offering
    task = drawn_task(world)
    header = world.chain.block_header(pinned_block(world, task))
    for _ in range(DELAY):  # the last of these would be mined in the very block of the dice
        with refused("draw not ready"):
            world.send("reveal_draw", task, header)
        with refused("draw not revealed"):
            world.owner_writer.draw_committee(task)
        world.chain.mine(1)
    with refused("draw not revealed"):
        world.owner_writer.draw_committee(task)
    world.owner_writer.reveal_draw(task)
    world.owner_writer.draw_committee(task)


def test_only_the_header_of_its_block_reveals_a_draw(offering: World) -> None:
    world = offering
    task = drawn_task(world)
    to_reveal(world, task)
    right = world.chain.block_header(pinned_block(world, task) + DELAY)
    members: list[bytes] = rlp.decode(right)
    assert rlp.encode(members) == right
    other = rlp.encode([*members[:13], bytes(32), *members[14:]])
    before = world.chain.block_header(pinned_block(world, task) + DELAY - 1)
    for wrong in (b"", right[:-1], right + b"\0", other, before):
        with refused("wrong header"):
            world.send("reveal_draw", task, wrong)
    with pytest.raises(ChainError, match="reverted without a reason"):
        world.send("reveal_draw", task, bytes(1_025))
    world.send("reveal_draw", task, right)
    randomness = world.reader.draw_state(task).randomness
    world.send("reveal_draw", task, right)  # it stays what it is
    assert world.reader.draw_state(task).randomness == randomness
    with refused("draw not ready"):  # a task without a draw
        world.send("reveal_draw", task + 1, right)


@pytest.mark.parametrize("extra", [b"", b"\x05", b"\x7f", b"\x80", b"x" * 32])
@pytest.mark.parametrize("blocks", [0, 130])
def test_headers_are_read_whatever_the_size_of_their_members(
    offering: World, extra: bytes, blocks: int
) -> None:
    """Numbers below and above 128 and extra data of every kind of RLP string come before."""
    world = offering
    world.chain.mine(blocks)
    task = drawn_task(world)
    world.chain.wait_for_block(pinned_block(world, task) + DELAY - 1)
    chain: Any = world.chain
    randao = world.hash()
    chain._chain.mine_block(extra_data=extra, mix_hash=randao, blob_gas_used=0)
    assert dice(world, task) == randao
    committee = list(drawn(world, task))
    assert committee == reference(randao, task, 1, world.committee, set(world.committee), 5)


def test_a_draw_can_be_made_in_its_last_block(offering: World) -> None:
    world = offering
    task = drawn_task(world)
    pinned = pinned_block(world, task)
    world.chain.wait_for_block(pinned + DRAW_BLOCKS - 2)
    world.owner_writer.reveal_draw(task)
    with refused("still drawable"):
        world.owner_writer.redraw(task)
    world.owner_writer.draw_committee(task)
    want = reference(dice(world, task), task, 1, world.committee, set(world.committee), 5)
    assert list(world.reader.task(task).committee) == want


def test_a_missed_draw_is_made_again_for_another_fee(offering: World) -> None:
    world = offering
    task = drawn_task(world)
    first = pinned_block(world, task)
    world.chain.wait_for_block(first + DRAW_BLOCKS)
    with refused("draw missed"):
        world.owner_writer.reveal_draw(task)
    with refused("draw not revealed"):
        world.owner_writer.draw_committee(task)
    stranger = world.writer(world.account())
    with refused("not model owner"):
        stranger.redraw(task)
    for wrong in (0, FEE - 1, FEE + 1):
        with refused("wrong draw fee"):
            world.send("redraw", task, value=wrong)
    burnt = world.of_registry(registry.burnt_wei())
    world.writer(world.account()).register_server("http://late", world.hash(), STAKE)
    (event,) = world.owner_writer.redraw(task).events
    assert isinstance(event, DrawPinned)
    head = world.chain.head()
    assert (event.draws, event.pinned_block, event.pool) == (2, head, 14)
    assert world.of_registry(registry.burnt_wei()) == burnt + FEE
    assert world.of_registry(registry.draws_until()) == head + DRAW_BLOCKS
    with refused("still drawable"):
        world.owner_writer.redraw(task)
    pool = [*world.committee, Address(bytes(20))]
    committee = list(drawn(world, task))
    assert committee == reference(dice(world, task), task, 2, pool, set(world.committee), 5)


def test_a_revealed_draw_is_missed_like_another(offering: World) -> None:
    world = offering
    task = drawn_task(world)
    first = pinned_block(world, task)
    to_draw(world, task)
    world.chain.wait_for_block(first + DRAW_BLOCKS)
    with refused("draw missed"):
        world.owner_writer.draw_committee(task)
    world.owner_writer.redraw(task)
    assert world.reader.draw_state(task).randomness == bytes(32)  # the dice of the first are void
    with refused("draw not revealed"):
        world.owner_writer.draw_committee(task)
    assert len(drawn(world, task)) == 5


def test_nobody_has_a_second_try_while_the_first_one_can_be_drawn(offering: World) -> None:
    """Also not when too few offer, or when the first outcome is not liked."""
    world = offering
    for writer in writers(world)[4:]:
        writer.set_offer(None)
    task = drawn_task(world)
    with refused("still drawable"):
        world.owner_writer.redraw(task)
    to_draw(world, task)
    with refused("too few servers offer"):
        world.owner_writer.draw_committee(task)
    with refused("still drawable"):
        world.owner_writer.redraw(task)


def test_fees_of_draws_are_exact(offering: World) -> None:
    world = offering
    terms = world.terms(n=5)
    arguments = (contract_terms(terms), 5)
    for wrong in (terms.escrow_wei, terms.escrow_wei + FEE - 1, terms.escrow_wei + FEE + 1, FEE):
        with refused("wrong escrow"):
            world.send("create_drawn_task", *arguments, value=wrong)
    world.send("create_drawn_task", *arguments, value=terms.escrow_wei + FEE)


@pytest.mark.parametrize(
    ("n", "reason"),
    [
        (14, "bad threshold"),
        (2**256 - 1, "bad threshold"),
        (0, "too few servers"),
        (4, "too few servers"),
    ],
)
def test_numbers_of_drawn_servers_are_checked(offering: World, n: int, reason: str) -> None:
    terms = offering.terms(n=5)
    with refused(reason):
        offering.send("create_drawn_task", contract_terms(terms), n)


def test_a_whole_pool_is_drawn(offering: World) -> None:
    world = offering
    committee = drawn(world, drawn_task(world, n=13, t=4))
    assert sorted(committee) == sorted(world.committee)


def test_an_empty_pool_draws_nobody(world: World) -> None:
    for writer in writers(world):
        writer.leave()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    for writer in writers(world):
        writer.withdraw_stake()
    assert world.of_registry(registry.pool_size()) == 0
    task = drawn_task(world)
    to_draw(world, task)
    with refused("too few servers offer"):
        world.owner_writer.draw_committee(task)
    world.owner_writer.close_task(task)


@pytest.mark.parametrize("seed", range(6))
def test_equals_an_independent_computation(offering: World, seed: int) -> None:
    """Whatever happened before, between pin and draw, and with places of the gone in the pool."""
    world = offering
    source = world.random
    source.seed(seed)
    everyone = writers(world)
    source.shuffle(everyone)
    unwilling, leaving, late = everyone[:2], everyone[2:4], everyone[4:7]
    for writer in unwilling:
        writer.set_offer(offer(71))
    for writer in leaving:
        writer.leave()
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    if seed % 2:
        leaving[0].withdraw_stake()
    pool = [
        world.of_registry(registry.pool(place))
        for place in range(world.of_registry(registry.pool_size()))
    ]
    task = drawn_task(world)
    joined = [world.server() for _ in range(2)]
    for writer in joined:
        writer.set_offer(offer(0))
    late[0].add_stake(Wei(1))
    late[1].set_offer(None)
    late[2].leave()
    out = {w.address for w in (*unwilling, *leaving, *late[:2])}
    eligible = set(pool) - out
    to_draw(world, task)
    want = reference(dice(world, task), task, 1, pool, eligible, 5)
    world.chain.mine(source.randrange(50))
    world.owner_writer.draw_committee(task)
    assert list(world.reader.task(task).committee) == want


def test_each_is_drawn_about_equally_often(
    offering: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 draws of 5 of 13: chi-square of 12 degrees of freedom below its 99.9% quantile, 32.9.

    PREVRANDAO comes from a seeded generator here. Draws without replacement vary less than that.
    """
    world = offering
    monkeypatch.setattr("os.urandom", random.Random(3).randbytes)
    tasks = [drawn_task(world) for _ in range(40)]
    counts = dict.fromkeys(world.committee, 0)
    firsts = dict.fromkeys(world.committee, 0)
    for task in tasks:
        committee = drawn(world, task)
        assert len(set(committee)) == 5
        firsts[committee[0]] += 1
        for address in committee:
            counts[address] += 1
    for found, expected in ((counts, 40 * 5 / 13), (firsts, 40 / 13)):
        assert sum((count - expected) ** 2 / expected for count in found.values()) < 32.9


def _held(world: World) -> tuple[int, int]:
    """What market and registry hold."""
    return world.chain.balance(world.address), world.chain.balance(world.reader.registry)
