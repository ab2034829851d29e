"""What a server takes in: artefacts, packages, other servers' packages, certificates (6.1, 6.2).

Nothing is acknowledged before it is checked and durable. Everything here is called by the HTTP
routes and must withstand any bytes.
"""

from __future__ import annotations

from omnilytics.chain.records import Phase, RoundRecord
from omnilytics.foundation.errors import ConflictError, VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, show_address
from omnilytics.protocol.certificate import check_certificate
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import PackageCheck, check_header
from omnilytics.roles.admission import check_admitted
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.task_view import TaskView, check_specification, round_context
from omnilytics.storage.files import Draft
from omnilytics.storage.repository import Stored
from omnilytics.transport.authentication import check_bound, identify
from omnilytics.transport.hpke import open_in_turn
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.messages import Held, Receipt, Request
from omnilytics.wire.package import Opening, PackageHeader, SealedView, read_sealed
from omnilytics.wire.transcript import Certificate

MAX_CERTIFICATE_BYTES = 64 << 10
ARTEFACTS_PER_ROUND = 4
"""A model owner that crashed before it opened a round publishes again, under fresh secrets."""
OPEN_ADMISSION_FACTOR = 4
"""An open task stores packages of at most this many times the owners it can pay."""


class Intake:
    """Receives and checks; see the module docstring."""

    def __init__(self, node: ServerNode) -> None:
        self._node = node

    def identify_model_owner(self, task: TaskId, header: str | None, now: int) -> Request:
        """Return the request in `header` if the task's model owner signed it, before any body."""
        market = self._node.market
        record = market.task(task)
        if self._node.address not in record.committee:
            raise VerificationError("this server is not in the task's committee", task=task)
        return identify(header, now=now, signer=record.model_owner, domain=market.domain)

    def store_artefact(
        self, task: TaskId, name: Hash32, content: bytes, *, path: str, request: Request
    ) -> None:
        """Publish content that the task's model owner sends: the specification, then artefacts."""
        node = self._node
        record = node.market.task(task)
        check_bound(request, method="PUT", path=path, body=content)
        if content_hash(content) != name:
            raise VerificationError("content does not have the hash in its path")
        if not node.repository.use_nonce(request.nonce):
            raise VerificationError("request was already used")
        if name == record.terms.spec_hash:
            check_specification(node.market, task, content)
        else:
            self._claim_artefact(task, request.round, name)
        node.repository.publish(content)

    def _claim_artefact(self, task: TaskId, round_number: Round, name: Hash32) -> None:
        """Take one of the few places for artefacts of the task's next round."""
        expected = self._node.market.round_state(task).round + 1
        if round_number != expected:
            raise VerificationError("artefact of another round", got=round_number, want=expected)
        for place in range(ARTEFACTS_PER_ROUND):
            lock = f"artefact {place}"
            if self._node.repository.lock(task, round_number, lock, name) == name:
                return
        raise VerificationError("too many artefacts for one round", want=ARTEFACTS_PER_ROUND)

    async def package_limit(self, task: TaskId) -> int:
        """Return the largest package of a task in bytes, so that no more is read of a body."""
        return (await self._node.view(task)).parameters.package_bytes

    def identify_owner(self, owner: Address, header: str | None, now: int) -> Request:
        """Return the request in `header` if the owner signed it, before any body is read."""
        return identify(header, now=now, signer=owner, domain=self._node.market.domain)

    async def accept_package(
        self,
        task: TaskId,
        round_number: Round,
        owner: Address,
        body: bytes | memoryview,
        *,
        path: str,
        request: Request,
    ) -> bytes:
        """Open, check and store this server's package; return the signed receipt."""
        node = self._node
        check_bound(request, method="PUT", path=path, body=body)
        view, context, sealed = await self._sealed_package(task, round_number, owner, body)
        self._open_round(view, round_number)
        header = sealed.header
        place = (task, round_number, owner, header.commitment)
        if node.repository.has_package(*place):  # a repeat, which takes no room on a full disk
            self._open(sealed, view, context)
            node.repository.claim_receipt(*place)
        else:
            with node.repository.files.draft() as draft:
                self._open(sealed, view, context, draft)
                with node.repository.batch():  # durable before the receipt leaves
                    node.repository.claim_receipt(*place)
                    self._keep(draft, header)
        receipt = Receipt(task=task, round=round_number, owner=owner, commitment=header.commitment)
        return node.sign(receipt).encode()

    def _open(
        self,
        sealed: SealedView,
        view: TaskView,
        context: RoundContext,
        draft: Draft | None = None,
    ) -> None:
        """Open and check a package whose clear part is checked; write it to a draft, if any.

        Raises:
            VerificationError: It does not open, or is not what its owner committed to.
            MalformedError: An element is not canonical.
        """
        head, pieces = open_in_turn(sealed, self._node.hpke_key, context)
        check = PackageCheck(
            head,
            server=view.server_of(self._node.address),
            parameters=view.parameters,
            context=context,
        )
        if draft is not None:
            draft.write(head.encode())
        for piece in pieces:
            check.update(piece)
            if draft is not None:
                draft.write(piece)
        check.finish()

    def keep_package(self, opening: Opening) -> None:
        """Store a package that was checked."""
        self._keep(opening.encode(), opening.header)

    def _keep(self, package: Stored, header: PackageHeader) -> None:
        self._node.repository.add_package(
            header.task, header.round, header.owner, header.commitment, package
        )

    def take_fetched(
        self, sealed: SealedView, view: TaskView, context: RoundContext, commitment: Hash32
    ) -> None:
        """Store this server's package that another one held.

        Raises:
            VerificationError: It is not this server's package of the submission.
            MalformedError: An element is not canonical.
        """
        check_header(sealed.header, parameters=view.parameters, context=context)
        if sealed.header.commitment != commitment:
            raise VerificationError("the package is of another submission")
        with self._node.repository.files.draft() as draft:
            self._open(sealed, view, context, draft)
            self._keep(draft, sealed.header)

    async def hold_package(
        self,
        task: TaskId,
        round_number: Round,
        server: int,
        owner: Address,
        body: bytes | memoryview,
        *,
        path: str,
        request: Request,
    ) -> bytes:
        """Keep another server's sealed package; return the signed Held message.

        Only its owner may leave it (!): the chunks are under no other signature, and rubbish left
        in its name would shut an honest owner out, or make an honest server complain about it.
        """
        node = self._node
        check_bound(request, method="PUT", path=path, body=body)
        view, _, sealed = await self._sealed_package(task, round_number, owner, body)
        self._open_round(view, round_number)
        header = sealed.header
        if header.server != server:
            raise VerificationError("package for another server", got=header.server, want=server)
        kept = node.repository.add_held(task, round_number, server, owner, body)
        if kept != content_hash(body):
            raise ConflictError(
                "another package is already held",
                got=content_hash(body).hex(),
                want=kept.hex(),
                owner=show_address(owner),
            )
        held = Held(
            task=task,
            round=round_number,
            owner=owner,
            commitment=header.commitment,
            for_server=view.parameters.member(server),
            package_hash=kept,
        )
        return node.sign(held).encode()

    async def accept_certificate(self, task: TaskId, round_number: Round, body: bytes) -> None:
        """Check a certificate and put it on the board, until the submission deadline."""
        node = self._node
        view = await node.view(task)
        self._open_round(view, round_number)
        certificate = Certificate.decode(body, max_bytes=MAX_CERTIFICATE_BYTES)
        check_certificate(
            certificate,
            parameters=view.parameters,
            domain=node.market.domain,
            task=task,
            round_number=round_number,
        )
        node.publish_certificate(task, round_number, certificate)

    async def _sealed_package(
        self, task: TaskId, round_number: Round, owner: Address, body: bytes | memoryview
    ) -> tuple[TaskView, RoundContext, SealedView]:
        view = await self._node.view(task)
        limit = view.parameters.package_bytes
        sealed = read_sealed(body, max_bytes=limit)
        header = sealed.header
        _check_address(header, task, round_number, owner)
        check_admitted(self._node.market, view.parameters.admission, owner)
        context = round_context(self._node.market, task, round_number)
        check_header(header, parameters=view.parameters, context=context)
        self._check_room(view, round_number, owner)
        return view, context, sealed

    async def check_takes(self, task: TaskId, round_number: Round, owner: Address) -> None:
        """Raise VerificationError unless the round takes a package of this owner now."""
        view = await self._node.view(task)
        check_admitted(self._node.market, view.parameters.admission, owner)
        self._check_room(view, round_number, owner)
        self._open_round(view, round_number)

    def _check_room(self, view: TaskView, round_number: Round, owner: Address) -> None:
        repository = self._node.repository
        stored = repository.owner_count(view.task, round_number)
        full = stored >= OPEN_ADMISSION_FACTOR * view.parameters.max_owners
        if full and not repository.knows_owner(view.task, round_number, owner):
            raise VerificationError("the round is full", got=stored)

    def _open_round(self, view: TaskView, round_number: Round) -> RoundRecord:
        """Return the round's state; raises VerificationError unless it takes submissions now."""
        state = self._node.market.round_state(view.task)
        now = self._node.chain.head_timestamp()
        if state.round != round_number or state.phase != Phase.OPEN:
            raise VerificationError(
                "the round is not open", got=f"round {state.round} {state.phase.name}"
            )
        if now >= state.submission_deadline:
            raise VerificationError(
                "the submission deadline has passed", got=now, want=f"< {state.submission_deadline}"
            )
        return state


def _check_address(
    header: PackageHeader, task: TaskId, round_number: Round, owner: Address
) -> None:
    if (header.task, header.round, header.owner) != (task, round_number, owner):
        raise VerificationError("the package is for another task, round or owner than its path")
