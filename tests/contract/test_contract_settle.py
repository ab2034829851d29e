"""Settling: what a settlement changes, and every field that must be right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from contract_world import P, World, refused, shared_world, with_limb, with_value

from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.chain.records import EMPTY_ROOT, Phase, challenge_seed
from omnilytics.chain.writer import compact_signature, contract_settlement
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Hash32, TaskId


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


@pytest.fixture
def task(world: World) -> TaskId:
    """A task whose first round is sealed with 500 owners and may be settled."""
    task = world.task()
    world.sealed(task)
    return task


def test_settles(world: World, task: TaskId) -> None:
    agreed, words = world.settlement(task, v_bitmap=0b11101), world.words()
    signed = world.signed(agreed, words, (0, 2, 3, 4))
    (event,) = world.owner_writer.settle(signed, world.committee).events
    assert isinstance(event, RoundSettled)
    for name in ("task", "round", "submissions_root", "seed", "accepted_root", "accepted_count"):
        assert getattr(event, name) == getattr(agreed, name)
    for name in ("v_bitmap", "previous_payouts_root", "payouts_root", "transcript_hash"):
        assert getattr(event, name) == getattr(agreed, name)
    assert event.signers == 0b11101
    assert event.words == (words[0], words[2], words[3], words[4])
    assert world.reader.round_settled(task, event.round) == event
    assert world.reader.settled_rounds(task) == (event,)
    record = world.reader.task(task)
    assert (record.credited_wei, record.claimed_wei) == (10 * 1_000, 0)
    assert record.previous_payouts_root == EMPTY_ROOT
    assert record.payouts_root == agreed.payouts_root
    assert (record.opened_rounds, record.settled_rounds) == (1, 1)
    assert [world.reader.attested_rounds(task, j) for j in range(5)] == [1, 0, 1, 1, 1]
    assert [world.reader.fees_due(task, j) for j in range(5)] == [72, 2, 72, 72, 72]
    assert world.reader.round_state(task).phase is Phase.IDLE


def test_settles_once(world: World, task: TaskId) -> None:
    signed = world.signed(world.settlement(task), world.words())
    world.owner_writer.settle(signed, world.committee)
    with refused("round not sealed"):
        world.owner_writer.settle(signed, world.committee)


def test_roots_move_on(world: World, task: TaskId) -> None:
    first = world.settlement(task)
    world.settle(task, payouts_root=first.payouts_root)
    world.sealed(task)
    world.settle(task, payouts_root=first.accepted_root)
    record = world.reader.task(task)
    assert record.previous_payouts_root == first.payouts_root
    assert record.payouts_root == first.accepted_root


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"submissions_root": Hash32(b"r" * 32)}, "wrong submissions root"),
        ({"seed": Hash32(b"r" * 32)}, "wrong seed"),
        ({"previous_payouts_root": Hash32(bytes(32))}, "wrong previous root"),
        ({"accepted_count": 1}, "too few owners"),
        ({"accepted_count": 1_001}, "too many owners"),
        ({"accepted_count": 2**256 - 1}, "too many owners"),
        ({"accepted_count": 501}, "too many owners"),
        ({"v_bitmap": 0b111111}, "V beyond committee"),
        ({"v_bitmap": 2**255 + 0b11111}, "V beyond committee"),
        ({"v_bitmap": 0b01111}, "signer outside V"),
        ({"v_bitmap": 0}, "signer outside V"),
    ],
)
def test_refuses_fields(world: World, task: TaskId, changes: dict[str, Any], reason: str) -> None:
    with refused(reason):
        world.settle(task, **changes)
    assert world.reader.task(task).credited_wei == 0


@pytest.mark.parametrize("count", [2, 500])
def test_accepts_counts_at_their_bounds(world: World, task: TaskId, count: int) -> None:
    world.settle(task, accepted_count=count)
    assert world.reader.task(task).credited_wei == count * 1_000


def test_all_that_a_task_pays_for_may_be_accepted(world: World) -> None:
    task = world.task(max_owners=7, rounds=1)
    world.round(task, accepted_count=7)
    assert world.reader.task(task).credited_wei == 7_000
    other = world.task(max_owners=6)
    world.sealed(other)
    with refused("too many owners"):
        world.settle(other, accepted_count=7)


def test_needs_a_quorum(world: World, task: TaskId) -> None:
    with refused("too few signatures"):
        world.settle(task, signers=(0, 1, 2))
    with refused("too few signatures"):
        world.settle(task, signers=(0, 1, 2), v_bitmap=0b00111)
    world.settle(task, signers=(0, 1, 2, 4), v_bitmap=0b10111)


def test_needs_the_committee(world: World, task: TaskId) -> None:
    signed = world.signed(world.settlement(task), world.words())
    with refused("wrong committee"):
        world.owner_writer.settle(signed, world.committee[:4])
    with refused("wrong committee"):
        world.owner_writer.settle(signed, (*world.committee[1:], world.committee[0]))


def test_a_seed_of_the_wrong_block_is_refused(world: World, task: TaskId) -> None:
    state = world.reader.round_state(task)
    for block in (state.challenge_block - 1, state.challenge_block + 1):
        wrong = challenge_seed(
            world.chain.block_hash(block), task, state.round, state.submissions_root
        )
        with refused("wrong seed"):
            world.settle(task, seed=wrong)


def test_needs_an_active_sealed_round(world: World) -> None:
    task = world.task()
    before = world.settlement(task, seed=world.hash())
    with refused("round not sealed"):
        world.owner_writer.settle(world.signed(before, world.words()), world.committee)
    world.open(task)
    opened = world.settlement(task, seed=world.hash())
    with refused("round not sealed"):
        world.owner_writer.settle(world.signed(opened, world.words()), world.committee)


@pytest.mark.parametrize("limb", range(4))
@pytest.mark.parametrize("index", [0, 4])
def test_refuses_a_word_off_the_codeword(world: World, task: TaskId, index: int, limb: int) -> None:
    words = world.words()
    words[index] = with_limb(words[index], limb, lambda value: (value + 1) % P)
    with refused("not a codeword"):
        world.settle(task, words=words)
    rest = [j for j in range(5) if j != index]
    world.settle(task, words=words, signers=rest)  # without it the others are on a codeword


@pytest.mark.parametrize("limb", range(4))
def test_refuses_limbs_that_are_not_canonical(world: World, task: TaskId, limb: int) -> None:
    words = [Hash32(bytes(32))] * 5  # the zero codeword; p is zero modulo p
    for value in (P, 2**64 - 1):
        wrong = [*words[:4], with_value(words[4], limb, value)]
        with refused("limb not canonical"):
            world.settle(task, words=wrong)
    world.settle(task, words=words)


def test_refuses_codewords_of_too_high_a_degree(world: World, task: TaskId) -> None:
    """T = 2 words have c of degree 4 and d of degree 2."""
    with refused("not a codeword"):
        world.settle(task, words=world.words(t=2))


def test_refuses_c_words_that_do_not_vanish_at_zero(world: World, task: TaskId) -> None:
    words = [with_limb(word, 0, lambda value: (value + 1) % P) for word in world.words()]
    with refused("not a codeword"):
        world.settle(task, words=words)
    moved = [with_limb(word, 2, lambda value: (value + 1) % P) for word in world.words()]
    world.settle(task, words=moved)  # d may be anything at 0


def test_words_and_signatures_must_match_in_number(world: World, task: TaskId) -> None:
    data = _arguments(world, task)
    with refused("words missing"):
        world.send("settle", *data[:4], data[4][:4], data[5])
    with refused("signatures missing"):
        world.send("settle", *data[:5], data[5][:4])
    with refused("signatures missing"):
        world.send("settle", *data[:3], 0b1111, data[4], data[5])
    with refused("signer beyond committee"):
        world.send("settle", *data[:3], 0b111110, data[4], data[5])
    world.send("settle", *data)


def _arguments(world: World, task: TaskId) -> tuple[Any, ...]:
    agreed, words = world.settlement(task), world.words()
    signed = world.signed(agreed, words)
    signatures = [compact_signature(signed[j].signature) for j in range(5)]
    committee = list(world.committee)
    return task, contract_settlement(agreed), committee, 0b11111, words, signatures


def test_the_writer_refuses_settlements_that_differ(world: World, task: TaskId) -> None:
    signed = world.signed(world.settlement(task), world.words())
    other = world.signed(world.settlement(task), world.words())
    with pytest.raises(UsageError, match="differ"):
        world.owner_writer.settle({**signed, 1: other[1]}, world.committee)
    with pytest.raises(UsageError, match="no settlements"):
        world.owner_writer.settle({}, world.committee)
