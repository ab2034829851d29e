"""One protected round in this process: the functions that owners and servers call, without IO.

Packages are built, checked against their commitments by every server, and judged by `resolve` from
the servers' words; the shares of the accepted owners are summed at each server, and the sum is
recovered from the servers' totals. Signatures on words and settlements, sealing, the network and
the chain are left out: they decide who said what, not what is valid. Servers here are honest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omnilytics.algebra.fixed_point import IntegerVector, from_field
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.protocol.aggregate import sum_shares
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import check_package, compute_word
from omnilytics.protocol.package_builder import PackageBuilder, Packages
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.protocol.resolve import Evidence, Resolution, resolve
from omnilytics.sharing.committee import Committee
from omnilytics.sharing.recovery import recover_sum
from omnilytics.sharing.shamir import Share
from omnilytics.validity.challenge import Challenge
from omnilytics.validity.statement import Statement
from omnilytics.validity.word import Word
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.task_specification import Admission

COMMITTEE = Committee(servers=5, privacy=1, errors=1)


def task_parameters(components: Sequence[int], owners: int) -> TaskParameters:
    """Return the parameters of a task with the default committee, for so many owners at most."""
    return TaskParameters(
        committee=COMMITTEE,
        statement=Statement(tuple(components)),
        members=tuple(Address(bytes([0] * 19 + [point])) for point in COMMITTEE.points),
        min_owners=2,
        max_owners=owners,
        reward_wei=0,
        admission=Admission(mode="open", min_bond_wei=0),
    )


def round_context(number: int) -> RoundContext:
    """Return what the submissions of a round are bound to; the block hash is fresh."""
    return RoundContext(
        domain=Domain(1, Address(bytes(20))),
        task=TaskId(1),
        round=Round(number),
        artefact_hash=Hash32(bytes(32)),
        block_hash=Hash32(SystemRandomness().bytes(32)),
    )


@dataclass(frozen=True)
class ProtectedRound:
    """The owners' packages, and what servers and the model owner make of them.

    Attributes:
        parameters: Of the task.
        context: Of the round.
        packages: By owner.
    """

    parameters: TaskParameters
    context: RoundContext
    packages: dict[Address, Packages]

    @classmethod
    def open(cls, parameters: TaskParameters, number: int) -> ProtectedRound:
        """Return a round without submissions."""
        return cls(parameters, round_context(number), {})

    def submit(
        self, key: SigningKey, vector: IntegerVector, builder: type[PackageBuilder] = PackageBuilder
    ) -> None:
        """Share, prove and commit to a vector (D,)."""
        made = builder(self.parameters, self.context, key, SystemRandomness())
        self.packages[key.address] = made.build(vector)

    def judge(self) -> Resolution:
        """Check every package at every server and resolve the round under a fresh challenge."""
        seed = Hash32(SystemRandomness().bytes(32))
        challenge = Challenge(self.parameters.statement, seed)
        evidence = Evidence(
            owners=tuple(sorted(self.packages)),
            words={server: self._words(server, challenge) for server in COMMITTEE.points},
            convicted=frozenset(),
            opening_convicts=lambda _owner, _server: False,
            seed=seed,
        )
        return resolve(evidence, self.parameters)

    def recover(self, accepted: Sequence[Address]) -> IntegerVector:
        """Return the exact sum (D,) over these owners, from the servers' sums of their shares."""
        totals = {server: self._sum(server, accepted) for server in COMMITTEE.points}
        return from_field(recover_sum(totals, COMMITTEE, SystemRandomness()).values)

    def _words(self, server: int, challenge: Challenge) -> tuple[Word, ...]:
        words = []
        for owner in sorted(self.packages):
            opening = self.packages[owner][server - 1]
            check_package(opening, server=server, parameters=self.parameters, context=self.context)
            word = compute_word(opening, self.parameters, self.context, challenge)
            words.append(Word.from_bytes(word))
        return tuple(words)

    def _sum(self, server: int, accepted: Sequence[Address]) -> Share:
        """Return a server's share of the sum, as it releases it."""
        shares = [
            self.packages[owner][server - 1].share(self.parameters.share_elements)
            for owner in accepted
        ]
        dimension = self.parameters.statement.dimension
        return Share(dimension, explicit=sum_shares(shares, dimension))
