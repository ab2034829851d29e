"""Which openings a server takes from its peers (protocol.md 6.6)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from protocol_world import Case, World

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.roles.server.answering import Answering
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import OpeningReference


def fetch(case: Case, opening: Opening, owner: Address, server: int) -> Opening:
    """Let a server fetch an announced opening from a peer that serves these bytes."""

    async def blob(_phase: str, _name: Hash32) -> bytes:
        return opening.encode()

    nothing = cast(Any, None)
    node = cast(Any, SimpleNamespace(connect=lambda _endpoint: SimpleNamespace(blob=blob)))
    view = cast(Any, SimpleNamespace(parameters=case.sealed.parameters))
    reference = OpeningReference(owner=owner, server=server, opening_hash=opening.hash())
    answering = Answering(node, nothing, nothing)
    return asyncio.run(answering._fetch_opening(view, case.sealed, reference, ["http://peer"]))


def test_a_sealed_package_is_taken() -> None:
    case = (world := World(seed=101)).seal(world.submit(), world.submit())
    for owner in case.owners:
        for server in world.committee.points:
            assert fetch(case, case.opening(owner, server), owner, server) == case.opening(
                owner, server
            )


def test_another_package_than_announced_is_refused() -> None:
    case = (world := World(seed=102)).seal(world.submit(), world.submit())
    first, second = case.owners
    for opening in (case.opening(second, 3), case.opening(first, 2)):
        with pytest.raises(VerificationError, match="another package than announced"):
            fetch(case, opening, first, 3)


def test_altered_contents_are_refused() -> None:
    case = (world := World(seed=103)).seal(world.submit())
    opening = case.opening(case.owners[0], 3)
    altered = opening.model_copy(update={"content": bytes(8) + opening.content[8:]})
    with pytest.raises(VerificationError, match="not "):
        fetch(case, altered, case.owners[0], 3)


def test_a_good_package_of_a_submission_that_was_not_sealed_is_refused() -> None:
    """Else it stands in the way of the true opening, and the accused server is put at fault.

    An owner may commit twice in a round; only one of its submissions is sealed.
    """
    world = World(seed=104)
    key = world.new_key()
    sealed, unsealed = world.submit(key), world.submit(key)
    case = world.seal(sealed)
    with pytest.raises(VerificationError):
        fetch(case, unsealed.packages[2], key.address, 3)


def test_a_package_of_an_owner_that_was_not_sealed_is_refused() -> None:
    world = World(seed=105)
    case, stranger = world.seal(world.submit()), world.submit()
    with pytest.raises(VerificationError):
        fetch(case, stranger.packages[2], stranger.owner, 3)
