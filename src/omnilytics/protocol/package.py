"""Making and checking packages: the owner's side and each server's (protocol.md sections 4 and 5).

The owner shares x, commits to the shares by parts, derives the joint randomness J from the parts,
proves the norm statement under J, shares the proof, and commits to everything. A server recomputes
its own parts, J and the commitment before it gives a receipt.
"""

from __future__ import annotations

import numpy as np

from omnilytics.algebra.field import FieldVector
from omnilytics.algebra.fixed_point import IntegerVector, to_field
from omnilytics.foundation.errors import OmniLyticsError, VerificationError
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Hash32
from omnilytics.protocol.commitment import (
    joint_randomness,
    proof_part,
    submission_commitment,
    x_part,
)
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.sharing.shamir import SEED_BYTES, Dealer, Share
from omnilytics.validity.challenge import Challenge
from omnilytics.validity.evaluate import evaluate
from omnilytics.validity.prover import WraparoundTestError, prove
from omnilytics.validity.word import Word
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.messages import Submission
from omnilytics.wire.package import Opening, PackageHeader
from omnilytics.wire.signatures import SigningKey, verify
from omnilytics.wire.transcript import Certificate

MAX_BLIND_DRAWS = 8
"""An honest vector fails a draw with probability below 2^-100; more failures are a defect."""


class PackageBuilder:
    """Turns one encoded vector into the packages of all servers.

    Args:
        parameters: The task's parameters.
        context: The open round.
        key: The owner's key.
        randomness: For seeds, blinds and masks.
    """

    def __init__(
        self,
        parameters: TaskParameters,
        context: RoundContext,
        key: SigningKey,
        randomness: Randomness,
    ) -> None:
        self.parameters = parameters
        self.context = context
        self._key = key
        self._randomness = randomness
        self._owner_context = context.owner_context(key.address)

    def build(self, vector: IntegerVector) -> list[Opening]:
        """Return the packages in clear, server 1 first.

        Args:
            vector: Signed fixed-point integers, shape (D,), within the norm bounds.
        """
        statement, committee = self.parameters.statement, self.parameters.committee
        seeds = [self._randomness.bytes(SEED_BYTES) for _ in range(committee.privacy)]
        dealer = Dealer(committee, statement.dimension, statement.bit_count, seeds)
        x_rows = self.share_vector(dealer, vector)
        x_hashes = [None] * committee.privacy + [_hash_elements(row) for row in x_rows]
        blinds, x_parts, bits = self._prove(vector, seeds, x_hashes)
        proof_rows = dealer.share_proof(bits, self._randomness)
        proof_hashes = [None] * committee.privacy + [_hash_elements(row) for row in proof_rows]
        proof_parts = [
            proof_part(self._owner_context, server, blind, proof_hash)
            for server, blind, proof_hash in zip(
                self.parameters.servers, blinds, proof_hashes, strict=True
            )
        ]
        return self._packages(dealer.shares(), blinds, x_parts, proof_parts)

    def share_vector(self, dealer: Dealer, vector: IntegerVector) -> FieldVector:
        """Share the vector; returns the explicit shares of x, shape (n - t, D)."""
        return dealer.share_vector(to_field(vector))

    def prove(self, vector: IntegerVector, joint: Hash32) -> FieldVector:
        """Return the proof's bits under the joint randomness."""
        return prove(self.parameters.statement, vector, joint)

    def _prove(
        self, vector: IntegerVector, seeds: list[bytes], x_hashes: list[Hash32 | None]
    ) -> tuple[list[bytes], list[Hash32], FieldVector]:
        """Draw blinds until the wraparound tests pass; return blinds, x parts and bits."""
        all_seeds = [*seeds, *([None] * (len(x_hashes) - len(seeds)))]
        for _ in range(MAX_BLIND_DRAWS):
            blinds = [self._randomness.bytes(32) for _ in x_hashes]
            x_parts = [
                x_part(self._owner_context, server, blind, seed=seed, x_hash=x_hash)
                for server, blind, seed, x_hash in zip(
                    self.parameters.servers, blinds, all_seeds, x_hashes, strict=True
                )
            ]
            joint = joint_randomness(self._owner_context, x_parts)
            try:
                return blinds, x_parts, self.prove(vector, joint)
            except WraparoundTestError:
                continue
        raise VerificationError("the vector fails its wraparound tests", want="norm within bounds")

    def _packages(
        self,
        shares: list[Share],
        blinds: list[bytes],
        x_parts: list[Hash32],
        proof_parts: list[Hash32],
    ) -> list[Opening]:
        joint = joint_randomness(self._owner_context, x_parts)
        commitment = submission_commitment(self._owner_context, x_parts, proof_parts, joint)
        submission = Submission(
            task=self.context.task, round=self.context.round, commitment=commitment
        )
        signature = self._key.sign(submission, self.context.domain)
        packages = []
        for server, share, blind in zip(self.parameters.servers, shares, blinds, strict=True):
            content = b"" if share.explicit is None else share.explicit.astype("<u8").tobytes()
            header = PackageHeader(
                task=self.context.task,
                round=self.context.round,
                owner=self._key.address,
                server=server,
                commitment=commitment,
                submission_signature=signature,
                x_parts=tuple(x_parts),
                proof_parts=tuple(proof_parts),
                content_bytes=len(content),
            )
            packages.append(Opening(header=header, blind=blind, seed=share.seed, content=content))
        return packages


def check_header(
    header: PackageHeader, *, parameters: TaskParameters, context: RoundContext
) -> None:
    """Raise VerificationError unless the clear part fits the round, its parts and its signature."""
    servers = parameters.committee.servers
    if (header.task, header.round) != (context.task, context.round):
        raise VerificationError("package of another round", got=(header.task, header.round))
    if header.server > servers or not len(header.x_parts) == len(header.proof_parts) == servers:
        raise VerificationError("package for another committee", want=f"{servers} servers")
    seeded = header.server <= parameters.committee.privacy
    want = 0 if seeded else 8 * parameters.share_elements
    if header.content_bytes != want:
        raise VerificationError("share of another length", got=header.content_bytes, want=want)
    owner_context = context.owner_context(header.owner)
    joint = joint_randomness(owner_context, header.x_parts)
    commitment = submission_commitment(owner_context, header.x_parts, header.proof_parts, joint)
    if commitment != header.commitment:
        raise VerificationError("the commitment does not match its parts")
    submission = Submission(task=header.task, round=header.round, commitment=header.commitment)
    verify(submission, header.submission_signature, header.owner, context.domain)


def check_package(
    opening: Opening, *, server: int, parameters: TaskParameters, context: RoundContext
) -> Share:
    """Return the share; raises VerificationError unless it is what its owner committed to."""
    header = opening.header
    if header.server != server:
        raise VerificationError("package of another server", got=header.server, want=server)
    check_header(header, parameters=parameters, context=context)
    share = read_share(opening, parameters)
    owner_context = context.owner_context(header.owner)
    x_hash = proof_hash = None
    if share.explicit is not None:
        split = 8 * parameters.statement.dimension
        content = memoryview(opening.content)
        x_hash, proof_hash = content_hash(content[:split]), content_hash(content[split:])
    own_x = x_part(owner_context, server, opening.blind, seed=opening.seed, x_hash=x_hash)
    own_proof = proof_part(owner_context, server, opening.blind, proof_hash)
    if (own_x, own_proof) != (header.x_parts[server - 1], header.proof_parts[server - 1]):
        raise VerificationError("the share is not the one committed to", server=server)
    return share


def read_share(opening: Opening, parameters: TaskParameters) -> Share:
    """Return the share in an opening; raises MalformedError where it has the wrong form."""
    length = parameters.share_elements
    seeded = opening.header.server <= parameters.committee.privacy
    if seeded != (opening.seed is not None) or len(opening.content) != (
        0 if seeded else 8 * length
    ):
        raise VerificationError("the share does not have the form for its server")
    if opening.seed is not None:
        return Share(length, seed=opening.seed)
    explicit = np.frombuffer(opening.content, dtype="<u8").astype(np.uint64, copy=False)
    return Share(length, explicit=explicit)


def compute_word(
    opening: Opening, parameters: TaskParameters, context: RoundContext, challenge: Challenge
) -> Hash32:
    """Return the packed word that an honest server signs for this package."""
    header = opening.header
    joint = joint_randomness(context.owner_context(header.owner), header.x_parts)
    share = read_share(opening, parameters)
    return Hash32(evaluate(parameters.statement, share, joint, challenge).to_bytes())


def opening_matches(
    opening: Opening,
    *,
    server: int,
    certificate: Certificate,
    parameters: TaskParameters,
    context: RoundContext,
) -> bool:
    """Tell whether an opening is `server`'s package of the sealed submission."""
    header = opening.header
    if (header.owner, header.commitment) != (certificate.owner, certificate.commitment):
        return False
    try:
        check_package(opening, server=server, parameters=parameters, context=context)
    except OmniLyticsError:
        return False
    return True


def opening_convicts(
    opening: Opening,
    *,
    server: int,
    signed_word: Word,
    certificate: Certificate,
    parameters: TaskParameters,
    context: RoundContext,
    challenge: Challenge,
) -> bool:
    """Tell whether an accused server's opening puts the blame on the owner (protocol.md 6.6 (3)).

    It does if the package matches the sealed commitment and gives the word the server signed.
    """
    return (
        opening_matches(
            opening, server=server, certificate=certificate, parameters=parameters, context=context
        )
        and compute_word(opening, parameters, context, challenge) == signed_word.to_bytes()
    )


def _hash_elements(elements: FieldVector) -> Hash32:
    """Return the content hash of elements as they travel, 8 bytes little-endian each."""
    return content_hash(elements.astype("<u8", copy=False).view(np.uint8).data)
