"""Certificates, the manifest, words, openings and the transcript of a round (wire.md).

These records are public and carry the signatures that make them checkable; the messages that were
signed are rebuilt from the record and the round they belong to.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from omnilytics.foundation.units import Address, Hash32
from omnilytics.wire.hashing import content_hash, merkle_leaf, merkle_root
from omnilytics.wire.record import (
    MAX_COMMITTEE,
    MAX_OWNERS,
    Bytes20,
    Bytes32,
    Record,
    RoundNumber,
    ServerIndex,
    Signature,
    TaskNumber,
    WeiAmount,
)


class ReceiptSignature(Record):
    """A server's receipt for the certificate's commitment."""

    server: ServerIndex
    signature: Signature


class HeldSignature(Record):
    """`holder` keeps the sealed package of `server`, which gave no receipt."""

    holder: ServerIndex
    server: ServerIndex
    package_hash: Bytes32
    signature: Signature


class Certificate(Record):
    """Proof that an owner's submission reached the committee."""

    owner: Bytes20
    commitment: Bytes32
    submission_signature: Signature
    receipts: Annotated[tuple[ReceiptSignature, ...], Field(max_length=MAX_COMMITTEE)]
    held: Annotated[tuple[HeldSignature, ...], Field(max_length=MAX_COMMITTEE**2)] = ()

    def leaf(self) -> Hash32:
        """Return the Merkle leaf (owner, commitment)."""
        return merkle_leaf(self.owner, self.commitment)


class Manifest(Record):
    """The certified submissions of a round, sorted by owner."""

    task: TaskNumber
    round: RoundNumber
    certificates: Annotated[tuple[Certificate, ...], Field(max_length=MAX_OWNERS)]

    def root(self) -> Hash32:
        """Return the submissions root that is sealed on chain."""
        return merkle_root([certificate.leaf() for certificate in self.certificates])

    @property
    def owners(self) -> tuple[Address, ...]:
        """The sealed owners in the manifest's order."""
        return tuple(certificate.owner for certificate in self.certificates)


class ServerWords(Record):
    """All words of one server in a round, in the manifest's order, each signed."""

    server: ServerIndex
    submissions_root: Bytes32
    seed: Bytes32
    words: Annotated[tuple[Bytes32, ...], Field(max_length=MAX_OWNERS)]
    signatures: Annotated[tuple[Signature, ...], Field(max_length=MAX_OWNERS)]


class TwoWords(Record):
    """Evidence that convicts a server: two words signed under one key."""

    server: ServerIndex
    owner: Bytes20
    first_word: Bytes32
    first_signature: Signature
    second_word: Bytes32
    second_signature: Signature


class OpeningReference(Record):
    """A published opening, by the content hash under which servers keep it."""

    owner: Bytes20
    server: ServerIndex
    opening_hash: Bytes32


class Payout(Record):
    """A leaf of the payout tree: what an owner has earned in the task so far."""

    owner: Bytes20
    cumulative_wei: WeiAmount

    def leaf(self) -> Hash32:
        """Return the Merkle leaf (owner, cumulative amount)."""
        return merkle_leaf(self.owner, self.cumulative_wei.to_bytes(32, "big"))


class Transcript(Record):
    """Everything that decides a round, and the decision."""

    version: Literal[1] = 1
    manifest: Manifest
    seed: Bytes32
    words: Annotated[tuple[ServerWords, ...], Field(max_length=MAX_COMMITTEE)]
    openings: Annotated[tuple[OpeningReference, ...], Field(max_length=MAX_OWNERS)]
    convictions: Annotated[tuple[TwoWords, ...], Field(max_length=MAX_COMMITTEE)]
    accepted: Annotated[tuple[Bytes20, ...], Field(max_length=MAX_OWNERS)]
    v_bitmap: Annotated[int, Field(strict=True, ge=0, lt=1 << MAX_COMMITTEE)]
    previous_payouts_root: Bytes32
    payouts: Annotated[tuple[Payout, ...], Field(max_length=MAX_OWNERS)]

    def hash(self) -> Hash32:
        """Return the content hash that the settlement records on chain."""
        return content_hash(self.encode())

    def accepted_root(self) -> Hash32:
        """Return the Merkle root over the accepted owners."""
        return merkle_root([merkle_leaf(owner) for owner in self.accepted])

    def payouts_root(self) -> Hash32:
        """Return the Merkle root over the payout leaves."""
        return merkle_root([payout.leaf() for payout in self.payouts])
