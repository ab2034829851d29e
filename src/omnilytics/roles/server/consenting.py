"""Agreeing to be named for a task, before the task exists (wire.md, `Consent`).

A signature binds this server's stake to a task, so it is given only for a specification that the
server would serve: what it would check once the task is there, it checks now. The same question
gets the same answer, so a repeated request costs nothing and leaves nothing behind.

Not guaranteed: that the task is created; that its members still have the same profiles then.
"""

from __future__ import annotations

from omnilytics.chain.records import ServerRecord
from omnilytics.chain.writer import terms_hash
from omnilytics.foundation.errors import ChainError, KeyMaterialError, VerificationError
from omnilytics.foundation.units import Address, show_address
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.server.policy import MAX_CONSENT_SECONDS
from omnilytics.roles.task_view import chain_terms, read_specification
from omnilytics.transport.authentication import check_bound, read_request
from omnilytics.transport.consents import (
    MAX_CONSENT_BYTES,
    NO_ROUND,
    NO_TASK,
    ConsentRequest,
    encode_consent,
)
from omnilytics.transport.hpke import seal
from omnilytics.wire.messages import Consent, Request
from omnilytics.wire.task_specification import CommitteeMember, TaskSpecification


class Consenting:
    """Answers model owners that want this server in a named committee."""

    def __init__(self, node: ServerNode) -> None:
        self._node = node

    def identify(self, header: str | None, now: int) -> tuple[Request, Address]:
        """Return the request in `header` and its signer, before any body is read."""
        return read_request(header, now=now, domain=self._node.market.domain)

    def consent(self, body: bytes, *, path: str, request: Request, sender: Address) -> bytes:
        """Return this server's signature of `Consent`, encoded.

        Args:
            body: An encoded `ConsentRequest`.
            path: What the request was sent to.
            request: What its sender signed.
            sender: Who signed it; must be the task's model owner.

        Raises:
            VerificationError: The server would not serve such a task; says why.
        """
        check_bound(request, method="POST", path=path, body=body)
        if (request.task, request.round) != (NO_TASK, NO_ROUND):
            raise VerificationError("the request is about a task that exists", got=request.task)
        question = ConsentRequest.decode(body, max_bytes=MAX_CONSENT_BYTES)
        specification = read_specification(question.specification)
        if specification.model_owner != sender:
            raise VerificationError(
                "only the task's model owner may ask", want=show_address(specification.model_owner)
            )
        self._check_time(question.expires)
        self._check_served(specification)
        terms = chain_terms(specification)
        consent = Consent(
            model_owner=sender,
            terms_hash=terms_hash(terms, specification.members),
            expires=question.expires,
        )
        return encode_consent(self._node.key.sign(consent, self._node.market.domain))

    def _check_time(self, expires: int) -> None:
        now = self._node.chain.head_timestamp()
        if not now < expires <= now + MAX_CONSENT_SECONDS:
            raise VerificationError(
                "the consent would hold too long, or is expired",
                got=expires,
                want=f"{now + 1} .. {now + MAX_CONSENT_SECONDS}",
            )

    def _check_served(self, specification: TaskSpecification) -> None:
        """Raise VerificationError unless this server would serve a task on this specification."""
        node = self._node
        if specification.committee_mode != "named":
            raise VerificationError("a committee that is drawn needs no consent")
        if node.address not in specification.members:
            raise VerificationError("the committee does not name this server")
        for member in specification.committee:
            _check_member(member, self._registered(member), specification.min_stake_wei)
            if member.address == node.address and member.hpke_key != node.hpke_key.public:
                raise VerificationError("this server holds another key than it registered")
        try:
            seal(specification.model_owner_hpke_key, b"", b"")
        except KeyMaterialError:
            raise VerificationError("nothing can be sealed to the model owner's key") from None
        node.policy.check(specification)

    def _registered(self, member: CommitteeMember) -> ServerRecord:
        address = Address(member.address)
        try:
            return self._node.market.server(address)
        except ChainError as error:
            if error.message != "server not registered":
                raise
            raise VerificationError(error.message, server=show_address(address)) from None


def _check_member(member: CommitteeMember, record: ServerRecord, min_stake_wei: int) -> None:
    """Raise VerificationError unless a server is as the specification says, and may be named."""
    server = show_address(Address(member.address))
    if (member.endpoint, member.hpke_key) != (record.endpoint, record.hpke_key):
        raise VerificationError(
            "the specification gives a server another endpoint or key than it registered",
            got=member.endpoint,
            want=record.endpoint,
            server=server,
        )
    if record.leaving_block:
        raise VerificationError("a server of the committee is leaving", server=server)
    if record.stake_wei < min_stake_wei:
        raise VerificationError(
            "a server of the committee has too little at stake",
            got=record.stake_wei,
            want=min_stake_wei,
            server=server,
        )
