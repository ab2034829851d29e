"""One task's parties without chain and network: what benchmarks measure, each call in one place.

Everything is what a market does between the same parties, with real keys, shares and seals; only
what the chain would say (the round's context, the challenge's seed) is made up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omnilytics.algebra import kernels
from omnilytics.algebra.field import FieldVector
from omnilytics.algebra.fixed_point import (
    FloatVector,
    IntegerVector,
    from_field,
    round_vector,
    to_float,
)
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.randomness import Randomness, SystemRandomness
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import check_package, compute_word
from omnilytics.protocol.package_builder import PackageBuilder, Packages
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.sharing.recovery import recover_sum
from omnilytics.sharing.shamir import Share
from omnilytics.transport.hpke import HpkeKey, open_package, seal_package, sealed_chunks
from omnilytics.validity.challenge import Challenge
from omnilytics.validity.statement import Statement
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.package import Opening, SealedPackage
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.task_specification import Admission

MAX_DIMENSION = 50_000_000
MAX_OWNERS = 4_000
SUM_BLOCK = 8_192
"""Words of a share that are added at a time: they stay in the cache between expansion and sum."""


class Parties:
    """A committee, a model owner, and any number of data owners in one open round.

    Args:
        dimension: D, 1 to 50,000,000, in one component.
        servers: n of an offered committee.
        owners: Data owners that the task pays.

    Raises:
        UsageError: For a dimension, a committee or a number of owners that is not offered.
    """

    def __init__(self, dimension: int, servers: int, owners: int = 1) -> None:
        if not 1 <= dimension <= MAX_DIMENSION:
            raise UsageError("impossible dimension", got=dimension, want=f"1 to {MAX_DIMENSION}")
        if not 1 <= owners <= MAX_OWNERS:
            raise UsageError("impossible number of owners", got=owners, want=f"1 to {MAX_OWNERS}")
        committee = _committee(servers)
        kernels.warm_up()
        self.randomness: Randomness = SystemRandomness()
        self.server_keys = self.new_keys(servers)
        self.hpke_keys = [HpkeKey.generate(self.randomness) for _ in range(servers)]
        self.model_owner_key = HpkeKey.generate(self.randomness)
        self.parameters = TaskParameters(
            committee=committee,
            statement=Statement((dimension,)),
            members=tuple(key.address for key in self.server_keys),
            min_owners=1,
            max_owners=owners,
            reward_wei=1,
            admission=Admission(mode="open", min_bond_wei=0),
        )
        self.context = RoundContext(
            domain=Domain(1, Address(bytes(20))),
            task=TaskId(1),
            round=Round(1),
            artefact_hash=Hash32(bytes(32)),
            block_hash=Hash32(bytes(32)),
        )

    @property
    def dimension(self) -> int:
        """D."""
        return self.parameters.statement.dimension

    @property
    def public_keys(self) -> list[Hash32]:
        """The servers' keys to seal to."""
        return [key.public for key in self.hpke_keys]

    def new_keys(self, count: int) -> list[SigningKey]:
        """Return fresh keys to sign with."""
        return [SigningKey.generate(self.randomness) for _ in range(count)]

    def vector(self) -> FloatVector:
        """Return a random vector of norm 1, shape (D,)."""
        vector = np.random.default_rng().normal(size=self.dimension)
        # Without BLAS, whose threads go on waiting, at work, after a long product.
        vector /= np.sqrt(np.square(vector).sum())
        return vector

    def new_challenge(self) -> Challenge:
        """Return the challenge of a fresh seed."""
        return Challenge(self.parameters.statement, self.randomness.bytes(32))

    # What a data owner does.

    def quantise(self, vector: FloatVector) -> IntegerVector:
        """Round a vector to fixed point."""
        statement = self.parameters.statement
        return round_vector(
            vector,
            components=statement.components,
            fractional_bits=statement.fractional_bits,
            randomness=self.randomness,
        ).values

    def build(self, values: IntegerVector, key: SigningKey) -> Packages:
        """Share, prove, hash and sign; the packages are made again when they are sealed."""
        return PackageBuilder(self.parameters, self.context, key, self.randomness).build(values)

    def protect(self, vector: FloatVector, key: SigningKey) -> int:
        """Do all of an owner's work for all servers; return the bytes of the sealed chunks."""
        packages = self.build(self.quantise(vector), key)
        chunks = sealed_chunks(packages, self.public_keys, self.context)
        return sum(len(chunk) for _, chunk in chunks)

    def seal(self, opening: Opening) -> SealedPackage:
        """Seal one package to its server's key, all of it in memory."""
        key = self.public_keys[opening.header.server - 1]
        return seal_package(opening, key, self.context)

    def submission(self) -> list[SealedPackage]:
        """Return a fresh owner's sealed packages for all servers, server 1 first."""
        (key,) = self.new_keys(1)
        return [self.seal(opening) for opening in self.build(self.quantise(self.vector()), key)]

    # What a server does.

    def open(self, sealed: SealedPackage) -> Opening:
        """Decrypt a package."""
        return open_package(sealed, self.hpke_keys[sealed.header.server - 1], self.context)

    def check(self, opening: Opening) -> Share:
        """Compare a package with its owner's commitment."""
        return check_package(
            opening,
            server=opening.header.server,
            parameters=self.parameters,
            context=self.context,
        )

    def word(self, opening: Opening, challenge: Challenge) -> Hash32:
        """Compute the word of a package."""
        return compute_word(opening, self.parameters, self.context, challenge)

    def add_share(self, total: FieldVector, share: Share) -> None:
        """Add a share of x to a sum, shape (D,)."""
        kernel = kernels.current()
        for start in range(0, len(total), SUM_BLOCK):
            part = total[start : start + SUM_BLOCK]
            kernel.add(part, share.elements(start, len(part)), part)

    # What the model owner does.

    def recover(self, shares: Sequence[FieldVector]) -> FloatVector:
        """Verify the servers' shares of a sum, server 1 first, interpolate and decode them."""
        return to_float(self.recover_integers(shares), self.parameters.statement.fractional_bits)

    def recover_integers(self, shares: Sequence[FieldVector]) -> IntegerVector:
        """Verify and interpolate; the sum as integers with f fractional bits."""
        vectors = dict(enumerate(shares, start=1))
        return from_field(recover_sum(vectors, self.parameters.committee, self.randomness).values)


def _committee(servers: int) -> Committee:
    committee = next((entry for entry in OFFERED if entry.servers == servers), None)
    if committee is None:
        offered = sorted({entry.servers for entry in OFFERED})
        raise UsageError("no such committee is offered", got=servers, want=offered)
    return committee
