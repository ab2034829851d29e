"""Packages that were left with other servers, and what happens when one does not open (6.3).

A server without a receipt fetches its sealed package from a holder. If it cannot be opened, or is
not what the owner committed to, the server complains before a cut-off, and the owner has until
another one to open that package to everybody; an owner that does not is not sealed. Without this an
owner could silence an honest server by leaving rubbish for it. A complaint counts only where the
certificate holds no receipt of the complaining server: nobody can complain about what it took.
"""

from __future__ import annotations

from collections.abc import Iterable

from omnilytics.chain.records import RoundRecord
from omnilytics.foundation.errors import MalformedError, OmniLyticsError, VerificationError
from omnilytics.foundation.units import Address
from omnilytics.protocol.package import opening_matches
from omnilytics.roles.server import board
from omnilytics.roles.server.intake import Intake
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.task_view import TaskView, fetch_blob, round_context
from omnilytics.transport.client import BoardItem
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.messages import Complaint
from omnilytics.wire.package import Opening, SealedView, read_sealed
from omnilytics.wire.transcript import Certificate, OpeningReference


class Complaints:
    """Fetches what was left elsewhere, complains about what does not open, hears the answers."""

    def __init__(self, node: ServerNode, intake: Intake) -> None:
        self._node = node
        self._intake = intake

    async def step(self, view: TaskView, state: RoundRecord) -> bool:
        """Fetch, complain and hear complaints and answers; tell whether anything changed."""
        changed = False
        by_owner = self._node.certificates(view.task, state.round)
        now = self._node.chain.head_timestamp()
        for certificate in by_owner.values():
            complain = now < complaint_cut_off(view, state)
            changed |= await self.fetch(view, state, certificate, complain=complain)
        items = await self._node.pull(view, state.round, (board.COMPLAINT, board.OPENING))
        complaints = [item for item in items if item.kind == board.COMPLAINT]
        if now < hearing_cut_off(view, state):
            changed |= self._node.keep_all(
                complaints, lambda item: self._keep_complaint(view, state, by_owner, item)
            )
        for item in items:
            if item.kind == board.OPENING:
                changed |= await self._fetch_answer(view, state, item)
        return changed

    async def fetch(
        self, view: TaskView, state: RoundRecord, certificate: Certificate, *, complain: bool
    ) -> bool:
        """Get this server's package of one submission from a holder, if it has none."""
        node = self._node
        server = view.server_of(node.address)
        owner, commitment = certificate.owner, certificate.commitment
        if node.repository.has_package(view.task, state.round, owner, commitment):
            return False
        for entry in certificate.held:
            if entry.server != server:
                continue
            endpoint = view.specification.committee[entry.holder - 1].endpoint
            try:
                body = await node.connect(endpoint).get_held(view.task, state.round, server, owner)
                sealed = read_sealed(body, max_bytes=view.parameters.package_bytes)
            except OmniLyticsError:
                continue
            if sealed.hash() != entry.package_hash:
                continue
            return self._take(view, state, certificate, sealed, complain=complain)
        return False

    def _take(
        self,
        view: TaskView,
        state: RoundRecord,
        certificate: Certificate,
        sealed: SealedView,
        *,
        complain: bool,
    ) -> bool:
        """Store a fetched package, or complain if it is at fault itself."""
        context = round_context(self._node.market, view.task, state.round)
        server = view.server_of(self._node.address)
        try:
            self._intake.take_fetched(sealed, view, context, certificate.commitment)
        except (VerificationError, MalformedError):
            # Nothing else is caught: a chain or a disk in trouble is not the owner's fault.
            return complain and self._complain(view, state, certificate, server)
        return True

    def unanswered(
        self,
        view: TaskView,
        state: RoundRecord,
        certificates: Iterable[Certificate],
        *,
        by_time: int | None = None,
    ) -> set[Address]:
        """Return the owners of `certificates` with a complaint that no opening answers.

        Args:
            view: The task.
            state: The round.
            certificates: Whose owners matter.
            by_time: Count only complaints that this server held by then; all by default.
        """
        answered = self._places(view, state, board.OPENING)
        open_complaints = {
            (record.subject, record.server)
            for record in self._node.repository.records(view.task, state.round, (board.COMPLAINT,))
            if by_time is None or self._node.chain.block_timestamp(record.received_block) < by_time
        } - answered
        receipts = {
            certificate.owner: {entry.server for entry in certificate.receipts}
            for certificate in certificates
        }
        return {
            Address(owner)
            for owner, server in open_complaints
            if Address(owner) in receipts and server not in receipts[Address(owner)]
        }

    def accept_answer(self, view: TaskView, state: RoundRecord, opening: Opening) -> bool:
        """Keep the opening of a package that its server complained about, and use it if own."""
        node = self._node
        header = opening.header
        place = (header.owner, header.server)
        if place not in self._places(view, state, board.COMPLAINT):
            raise VerificationError("nobody complained about this package", server=header.server)
        if place in self._places(view, state, board.OPENING):
            return False
        certificate = node.certificates(view.task, state.round).get(header.owner)
        context = round_context(node.market, view.task, state.round)
        if certificate is None or not opening_matches(
            opening,
            server=header.server,
            certificate=certificate,
            parameters=view.parameters,
            context=context,
        ):
            raise VerificationError("the opening is not of the certified submission")
        content = opening.encode()
        if view.server_of(node.address) == header.server:
            self._intake.keep_package(opening)
        reference = OpeningReference(
            owner=header.owner, server=header.server, opening_hash=node.repository.publish(content)
        )
        return node.publish_record(
            view.task, state.round, board.OPENING, header.server, header.owner, reference.encode()
        )

    def _places(self, view: TaskView, state: RoundRecord, kind: str) -> set[tuple[bytes, int]]:
        records = self._node.repository.records(view.task, state.round, (kind,))
        return {(record.subject, record.server) for record in records}

    def _complain(
        self, view: TaskView, state: RoundRecord, certificate: Certificate, server: int
    ) -> bool:
        message = Complaint(
            task=view.task,
            round=state.round,
            owner=certificate.owner,
            commitment=certificate.commitment,
        )
        body = self._node.sign(message).encode()
        return self._node.publish_record(
            view.task, state.round, board.COMPLAINT, server, certificate.owner, body
        )

    def _keep_complaint(
        self,
        view: TaskView,
        state: RoundRecord,
        certificates: dict[Address, Certificate],
        item: BoardItem,
    ) -> bool:
        signed = decode_signed(item.body)
        message = signed.message
        if not isinstance(message, Complaint):
            raise VerificationError("not a complaint")
        if (message.task, message.round) != (view.task, state.round):
            raise VerificationError("complaint of another round")
        certificate = certificates.get(message.owner)
        if certificate is None or certificate.commitment != message.commitment:
            raise VerificationError("complaint about a submission that is not known")
        server = view.server_of(signed.signer(self._node.market.domain))
        if server in {entry.server for entry in certificate.receipts}:
            raise VerificationError("complaint about a package that was taken", server=server)
        if (message.owner, server) in self._places(view, state, board.COMPLAINT):
            return False  # the same complaint under another signature
        return self._node.publish_record(
            view.task, state.round, board.COMPLAINT, server, message.owner, item.body
        )

    async def _fetch_answer(self, view: TaskView, state: RoundRecord, item: BoardItem) -> bool:
        endpoints = self._node.endpoints(view)
        try:
            reference = OpeningReference.decode(item.body, max_bytes=4_096)
            content = await fetch_blob(
                "servers", reference.opening_hash, endpoints, self._node.connect
            )
            opening = Opening.decode(content, max_bytes=view.parameters.package_bytes)
            return self.accept_answer(view, state, opening)
        except OmniLyticsError:
            return False


def complaint_cut_off(view: TaskView, state: RoundRecord) -> int:
    """Return when complaints end, a quarter into the window.

    A complaint heard by then forbids to seal its owner. One heard in the second quarter only
    permits to leave the owner out: so a deviator that shows it to some servers at the last moment
    cannot divide those that sign. Later ones do not count. The second half is for answers alone.
    """
    return state.submission_deadline + view.specification.windows.complaint_seconds // 4


def proposer_cut_off(view: TaskView, state: RoundRecord) -> int:
    """Return until when a proposer heeds complaints: half-way between the two other cut-offs.

    So all it leaves an owner out for has reached every honest server by the later one.
    """
    return state.submission_deadline + 3 * view.specification.windows.complaint_seconds // 8


def hearing_cut_off(view: TaskView, state: RoundRecord) -> int:
    """Return when complaints are no longer heard from others, half into the window."""
    return state.submission_deadline + view.specification.windows.complaint_seconds // 2


def answer_cut_off(view: TaskView, state: RoundRecord) -> int:
    """Return when answers end and the sequencer proposes."""
    return state.submission_deadline + view.specification.windows.complaint_seconds
