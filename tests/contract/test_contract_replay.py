"""The events tell everything: the state rebuilt from the logs equals what the views say."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from contract_parties import Token
from contract_world import ETHER, STAKE, World, offer, payouts_tree, shared_world
from replayed_state import ReplayedState, case_hash

from omnilytics.chain.bindings import market, registry
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import FaultKind
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei
from omnilytics.wire.messages import Fault, Final, Submission
from omnilytics.wire.task_specification import ETHER_TOKEN

UNBONDING = 14 * 86400


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


def replayed(world: World) -> ReplayedState:
    """Rebuild from a fresh reading of the logs."""
    reader = MarketReader(world.chain, world.address)
    return ReplayedState(world.chain.block_timestamp).follow(reader.events())


def agree(world: World, parties: set[Address], tokens: set[Address]) -> ReplayedState:
    """Compare every view with the rebuilt state, for all tasks and these parties."""
    state, reader = replayed(world), world.reader
    tasks = [TaskId(number) for number in range(1, reader.task_count() + 1)]
    assert list(state.tasks) == tasks
    for task in tasks:
        record = state.tasks[task]
        assert reader.task(task) == record
        assert reader.round_state(task) == state.rounds[task]
        key = (record.model_owner, record.terms.spec_hash)
        assert reader.task_of(*key) == task
        for party in parties:
            assert reader.claimed(task, party) == state.claimed.get((task, party), 0)
        for index in range(record.terms.n):
            assert reader.fees_paid(task, index) == state.fees_paid.get((task, index), 0)
        empty = registry.Draw(draws=0, pinned_block=0, pool=0, randomness=Hash32(bytes(32)))
        assert reader.draw_state(task) == state.draws.get(task, empty)
        released = world.of_registry(registry.released_at(task))
        assert released == state.released_at.get(task, 0)
    assert {server.address: server for server in reader.servers()} == state.servers
    for party in parties | set(world.committee):
        assert reader.bond(party) == state.bond(party)
        for token in tokens:
            assert reader.offer(party, token) == state.offers.get((party, token))
        for number, profile in enumerate(state.profiles.get(party, []), 1):
            assert reader.profile(party, number) == profile
    pool = [
        world.of_registry(registry.pool(place))
        for place in range(world.of_registry(registry.pool_size()))
    ]
    assert pool == state.pool
    assert world.of_registry(registry.draws_until()) == state.draws_until
    assert world.of_registry(registry.burnt_wei()) == state.burnt_wei
    assert all(world.of_registry(registry.judged(case)) for case in state.judged)
    bonds = sum(bond.amount_wei for bond in state.bonds.values())
    stakes = sum(server.stake_wei for server in state.servers.values())
    assert world.chain.balance(reader.registry) == stakes + bonds + state.burnt_wei
    return state


def test_a_fresh_market(world: World) -> None:
    state = agree(world, set(), {ETHER_TOKEN})
    assert list(state.servers) == list(world.committee)


def test_a_mixed_scenario(world: World) -> None:
    """Everything that can happen, once at least; compared after each part."""
    token = Token(world)
    keys = [world.key() for _ in range(3)]
    owners = [world.account(key) for key in keys]
    parties = {owner.address for owner in owners}
    tokens = {ETHER_TOKEN, token.address}
    bond = Wei(10**16)
    for owner in owners:
        world.writer(owner).add_bond(Wei(2 * bond))
    root, proofs = payouts_tree(dict.fromkeys(parties, 2_000))

    # A task in ether: a settled round without one server, a voided one, a top-up, a fault each.
    wei = world.task(min_bond_wei=bond)
    world.round(wei, payouts_root=root, signers=(0, 1, 2, 3), v_bitmap=0b01111)
    world.open(wei)
    world.owner_writer.force_submission(wei, b"certificate")
    world.chain.wait_for_time(world.reader.round_state(wei).seal_deadline)
    world.owner_writer.void_round(wei)
    world.owner_writer.top_up(wei, 2)
    first = owners[0].address
    world.owner_writer.claim(wei, first, Wei(2_000), proofs[first])
    world.owner_writer.claim_fees(wei, world.committee, 1)
    agree(world, parties, tokens)
    submission = Submission(task=wei, round=Round(1), commitment=world.hash())
    fault = Fault(
        task=wei, round=Round(1), party=first, kind=FaultKind.OWNER, evidence_hash=world.hash()
    )
    signature = keys[0].sign(submission, world.reader.domain)
    world.owner_writer.report_fault(
        fault, world.committee, world.votes(fault), (submission, signature)
    )
    world.slash(wei, 4)
    agree(world, parties, tokens)

    # A drawn task in a token, whose first draw is missed; offers, profiles, stakes change.
    more = [world.server(3 * STAKE) for _ in range(3)]
    parties |= {writer.address for writer in more}
    world.offers(50, token=token.address)
    for writer in more:
        writer.set_offer(offer(0, STAKE), token=token.address)
        writer.set_offer(offer(1))
    more[0].set_offer(None)
    more[1].set_profile("http://moved", world.hash())
    world.writer(world.servers[0]).add_stake(ETHER)
    units = world.owner_writer.create_drawn_task(world.terms(token=token.address))
    agree(world, parties, tokens)
    world.chain.mine(256)
    world.owner_writer.redraw(units)
    world.chain.mine(4)
    world.owner_writer.reveal_draw(units)
    agree(world, parties, tokens)
    world.owner_writer.draw_committee(units)
    state = agree(world, parties, tokens)
    assert state.draws[units].draws == 2

    # A round that stays sealed, one that stays open, a conviction, and a task that is closed.
    world.writer(world.servers[4]).add_stake(STAKE)  # it was slashed
    sealed = world.task()
    world.open(sealed)
    world.seal(sealed)
    opened = world.task()
    world.open(opened)
    finals = [Final(task=sealed, round=Round(1), accepted_root=world.hash()) for _ in range(2)]
    one, two = (world.keys[1].sign(final, world.reader.domain) for final in finals)
    world.owner_writer.convict(
        world.committee[1], world.committee, (finals[0], finals[1]), (one, two)
    )
    state = agree(world, parties, tokens)
    assert case_hash(sealed, 1, world.committee[1], by_itself=True) in state.judged
    assert len(state.judged) == 3

    # Leaving, closing by owner and others, withdrawing, sweeping, coming back.
    for server in world.servers[:2]:
        world.writer(server).leave()
    for writer in more:
        writer.leave()
    world.writer(owners[1]).leave_bond()
    world.writer(owners[2]).leave_bond()
    world.writer(owners[2]).add_bond(Wei(5))
    world.owner_writer.close_task(wei)
    world.chain.jump(world.chain.head_timestamp() + 2 * UNBONDING)
    world.writer(owners[1]).withdraw_bond()
    world.writer(world.servers[3]).close_task(units)
    agree(world, parties, tokens)
    world.owner_writer.close_task(units)
    for task in (sealed, opened):
        if world.reader.round_state(task).settlement_deadline_block:
            deadline = world.reader.round_state(task).settlement_deadline_block
            world.chain.wait_for_block(deadline)
        world.owner_writer.void_round(task)
        world.owner_writer.close_task(task)
    world.chain.jump(world.chain.head_timestamp() + UNBONDING)
    pinned = world.owner_writer.create_drawn_task(world.terms())
    world.writer(world.servers[0]).withdraw_stake()
    more[2].withdraw_stake()
    agree(world, parties, tokens)
    world.writer(world.servers[0]).register_server("http://back", world.hash(), STAKE)
    world.chain.mine(256)
    world.owner_writer.sweep(more[2].address)
    world.writer(world.servers[1]).withdraw_stake()
    world.owner_writer.close_task(pinned)
    world.writer(owners[0]).leave_bond()
    state = agree(world, parties, tokens)
    kinds = {type(event) for event in world.reader.events()}
    assert kinds == {*market.EVENTS, *registry.EVENTS}  # nothing was left out


STEPS = ("task", "open", "settle", "void", "top_up", "close", "leave", "withdraw", "register",
         "stake", "bond", "unbond", "slash", "pin", "wait")  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_histories(world: World, seed: int) -> None:
    """In any order, whatever is refused on the way."""
    source = random.Random(seed)
    world.offers(0)
    owner = world.writer(world.account())
    for name in source.choices(STEPS, k=60):
        _try(world, owner, source, name)
    agree(world, {owner.address}, {ETHER_TOKEN})


def _try(world: World, owner: MarketWriter, source: random.Random, name: str) -> None:
    """Make one call, whether the contracts take it or not."""
    server = world.writer(source.choice(world.servers))
    count = world.reader.task_count()
    task = TaskId(source.randint(1, count)) if count else TaskId(1)
    calls: dict[str, Callable[[], object]] = {
        "task": lambda: world.task(rounds=2),
        "open": lambda: world.open(task),
        "settle": lambda: world.round(task),
        "void": lambda: _void(world, task),
        "top_up": lambda: world.owner_writer.top_up(task, 1),
        "close": lambda: world.owner_writer.close_task(task),
        "leave": server.leave,
        "withdraw": server.withdraw_stake,
        "register": lambda: server.register_server("http://x", world.hash(), STAKE),
        "stake": lambda: server.add_stake(Wei(9)),
        "bond": lambda: owner.add_bond(Wei(3)),
        "unbond": source.choice([owner.leave_bond, owner.withdraw_bond]),
        "slash": lambda: world.slash(task, source.randrange(5)),
        "pin": lambda: world.owner_writer.create_drawn_task(world.terms()),
        "wait": lambda: world.chain.jump(world.chain.head_timestamp() + UNBONDING),
    }
    with suppress(ChainError):
        calls[name]()


def _void(world: World, task: TaskId) -> None:
    world.chain.wait_for_time(world.reader.round_state(task).seal_deadline)
    world.owner_writer.void_round(task)
