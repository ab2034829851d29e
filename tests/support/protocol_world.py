"""Builds rounds of a task without a chain or a network: real keys, shares, signatures and words.

All randomness is seeded, so a failing test fails again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from omnilytics.algebra.field import MODULUS
from omnilytics.algebra.fixed_point import IntegerVector, round_vector
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.protocol.certificate import build_manifest
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import compute_word
from omnilytics.protocol.package_builder import PackageBuilder, Packages
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.protocol.settlement import SealedRound
from omnilytics.protocol.words import find_two_words, sign_words
from omnilytics.sharing.committee import DEFAULT, Committee
from omnilytics.validity.challenge import Challenge
from omnilytics.validity.word import Word
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.messages import Held, Receipt
from omnilytics.wire.package import Opening
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.task_specification import (
    ETHER_TOKEN,
    Admission,
    CommitteeMember,
    Component,
    TaskSpecification,
    TensorSlot,
    Windows,
)
from omnilytics.wire.transcript import (
    Certificate,
    HeldSignature,
    Manifest,
    ReceiptSignature,
    ServerWords,
    TwoWords,
)

REWARD_WEI = 1_000


class SeededRandomness:
    """A reproducible source of bytes."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        return self._generator.bytes(count)


@dataclass(frozen=True)
class Submission:
    """One owner's packages in clear and its certificate."""

    key: SigningKey
    packages: tuple[Opening, ...]
    certificate: Certificate

    @property
    def owner(self) -> Address:
        return self.key.address


class World:
    """One open round of one task, with the keys of its committee."""

    def __init__(
        self,
        committee: Committee = DEFAULT,
        *,
        seed: int = 1,
        components: tuple[int, ...] = (20, 12),
        tests: int = 128,
        max_owners: int = 8,
        listed: Sequence[Address] | None = None,
    ) -> None:
        self.randomness = SeededRandomness(seed)
        self.committee = committee
        self.keys = {point: SigningKey.generate(self.randomness) for point in committee.points}
        self.specification = self._specification(components, tests, max_owners, listed)
        self.parameters = TaskParameters.of(self.specification)
        self.context = RoundContext(
            domain=Domain(31_337, Address(self.randomness.bytes(20))),
            task=TaskId(3),
            round=Round(2),
            artefact_hash=Hash32(self.randomness.bytes(32)),
            block_hash=Hash32(self.randomness.bytes(32)),
        )

    def new_key(self) -> SigningKey:
        return SigningKey.generate(self.randomness)

    def next_round(self) -> None:
        """Go on to the task's next round."""
        self.context = replace(
            self.context,
            round=Round(self.context.round + 1),
            block_hash=Hash32(self.randomness.bytes(32)),
        )

    def vector(self, scale: float = 1.0) -> IntegerVector:
        """Return a random honest vector with components of norm about `scale`, at most 1."""
        statement = self.parameters.statement
        generator = np.random.default_rng(int.from_bytes(self.randomness.bytes(4), "big"))
        real = generator.normal(size=statement.dimension)
        for part in statement.component_slices():
            real[part] *= scale / np.linalg.norm(real[part])
        return round_vector(
            real,
            components=statement.components,
            fractional_bits=statement.fractional_bits,
            randomness=self.randomness,
        ).values

    def packages(self, key: SigningKey, vector: IntegerVector | None = None) -> Packages:
        builder = PackageBuilder(self.parameters, self.context, key, self.randomness)
        return builder.build(self.vector() if vector is None else vector)

    def submit(
        self, key: SigningKey | None = None, packages: Sequence[Opening] | None = None
    ) -> Submission:
        """Return a submission with every server's receipt, honest unless packages are given."""
        key = key or self.new_key()
        packages = tuple(packages or self.packages(key))
        return Submission(key, packages, self.certify(key, packages[0]))

    def certify(
        self, key: SigningKey, package: Opening, receipts: Iterable[int] | None = None
    ) -> Certificate:
        points = self.committee.points if receipts is None else tuple(receipts)
        return Certificate(
            owner=key.address,
            commitment=package.header.commitment,
            submission_signature=package.header.submission_signature,
            receipts=tuple(
                self.receipt(point, key.address, package.header.commitment) for point in points
            ),
        )

    def receipt(self, server: int, owner: Address, commitment: Hash32) -> ReceiptSignature:
        message = Receipt(
            task=self.context.task, round=self.context.round, owner=owner, commitment=commitment
        )
        signature = self.keys[server].sign(message, self.context.domain)
        return ReceiptSignature(server=server, signature=signature)

    def held(
        self, holder: int, server: int, certificate: Certificate, package_hash: Hash32
    ) -> HeldSignature:
        message = Held(
            task=self.context.task,
            round=self.context.round,
            owner=certificate.owner,
            commitment=certificate.commitment,
            for_server=self.parameters.member(server),
            package_hash=package_hash,
        )
        signature = self.keys[holder].sign(message, self.context.domain)
        return HeldSignature(
            holder=holder, server=server, package_hash=package_hash, signature=signature
        )

    def manifest(self, certificates: Iterable[Certificate]) -> Manifest:
        return build_manifest(self.context.task, self.context.round, certificates)

    def seal(self, *submissions: Submission) -> Case:
        """Seal the submissions and draw the challenge."""
        seed = Hash32(self.randomness.bytes(32))
        sealed = SealedRound(
            context=self.context,
            parameters=self.parameters,
            manifest=self.manifest(entry.certificate for entry in submissions),
            seed=seed,
            challenge=Challenge(self.parameters.statement, seed),
        )
        return Case(self, sealed, {entry.owner: entry.packages for entry in submissions})

    def _specification(
        self,
        components: tuple[int, ...],
        tests: int,
        max_owners: int,
        listed: Sequence[Address] | None,
    ) -> TaskSpecification:
        members = [
            CommitteeMember(
                address=key.address,
                endpoint=f"http://server-{point}.test",
                hpke_key=Hash32(bytes(32)),
            )
            for point, key in self.keys.items()
        ]
        slots = [
            Component(
                name=f"component {index}",
                tensors=(TensorSlot(name=f"tensor {index}", shape=(size,), scale=1.0),),
            )
            for index, size in enumerate(components)
        ]
        return TaskSpecification(
            title="a task",
            description="",
            model_licence="CC0-1.0",
            contact="nobody",
            servers=self.committee.servers,
            committee=tuple(members),
            min_stake_wei=1,
            privacy=self.committee.privacy,
            errors=self.committee.errors,
            tests=tests,
            fractional_bits=16,
            components=tuple(slots),
            profile="gauge",
            input_shape=(2,),
            preprocessing="",
            loss="mse",
            rounds=5,
            max_rounds=5,
            min_owners=1,
            max_owners=max_owners,
            reward_wei=REWARD_WEI,
            fee_wei=1,
            opening_fee_wei=1,
            token=Address(ETHER_TOKEN),
            admission=Admission(
                mode="open" if listed is None else "listed",
                owners=tuple(sorted(listed or ())),
                min_bond_wei=0,
            ),
            windows=Windows(
                submission_seconds=10,
                forced_seconds=0,
                complaint_seconds=0,
                seal_seconds=10,
                rotation_seconds=1,
                delta_blocks=1,
                confirmations=0,
                words_blocks=5,
                openings_blocks=10,
                settlement_blocks=100,
            ),
            model_owner=Address(bytes(20)),
            model_owner_hpke_key=Hash32(bytes(32)),
        )


@dataclass
class Case:
    """A sealed round with everybody's packages: makes honest and false evidence about it."""

    world: World
    sealed: SealedRound
    packages: dict[Address, tuple[Opening, ...]]

    @property
    def owners(self) -> tuple[Address, ...]:
        return self.sealed.manifest.owners

    @cached_property
    def honest_words(self) -> dict[int, tuple[Hash32, ...]]:
        """What each server's packages give, in the manifest's order."""
        return {
            server: tuple(
                compute_word(
                    self.packages[owner][server - 1],
                    self.sealed.parameters,
                    self.sealed.context,
                    self.sealed.challenge,
                )
                for owner in self.owners
            )
            for server in self.world.committee.points
        }

    def sign(self, server: int, words: Sequence[Hash32]) -> ServerWords:
        return sign_words(
            server,
            words,
            manifest=self.sealed.manifest,
            submissions_root=self.sealed.submissions_root,
            seed=self.sealed.seed,
            key=self.world.keys[server],
            domain=self.sealed.context.domain,
        )

    @cached_property
    def entries(self) -> dict[int, ServerWords]:
        """Every server's honest words, signed."""
        return {server: self.sign(server, words) for server, words in self.honest_words.items()}

    def lie(self, server: int, owners: Iterable[Address] | None = None) -> ServerWords:
        """Return words of `server` that are altered for these owners, by default for all."""
        chosen = set(self.owners if owners is None else owners)
        return self.sign(
            server,
            [
                altered(word) if owner in chosen else word
                for owner, word in zip(self.owners, self.honest_words[server], strict=True)
            ],
        )

    def words(self, *lies: ServerWords, without: Iterable[int] = ()) -> list[ServerWords]:
        """Return the words of all servers but `without`, the given ones instead of honest ones."""
        entries = self.entries | {entry.server: entry for entry in lies}
        return [entries[server] for server in sorted(set(entries) - set(without))]

    def conviction(self, server: int) -> TwoWords:
        """Return evidence that `server` signed two words for the first owner."""
        entries = [self.entries[server], self.lie(server)]
        return find_two_words(self.sealed.manifest, entries)[0]

    def opening(self, owner: Address, server: int) -> Opening:
        return self.packages[owner][server - 1]


def altered(word: Hash32, limb: int = 0) -> Hash32:
    """Return the word with one limb (0..3: c low, c high, d low, d high) increased by one."""
    limbs = [*Word.from_bytes(word).c, *Word.from_bytes(word).d]
    limbs[limb] = (limbs[limb] + 1) % MODULUS
    return Hash32(b"".join(value.to_bytes(8, "big") for value in limbs))
