"""Opening, sealing and voiding rounds: every refusal, and each deadline on both of its sides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract_world import World, refused, shared_world

from omnilytics.chain.bindings.market import RoundOpened, RoundSealed, RoundVoided
from omnilytics.chain.records import Phase, challenge_seed
from omnilytics.foundation.units import TaskId


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


@pytest.fixture
def task(world: World) -> TaskId:
    return world.task()


def to_void_time(world: World, task: TaskId) -> None:
    """Go to where the next block is the first in which an open round can be voided."""
    world.chain.wait_for_time(world.reader.round_state(task).seal_deadline - 1)


def test_opens(world: World, task: TaskId) -> None:
    artefact = world.hash()
    opened = world.owner_writer.open_round(task, artefact)
    block = opened.position.block_number
    assert (opened.task, opened.round, opened.artefact_hash) == (task, 1, artefact)
    assert opened.block_hash == world.chain.block_hash(block - 1)
    assert opened.submission_deadline == world.chain.block_timestamp(block) + 600
    state = world.reader.round_state(task)
    assert (state.round, state.phase, state.opened_block) == (1, Phase.OPEN, block)
    assert state.submission_deadline == opened.submission_deadline
    assert state.seal_deadline == opened.submission_deadline + 120
    assert (state.submissions_root, state.count, state.sealed_block) == (bytes(32), 0, 0)
    found = world.reader.round_opened(task, state.round)
    assert isinstance(found, RoundOpened)
    assert found == opened


def test_only_the_model_owner_opens(world: World, task: TaskId) -> None:
    with refused("not model owner"):
        world.writer(world.servers[0]).open_round(task, world.hash())


def test_one_round_at_a_time(world: World, task: TaskId) -> None:
    world.open(task)
    with refused("not idle"):
        world.open(task)
    world.seal(task)
    with refused("not idle"):
        world.open(task)


def test_no_more_rounds_than_paid_for(world: World) -> None:
    task = world.task(rounds=2)
    for _ in range(2):
        world.open(task)
        to_void_time(world, task)
        world.owner_writer.void_round(task)
    with refused("no rounds left"):
        world.open(task)


def test_seals(world: World, task: TaskId) -> None:
    world.open(task)
    world.to_seal_time(task)
    vote = world.vote(task, count=3)
    world.owner_writer.seal(vote, world.committee, world.votes(vote, (0, 2, 3, 4)))
    state = world.reader.round_state(task)
    assert (state.phase, state.submissions_root, state.count) == (
        Phase.SEALED,
        vote.submissions_root,
        3,
    )
    assert state.sealed_block == world.chain.head()
    assert state.challenge_block == state.sealed_block + 2
    assert state.challenge_final_block == state.sealed_block + 3
    assert state.settlement_deadline_block == state.sealed_block + 12
    sealed = world.reader.round_sealed(task, state.round)
    assert isinstance(sealed, RoundSealed)
    assert (sealed.submissions_root, sealed.count) == (vote.submissions_root, 3)


def test_sealing_needs_an_open_round(world: World, task: TaskId) -> None:
    vote = world.vote(task)
    with refused("round not open"):
        world.owner_writer.seal(vote, world.committee, world.votes(vote))
    world.open(task)
    world.seal(task)
    again = world.vote(task)
    with refused("round not open"):
        world.owner_writer.seal(again, world.committee, world.votes(again))


def test_seal_window(world: World, task: TaskId) -> None:
    """The block at the submission deadline may seal, the block at the seal deadline may not."""
    opened = world.open(task)
    vote = world.vote(task)
    world.chain.wait_for_time(opened.submission_deadline - 2)
    with refused("submissions open"):
        world.owner_writer.seal(vote, world.committee, world.votes(vote))
    to_void_time(world, task)
    with refused("seal deadline passed"):
        world.owner_writer.seal(vote, world.committee, world.votes(vote))
    world.owner_writer.void_round(task)
    world.open(task)
    to_void_time(world, task)
    second = world.vote(task)
    with refused("seal deadline passed"):
        world.owner_writer.seal(second, world.committee, world.votes(second))


def test_seal_in_the_last_block(world: World, task: TaskId) -> None:
    world.open(task)
    world.chain.wait_for_time(world.reader.round_state(task).seal_deadline - 2)
    vote = world.vote(task)
    with refused("still sealable"):
        world.owner_writer.void_round(task)
    world.owner_writer.seal(vote, world.committee, world.votes(vote))


@pytest.mark.parametrize(
    ("count", "reason"), [(1, "bad count"), (0, "bad count"), (2**32, "bad count")]
)
def test_seal_counts(world: World, task: TaskId, count: int, reason: str) -> None:
    world.open(task)
    world.to_seal_time(task)
    vote = world.vote(task, count)
    with refused(reason):
        world.owner_writer.seal(vote, world.committee, world.votes(vote))


@pytest.mark.parametrize("count", [2, 2**32 - 1])
def test_seal_counts_at_their_bounds(world: World, task: TaskId, count: int) -> None:
    world.open(task)
    world.seal(task, count)
    assert world.reader.round_state(task).count == count


def test_seal_needs_the_committee_and_a_quorum(world: World, task: TaskId) -> None:
    world.open(task)
    world.to_seal_time(task)
    vote = world.vote(task)
    with refused("wrong committee"):
        world.owner_writer.seal(vote, world.committee[::-1], world.votes(vote))
    with refused("too few signatures"):
        world.owner_writer.seal(vote, world.committee, world.votes(vote, range(3)))
    with refused("too few signatures"):
        world.owner_writer.seal(vote, world.committee, {})
    world.owner_writer.seal(vote, world.committee, world.votes(vote, range(5)))


def test_a_vote_for_another_round_is_not_sent(world: World, task: TaskId) -> None:
    world.open(task)
    to_void_time(world, task)
    stale = world.vote(task)
    world.owner_writer.void_round(task)
    world.open(task)
    world.to_seal_time(task)
    with refused("not the task's present round"):
        world.owner_writer.seal(stale, world.committee, world.votes(stale))


def test_void_of_an_open_round(world: World, task: TaskId) -> None:
    with refused("no active round"):
        world.owner_writer.void_round(task)
    world.open(task)
    with refused("still sealable"):
        world.owner_writer.void_round(task)
    to_void_time(world, task)
    receipt = world.writer(world.servers[0]).void_round(task)  # anyone may
    (event,) = receipt.events
    assert isinstance(event, RoundVoided)
    assert world.reader.round_voided(task, event.round) == event
    assert world.reader.round_state(task).phase is Phase.IDLE
    with refused("no active round"):
        world.owner_writer.void_round(task)
    assert world.open(task).round == 2


def test_void_of_a_sealed_round(world: World, task: TaskId) -> None:
    """The last block of the settlement window settles; the next one voids."""
    world.open(task)
    world.seal(task)
    last = world.reader.round_state(task).settlement_deadline_block
    world.chain.wait_for_block(last - 1)
    with refused("still settleable"):
        world.owner_writer.void_round(task)
    agreed = world.settlement(task)
    world.chain.wait_for_block(last)
    late = world.signed(agreed, world.words())
    with refused("settlement deadline passed"):
        world.owner_writer.settle(late, world.committee)
    world.owner_writer.void_round(task)
    record = world.reader.task(task)
    assert (record.opened_rounds, record.settled_rounds, record.credited_wei) == (1, 0, 0)


def test_settles_in_the_first_and_in_the_last_block(world: World, task: TaskId) -> None:
    world.open(task)
    world.seal(task)
    state = world.reader.round_state(task)
    world.chain.wait_for_block(state.challenge_final_block - 1)
    with refused("seed not final"):
        world.reader.seed(task)
    seed = challenge_seed(
        world.chain.block_hash(state.challenge_block), task, state.round, state.submissions_root
    )
    world.chain.mine(1)
    agreed = world.settlement(task)
    assert agreed.seed == seed
    assert world.chain.head() == state.challenge_final_block
    world.owner_writer.settle(world.signed(agreed, world.words()), world.committee)
    world.open(task)
    world.seal(task)
    world.chain.wait_for_block(world.reader.round_state(task).settlement_deadline_block - 1)
    world.settle(task)


def test_settlement_waits_for_the_confirmations(world: World, task: TaskId) -> None:
    world.open(task)
    world.seal(task)
    state = world.reader.round_state(task)
    world.chain.wait_for_block(state.challenge_final_block - 1)
    seed = challenge_seed(
        world.chain.block_hash(state.challenge_block), task, state.round, state.submissions_root
    )
    # Everything right but the time.
    agreed = world.settlement(task, seed=seed)
    early = world.signed(agreed, world.words())
    with refused("seed not final"):
        world.owner_writer.settle(early, world.committee)
    world.chain.mine(1)
    world.owner_writer.settle(early, world.committee)
