"""Checking packages, and the words they give: each server's side (protocol.md sections 4 to 6).

A server recomputes its own parts, J and the commitment before it gives a receipt. `package_builder`
is the owner's side.
"""

from __future__ import annotations

from typing import Protocol

from blake3 import blake3

from omnilytics.algebra.field import from_bytes
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
from omnilytics.validity.evaluate import ElementReader, evaluate
from omnilytics.validity.word import Word
from omnilytics.wire.messages import Submission
from omnilytics.wire.package import Opening, OpeningHead, PackageHeader
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


class PackageCheck:
    """Checks an opened package against its clear part, while its content goes by.

    The clear part itself is checked by `check_header`. Elements below p, the length, and the two
    parts that the owner committed to are checked here; nothing of the content is kept.

    Args:
        head: All of the package but its content.
        server: Whose package it should be.
        parameters: The task's parameters.
        context: The open round.

    Raises:
        VerificationError: It is another server's, or does not have the form for its server.
    """

    def __init__(
        self, head: OpeningHead, *, server: int, parameters: TaskParameters, context: RoundContext
    ) -> None:
        if head.header.server != server:
            raise VerificationError(
                "package of another server", got=head.header.server, want=server
            )
        self._head = head
        self._owner_context = context.owner_context(head.header.owner)
        self._seeded = server <= parameters.committee.privacy
        if self._seeded != (head.seed is not None):
            raise VerificationError("the share does not have the form for its server")
        self._want = 0 if self._seeded else 8 * parameters.share_elements
        self._split = 8 * parameters.statement.dimension
        self._got = 0
        self._part_of_element = b""
        self._of_x, self._of_proof = blake3(), blake3()

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next piece of the content.

        Raises:
            MalformedError: An element is not below p.
            VerificationError: The content is too long.
        """
        of_x = max(0, min(len(piece), self._split - self._got))
        self._got += len(piece)
        if self._got > self._want:
            raise VerificationError("the share does not have the form for its server")
        view = memoryview(piece)
        self._of_x.update(view[:of_x])
        self._of_proof.update(view[of_x:])
        whole = self._part_of_element + bytes(piece) if self._part_of_element else view
        end = len(whole) - len(whole) % 8  # a chunk may have been cut anywhere
        from_bytes(whole[:end])
        self._part_of_element = bytes(whole[end:])

    def finish(self) -> None:
        """Check what needs all of the content.

        Raises:
            VerificationError: The content is too short, or not what its owner committed to.
        """
        if self._got != self._want:
            raise VerificationError("the share does not have the form for its server")
        header, blind = self._head.header, self._head.blind
        place = header.server - 1
        x_hash = None if self._seeded else Hash32(self._of_x.digest())
        proof_hash = None if self._seeded else Hash32(self._of_proof.digest())
        own_x = x_part(
            self._owner_context, header.server, blind, seed=self._head.seed, x_hash=x_hash
        )
        own_proof = proof_part(self._owner_context, header.server, blind, proof_hash)
        if (own_x, own_proof) != (header.x_parts[place], header.proof_parts[place]):
            raise VerificationError("the share is not the one committed to", server=header.server)


def check_package(
    opening: Opening, *, server: int, parameters: TaskParameters, context: RoundContext
) -> Share:
    """Return the share; raises VerificationError unless it is what its owner committed to."""
    head = OpeningHead(opening.header, opening.blind, opening.seed)
    check = PackageCheck(head, server=server, parameters=parameters, context=context)
    check_header(opening.header, parameters=parameters, context=context)
    check.update(opening.content)
    check.finish()
    return opening.share(parameters.share_elements)


class HeldPackage(Protocol):
    """A checked package in clear: an `Opening`, or one that lies in a store."""

    @property
    def header(self) -> PackageHeader:
        """The clear part."""
        ...

    def verify(self) -> HeldPackage:
        """Return this package; raises ConfigError where it is not what was stored."""
        ...

    def share(self, length: int) -> ElementReader:
        """Return the share, of so many elements."""
        ...


def compute_word(
    package: HeldPackage, parameters: TaskParameters, context: RoundContext, challenge: Challenge
) -> Hash32:
    """Return the packed word that an honest server signs for this package."""
    header = package.header
    joint = joint_randomness(context.owner_context(header.owner), header.x_parts)
    share = package.share(parameters.share_elements)
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
