"""Making packages: the owner's side (protocol.md sections 4 and 5).

The owner shares x, commits to the shares by parts, derives the joint randomness J from the parts,
proves the norm statement under J, shares the proof, and commits to everything. The explicit shares
are made block by block, once to be hashed and again whenever a package is read, so that besides the
vector nothing of its length is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, overload

import numpy as np
from blake3 import blake3

from omnilytics.algebra.field import FieldVector
from omnilytics.algebra.fixed_point import IntegerVector
from omnilytics.algebra.streams import BLOCK_ELEMENTS
from omnilytics.foundation.errors import MalformedError, OmniLyticsError, VerificationError
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
from omnilytics.sharing.committee import Committee
from omnilytics.sharing.shamir import SEED_BYTES, Dealer
from omnilytics.validity.prover import WraparoundTestError, prove
from omnilytics.wire.messages import Submission
from omnilytics.wire.package import Opening, PackageHeader
from omnilytics.wire.signatures import SigningKey

MAX_BLIND_DRAWS: Final = 8
"""An honest vector fails a draw with probability below 2^-100; more failures are a defect."""


class Packages(Sequence[Opening]):
    """The packages of all servers in clear, server 1 first, each made when it is asked for.

    Attributes:
        headers: The clear part of each.
        blinds: 32 secret bytes of each.
        dealer: Makes the shares; holds the vector.
    """

    def __init__(
        self, headers: Sequence[PackageHeader], blinds: Sequence[bytes], dealer: Dealer
    ) -> None:
        self.headers = tuple(headers)
        self.blinds = tuple(blinds)
        self.dealer = dealer

    def __repr__(self) -> str:
        return f"Packages({len(self)}, contents hidden)"

    def __len__(self) -> int:
        return len(self.headers)

    @overload
    def __getitem__(self, index: int) -> Opening: ...
    @overload
    def __getitem__(self, index: slice) -> list[Opening]: ...
    def __getitem__(self, index: int | slice) -> Opening | list[Opening]:
        """Return a package, its whole share in memory."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        header = self.headers[index]
        place = header.server - 1
        seeds = self.dealer.seeds
        if place < len(seeds):
            return Opening(header=header, blind=self.blinds[place], seed=seeds[place])
        content = np.empty(self.dealer.length, dtype="<u8")
        for start, rows in blocks(self.dealer, 0, self.dealer.length):
            content[start : start + rows.shape[1]] = rows[place - len(seeds)]
        return Opening(header=header, blind=self.blinds[place], content=content.tobytes())

    def state(self) -> dict[str, Any]:
        """Return all but the vector, as plain values: with it the packages can be made again.

        It holds secrets.
        """
        committee, dealer = self.dealer.committee, self.dealer
        proof = dealer.rows(dealer.dimension, dealer.length)
        return {
            "headers": [header.encode() for header in self.headers],
            "blinds": list(self.blinds),
            "seeds": list(dealer.seeds),
            "committee": [committee.servers, committee.privacy, committee.errors],
            "proof": proof.astype("<u8").tobytes(),
        }

    @classmethod
    def restore(cls, state: Any, vector: IntegerVector) -> Packages:
        """Return the packages of a state and the vector that was shared.

        Raises:
            MalformedError: They do not fit together.
        """
        try:
            headers = [PackageHeader.decode(each, max_bytes=len(each)) for each in state["headers"]]
            committee = Committee(*state["committee"])
            rows = len(committee.explicit_points)
            proof = np.frombuffer(state["proof"], dtype="<u8").astype(np.uint64).reshape(rows, -1)
            length = headers[-1].content_bytes // 8
            dealer = Dealer(committee, len(vector), length - len(vector) - 4, state["seeds"])
            dealer.share_vector(vector)
            dealer.restore_proof(proof)
            if not len(headers) == len(state["blinds"]) == committee.servers:
                raise MalformedError("kept packages are not those of a committee")
        except (KeyError, TypeError, ValueError, IndexError, OmniLyticsError):
            raise MalformedError("kept packages are damaged") from None
        return cls(headers, state["blinds"], dealer)


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

    def build(self, vector: IntegerVector) -> Packages:
        """Return the packages in clear, server 1 first; the vector must not change meanwhile.

        Args:
            vector: Signed fixed-point integers, shape (D,), within the norm bounds.
        """
        dealer = self.make_dealer()
        dealer.share_vector(vector)
        blinds, x_parts, bits = self._prove(vector, dealer)
        dealer.share_proof(bits, self._randomness)
        proof_parts = [
            proof_part(self._owner_context, server, blind, proof_hash)
            for server, blind, proof_hash in zip(
                self.parameters.servers,
                blinds,
                _hashes(dealer, dealer.dimension, dealer.length),
                strict=True,
            )
        ]
        return Packages(self.headers(x_parts, proof_parts), blinds, dealer)

    def make_dealer(self) -> Dealer:
        """Return a dealer with fresh seeds."""
        statement, committee = self.parameters.statement, self.parameters.committee
        seeds = [self._randomness.bytes(SEED_BYTES) for _ in range(committee.privacy)]
        return Dealer(committee, statement.dimension, statement.bit_count, seeds)

    def prove(self, vector: IntegerVector, joint: Hash32) -> FieldVector:
        """Return the proof's bits under the joint randomness."""
        return prove(self.parameters.statement, vector, joint)

    def headers(
        self, x_parts: Sequence[Hash32], proof_parts: Sequence[Hash32]
    ) -> list[PackageHeader]:
        """Commit to the parts, sign, and return the clear part of every package."""
        joint = joint_randomness(self._owner_context, x_parts)
        commitment = submission_commitment(self._owner_context, x_parts, proof_parts, joint)
        submission = Submission(
            task=self.context.task, round=self.context.round, commitment=commitment
        )
        signature = self._key.sign(submission, self.context.domain)
        seeded = self.parameters.committee.privacy
        return [
            PackageHeader(
                task=self.context.task,
                round=self.context.round,
                owner=self._key.address,
                server=server,
                commitment=commitment,
                submission_signature=signature,
                x_parts=tuple(x_parts),
                proof_parts=tuple(proof_parts),
                content_bytes=0 if server <= seeded else 8 * self.parameters.share_elements,
            )
            for server in self.parameters.servers
        ]

    def _prove(
        self, vector: IntegerVector, dealer: Dealer
    ) -> tuple[list[bytes], list[Hash32], FieldVector]:
        """Draw blinds until the wraparound tests pass; return blinds, x parts and bits."""
        hashes = _hashes(dealer, 0, dealer.dimension)
        seeds = [*dealer.seeds, *([None] * (len(hashes) - len(dealer.seeds)))]
        for _ in range(MAX_BLIND_DRAWS):
            blinds = [self._randomness.bytes(32) for _ in hashes]
            x_parts = [
                x_part(self._owner_context, server, blind, seed=seed, x_hash=x_hash)
                for server, blind, seed, x_hash in zip(
                    self.parameters.servers, blinds, seeds, hashes, strict=True
                )
            ]
            joint = joint_randomness(self._owner_context, x_parts)
            try:
                return blinds, x_parts, self.prove(vector, joint)
            except WraparoundTestError:
                continue
        raise VerificationError("the vector fails its wraparound tests", want="norm within bounds")


def blocks(dealer: Dealer, first: int, stop: int) -> Iterator[tuple[int, FieldVector]]:
    """Yield (start, explicit shares from there on), in blocks that fit the processor's cache.

    The array, shape (n - t, up to 8,192), is overwritten by the next one.
    """
    count = len(dealer.committee.explicit_points)
    memory = np.empty(count * min(BLOCK_ELEMENTS, stop - first), dtype=np.uint64)
    start = first
    while start < stop:
        take = min(BLOCK_ELEMENTS - start % BLOCK_ELEMENTS, stop - start)
        rows = memory[: count * take].reshape(count, take)
        dealer.rows_into(start, rows)
        yield start, rows
        start += take


def _hashes(dealer: Dealer, first: int, stop: int) -> list[Hash32 | None]:
    """Return each server's content hash of a range of its share, None where a seed stands for it.

    Elements are hashed as they travel, 8 bytes little-endian each.
    """
    digests = [blake3() for _ in dealer.committee.explicit_points]
    for _, rows in blocks(dealer, first, stop):
        for digest, row in zip(digests, rows.astype("<u8", copy=False), strict=True):
            digest.update(row.view(np.uint8).data)
    return [*([None] * len(dealer.seeds)), *(Hash32(digest.digest()) for digest in digests)]
