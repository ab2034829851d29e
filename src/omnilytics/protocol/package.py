"""Checking packages, and the words they give: each server's side (protocol.md sections 4 to 6).

A server recomputes its own parts, J and the commitment before it gives a receipt. `package_builder`
is the owner's side.
"""

from __future__ import annotations

import numpy as np

from omnilytics.foundation.errors import OmniLyticsError, VerificationError
from omnilytics.foundation.units import Hash32
from omnilytics.protocol.commitment import (
    joint_randomness,
    proof_part,
    submission_commitment,
    x_part,
)
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.sharing.shamir import Share
from omnilytics.validity.challenge import Challenge
from omnilytics.validity.evaluate import evaluate
from omnilytics.validity.word import Word
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.messages import Submission
from omnilytics.wire.package import Opening, PackageHeader
from omnilytics.wire.signatures import verify
from omnilytics.wire.transcript import Certificate


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
