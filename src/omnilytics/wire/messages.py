"""The signed messages of a round (wire.md, "Signed messages").

Who signs what: data owners sign `Submission`; servers sign everything else but `Request`, which any
party uses to authenticate an HTTP request.
"""

from __future__ import annotations

from dataclasses import dataclass

from omnilytics.foundation.units import Address, Hash32
from omnilytics.wire.eip712 import SignedMessage, TypedMessage


@dataclass(frozen=True, kw_only=True)
class Consent(TypedMessage):
    """A server's agreement to be named for a task, before the task exists.

    `terms_hash` covers the terms with the specification's hash, and the committee; a model owner
    can use a specification once, so a consent makes one task.
    """

    model_owner: Address
    terms_hash: Hash32
    expires: int


@dataclass(frozen=True, kw_only=True)
class Submission(SignedMessage):
    """An owner's promise that its shares are those under `commitment`."""

    commitment: Hash32


@dataclass(frozen=True, kw_only=True)
class Receipt(SignedMessage):
    """A server has durably stored its package of this submission."""

    owner: Address
    commitment: Hash32


@dataclass(frozen=True, kw_only=True)
class Held(SignedMessage):
    """A server keeps the sealed package of another server that did not answer."""

    owner: Address
    commitment: Hash32
    for_server: Address
    package_hash: Hash32


@dataclass(frozen=True, kw_only=True)
class Complaint(SignedMessage):
    """A server could not open its sealed package; the owner must open it to all."""

    owner: Address
    commitment: Hash32


@dataclass(frozen=True, kw_only=True)
class SealVote(SignedMessage):
    """The manifest under the root holds only certified owners, and all that the signer knew."""

    submissions_root: Hash32
    count: int


@dataclass(frozen=True, kw_only=True)
class Seed(SignedMessage):
    """The one challenge seed the signer will ever answer in this round (seed lock)."""

    submissions_root: Hash32
    seed: Hash32


@dataclass(frozen=True, kw_only=True)
class Word(SignedMessage):
    """A server's 32-byte check word for one owner. Its key is every field but `word`."""

    submissions_root: Hash32
    seed: Hash32
    owner: Address
    commitment: Hash32
    word: Hash32


@dataclass(frozen=True, kw_only=True)
class Settlement(SignedMessage):
    """A server's agreement to one outcome of the round, with its batch word."""

    submissions_root: Hash32
    seed: Hash32
    accepted_root: Hash32
    accepted_count: int
    v_bitmap: int
    previous_payouts_root: Hash32
    payouts_root: Hash32
    transcript_hash: Hash32
    word: Hash32


@dataclass(frozen=True, kw_only=True)
class Final(SignedMessage):
    """The one accepted set whose sum the signer will ever release in this round (final lock)."""

    accepted_root: Hash32


@dataclass(frozen=True, kw_only=True)
class Fault(SignedMessage):
    """A server's vote that `party` misbehaved, for `report_fault` on chain.

    `kind` is a `FaultKind`; `evidence_hash` is the hash of the round's transcript.
    """

    party: Address
    kind: int
    evidence_hash: Hash32


@dataclass(frozen=True, kw_only=True)
class Request(SignedMessage):
    """Authentication of one HTTP request, bound to method, path, body and time."""

    method: str
    path: str
    body_hash: Hash32
    time: int
    nonce: Hash32
