"""Owners whose vector does not satisfy the statement: every constraint violated alone (section 3).

Sharing, commitment and signatures are in order; only what is shared is false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from attack_owners import (
    IMAGINARY,
    Cheat,
    Draft,
    add_secret,
    attack_world,
    show,
    square_root,
    try_cheats,
    with_field_norm,
)
from attack_table import Attacks

from omnilytics.algebra.field import MODULUS, FieldVector, inverse
from omnilytics.algebra.fixed_point import to_field
from omnilytics.demo.cheats import wrapping_pair
from omnilytics.sharing.committee import DEFAULT, OFFERED, Committee
from omnilytics.validity.statement import Statement

ROUND = 24
"""Attackers in one round."""


def batches(cheats: list[Cheat]) -> Iterator[list[Cheat]]:
    for start in range(0, len(cheats), ROUND):
        yield cheats[start : start + ROUND]


def run(
    attacks: Attacks,
    name: str,
    cheats: list[Cheat],
    committee: Committee,
    components: tuple[int, ...] = (24, 8),
) -> None:
    """Try owners in rounds of a few; all must be rejected and nobody else hurt."""
    world = attack_world(committee, seed=len(name) + committee.servers, components=components)
    with attacks(name, "3", "rejected", show(committee)) as attack:
        for batch in batches(cheats):
            for outcome in try_cheats(world, batch):
                attack.saw(outcome)


def groups(statement: Statement) -> list[tuple[int, int]]:
    """Return (start, width) of every number that is given by bits."""
    norms = [(k * statement.norm_bits, statement.norm_bits) for k in range(2)]
    start, width = 2 * statement.norm_bits, statement.test_bits
    return norms + [(start + k * width, width) for k in range(statement.tests)]


# --- bits -------------------------------------------------------------------------------------


def one_entry_is_no_bit(position: int) -> Cheat:
    """Break one bit constraint alone: the number that the bits spell stays the same."""

    def change(draft: Draft, bits: FieldVector) -> None:
        start, width = next(
            (start, width)
            for start, width in groups(draft.statement)
            if start <= position < start + width
        )
        own = int(bits[position])
        if position + 1 < start + width:  # flip the bit above, and let this one make up for it
            above = int(bits[position + 1])
            bits[position + 1] = 1 - above
            bits[position] = (own + 2 * (2 * above - 1)) % MODULUS
        else:  # the highest: flip the one below
            below = int(bits[position - 1])
            bits[position - 1] = 1 - below
            bits[position] = (own + (2 * below - 1) * inverse(2)) % MODULUS
        assert int(bits[position]) not in (0, 1)

    return Cheat(bits=change)


BIT_COUNT = 2 * 32 + 128 * Statement((24, 8)).test_bits


@pytest.mark.parametrize("part", range(4))
def test_every_entry_that_should_be_a_bit(attacks: Attacks, part: int) -> None:
    cheats = [one_entry_is_no_bit(position) for position in range(part, BIT_COUNT, 4)]
    run(attacks, "one entry is no bit, every position", cheats, DEFAULT)


@pytest.mark.parametrize("committee", OFFERED[1:], ids=show)
def test_entries_that_should_be_bits(attacks: Attacks, committee: Committee) -> None:
    cheats = [one_entry_is_no_bit(position) for position in range(0, BIT_COUNT, 41)]
    run(attacks, "one entry is no bit, every 41st position", cheats, committee)


def many_entries_are_no_bits(draft: Draft, bits: FieldVector) -> None:
    """Spell every number with random field elements: only bit constraints are broken."""
    for start, width in groups(draft.statement):
        value = sum(int(bits[start + k]) << k for k in range(width))
        rest = [draft.random.randrange(MODULUS) for _ in range(width - 1)]
        lowest = value - sum(entry << k for k, entry in enumerate(rest, start=1))
        bits[start : start + width] = [lowest % MODULUS, *rest]


def no_bit_lets_the_norm_exceed(draft: Draft) -> None:
    """A vector up to four times too long: all tests pass. V is right, its top bit is no bit."""
    draft.x = to_field(4 * draft_values(draft))


def draft_values(draft: Draft) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    values = draft.x.astype(object)
    signed = [int(v) - MODULUS if v > MODULUS // 2 else int(v) for v in values]
    return np.array(signed, dtype=np.int64)


def true_norm_in_the_top_bit(draft: Draft, bits: FieldVector) -> None:
    for k, part in enumerate(draft.statement.component_slices()):
        norm = sum(int(v) ** 2 for v in draft.x[part]) % MODULUS
        width = draft.statement.norm_bits
        low = norm & ((1 << (width - 1)) - 1)
        bits[k * width : (k + 1) * width] = [
            *(low >> b & 1 for b in range(width - 1)),
            norm >> (width - 1),
        ]


# --- norms ------------------------------------------------------------------------------------


def false_norm_bit(position: int) -> Cheat:
    def change(_draft: Draft, bits: FieldVector) -> None:
        bits[position] = 1 - int(bits[position])

    return Cheat(bits=change)


def one_above_the_bound(claim: Callable[[Draft], int]) -> Cheat:
    """Squared norm exactly S + 1 = 2^32: one entry 2^16, four 2^15, or sixteen 2^14."""

    def change(draft: Draft) -> None:
        count = draft.random.choice([1, 4, 16])
        entry = 1 << (17 - count.bit_length() // 2 - 1)
        assert count * entry**2 == 2**32
        values = np.zeros(draft.statement.dimension, dtype=np.int64)
        for place in draft.random.sample(range(24), count):
            values[place] = draft.random.choice([entry, -entry])
        draft.x = to_field(values)
        draft.norms = [claim(draft), 0]

    return Cheat(vector=change)


def four_times_too_long(draft: Draft) -> None:
    norms = draft.norms
    values = 4 * draft_values(draft)
    draft.x = to_field(values)
    draft.norms = norms


def smaller_than_claimed(draft: Draft) -> None:
    draft.norms[draft.random.randrange(2)] = draft.random.randrange(2**32)


def norms_of_components_swapped(draft: Draft) -> None:
    """V_1 and V_2 are both right numbers, for each other's component."""
    values = draft_values(draft)
    values[24:] //= 2
    draft.x = to_field(values)
    draft.norms = [sum(int(v) ** 2 for v in values[part]) for part in (slice(24, 32), slice(24))]


def wrapped_norm(draft: Draft) -> None:
    """Random field elements whose squares sum to a small number modulo p."""
    norm = draft.random.randrange(2**32)
    draft.x = with_field_norm(draft, norm)
    draft.norms[0] = norm


def two_huge_entries(draft: Draft) -> None:
    """a^2 + b^2 = p + a little."""
    first, second = wrapping_pair()
    places = draft.random.sample(range(24), 2)
    values = np.zeros(32, dtype=np.int64)
    values[places] = [draft.random.choice([-1, 1]) * entry for entry in (first, second)]
    draft.x = to_field(values)
    draft.norms = [(first**2 + second**2) % MODULUS, 0]
    assert draft.norms[0] <= draft.statement.norm_bound


def one_huge_entry(draft: Draft) -> None:
    """One entry that is a square root of a small number modulo p: V is right and small."""
    root = None
    while root is None or min(root, MODULUS - root) < 2**40:
        norm = draft.random.randrange(2**32)
        root = square_root(norm)
    draft.x = np.zeros(32, dtype=np.uint64)
    draft.x[draft.random.randrange(24)] = root
    draft.norms = [norm, 0]


def squares_cancel(draft: Draft) -> None:
    """Entries a and ia with i^2 = -1: their squares cancel, and the norm seems to be zero."""
    entry = draft.element()
    draft.x = np.zeros(32, dtype=np.uint64)
    draft.x[draft.random.randrange(23)] = entry
    draft.x[23] = entry * IMAGINARY % MODULUS
    draft.norms = [0, 0]


def clipped_tests(draft: Draft, bits: FieldVector) -> None:
    """Claim v_k = W - 1, as if every projection were zero."""
    bound = draft.statement.wraparound_bound
    for start, width in groups(draft.statement)[2:]:
        bits[start : start + width] = [bound - 1 >> b & 1 for b in range(width)]


def other_vector(draft: Draft, rows: FieldVector) -> None:
    """Share -x_i for one entry in place of x_i, with the proof made for x."""
    place = next(p for p in draft.random.sample(range(32), 32) if draft.x[p])
    add_secret(rows, draft.committee, place, -2 * int(draft.x[place]) % MODULUS)


CHEATS: dict[str, Callable[[], Cheat]] = {
    "all numbers spelt with random elements": lambda: Cheat(bits=many_entries_are_no_bits),
    "norm up to 4 times the bound, V right, its top bit no bit": lambda: Cheat(
        vector=no_bit_lets_the_norm_exceed, bits=true_norm_in_the_top_bit
    ),
    "squared norm S + 1, V = S": lambda: one_above_the_bound(lambda d: d.statement.norm_bound),
    "squared norm S + 1, V = 0 (its low bits)": lambda: one_above_the_bound(lambda _: 0),
    "squared norm S + 1, V right, its top bit no bit": lambda: Cheat(
        vector=one_above_the_bound(lambda _: 0).vector, bits=true_norm_in_the_top_bit
    ),
    "norm up to 4 times the bound, V of the vector within": lambda: Cheat(
        vector=four_times_too_long
    ),
    "a false V": lambda: Cheat(vector=smaller_than_claimed),
    "V of one component for the other": lambda: Cheat(vector=norms_of_components_swapped),
    "a wrapped norm: random elements": lambda: Cheat(vector=wrapped_norm),
    "a wrapped norm: two huge entries": lambda: Cheat(vector=two_huge_entries),
    "a wrapped norm: one huge entry": lambda: Cheat(vector=one_huge_entry),
    "a wrapped norm: squares that cancel": lambda: Cheat(vector=squares_cancel),
    "a wrapped norm, tests claimed to be zero": lambda: Cheat(
        vector=wrapped_norm, bits=clipped_tests
    ),
    "the proof of another vector": lambda: Cheat(x_rows=other_vector),
}


@pytest.mark.parametrize("committee", OFFERED, ids=show)
@pytest.mark.parametrize("name", CHEATS)
def test_invalid_vectors(attacks: Attacks, name: str, committee: Committee) -> None:
    count = 72 if committee == DEFAULT else 24
    run(attacks, name, [CHEATS[name]() for _ in range(count)], committee)


@pytest.mark.parametrize("committee", [DEFAULT, OFFERED[-1]], ids=show)
def test_every_bit_of_the_norms(attacks: Attacks, committee: Committee) -> None:
    cheats = [false_norm_bit(position) for position in range(64)]
    run(attacks, "one bit of V flipped, every one", cheats, committee)


# --- wraparound values ------------------------------------------------------------------------


def false_test(test: int, bit: int) -> Cheat:
    def change(draft: Draft, bits: FieldVector) -> None:
        start, _ = groups(draft.statement)[2 + test]
        bits[start + bit] = 1 - int(bits[start + bit])

    return Cheat(bits=change)


def compensating_tests(first: int, second: int) -> Cheat:
    """One value is one too high, another one too low: their plain sum stays right."""

    def change(draft: Draft, bits: FieldVector) -> None:
        for test, step in ((first, 1), (second, -1)):
            start, width = groups(draft.statement)[2 + test]
            value = sum(int(bits[start + b]) << b for b in range(width)) + step
            bits[start : start + width] = [value >> b & 1 for b in range(width)]

    return Cheat(bits=change)


@pytest.mark.parametrize("committee", [DEFAULT, OFFERED[4]], ids=show)
def test_every_wraparound_value(attacks: Attacks, committee: Committee) -> None:
    width = Statement((24, 8)).test_bits
    cheats = [false_test(test, (7 * test) % width) for test in range(128)]
    run(attacks, "one false wraparound value, every test", cheats, committee)


def test_wraparound_values_that_compensate(attacks: Attacks) -> None:
    cheats = [compensating_tests(test, (test + 1) % 128) for test in range(128)]
    run(attacks, "two false wraparound values that add up", cheats, DEFAULT)


# --- what is allowed --------------------------------------------------------------------------


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_the_attackers_code_is_honest_without_a_cheat(
    attacks: Attacks, committee: Committee
) -> None:
    """The control: otherwise the rejections above would show nothing."""

    def longest(draft: Draft) -> None:
        values = np.zeros(32, dtype=np.int64)
        values[:4] = [65535, 362, 5, 1]  # squared norm S exactly
        draft.x, draft.norms = to_field(values), [2**32 - 1, 0]

    world = attack_world(committee, seed=1)
    cheats = [Cheat()] * 8 + [Cheat(vector=longest)]
    with attacks("control: no cheat, and squared norm S", "3", "accepted", show(committee)) as row:
        for outcome in try_cheats(world, cheats):
            row.saw(outcome)
