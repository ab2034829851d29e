"""Owners that deviate at any step of making a submission, and rounds to try them in.

An attacker keeps to every form: its packages match its commitment, its signatures are good, every
server gives a receipt. What it shares is up to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from protocol_world import Case, Submission, World

from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS, FieldVector, inverse
from omnilytics.algebra.fixed_point import from_field, to_field
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.commitment import joint_randomness, proof_part, x_part
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import check_package
from omnilytics.protocol.package_builder import PackageBuilder
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.protocol.resolve import Resolution
from omnilytics.protocol.settlement import judge
from omnilytics.sharing.committee import Committee
from omnilytics.sharing.shamir import SEED_BYTES, Dealer, Share
from omnilytics.validity.joint import blocks_of_tests
from omnilytics.validity.statement import Statement
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.package import Opening
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.transcript import ServerWords

_SIGNS = np.array((-1, 0, 0, 1), dtype=object)
IMAGINARY = 2**48
"""A square root of -1: 2^96 = -1 mod p."""


def show(committee: Committee) -> str:
    """Return the committee as the documents write it."""
    return f"({committee.servers},{committee.privacy},{committee.errors})"


@dataclass
class Draft:
    """A submission in the making, as the attacker's hooks see it."""

    random: Random
    parameters: TaskParameters
    x: FieldVector
    """The vector, shape (D,), canonical."""
    norms: list[int]
    """V of every component, as claimed."""

    @property
    def statement(self) -> Statement:
        return self.parameters.statement

    @property
    def committee(self) -> Committee:
        return self.parameters.committee

    def element(self) -> int:
        """Return a random element that is not zero."""
        return self.random.randrange(1, MODULUS)


Rows = FieldVector
"""Shares of the servers t+1..n: row k is server t+1+k's."""


class MutableDealer(Dealer):
    """Keeps its explicit shares, for an attacker to change."""

    def deal_vector(self, vector: FieldVector) -> Rows:
        """Share x; return the explicit shares, which may be written to."""
        self.share_vector(vector)
        self.x_rows = self.rows(0, self.dimension)
        return self.x_rows

    def deal_proof(self, bits: FieldVector, randomness: Randomness) -> Rows:
        """Share bits and masks; return the explicit shares, which may be written to."""
        self.share_proof(bits, randomness)
        self.proof_rows = self.rows(self.dimension, self.length)
        return self.proof_rows

    def shares(self) -> list[Share]:
        """Return the shares as they are now."""
        explicit = np.concatenate([self.x_rows, self.proof_rows], axis=1)
        seeded = [Share(self.length, seed=seed) for seed in self.seeds]
        return seeded + [Share(self.length, explicit=row) for row in explicit]


@dataclass(frozen=True, kw_only=True)
class Cheat:
    """What an attacker does differently; by default nothing.

    Args:
        vector: Changes the vector and the norms claimed for it.
        bits: Changes the proof's bits, which are the honest ones if there are.
        x_rows: Changes the explicit shares of x before they are committed to.
        proof_rows: Changes the explicit shares of bits, M0, M1 (the last four columns).
        seeds: Returns the seeds that the servers get in place of those that were dealt with.
    """

    vector: Callable[[Draft], None] | None = None
    bits: Callable[[Draft, FieldVector], None] | None = None
    x_rows: Callable[[Draft, Rows], None] | None = None
    proof_rows: Callable[[Draft, Rows], None] | None = None
    seeds: Callable[[Draft, list[bytes]], list[bytes]] | None = None


HONEST = Cheat()


class CheatingBuilder(PackageBuilder):
    """Builds packages with the cheat's changes."""

    def __init__(
        self, world: World, key: SigningKey, cheat: Cheat, context: RoundContext | None = None
    ) -> None:
        super().__init__(world.parameters, context or world.context, key, world.randomness)
        self.world = world
        self.cheat = cheat
        self.random = Random(world.randomness.bytes(8))

    def packages(self) -> list[Opening]:
        """Return all packages in clear."""
        draft = self.draft()
        committee, statement, cheat = draft.committee, draft.statement, self.cheat
        seeds = [self._randomness.bytes(SEED_BYTES) for _ in range(committee.privacy)]
        dealer = MutableDealer(committee, statement.dimension, statement.bit_count, seeds)
        x_rows = dealer.deal_vector(draft.x)
        if cheat.x_rows:
            cheat.x_rows(draft, x_rows)
        if cheat.seeds:
            seeds = cheat.seeds(draft, seeds)
        blinds, x_parts = self.commit_to_vector(seeds, x_rows)
        return self.finish(draft, dealer, seeds, blinds, x_parts)

    def finish(
        self,
        draft: Draft,
        dealer: MutableDealer,
        seeds: list[bytes],
        blinds: list[bytes],
        x_parts: list[Hash32],
    ) -> list[Opening]:
        """Prove, share the proof and pack, once the vector is committed to."""
        committee, statement, cheat = draft.committee, draft.statement, self.cheat
        joint = self.joint(x_parts)
        bits = claimed_bits(statement, draft.x, joint, draft.norms)
        if cheat.bits:
            cheat.bits(draft, bits)
        proof_rows = dealer.deal_proof(bits, self._randomness)
        if cheat.proof_rows:
            cheat.proof_rows(draft, proof_rows)
        hashes = [None] * committee.privacy + [_hash(row) for row in proof_rows]
        proof_parts = [
            proof_part(self._owner_context, server, blind, proof_hash)
            for server, blind, proof_hash in zip(committee.points, blinds, hashes, strict=True)
        ]
        shares = [Share(dealer.length, seed=seed) for seed in seeds]
        shares += dealer.shares()[committee.privacy :]
        headers = self.headers(x_parts, proof_parts)
        return [
            Opening(header=header, blind=blind, seed=share.seed, content=_content(share))
            for header, blind, share in zip(headers, blinds, shares, strict=True)
        ]

    def joint(self, x_parts: list[Hash32]) -> Hash32:
        """Return J."""
        return joint_randomness(self._owner_context, x_parts)

    def draft(self) -> Draft:
        """Return an honest vector, or the cheat's."""
        values = self.world.vector(0.5 + self.random.random() / 2)
        draft = Draft(self.random, self.parameters, to_field(values), [])
        draft.norms = field_norms(draft.statement, draft.x)
        if self.cheat.vector:
            self.cheat.vector(draft)
        return draft

    def commit_to_vector(
        self, seeds: Sequence[bytes], x_rows: Rows
    ) -> tuple[list[bytes], list[Hash32]]:
        """Return blinds and the parts that go with them."""
        all_seeds = [*seeds, *([None] * len(x_rows))]
        hashes = [None] * len(seeds) + [_hash(row) for row in x_rows]
        blinds = [self._randomness.bytes(32) for _ in all_seeds]
        points = self.parameters.servers
        return blinds, [
            x_part(self._owner_context, server, blind, seed=seed, x_hash=x_hash)
            for server, blind, seed, x_hash in zip(points, blinds, all_seeds, hashes, strict=True)
        ]


def _content(share: Share) -> bytes:
    return b"" if share.explicit is None else share.explicit.astype("<u8").tobytes()


def submit(world: World, cheat: Cheat = HONEST, key: SigningKey | None = None) -> Submission:
    """Return the cheat's submission; its packages pass the check before a receipt."""
    key = key or world.new_key()
    packages = CheatingBuilder(world, key, cheat).packages()
    for server in (1, world.committee.privacy + 1, world.committee.servers):
        check_package(
            packages[server - 1],
            server=server,
            parameters=world.parameters,
            context=world.context,
        )
    return world.submit(key, packages)


def attack_world(
    committee: Committee, seed: int, *, components: tuple[int, ...] = (24, 8), tests: int = 128
) -> World:
    """Return a world for attacks: room for many owners, any number of wraparound tests."""
    world = World(committee, seed=seed, components=components)
    statement = replace(world.parameters.statement, tests=tests)
    world.parameters = replace(world.parameters, statement=statement, max_owners=1_000)
    return world


# --- what a round makes of it --------------------------------------------------------------------


def resolve_case(
    case: Case,
    lies: Iterable[ServerWords] = (),
    *,
    silent: Iterable[int] = (),
    convicted: Iterable[int] = (),
    openings: dict[tuple[Address, int], Opening] | None = None,
) -> Resolution:
    """Resolve a round in which honest servers open what they are accused of, and others do not."""
    lies = list(lies)
    words = case.words(*lies, without=silent)
    convictions = [case.conviction(server) for server in convicted]
    held = dict(openings or {})
    first = judge(case.sealed, words, convictions, held)
    liars = {entry.server for entry in lies} | set(convicted)
    asked = [(owner, server) for owner, server in first.accused if server not in liars]
    if not asked:
        return first
    for owner, server in asked:
        held.setdefault((owner, server), case.opening(owner, server))
    return judge(case.sealed, words, convictions, held)


def outcome_of(
    resolution: Resolution,
    owner: Address,
    *,
    honest_owners: Iterable[Address],
    honest_servers: Iterable[int],
) -> str:
    """Say what became of an attacking owner, or that somebody honest suffers."""
    honest = set(honest_servers)
    if set(resolution.faults) & honest or not honest <= set(resolution.standing):
        return "HONEST SERVER BLAMED"
    if not set(honest_owners) <= set(resolution.accepted):
        return "HONEST OWNER REJECTED"
    if owner in resolution.accepted:
        return "accepted"
    convicted = "off its own codeword" in resolution.rejected[owner]
    return "convicted by an opening" if convicted else "rejected"


def try_cheats(world: World, cheats: Sequence[Cheat]) -> list[str]:
    """Return what becomes of each of these owners in one round with one honest owner."""
    honest = submit(world)
    attackers = [submit(world, cheat) for cheat in cheats]
    case = world.seal(honest, *attackers)
    resolution = resolve_case(case)
    return [
        outcome_of(
            resolution,
            attacker.owner,
            honest_owners=[honest.owner],
            honest_servers=world.committee.points,
        )
        for attacker in attackers
    ]


# --- building blocks of cheats -------------------------------------------------------------------


def claimed_bits(
    statement: Statement, x: FieldVector, joint: Hash32, norms: Sequence[int]
) -> FieldVector:
    """Return the best bits for a vector: true where it is valid, v_k right modulo 2W elsewhere."""
    bits = [norm >> bit & 1 for norm in norms for bit in range(statement.norm_bits)]
    entries = from_field(x).astype(object)
    ((_, tests),) = blocks_of_tests(statement, joint)
    bound = statement.wraparound_bound
    shifts = np.arange(4) * 2
    for column in tests.T:
        signs = _SIGNS[column[:, None] >> shifts & 3]
        for projection in entries @ signs:
            value = int(projection + bound - 1) % (2 * bound)
            bits += [value >> bit & 1 for bit in range(statement.test_bits)]
    return np.array(bits, dtype=np.uint64)


def field_norms(statement: Statement, x: FieldVector) -> list[int]:
    """Return each component's sum of squares modulo p."""
    return [sum(int(v) ** 2 for v in x[part]) % MODULUS for part in statement.component_slices()]


def add_at(rows: Rows, row: int, column: int, value: int) -> None:
    """Add to one entry of the explicit shares."""
    rows[row, column] = (int(rows[row, column]) + value) % MODULUS


def add_polynomial(
    rows: Rows, committee: Committee, column: int, coefficients: Sequence[int]
) -> None:
    """Add a multiple of prod_{i <= t} (X - i), which the seeded servers do not notice."""
    for row, point in enumerate(committee.explicit_points):
        vanishing = 1
        for seeded in range(1, committee.privacy + 1):
            vanishing = vanishing * (point - seeded) % MODULUS
        factor = sum(entry * point**power for power, entry in enumerate(coefficients)) % MODULUS
        add_at(rows, row, column, vanishing * factor)


def add_secret(rows: Rows, committee: Committee, column: int, value: int) -> None:
    """Add to the shared secret itself, at degree t."""
    at_zero = 1
    for seeded in range(1, committee.privacy + 1):
        at_zero = at_zero * -seeded % MODULUS
    add_polynomial(rows, committee, column, [value * inverse(at_zero) % MODULUS])


def extrapolate(values: Mapping[int, int], at: int) -> int:
    """Return the value at a point of the polynomial through all given ones."""
    total = 0
    for point, value in values.items():
        top = bottom = 1
        for other in values:
            if other != point:
                top, bottom = top * (at - other) % MODULUS, bottom * (point - other) % MODULUS
        total += value * top * inverse(bottom)
    return total % MODULUS


def extrapolate_extension(values: Mapping[int, ExtensionElement], at: int) -> ExtensionElement:
    """Return the same over E, limb by limb."""
    low, high = (
        extrapolate({point: value[limb] for point, value in values.items()}, at) for limb in (0, 1)
    )
    return ExtensionElement(low, high)


def square_root(value: int) -> int | None:
    """Return a square root modulo p (Tonelli, Shanks), or None; p - 1 = 2^32 (2^32 - 1)."""
    value %= MODULUS
    if pow(value, (MODULUS - 1) // 2, MODULUS) not in (0, 1):
        return None
    odd = 2**32 - 1
    root, rest, z, order = (
        pow(value, (odd + 1) // 2, MODULUS),
        pow(value, odd, MODULUS),
        pow(7, odd, MODULUS),
        32,
    )
    while rest not in (0, 1):
        least, power = 0, rest
        while power != 1:
            power, least = power * power % MODULUS, least + 1
        factor = pow(z, 1 << (order - least - 1), MODULUS)
        z, order = factor * factor % MODULUS, least
        root, rest = root * factor % MODULUS, rest * z % MODULUS
    return root


def with_field_norm(draft: Draft, norm: int) -> FieldVector:
    """Return random elements whose squares sum to `norm` modulo p in the first component."""
    part = draft.statement.component_slices()[0]
    vector = draft.x.copy()
    vector[part] = [draft.random.randrange(MODULUS) for _ in range(part.stop - part.start)]
    target = (norm - sum(int(v) ** 2 for v in vector[part][2:])) % MODULUS
    first = draft.element()  # a^2 + b^2 = (a + ib)(a - ib)
    second, half = target * inverse(first) % MODULUS, inverse(2)
    vector[part.start] = (first + second) * half % MODULUS
    vector[part.start + 1] = (first - second) * half * inverse(IMAGINARY) % MODULUS
    return vector


def _hash(elements: FieldVector) -> Hash32:
    return content_hash(elements.astype("<u8", copy=False).view(np.uint8).data)
