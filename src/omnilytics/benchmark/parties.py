"""One task's parties without chain and network: what benchmarks measure, each call in one place.

Everything is what a market does between the same parties, with real keys, shares and seals; only
what the chain would say (the round's context, the challenge's seed) is made up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from omnilytics.algebra import kernels
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
from omnilytics.protocol.aggregate import sum_blocks
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import HeldPackage, PackageCheck, check_header, compute_word
from omnilytics.protocol.package_builder import PackageBuilder, Packages
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.sharing.recovery import VectorReader, recover_sum
from omnilytics.transport.hpke import (
    HpkeKey,
    aggregate_binding,
    open_in_turn,
    seal_aggregate,
    seal_package,
    sealed_chunks,
)
from omnilytics.transport.released import ReleasedShare
from omnilytics.validity.challenge import Challenge
from omnilytics.validity.evaluate import ElementReader
from omnilytics.validity.statement import Statement
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.package import Opening, SealedPackage, SealedView
from omnilytics.wire.signatures import SigningKey, recover_address
from omnilytics.wire.task_specification import Admission

MAX_DIMENSION = 50_000_000
MAX_OWNERS = 4_000


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

    def forget_signers(self) -> None:
        """Forget whose signatures were checked, which this process remembers for all parties.

        A server sees a package's signature for the first time; and it checks what another server,
        another process in a market, has checked already.
        """
        recover_address.cache_clear()

    def receive(self, sealed: SealedView, write: Callable[[bytes], object]) -> None:
        """Check a package's clear part, open it, and check and write it piece by piece.

        Args:
            sealed: As it came.
            write: Takes the encoded opening, head first.
        """
        server = sealed.header.server
        check_header(sealed.header, parameters=self.parameters, context=self.context)
        head, pieces = open_in_turn(sealed, self.hpke_keys[server - 1], self.context)
        check = PackageCheck(head, server=server, parameters=self.parameters, context=self.context)
        write(head.encode())
        for piece in pieces:
            check.update(piece)
            write(piece)
        check.finish()

    def word(self, package: HeldPackage, challenge: Challenge) -> Hash32:
        """Compute the word of a package that was checked."""
        return compute_word(package, self.parameters, self.context, challenge)

    def seal_sum(
        self, shares: Sequence[ElementReader], accepted_root: Hash32, server: int
    ) -> Iterator[bytes]:
        """Yield the parts of a server's answer: the sum of its shares of x, sealed."""
        return seal_aggregate(
            sum_blocks(shares, self.dimension),
            self.dimension,
            self.model_owner_key.public,
            self.context,
            accepted_root=accepted_root,
            server=server,
        )

    # What the model owner does.

    def released(
        self, answer: bytes | memoryview, accepted_root: Hash32, server: int
    ) -> ReleasedShare:
        """Return a server's share of the sum, still sealed: it is opened as it is read."""
        binding = aggregate_binding(self.context, accepted_root, server)
        return ReleasedShare(answer, self.model_owner_key, binding, self.dimension)

    def recover(self, shares: Sequence[VectorReader]) -> FloatVector:
        """Verify the servers' shares of a sum, server 1 first, interpolate and decode them."""
        return to_float(self.recover_integers(shares), self.parameters.statement.fractional_bits)

    def recover_integers(self, shares: Sequence[VectorReader]) -> IntegerVector:
        """Verify and interpolate; the sum as integers with f fractional bits."""
        numbered = dict(enumerate(shares, start=1))
        return from_field(recover_sum(numbered, self.parameters.committee, self.randomness).values)


def _committee(servers: int) -> Committee:
    committee = next((entry for entry in OFFERED if entry.servers == servers), None)
    if committee is None:
        offered = sorted({entry.servers for entry in OFFERED})
        raise UsageError("no such committee is offered", got=servers, want=offered)
    return committee
