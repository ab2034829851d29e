"""Signatures read back from calldata verify, and only they do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from contract_world import World, shared_world

from omnilytics.chain.evidence import seal_votes, settlements
from omnilytics.foundation.errors import ChainError
from omnilytics.wire.signatures import verify


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


def test_signatures_can_be_verified_again(world: World) -> None:
    task = world.task()
    number = world.round(task, signers=(0, 2, 3, 4))
    sealed = world.reader.round_sealed(task, number)
    settled = world.reader.round_settled(task, number)
    assert sealed is not None
    assert settled is not None
    vote, signatures = seal_votes(world.reader, sealed)
    assert list(signatures) == [0, 1, 2, 3]
    for index, signature in signatures.items():
        verify(vote, signature, world.committee[index], world.reader.domain)
    signed = settlements(world.reader, settled)
    assert list(signed) == [0, 2, 3, 4]
    for index, one in signed.items():
        verify(one.settlement, one.signature, world.committee[index], world.reader.domain)
    assert tuple(one.settlement.word for one in signed.values()) == settled.words


def test_answers_that_disagree_are_refused(world: World) -> None:
    task = world.task()
    number = world.round(task)
    sealed = world.reader.round_sealed(task, number)
    settled = world.reader.round_settled(task, number)
    assert sealed is not None
    assert settled is not None
    with pytest.raises(ChainError, match="disagree"):
        seal_votes(world.reader, replace(sealed, count=sealed.count + 1))
    with pytest.raises(ChainError, match="disagree"):
        settlements(world.reader, replace(settled, words=settled.words[::-1]))
    with pytest.raises(ChainError, match="does not call settle"):
        settlements(world.reader, replace(settled, position=sealed.position))
    nowhere = replace(sealed.position, transaction_hash=world.hash())
    with pytest.raises(ChainError, match="no such transaction"):
        seal_votes(world.reader, replace(sealed, position=nowhere))
