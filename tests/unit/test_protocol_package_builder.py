"""Packages are made again, block by block, as often as they are read, and always the same."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from protocol_world import World

from omnilytics.foundation.errors import MalformedError
from omnilytics.protocol.package import check_package
from omnilytics.protocol.package_builder import Packages, blocks
from omnilytics.sharing.committee import DEFAULT, Committee

LONG = (20_000, 40)


def test_packages_read_twice_are_the_same_and_pass_their_servers() -> None:
    world = World(seed=31, components=LONG)
    packages = world.packages(world.new_key())
    first, again = list(packages), list(packages)
    assert first == again
    assert first[1:4] == packages[1:4]
    assert packages[-1] == first[-1]
    assert repr(packages) == "Packages(5, contents hidden)"
    for server, package in enumerate(first, start=1):
        check_package(package, server=server, parameters=world.parameters, context=world.context)


@pytest.mark.parametrize("committee", [DEFAULT, Committee(7, 2, 1)], ids=str)
def test_blocks_make_up_the_shares(committee: Committee) -> None:
    world = World(committee, seed=32, components=LONG)
    dealer = world.packages(world.new_key()).dealer
    whole = dealer.rows(0, dealer.length)
    for first, stop in ((0, dealer.length), (5, 20_041), (8_192, 8_193), (20_039, dealer.length)):
        parts = [rows.copy() for _, rows in blocks(dealer, first, stop)]
        assert (np.concatenate(parts, axis=1) == whole[:, first:stop]).all()


@pytest.mark.parametrize("committee", [DEFAULT, Committee(7, 2, 1)], ids=str)
def test_packages_are_restored_from_their_state_and_the_vector(committee: Committee) -> None:
    world = World(committee, seed=33, components=LONG)
    vector = world.vector()
    packages = world.packages(world.new_key(), vector)
    restored = Packages.restore(packages.state(), vector.copy())
    assert list(restored) == list(packages)


def _without(name: str) -> Any:
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    "damage",
    [
        _without("seeds"),
        lambda state: {**state, "seeds": [b"short"]},
        lambda state: {**state, "proof": state["proof"][:-8]},
        lambda state: {**state, "proof": b"\xff" * len(state["proof"])},
        lambda state: {**state, "headers": state["headers"][:-1]},
        lambda state: {**state, "headers": [b"\x00"]},
        lambda state: {**state, "blinds": state["blinds"][:-1]},
        lambda state: {**state, "committee": [5, 3, 1]},
        lambda state: {**state, "committee": None},
        lambda _: [],
    ],
)
def test_a_damaged_state_is_refused(damage: Any) -> None:
    world = World(seed=34)
    vector = world.vector()
    state = damage(world.packages(world.new_key(), vector).state())
    with pytest.raises(MalformedError, match="damaged"):
        Packages.restore(state, vector)


def test_a_vector_of_another_length_is_refused() -> None:
    world = World(seed=35)
    state = world.packages(world.new_key()).state()
    with pytest.raises(MalformedError, match="damaged"):
        Packages.restore(state, np.zeros(31, dtype=np.int64))


def test_building_takes_no_memory_of_the_vectors_length() -> None:
    def peak(dimension: int) -> int:
        world = World(seed=36, components=(dimension,))
        vector, key = world.vector(), world.new_key()
        tracemalloc.start()
        try:
            world.packages(key, vector)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(50_000), peak(400_000)
    assert large < small + 100_000, (small, large)  # 350,000 entries more; a share is 2.8 MB
