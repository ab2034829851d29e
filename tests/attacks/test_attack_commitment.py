"""Copies, replays, changes after the commitment, and grinding of J (section 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import comb
from random import Random
from typing import Any

import numpy as np
import pytest
from attack_owners import (
    HONEST,
    CheatingBuilder,
    Draft,
    MutableDealer,
    attack_world,
    outcome_of,
    resolve_case,
    show,
    square_root,
    submit,
)
from attack_table import Attacks
from protocol_world import World

from omnilytics.algebra.field import MODULUS
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.protocol.certificate import check_certificate
from omnilytics.protocol.commitment import (
    joint_randomness,
    proof_part,
    submission_commitment,
    x_part,
)
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import check_package
from omnilytics.sharing.committee import DEFAULT, OFFERED, Committee
from omnilytics.sharing.shamir import SEED_BYTES
from omnilytics.validity.joint import blocks_of_tests
from omnilytics.wire.eip712 import Domain, SignedMessage
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.messages import (
    Final,
    Receipt,
    Seed,
    Settlement,
    Submission,
    Word,
)
from omnilytics.wire.package import Opening
from omnilytics.wire.signatures import SigningKey, verify

TRIALS = 20


def other_contexts(context: RoundContext, random: Random) -> dict[str, RoundContext]:
    """Return contexts that differ from this one in one thing."""
    domain = context.domain
    return {
        "round": replace(context, round=Round(context.round + 1)),
        "task": replace(context, task=TaskId(context.task + 1)),
        "chain": replace(context, domain=Domain(domain.chain_id + 1, domain.contract)),
        "contract": replace(context, domain=Domain(domain.chain_id, Address(random.randbytes(20)))),
        "artefact": replace(context, artefact_hash=Hash32(random.randbytes(32))),
        "opening block": replace(context, block_hash=Hash32(random.randbytes(32))),
    }


def resigned(packages: Sequence[Opening], key: SigningKey, context: RoundContext) -> list[Opening]:
    """Return the packages under another context or name: what a copier can do."""
    commitment = packages[0].header.commitment
    message = Submission(task=context.task, round=context.round, commitment=commitment)
    update = {
        "task": context.task,
        "round": context.round,
        "owner": key.address,
        "submission_signature": key.sign(message, context.domain),
    }
    return [
        package.model_copy(update={"header": package.header.model_copy(update=update)})
        for package in packages
    ]


def recommitted(
    packages: Sequence[Opening], key: SigningKey, world: World, context: RoundContext
) -> list[Opening]:
    """Return the same shares under a fresh commitment: what their own dealer can do."""
    ctx, split = context.owner_context(key.address), 8 * world.parameters.statement.dimension
    x_parts, proof_parts = [], []
    for server, package in enumerate(packages, start=1):
        x_hash = proof_hash = None
        if package.seed is None:
            x_hash = content_hash(package.content[:split])
            proof_hash = content_hash(package.content[split:])
        x_parts.append(x_part(ctx, server, package.blind, seed=package.seed, x_hash=x_hash))
        proof_parts.append(proof_part(ctx, server, package.blind, proof_hash))
    joint = joint_randomness(ctx, x_parts)
    update = {
        "x_parts": tuple(x_parts),
        "proof_parts": tuple(proof_parts),
        "commitment": submission_commitment(ctx, x_parts, proof_parts, joint),
    }
    changed = [
        package.model_copy(update={"header": package.header.model_copy(update=update)})
        for package in packages
    ]
    return resigned(changed, key, context)


def checked(packages: Sequence[Opening], world: World, context: RoundContext) -> str:
    """Say whether every server refuses its package."""
    taken = 0
    for server, package in enumerate(packages, start=1):
        try:
            check_package(package, server=server, parameters=world.parameters, context=context)
        except VerificationError:
            continue
        taken += 1
    return "refused" if not taken else "TAKEN BY A SERVER"


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_copies_and_replays_of_packages(attacks: Attacks, committee: Committee) -> None:
    world = attack_world(committee, seed=11)
    random = Random(11)
    for trial in range(TRIALS):
        key = world.new_key()
        packages = CheatingBuilder(world, key, HONEST).packages()
        for name, context in other_contexts(world.context, random).items():
            title = f"a submission replayed with another {name}"
            with attacks(title, "5", "refused", show(committee)) as attack:
                attack.saw(checked(resigned(packages, key, context), world, context))
        with attacks("a submission copied by another owner", "5", "refused", show(committee)) as a:
            thief = world.new_key()
            a.saw(checked(resigned(packages, thief, world.context), world, world.context))
        with attacks(
            "packages of one submission exchanged", "5", "refused", show(committee)
        ) as attack:
            shift = 1 + trial % (committee.servers - 1)
            moved = [
                own.model_copy(
                    update={"blind": other.blind, "seed": other.seed, "content": other.content}
                )
                for own, other in zip(packages, packages[shift:] + packages[:shift], strict=True)
            ]
            attack.saw(checked(moved, world, world.context))


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_the_same_shares_and_proof_in_a_later_round(attacks: Attacks, committee: Committee) -> None:
    """The dealer itself commits to its old shares again: J is another one."""
    world = attack_world(committee, seed=12)
    with attacks(
        "old shares and proof under a new commitment", "5", "rejected", show(committee)
    ) as attack:
        for _ in range(TRIALS):
            key = world.new_key()
            old = CheatingBuilder(world, key, HONEST).packages()
            world.next_round()
            again = recommitted(old, key, world, world.context)
            assert checked(again, world, world.context) == "TAKEN BY A SERVER"
            honest = submit(world)
            replayed = world.submit(key, again)
            attack.saw(
                outcome_of(
                    resolve_case(world.seal(honest, replayed)),
                    replayed.owner,
                    honest_owners=[honest.owner],
                    honest_servers=committee.points,
                )
            )


Change = Callable[[Opening, Random], Opening]


def _flip(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


def change_share(package: Opening, random: Random) -> Opening:
    if package.seed is not None:
        return package.model_copy(update={"seed": _flip(package.seed, random)})
    return package.model_copy(update={"content": _flip(package.content, random)})


def change_blind(package: Opening, random: Random) -> Opening:
    return package.model_copy(update={"blind": _flip(package.blind, random)})


def change_part(package: Opening, random: Random) -> Opening:
    field = random.choice(["x_parts", "proof_parts"])
    parts = list(getattr(package.header, field))
    place = random.randrange(len(parts))
    parts[place] = Hash32(_flip(parts[place], random))
    header = package.header.model_copy(update={field: tuple(parts)})
    return package.model_copy(update={"header": header})


def not_canonical(package: Opening, random: Random) -> Opening:
    """Add p to an element, where that fits 8 bytes, or replace it by p or 2^64 - 1."""
    if package.seed is not None:
        return change_share(package, random)
    place = 8 * random.randrange(len(package.content) // 8)
    value = random.choice([MODULUS, 2**64 - 1])
    content = package.content[:place] + value.to_bytes(8, "little") + package.content[place + 8 :]
    return package.model_copy(update={"content": content})


def other_length(package: Opening, random: Random) -> Opening:
    return package.model_copy(
        update={"content": package.content + bytes(8 * random.choice([1, 5]))}
    )


CHANGES: dict[str, Change] = {
    "a share changed after the commitment": change_share,
    "a blind changed after the commitment": change_blind,
    "a part changed after the commitment": change_part,
    "an element that is not below p": not_canonical,
    "a share of another length": other_length,
}


@pytest.mark.parametrize("committee", OFFERED, ids=show)
@pytest.mark.parametrize("name", CHANGES)
def test_changes_after_the_commitment(attacks: Attacks, name: str, committee: Committee) -> None:
    world, random = attack_world(committee, seed=13), Random(13)
    with attacks(name, "5", "refused", show(committee)) as attack:
        for _ in range(10):
            packages = CheatingBuilder(world, world.new_key(), HONEST).packages()
            changed = [CHANGES[name](package, random) for package in packages]
            attack.saw(checked(changed, world, world.context))


def test_not_canonical_elements_that_were_committed_to(attacks: Attacks) -> None:
    """Even if C is over them: the share is refused as it stands, never reduced."""
    world, random = attack_world(DEFAULT, seed=14), Random(14)
    with attacks("elements not below p under a matching C", "7", "refused") as attack:
        for _ in range(TRIALS):
            key = world.new_key()
            packages = CheatingBuilder(world, key, HONEST).packages()
            changed = packages[:1] + [not_canonical(package, random) for package in packages[1:]]
            again = recommitted(changed, key, world, world.context)
            attack.saw(checked(again[1:], world, world.context))  # the first is a seed, and honest


# --- signed messages --------------------------------------------------------------------------


def messages(context: RoundContext, random: Random) -> list[SignedMessage]:
    """Return one message of each kind that decides a round."""
    head: dict[str, Any] = {"task": context.task, "round": context.round}
    owner = Address(random.randbytes(20))
    a, b, c, d = (Hash32(random.randbytes(32)) for _ in range(4))
    return [
        Receipt(**head, owner=owner, commitment=a),
        Seed(**head, submissions_root=a, seed=b),
        Word(**head, submissions_root=a, seed=b, owner=owner, commitment=c, word=d),
        Final(**head, accepted_root=a),
        Settlement(
            **head,
            submissions_root=a,
            seed=b,
            accepted_root=c,
            accepted_count=3,
            v_bitmap=31,
            previous_payouts_root=d,
            payouts_root=a,
            transcript_hash=b,
            word=c,
        ),
    ]


def test_replays_of_signed_messages(attacks: Attacks) -> None:
    """A signature for one round, task, chain or contract is none for another."""
    world, random = attack_world(DEFAULT, seed=15), Random(15)
    key = world.new_key()
    with attacks("a signed message replayed elsewhere", "7", "refused") as attack:
        for _ in range(10):
            for message in messages(world.context, random):
                signature = key.sign(message, world.context.domain)
                verify(message, signature, key.address, world.context.domain)
                for name, context in other_contexts(world.context, random).items():
                    if name in ("artefact", "opening block"):
                        continue  # bound through ctx, hence C; see packages above
                    moved = replace(message, task=context.task, round=context.round)
                    attack.saw(_verified(moved, signature, key, context.domain))


def _verified(message: SignedMessage, signature: bytes, key: SigningKey, domain: Domain) -> str:
    try:
        verify(message, signature, key.address, domain)
    except VerificationError:
        return "refused"
    return "ACCEPTED"


@pytest.mark.parametrize("committee", OFFERED, ids=show)
def test_replayed_certificates(attacks: Attacks, committee: Committee) -> None:
    world, random = attack_world(committee, seed=16), Random(16)
    title = "a certificate replayed elsewhere or under another name"
    with attacks(title, "6.2", "refused", show(committee)) as attack:
        for _ in range(5):
            certificate = submit(world).certificate
            contexts = other_contexts(world.context, random)
            cases = [(contexts[name], certificate) for name in ("round", "task", "chain")]
            renamed = certificate.model_copy(update={"owner": world.new_key().address})
            swapped = certificate.model_copy(update={"commitment": Hash32(random.randbytes(32))})
            cases += [(world.context, renamed), (world.context, swapped)]
            for context, shown in cases:
                try:
                    check_certificate(
                        shown,
                        parameters=world.parameters,
                        domain=context.domain,
                        task=context.task,
                        round_number=context.round,
                    )
                except VerificationError:
                    attack.saw("refused")
                else:
                    attack.saw("ACCEPTED")


# --- grinding ---------------------------------------------------------------------------------


class _Grinder(CheatingBuilder):
    """Shares one huge entry whose square is small modulo p, and draws blinds until tests pass."""

    place = 5

    def draft(self) -> Draft:
        draft = super().draft()
        root = None
        while root is None or min(root, MODULUS - root) < 2**40:
            norm = draft.random.randrange(2**32)
            root = square_root(norm)
        draft.x = np.zeros(draft.statement.dimension, dtype=np.uint64)
        draft.x[self.place], draft.norms = root, [norm]
        return draft

    def grind(self, budget: int) -> tuple[int, list[Opening] | None]:
        """Return how many draws it took, and the packages if one of `budget` draws passed."""
        draft = self.draft()
        statement = draft.statement
        seeds = [self._randomness.bytes(SEED_BYTES) for _ in range(draft.committee.privacy)]
        dealer = MutableDealer(draft.committee, statement.dimension, statement.bit_count, seeds)
        rows = dealer.deal_vector(draft.x)
        for draw in range(1, budget + 1):
            blinds, x_parts = self.commit_to_vector(seeds, rows)
            ((_, tests),) = blocks_of_tests(statement, self.joint(x_parts))
            codes = tests[self.place][:, None] >> np.arange(4) * 2 & 3
            if np.all((codes == 1) | (codes == 2)):  # no test sees the entry
                return draw, self.finish(draft, dealer, seeds, blinds, x_parts)
        return budget, None


def tail(trials: int, chance: float, seen: int) -> float:
    """Return the probability of a count at least as far on the side of `seen`."""
    counts = range(seen, trials + 1) if seen > chance * trials else range(seen + 1)
    return sum(comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in counts)


@pytest.mark.parametrize(("tests", "owners"), [(4, 300), (8, 150)])
def test_grinding_follows_the_law(attacks: Attacks, tests: int, owners: int) -> None:
    """2^q hashes find an accepted J with probability 1 - (1 - 2^-r)^(2^q), about 2^(q-r).

    q = r - 2: about 22% succeed. The bound is a tail of 10^-6 on either side; that an attacker
    whose hashing succeeded is accepted, and others are not, is tried as well.
    """
    world = attack_world(DEFAULT, seed=tests, components=(16,), tests=tests)
    budget = 2 ** (tests - 2)
    expected = "as often as 2^(q-r) says"
    with attacks(f"grinding J: r = {tests}, q = {tests - 2}", "3", expected) as attack:
        found = []
        for _ in range(owners):
            builder = _Grinder(world, world.new_key(), HONEST)
            draws, packages = builder.grind(budget)
            assert draws <= budget
            if packages:
                found.append(world.submit(builder._key, packages))
        chance = 1 - (1 - 2.0**-tests) ** budget
        lawful = tail(owners, chance, len(found)) > 1e-6
        accepted = resolve_case(world.seal(*found)).accepted
        lawful &= len(accepted) == len(found)
        attack.saw(expected if lawful else f"{len(found)} of {owners} SUCCEEDED", owners)


def test_grinding_at_full_strength_finds_nothing(attacks: Attacks) -> None:
    world = attack_world(DEFAULT, seed=17, components=(16,))
    with attacks("grinding J: r = 128, 2,000 draws", "3", "none passes") as attack:
        draws, packages = _Grinder(world, world.new_key(), HONEST).grind(2_000)
        attack.saw("none passes" if packages is None else f"PASSED after {draws}")
