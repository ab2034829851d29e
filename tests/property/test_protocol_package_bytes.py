"""No byte of an opening can change unnoticed (protocol.md section 5)."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_world import World

from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.protocol.package import check_package
from omnilytics.wire.package import Opening


@cache
def _example(server: int) -> tuple[World, bytes]:
    world = World(seed=21)
    return world, world.packages(world.new_key())[server - 1].encode()


@given(st.sampled_from([1, 5]), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_any_changed_byte_is_refused(server: int, place: float, mask: int) -> None:
    world, encoded = _example(server)
    _must_fail(world, server, encoded, int(place * len(encoded)), mask)


@given(st.integers(0, 1_200), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_any_changed_byte_of_the_clear_part_is_refused(position: int, mask: int) -> None:
    world, encoded = _example(1)
    _must_fail(world, 1, encoded, position % len(encoded), mask)


def _must_fail(world: World, server: int, encoded: bytes, position: int, mask: int) -> None:
    changed = bytearray(encoded)
    changed[position] ^= mask
    with pytest.raises(OmniLyticsError):
        check_package(
            Opening.decode(bytes(changed), max_bytes=world.parameters.package_bytes),
            server=server,
            parameters=world.parameters,
            context=world.context,
        )
