"""Forcing a submission: a certificate on chain, early enough for every server to see it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract_world import World, refused, shared_world

from omnilytics.chain.bindings import market
from omnilytics.chain.bindings.market import SubmissionForced
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Round, TaskId

MOST = 8_192


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


@pytest.fixture
def task(world: World) -> TaskId:
    return world.task()


def test_forces(world: World, task: TaskId) -> None:
    world.open(task)
    before = world.of_market(market.task(task))
    stranger = world.writer(world.account())
    (event,) = stranger.force_submission(task, b"certificate").events
    assert isinstance(event, SubmissionForced)
    assert (event.task, event.round, event.sender) == (task, 1, stranger.address)
    assert event.certificate == b"certificate"
    assert world.of_market(market.task(task)) == before  # it is a record and nothing else
    world.owner_writer.force_submission(task, b"another")
    forced = world.reader.forced_submissions(task, Round(1))
    assert [found.certificate for found in forced] == [b"certificate", b"another"]
    assert world.reader.forced_submissions(task, Round(2)) == ()


@pytest.mark.parametrize("size", [0, 1, MOST])
def test_sizes(world: World, task: TaskId, size: int) -> None:
    world.open(task)
    (event,) = world.owner_writer.force_submission(task, b"\xff" * size).events
    assert isinstance(event, SubmissionForced)
    assert event.certificate == b"\xff" * size


@pytest.mark.parametrize("size", [MOST + 1, MOST + 32])
def test_refuses_longer_ones(world: World, task: TaskId, size: int) -> None:
    world.open(task)
    with pytest.raises(ChainError, match="reverted without a reason"):
        world.owner_writer.force_submission(task, b"\xff" * size)


def test_needs_an_open_round(world: World, task: TaskId) -> None:
    writer = world.owner_writer
    with refused("round not open"):
        writer.force_submission(task, b"x")
    world.open(task)
    world.seal(task)
    with refused("round not open"):
        writer.force_submission(task, b"x")
    world.to_settle_time(task)
    world.settle(task)
    with refused("round not open"):
        writer.force_submission(task, b"x")
    drawing = writer.create_drawn_task(world.terms())
    with refused("round not open"):
        writer.force_submission(drawing, b"x")


@pytest.mark.parametrize("forced_seconds", [0, 1, 120, 599])
def test_closes_before_the_submissions(world: World, forced_seconds: int) -> None:
    """The block before the last `forced_seconds` may force, the first one of them may not."""
    task = world.task(forced_seconds=forced_seconds)
    closes = world.open(task).submission_deadline - forced_seconds
    if closes - 2 > world.chain.head_timestamp():
        world.chain.wait_for_time(closes - 2)
    if closes - 1 > world.chain.head_timestamp():
        world.owner_writer.force_submission(task, b"x")
        assert world.chain.head_timestamp() == closes - 1
    with refused("too late to force"):
        world.owner_writer.force_submission(task, b"x")


def test_nothing_is_forced_where_the_window_is_closed_from_the_start(world: World) -> None:
    task = world.task(forced_seconds=600)
    world.open(task)
    with refused("too late to force"):
        world.owner_writer.force_submission(task, b"x")
