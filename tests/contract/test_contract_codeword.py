"""The codeword check against Lagrange interpolation, for all committees and sets of signers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from contract_world import P, World, codewords, with_value
from hypothesis import given, settings
from hypothesis import strategies as st
from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle

from omnilytics.chain.abi import Codec
from omnilytics.chain.compile import CONTRACTS
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Hash32

HARNESS = Path(__file__).parent / "harness"
PARAMETERS = [
    (5, 1, 1), (7, 2, 1), (10, 3, 1), (13, 4, 1), (11, 3, 2), (13, 3, 3), (3, 1, 0), (5, 2, 0),
    (13, 6, 0), (12, 1, 1),
]  # fmt: skip

Check = Callable[[Sequence[Hash32], int, int, int], bool]


@cache
def harness() -> Check:
    """Return the contract's check as a function of words, posted, n, t."""
    bundle = FilesystemInputBundle([CONTRACTS, HARNESS])
    source = bundle.load_file("CodewordHarness.vy")
    output = compile_from_file_input(source, bundle, output_formats=["abi", "bytecode"])
    world = World(3)
    receipt = world.model_owner.send(None, bytes.fromhex(output["bytecode"][2:]), gas=3_000_000)
    assert receipt.contract is not None
    address, codec = receipt.contract, Codec(output["abi"])

    def check(words: Sequence[Hash32], posted: int, n: int, t: int) -> bool:
        data = codec.call("on_codewords", list(words), posted, n, t)
        return bool(codec.result("on_codewords", world.chain.call(address, data))[0])

    return check


def interpolate(points: Sequence[tuple[int, int]], at: int) -> int:
    """Return the value at `at` of the polynomial through `points`, over F_p: slow reference."""
    total = 0
    for i, (x, y) in enumerate(points):
        top = bottom = 1
        for k, (other, _) in enumerate(points):
            if k != i:
                top, bottom = top * (at - other) % P, bottom * (x - other) % P
        total += y * top * pow(bottom, -1, P)
    return total % P


def reference(words: dict[int, Hash32], t: int) -> bool:
    """Whether the words (by committee index) lie on codewords."""
    for limb, degree in enumerate((2 * t, 2 * t, t, t)):
        values = [
            (j + 1, int.from_bytes(w[8 * limb : 8 * limb + 8], "big")) for j, w in words.items()
        ]
        points = ([(0, 0)] if limb < 2 else []) + values
        basis, rest = points[: degree + 1], points[degree + 1 :]
        if any(interpolate(basis, x) != y for x, y in rest):
            return False
    return True


@given(
    st.sampled_from(PARAMETERS),
    st.randoms(use_true_random=False),
    st.integers(0, 3),
    st.integers(0, P - 1),
)
@settings(max_examples=60, deadline=None)
def test_equals_interpolation(
    parameters: tuple[int, int, int], source: random.Random, limb: int, value: int
) -> None:
    n, t, e = parameters
    absent = source.sample(range(n), source.randint(0, e))
    words = {j: w for j, w in enumerate(codewords(source, n, t)) if j not in absent}
    posted = sum(1 << j for j in words)
    check = harness()
    assert reference(words, t)
    assert check(list(words.values()), posted, n, t)
    victim = source.choice(list(words))
    words[victim] = with_value(words[victim], limb, value)
    assert check(list(words.values()), posted, n, t) == reference(words, t)


@pytest.mark.parametrize(("n", "t", "e"), PARAMETERS)
def test_degrees_one_too_high_are_refused(n: int, t: int, e: int) -> None:
    """Each limb in turn on a polynomial of one degree more, at every quorum's size."""
    source = random.Random(n)
    for limb, degree in enumerate((2 * t, 2 * t, t, t)):
        words = codewords(source, n, t)
        first = 1 if limb < 2 else 0  # c stays zero at zero
        higher = [0] * first + [source.randrange(1, P) for _ in range(degree + 2 - first)]
        values = [sum(c * pow(x, k, P) for k, c in enumerate(higher)) % P for x in range(1, n + 1)]
        wrong = [with_value(w, limb, v) for w, v in zip(words, values, strict=True)]
        for size in {n, n - e}:
            posted = (1 << size) - 1
            assert harness()(words[:size], posted, n, t)
            assert not harness()(wrong[:size], posted, n, t)


@pytest.mark.parametrize(("n", "t", "e"), PARAMETERS)
def test_largest_limbs_do_not_overflow(n: int, t: int, e: int) -> None:
    """All limbs p - 1: d is a constant polynomial, c is not zero at zero."""
    top = Hash32((P - 1).to_bytes(8, "big") * 4)
    only_d = Hash32(bytes(16) + (P - 1).to_bytes(8, "big") * 2)
    everyone = (1 << n) - 1
    assert not harness()([top] * n, everyone, n, t)
    assert harness()([only_d] * n, everyone, n, t)
    few = everyone ^ ((1 << e) - 1)
    assert harness()([only_d] * (n - e), few, n, t)


def test_limbs_must_be_canonical() -> None:
    for limb in range(4):
        for value in (P, 2**64 - 1):
            words = [Hash32(bytes(32))] * 4
            words.append(with_value(words[0], limb, value))
            with pytest.raises(ChainError, match="limb not canonical"):
                harness()(words, 31, 5, 1)
