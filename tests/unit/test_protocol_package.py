"""Commitments and packages: honest ones pass everywhere, nothing else does (protocol.md 4, 5)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from blake3 import blake3
from protocol_world import Case, SeededRandomness, World

from omnilytics.algebra.field import MODULUS, FieldVector
from omnilytics.algebra.fixed_point import IntegerVector
from omnilytics.foundation.errors import OmniLyticsError, VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.protocol.commitment import joint_randomness, proof_part, submission_commitment
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import check_package
from omnilytics.protocol.package_builder import MAX_BLIND_DRAWS, PackageBuilder
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.validity.prover import WraparoundTestError
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.messages import Submission
from omnilytics.wire.package import Opening

SEEDED, EXPLICIT = 1, 4
"""A server of the default committee that gets a seed, and one that gets its share."""


def flipped(data: bytes, position: int = 0) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def check(opening: Opening, world: World, server: int) -> None:
    check_package(opening, server=server, parameters=world.parameters, context=world.context)


def with_header(opening: Opening, **changes: object) -> Opening:
    return opening.model_copy(update={"header": opening.header.model_copy(update=changes)})


def with_part(opening: Opening, name: str, server: int) -> Opening:
    parts = list(getattr(opening.header, name))
    parts[server - 1] = flipped(parts[server - 1])
    return with_header(opening, **{name: tuple(parts)})


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=11)


@pytest.fixture(scope="module")
def packages(world: World) -> list[Opening]:
    return list(world.packages(world.new_key()))


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_honest_packages_check_for_every_server_and_no_other(committee: Committee) -> None:
    world = World(committee, seed=committee.servers)
    packages = world.packages(world.new_key())
    assert len(packages) == committee.servers
    for server, package in enumerate(packages, start=1):
        share = check_package(
            package, server=server, parameters=world.parameters, context=world.context
        )
        assert share.length == world.parameters.share_elements
        assert (share.seed is not None) == (server <= committee.privacy)
        again = Opening.decode(package.encode(), max_bytes=world.parameters.package_bytes)
        assert again == package
        with pytest.raises(VerificationError, match="another server"):
            check(package, world, server % committee.servers + 1)


def test_commitment_is_the_one_of_the_specification(world: World, packages: list[Opening]) -> None:
    """Recomputes C from the packages with nothing but SHA-256 and BLAKE3."""

    def tagged(tag: str, *parts: bytes) -> bytes:
        digest = hashlib.sha256(b"omnilytics/1/")
        for part in (tag.encode(), *parts):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    context, owner = world.context, packages[0].header.owner
    ctx = tagged(
        "context",
        context.domain.chain_id.to_bytes(32, "big"),
        context.domain.contract,
        context.task.to_bytes(32, "big"),
        context.round.to_bytes(32, "big"),
        context.artefact_hash,
        context.block_hash,
        owner,
    )
    split = 8 * world.parameters.statement.dimension
    x_parts, proof_parts = [], []
    for server, package in enumerate(packages, start=1):
        start = (ctx, bytes([server]), package.blind)
        if package.seed is None:
            x_hash, proof_hash = (
                blake3(piece).digest()
                for piece in (package.content[:split], package.content[split:])
            )
            x_parts.append(tagged("x", *start, b"hash", x_hash))
            proof_parts.append(tagged("proof", *start, b"hash", proof_hash))
        else:
            x_parts.append(tagged("x", *start, b"seed", package.seed))
            proof_parts.append(tagged("proof", *start, b"none", b""))
    joint = tagged("joint", ctx, *x_parts)
    expected = tagged("submission", ctx, *x_parts, *proof_parts, joint)
    for package in packages:
        assert package.header.commitment == expected
        assert (*package.header.x_parts,) == (*x_parts,)
        assert (*package.header.proof_parts,) == (*proof_parts,)


DIMENSION, BITS = 32, 32 * 2 + 21 * 128
Tamper = Callable[[Opening], Opening]

IN_ANY: dict[str, Tamper] = {
    "blind": lambda o: o.model_copy(update={"blind": flipped(o.blind)}),
    "own x part": lambda o: with_part(o, "x_parts", o.header.server),
    "another's x part": lambda o: with_part(o, "x_parts", 3),
    "own proof part": lambda o: with_part(o, "proof_parts", o.header.server),
    "another's proof part": lambda o: with_part(o, "proof_parts", 3),
    "a part missing": lambda o: with_header(o, x_parts=o.header.x_parts[:-1]),
    "a part too many": lambda o: with_header(o, proof_parts=(*o.header.proof_parts, bytes(32))),
    "lists exchanged": lambda o: with_header(
        o, x_parts=o.header.proof_parts, proof_parts=o.header.x_parts
    ),
    "commitment": lambda o: with_header(o, commitment=flipped(o.header.commitment)),
    "signature r": lambda o: with_header(
        o, submission_signature=flipped(o.header.submission_signature)
    ),
    "signature s": lambda o: with_header(
        o, submission_signature=flipped(o.header.submission_signature, 63)
    ),
    "signature v": lambda o: with_header(
        o,
        submission_signature=o.header.submission_signature[:64]
        + bytes([55 - o.header.submission_signature[64]]),
    ),
    "server": lambda o: with_header(o, server=o.header.server + 1),
    "server beyond the committee": lambda o: with_header(o, server=6),
    "owner": lambda o: with_header(o, owner=flipped(o.header.owner)),
    "round": lambda o: with_header(o, round=o.header.round + 1),
    "task": lambda o: with_header(o, task=o.header.task + 1),
    "announced length": lambda o: with_header(o, content_bytes=o.header.content_bytes + 8),
}
IN_EXPLICIT: dict[str, Tamper] = {
    f"content of {name}": lambda o, at=8 * element: o.model_copy(
        update={"content": flipped(o.content, at)}
    )
    for name, element in {
        "x": 0,
        "the end of x": DIMENSION - 1,
        "bits": DIMENSION,
        "the end of bits": DIMENSION + BITS - 1,
        "M0": DIMENSION + BITS,
        "M1": DIMENSION + BITS + 3,
    }.items()
} | {
    "content cut short": lambda o: o.model_copy(update={"content": o.content[:-8]}),
    "content too long": lambda o: o.model_copy(update={"content": o.content + bytes(8)}),
    "no content": lambda o: o.model_copy(update={"content": b""}),
    "a seed instead": lambda o: o.model_copy(update={"content": b"", "seed": bytes(32)}),
    "a seed besides": lambda o: o.model_copy(update={"seed": bytes(32)}),
    "an element not below p": lambda o: o.model_copy(
        update={"content": MODULUS.to_bytes(8, "little") + o.content[8:]}
    ),
}
IN_SEEDED: dict[str, Tamper] = {
    "seed": lambda o: o.model_copy(update={"seed": flipped(o.seed or b"")}),
    "short seed": lambda o: o.model_copy(update={"seed": (o.seed or b"")[:-1]}),
    "no seed": lambda o: o.model_copy(update={"seed": None}),
    "content besides": lambda o: o.model_copy(update={"content": bytes(8)}),
}
CASES = [
    *((name, tamper, SEEDED) for name, tamper in (IN_ANY | IN_SEEDED).items()),
    *((name, tamper, EXPLICIT) for name, tamper in (IN_ANY | IN_EXPLICIT).items()),
]


@pytest.mark.parametrize(
    ("tamper", "server"),
    [pytest.param(tamper, server, id=f"{name}, server {server}") for name, tamper, server in CASES],
)
def test_tampering_is_refused_and_shows_no_secret(
    world: World, packages: list[Opening], tamper: Tamper, server: int
) -> None:
    package = packages[server - 1]
    assert world.parameters.statement.share_length == DIMENSION + BITS + 4
    tampered = tamper(package)
    assert tampered != package
    with pytest.raises(OmniLyticsError) as caught:
        check(tampered, world, server)
    shown = repr(caught.value) + str(caught.value) + str(caught.value.as_dict())
    for secret in (package.blind, package.seed, package.content[:16], package.content[-16:]):
        assert not secret or secret.hex() not in shown
        assert not secret or repr(secret)[2:-1] not in shown


OTHER_ROUNDS: dict[str, Callable[[RoundContext], RoundContext]] = {
    "artefact": lambda c: replace(c, artefact_hash=Hash32(flipped(c.artefact_hash))),
    "block hash": lambda c: replace(c, block_hash=Hash32(flipped(c.block_hash))),
    "round": lambda c: replace(c, round=Round(c.round + 1)),
    "task": lambda c: replace(c, task=TaskId(c.task + 1)),
    "chain": lambda c: replace(c, domain=Domain(c.domain.chain_id + 1, c.domain.contract)),
    "contract": lambda c: replace(
        c, domain=Domain(c.domain.chain_id, Address(flipped(c.domain.contract)))
    ),
}


@pytest.mark.parametrize("name", OTHER_ROUNDS)
def test_replay_in_another_context_is_refused_even_if_signed_again(name: str) -> None:
    world = World(seed=5)
    key = world.new_key()
    package = world.packages(key)[EXPLICIT - 1]
    other = OTHER_ROUNDS[name](world.context)
    assert other.owner_context(key.address) != world.context.owner_context(key.address)
    message = Submission(task=other.task, round=other.round, commitment=package.header.commitment)
    replayed = with_header(
        package,
        task=other.task,
        round=other.round,
        submission_signature=key.sign(message, other.domain),
    )
    for candidate in (package, replayed):
        with pytest.raises(VerificationError):
            check_package(candidate, server=EXPLICIT, parameters=world.parameters, context=other)
    with pytest.raises(VerificationError, match="commitment does not match"):
        check_package(replayed, server=EXPLICIT, parameters=world.parameters, context=other)


def test_copied_submission_is_refused(world: World, packages: list[Opening]) -> None:
    """A thief signs another owner's commitment and parts as its own."""
    thief = world.new_key()
    package = packages[EXPLICIT - 1]
    message = Submission(
        task=world.context.task, round=world.context.round, commitment=package.header.commitment
    )
    signature = thief.sign(message, world.context.domain)
    copied = with_header(package, owner=thief.address, submission_signature=signature)
    with pytest.raises(VerificationError, match="commitment does not match"):
        check(copied, world, EXPLICIT)


def test_recommitting_copied_parts_does_not_fit_the_shares(
    world: World, packages: list[Opening]
) -> None:
    """Even with J and C recomputed for the thief, the parts were made for the other owner."""
    thief = world.new_key()
    header = packages[EXPLICIT - 1].header
    ctx = world.context.owner_context(thief.address)
    joint = joint_randomness(ctx, header.x_parts)
    commitment = submission_commitment(ctx, header.x_parts, header.proof_parts, joint)
    message = Submission(task=world.context.task, round=world.context.round, commitment=commitment)
    copied = with_header(
        packages[EXPLICIT - 1],
        owner=thief.address,
        commitment=commitment,
        submission_signature=thief.sign(message, world.context.domain),
    )
    with pytest.raises(VerificationError, match="not the one committed to"):
        check(copied, world, EXPLICIT)


def test_a_seed_and_a_hash_of_the_same_bytes_do_not_collide(world: World) -> None:
    ctx, blind = world.context.owner_context(world.new_key().address), bytes(32)
    assert proof_part(ctx, 1, blind, None) != proof_part(ctx, 1, blind, Hash32(b""))
    assert proof_part(ctx, 1, blind, None) != proof_part(ctx, 2, blind, None)


class _FailingBuilder(PackageBuilder):
    """Fails its first wraparound tests, however honest the vector."""

    failures = 1

    def __init__(self, world: World, randomness: SeededRandomness) -> None:
        super().__init__(world.parameters, world.context, world.new_key(), randomness)
        self.joints: list[Hash32] = []

    def prove(self, vector: IntegerVector, joint: Hash32) -> FieldVector:
        self.joints.append(joint)
        if len(self.joints) <= self.failures:
            raise WraparoundTestError("made to fail")
        return super().prove(vector, joint)


class _Recorder(SeededRandomness):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.drawn: list[bytes] = []

    def bytes(self, count: int) -> bytes:
        self.drawn.append(super().bytes(count))
        return self.drawn[-1]


def test_a_failed_wraparound_test_draws_all_blinds_again() -> None:
    world = World(seed=8)
    randomness = _Recorder(8)
    builder = _FailingBuilder(world, randomness)
    packages = builder.build(world.vector())
    n, t = world.committee.servers, world.committee.privacy
    first, second = randomness.drawn[t : t + n], randomness.drawn[t + n : t + 2 * n]
    assert [package.blind for package in packages] == second
    assert not set(first) & set(second)
    assert len(set(builder.joints)) == 2
    for server, package in enumerate(packages, start=1):
        check(package, world, server)
    header = packages[0].header
    ctx = world.context.owner_context(header.owner)
    assert joint_randomness(ctx, header.x_parts) == builder.joints[1]
    # the proof is for the second J: the words are those of a valid vector
    submission = world.submit(builder._key, packages)
    case = world.seal(submission)
    assert _accepted(case)


def test_a_vector_that_keeps_failing_is_given_up() -> None:
    world = World(seed=9)
    builder = _FailingBuilder(world, SeededRandomness(9))
    builder.failures = 10**6
    with pytest.raises(VerificationError, match="wraparound"):
        builder.build(world.vector())
    assert len(builder.joints) == MAX_BLIND_DRAWS


def _accepted(case: Case) -> bool:
    from omnilytics.protocol.settlement import judge

    return judge(case.sealed, case.words(), [], {}).accepted == case.owners


def test_two_submissions_of_one_vector_share_nothing(world: World) -> None:
    vector, key = world.vector(), world.new_key()
    first, second = world.packages(key, vector), world.packages(key, vector)
    assert first[0].header.commitment != second[0].header.commitment
    for left, right in zip(first, second, strict=True):
        assert left.blind != right.blind
        if left.seed is None:
            one, other = (np.frombuffer(entry.content, dtype="<u8") for entry in (left, right))
            assert not np.any(one == other)
        else:
            assert left.seed != right.seed


def test_parameters_are_read_off_the_specification() -> None:
    world = World(Committee(7, 2, 1), components=(5, 9, 1), max_owners=6)
    parameters = TaskParameters.of(world.specification)
    assert parameters.quorum == 6
    assert parameters.servers == (1, 2, 3, 4, 5, 6, 7)
    assert parameters.statement.components == (5, 9, 1)
    assert (parameters.max_owners, parameters.min_owners) == (6, 1)
    assert parameters.share_elements == 15 + 3 * 32 + 128 * 21 + 4  # W = 2^20
    assert parameters.member(7) == world.keys[7].address
    for outside in (0, 8, -1):
        with pytest.raises(VerificationError, match="no such server"):
            parameters.member(outside)


@pytest.mark.parametrize(
    "change",
    [{"errors": 2}, {"privacy": 3}, {"fractional_bits": 4}, {"max_owners": 1 << 50}],
    ids=str,
)
def test_unsound_parameters_are_refused(change: dict[str, int]) -> None:
    specification = World(components=(20, 12)).specification.model_copy(update=change)
    with pytest.raises(OmniLyticsError):
        TaskParameters.of(specification)
