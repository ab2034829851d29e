"""A package is checked while its content goes by, however it was cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_world import World

from omnilytics.algebra.field import MODULUS
from omnilytics.foundation.errors import MalformedError, VerificationError
from omnilytics.protocol.package import PackageCheck
from omnilytics.wire.package import Opening, OpeningHead

WORLD = World(seed=51, components=(300, 20))
PACKAGES = list(WORLD.packages(WORLD.new_key()))


def checked(opening: Opening, pieces: list[bytes], *, server: int | None = None) -> None:
    head = OpeningHead(opening.header, opening.blind, opening.seed)
    check = PackageCheck(
        head,
        server=server or opening.header.server,
        parameters=WORLD.parameters,
        context=WORLD.context,
    )
    for piece in pieces:
        check.update(piece)
    check.finish()


def cut(content: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
    return [content[a:b] for a, b in pairwise(ends)]


@given(server=st.integers(1, 5), places=st.lists(st.integers(0, 30_000), max_size=5))
@settings(max_examples=60, deadline=None)
def test_wherever_it_was_cut(server: int, places: list[int]) -> None:
    opening = PACKAGES[server - 1]
    checked(opening, cut(opening.content, places))


@given(place=st.integers(0, 30_000), places=st.lists(st.integers(0, 30_000), max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_other_content_is_refused(place: int, places: list[int]) -> None:
    opening = PACKAGES[3]
    content = bytearray(opening.content)
    content[place % len(content)] ^= 1
    with pytest.raises((VerificationError, MalformedError)):
        checked(opening, cut(bytes(content), places))


@pytest.mark.parametrize("element", [0, 299, 320, 2_000])
@pytest.mark.parametrize("places", [[], [5], [8 * 299 + 3, 8 * 320 + 7]])
def test_an_element_that_is_not_canonical_is_refused(element: int, places: list[int]) -> None:
    opening = PACKAGES[3]
    content = bytearray(opening.content)
    content[8 * element : 8 * element + 8] = MODULUS.to_bytes(8, "little")
    with pytest.raises(MalformedError, match="canonical"):
        checked(opening, cut(bytes(content), places))


@pytest.mark.parametrize("change", [-8, -1, 1, 8])
def test_another_length_is_refused(change: int) -> None:
    opening = PACKAGES[3]
    content = (opening.content + bytes(8))[: len(opening.content) + change]
    with pytest.raises((VerificationError, MalformedError)):
        checked(opening, [content])


def test_another_form_or_server_is_refused() -> None:
    with pytest.raises(VerificationError, match="another server"):
        checked(PACKAGES[3], [PACKAGES[3].content], server=5)
    with pytest.raises(VerificationError, match="form"):
        checked(PACKAGES[3].model_copy(update={"seed": bytes(32)}), [PACKAGES[3].content])
    with pytest.raises(VerificationError, match="form"):
        checked(PACKAGES[0].model_copy(update={"seed": None}), [])
    with pytest.raises(VerificationError, match="form"):
        checked(PACKAGES[0], [bytes(8)])
