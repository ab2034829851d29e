"""Owners that deal inconsistent shares or false masks (sections 4 and 6.6).

Every vector here is honest unless the test says otherwise: only the dealing is false.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from attack_owners import (
    Cheat,
    Draft,
    add_at,
    add_polynomial,
    add_secret,
    attack_world,
    outcome_of,
    resolve_case,
    show,
    submit,
    try_cheats,
)
from attack_split import split_codewords
from attack_table import Attacks

from omnilytics.algebra.field import MODULUS, FieldVector
from omnilytics.sharing.committee import DEFAULT, OFFERED, Committee
from omnilytics.sharing.interpolation import interpolate_at_zero

M0, M1 = -4, -2
"""First columns of the masks; each has two limbs."""
TOLERANT = tuple(committee for committee in OFFERED if committee.errors)
TRIALS = 24


def run(
    attacks: Attacks,
    name: str,
    committee: Committee,
    cheats: list[Cheat],
    expected: str = "rejected",
    section: str = "4",
) -> None:
    world = attack_world(committee, seed=7 * len(name) + committee.servers)
    with attacks(name, section, expected, show(committee)) as attack:
        for outcome in try_cheats(world, cheats):
            attack.saw(outcome)


# --- wrong degrees ----------------------------------------------------------------------------


def off_degree(where: str) -> Cheat:
    """Shares of one entry on a polynomial of too high a degree; the secret stays what it was."""

    def coefficients(draft: Draft, lowest: int) -> list[int]:
        committee = draft.committee
        # prod_{i<=t} (X - i) times this: any n - e points show a degree below n - e
        highest = max(lowest, committee.quorum - committee.privacy - 1)
        degree = draft.random.randint(lowest, highest)
        return [0, *(draft.element() for _ in range(degree))]

    def spoil_x(draft: Draft, rows: FieldVector) -> None:
        column = draft.random.randrange(draft.statement.dimension)
        add_polynomial(rows, draft.committee, column, coefficients(draft, 1))

    def spoil_proof(draft: Draft, rows: FieldVector) -> None:
        limb = draft.random.randrange(2)
        column = {
            "bits": draft.random.randrange(draft.statement.bit_count),
            "M0": M0 + limb,
            "M1": M1 + limb,
        }[where]
        lowest = draft.committee.privacy + 1 if where == "M0" else 1
        add_polynomial(rows, draft.committee, column, coefficients(draft, lowest))

    return Cheat(x_rows=spoil_x) if where == "x" else Cheat(proof_rows=spoil_proof)


@pytest.mark.parametrize("committee", OFFERED, ids=show)
@pytest.mark.parametrize("where", ["x", "bits", "M0", "M1"])
def test_off_degree(attacks: Attacks, where: str, committee: Committee) -> None:
    allowed = "2t" if where == "M0" else "t"
    name = f"shares of {where} of degree above {allowed}"
    run(attacks, name, committee, [off_degree(where)] * TRIALS)


def random_mask(column: int) -> Cheat:
    def spoil(draft: Draft, rows: FieldVector) -> None:
        for row in range(len(rows)):
            rows[row, column] = draft.random.randrange(MODULUS)

    return Cheat(proof_rows=spoil)


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_random_masks(attacks: Attacks, committee: Committee) -> None:
    """Every explicit share of a mask drawn at random."""
    cheats = [random_mask(-1 - index % 4) for index in range(TRIALS)]
    run(attacks, "masks whose explicit shares are random", committee, cheats)


# --- masks that are not what they should be ---------------------------------------------------


def mask_secret(degree: str) -> Cheat:
    """M0 shares an element that is not zero, at degree t or 2t."""

    def spoil(draft: Draft, rows: FieldVector) -> None:
        column = M0 + draft.random.randrange(2)
        add_secret(rows, draft.committee, column, draft.element())
        if degree == "2t":
            change = [0] * draft.committee.privacy + [draft.element()]
            add_polynomial(rows, draft.committee, column, change)

    return Cheat(proof_rows=spoil)


def cancelling_mask(draft: Draft, bits: FieldVector) -> None:
    bits[0] = 2 + draft.random.randrange(MODULUS - 4)


def cancel_first_constraint(draft: Draft, rows: FieldVector) -> None:
    """Subtract what the first bit constraint is off by."""
    points = draft.committee.explicit_points[: draft.committee.privacy + 1]
    bit = interpolate_at_zero({point: int(rows[k, 0]) for k, point in enumerate(points)})
    add_secret(rows, draft.committee, M0, -bit * (bit - 1) % MODULUS)


def constant_offset(where: str) -> Cheat:
    """The same constant on every explicit share, as if the seeded servers were not there."""

    def spoil_x(draft: Draft, rows: FieldVector) -> None:
        column, value = draft.random.randrange(draft.statement.dimension), draft.element()
        for row in range(len(rows)):
            add_at(rows, row, column, value)

    def spoil_proof(draft: Draft, rows: FieldVector) -> None:
        starts = {"bits": 0, "M0": M0, "M1": M1}
        count = draft.statement.bit_count if where == "bits" else 2
        column, value = starts[where] + draft.random.randrange(count), draft.element()
        for row in range(len(rows)):
            add_at(rows, row, column, value)

    return Cheat(x_rows=spoil_x) if where == "x" else Cheat(proof_rows=spoil_proof)


@pytest.mark.parametrize("committee", OFFERED, ids=show)
@pytest.mark.parametrize("degree", ["t", "2t"])
def test_mask_that_shares_no_zero(attacks: Attacks, degree: str, committee: Committee) -> None:
    run(attacks, f"M0 not zero, of degree {degree}", committee, [mask_secret(degree)] * TRIALS)


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_mask_that_cancels_a_constraint(attacks: Attacks, committee: Committee) -> None:
    cheat = Cheat(bits=cancelling_mask, proof_rows=cancel_first_constraint)
    run(attacks, "M0 cancels the first constraint", committee, [cheat] * TRIALS)


@pytest.mark.parametrize("committee", OFFERED, ids=show)
@pytest.mark.parametrize("where", ["x", "bits", "M0"])
def test_constant_offsets(attacks: Attacks, where: str, committee: Committee) -> None:
    name = f"a constant added to all explicit shares of {where}"
    run(attacks, name, committee, [constant_offset(where)] * TRIALS)


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_constant_offset_of_the_other_mask(attacks: Attacks, committee: Committee) -> None:
    """With t <= e the seeded servers are few enough to be accused: they open their packages."""
    few = committee.privacy <= committee.errors
    name = "a constant added to all explicit shares of M1" + (" (t <= e)" if few else "")
    expected = "convicted by an opening" if few else "rejected"
    run(attacks, name, committee, [constant_offset("M1")] * TRIALS, expected)


# --- bad shares for some servers --------------------------------------------------------------


def bad_share(victims: list[int], where: str) -> Cheat:
    """Wrong shares for these servers: a false seed, or one altered entry of an explicit share."""

    def spoil(first: int, count: Callable[[Draft], int]) -> Callable[[Draft, FieldVector], None]:
        def change(draft: Draft, rows: FieldVector) -> None:
            seeded = draft.committee.privacy
            for victim in victims:
                if victim > seeded:
                    column = first + draft.random.randrange(count(draft))
                    add_at(rows, victim - seeded - 1, column, draft.element())

        return change

    def seeds(draft: Draft, dealt: list[bytes]) -> list[bytes]:
        return [
            draft.random.randbytes(32) if server in victims else seed
            for server, seed in enumerate(dealt, start=1)
        ]

    if where == "x":
        return Cheat(x_rows=spoil(0, lambda draft: draft.statement.dimension), seeds=seeds)
    first = {"bits": 0, "M0": M0, "M1": M1}[where]
    width = (lambda draft: draft.statement.bit_count) if where == "bits" else (lambda _: 2)
    return Cheat(proof_rows=spoil(first, width), seeds=seeds)


@pytest.mark.parametrize("committee", OFFERED, ids=show)
@pytest.mark.parametrize("where", ["x", "bits", "M0", "M1"])
def test_bad_share_for_one_honest_server(
    attacks: Attacks, where: str, committee: Committee
) -> None:
    """The server is accused, opens its package, and the owner is convicted.

    Far more than e such owners, with different victims, are in one round.
    """
    victims = [1 + index % committee.servers for index in range(2 * committee.servers)]
    name = f"one server's share of {where} altered, every server in turn"
    expected = "convicted by an opening" if committee.errors else "rejected"
    name += "" if committee.errors else " (e = 0)"
    cheats = [bad_share([victim], where) for victim in victims]
    run(attacks, name, committee, cheats, expected, "6.6")


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
def test_more_misdealing_owners_than_servers_may_err(
    attacks: Attacks, committee: Committee
) -> None:
    """With e + 1 owners and e + 1 victims: were the accused at fault, no n - e would be left."""
    world = attack_world(committee, seed=5)
    with attacks(
        "e + 1 owners, each a bad share to another server",
        "6.6",
        "convicted by an opening",
        show(committee),
    ) as attack:
        for trial in range(TRIALS):
            victims = Random(trial).sample(committee.points, committee.errors + 1)
            cheats = [bad_share([victim], "x") for victim in victims]
            for outcome in try_cheats(world, cheats):
                attack.saw(outcome)


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_bad_shares_for_more_than_e_servers(attacks: Attacks, committee: Committee) -> None:
    """Fewer than n - e agree: nobody is accused, the owner is rejected."""
    random = Random(3)
    cheats = [
        bad_share(random.sample(committee.points, committee.errors + 1), random.choice(["x", "M1"]))
        for _ in range(TRIALS)
    ]
    run(attacks, "bad shares for e + 1 servers", committee, cheats, "rejected", "6.6")


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_seeds_that_do_not_expand_to_the_shares(attacks: Attacks, committee: Committee) -> None:
    """All t seeds are false; if t <= e the seeded servers are accused and open."""
    seeded = list(range(1, committee.privacy + 1))
    few = committee.privacy <= committee.errors
    name = "all seeds disagree with the explicit shares" + (" (t <= e)" if few else "")
    expected = "convicted by an opening" if few else "rejected"
    run(attacks, name, committee, [bad_share(seeded, "x")] * TRIALS, expected)


# --- c and d apart ----------------------------------------------------------------------------


def bad_masks(committee: Committee, random: Random) -> Cheat:
    """Let c fit n - e servers, and d n - e servers, and not the same ones."""
    e = committee.errors
    chosen = random.sample(committee.explicit_points, 2 * e)

    def spoil(draft: Draft, rows: FieldVector) -> None:
        for index, victim in enumerate(chosen):
            column = (M0 if index < e else M1) + draft.random.randrange(2)
            add_at(rows, victim - committee.privacy - 1, column, draft.element())

    return Cheat(proof_rows=spoil)


@pytest.mark.parametrize("committee", TOLERANT, ids=show)
def test_c_and_d_on_different_servers(attacks: Attacks, committee: Committee) -> None:
    cheats = [bad_masks(committee, Random(trial)) for trial in range(TRIALS)]
    name = "c fits n - e servers and d n - e others"
    run(attacks, name, committee, cheats, "rejected", "6.6")


@pytest.mark.parametrize("committee", [DEFAULT, Committee(7, 2, 1)], ids=show)
def test_invalid_vector_split_over_c_and_d(attacks: Attacks, committee: Committee) -> None:
    """An owner and a server together: c fits where a bad share helps, d where it is left out."""
    with attacks(
        "a norm too large: c and d each made to fit n - e servers, with a server's help",
        "6.6",
        "rejected",
        show(committee),
    ) as attack:
        for seed in range(6):
            split = split_codewords(committee, seed)
            resolution = resolve_case(split.case, [split.lie])
            attack.saw(
                outcome_of(
                    resolution,
                    split.owner,
                    honest_owners=[split.honest_owner],
                    honest_servers=set(committee.points) - {split.liar},
                )
            )


# --- fewer than n - e -------------------------------------------------------------------------


def test_a_misdealing_owner_and_silent_servers(attacks: Attacks) -> None:
    """Of the n - e words that arrive one is the victim's: too few agree, nobody is blamed."""
    with attacks("a bad share to one server while e are silent", "6.6", "rejected") as attack:
        world = attack_world(DEFAULT, seed=8)
        for trial in range(20):
            victim, silent = Random(trial).sample(DEFAULT.points, 2)
            honest, cheat = submit(world), submit(world, bad_share([victim], "x"))
            resolution = resolve_case(world.seal(honest, cheat), silent=[silent])
            attack.saw(
                outcome_of(
                    resolution,
                    cheat.owner,
                    honest_owners=[honest.owner],
                    honest_servers=set(DEFAULT.points) - {silent},
                )
            )
