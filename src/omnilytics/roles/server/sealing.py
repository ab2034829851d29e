"""Sealing a round: manifest, votes, the transaction (protocol.md section 6.3)."""

from __future__ import annotations

from omnilytics.chain.records import RoundRecord
from omnilytics.foundation.errors import ChainError, MalformedError, VerificationError
from omnilytics.foundation.units import Hash32
from omnilytics.protocol.certificate import build_manifest, check_certificate, check_manifest
from omnilytics.roles.server import board
from omnilytics.roles.server.complaints import Complaints, answer_cut_off
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.task_view import TaskView
from omnilytics.transport.client import BoardItem
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.messages import SealVote
from omnilytics.wire.transcript import Certificate, Manifest

MAX_MANIFEST_BYTES = 128 << 20


class Sealing:
    """Agrees with the other servers on which submissions a round is sealed over."""

    def __init__(self, node: ServerNode, complaints: Complaints) -> None:
        self._node = node
        self._complaints = complaints

    async def step(self, view: TaskView, state: RoundRecord) -> bool:
        """Do what can be done now, after the submission deadline; tell whether anything changed."""
        node = self._node
        server = view.server_of(node.address)
        changed = await self._pull(view, state)
        changed |= await self._complaints.step(view, state, self._certificates(view, state))
        if node.chain.head_timestamp() < answer_cut_off(view, state):
            return changed
        if sequencer(view, state, node.chain.head_timestamp()) == server:
            changed |= self._propose(view, state, server)
        for manifest in self.manifests(view, state):
            changed |= self._vote(view, state, manifest, server)
        if sequencer(view, state, node.chain.head_timestamp()) == server:
            changed |= self._seal(view, state)
        return changed

    def manifests(self, view: TaskView, state: RoundRecord) -> list[Manifest]:
        """Return the proposed manifests of the round."""
        records = self._node.repository.records(view.task, state.round, (board.MANIFEST,))
        return [Manifest.decode(record.body, max_bytes=MAX_MANIFEST_BYTES) for record in records]

    async def fetch_manifest(self, view: TaskView, state: RoundRecord) -> Manifest | None:
        """Return the manifest that was sealed, from the own board or a peer's."""
        for manifest in self.manifests(view, state):
            if manifest.root() == state.submissions_root:
                return manifest
        for item in await self._node.pull(view, state.round, (board.MANIFEST,)):
            try:
                manifest = Manifest.decode(item.body, max_bytes=MAX_MANIFEST_BYTES)
            except MalformedError:
                continue
            if manifest.root() == state.submissions_root:
                self._keep_manifest(view, state, manifest)
                return manifest
        return None

    async def _pull(self, view: TaskView, state: RoundRecord) -> bool:
        kinds = (board.CERTIFICATE, board.MANIFEST, board.SEAL_VOTE)
        items = await self._node.pull(view, state.round, kinds)
        items.sort(key=lambda item: kinds.index(item.kind))  # manifests before votes on them
        return self._node.keep_all(items, lambda item: self._keep(view, state, item))

    def _keep(self, view: TaskView, state: RoundRecord, item: BoardItem) -> bool:
        node = self._node
        if item.kind == board.CERTIFICATE:
            certificate = Certificate.decode(item.body, max_bytes=MAX_MANIFEST_BYTES)
            check_certificate(
                certificate,
                parameters=view.parameters,
                domain=node.market.domain,
                task=view.task,
                round_number=state.round,
            )
            return node.publish_certificate(view.task, state.round, certificate, pulled=True)
        if item.kind == board.MANIFEST:
            manifest = Manifest.decode(item.body, max_bytes=MAX_MANIFEST_BYTES)
            self._check(view, state, manifest)
            return self._keep_manifest(view, state, manifest)
        signed = decode_signed(item.body)
        vote = signed.message
        if not isinstance(vote, SealVote) or (vote.task, vote.round) != (view.task, state.round):
            raise VerificationError("not a vote of this round")
        signer = signed.signer(node.market.domain)
        if signer not in view.parameters.members:
            raise VerificationError("vote of no committee member")
        if vote.submissions_root not in {known.root() for known in self.manifests(view, state)}:
            raise VerificationError("vote for a manifest that is not known")
        server = view.server_of(signer)
        return node.publish_record(
            view.task, state.round, board.SEAL_VOTE, server, vote.submissions_root, item.body
        )

    def _propose(self, view: TaskView, state: RoundRecord, server: int) -> bool:
        """Publish the manifest over every certificate known; again if more became known."""
        certificates = self._certificates(view, state)
        complained = self._complaints.unanswered(view, state, certificates)
        certificates = [entry for entry in certificates if entry.owner not in complained]
        if len(certificates) < view.parameters.min_owners:
            return False
        manifest = build_manifest(view.task, state.round, certificates)
        if any(known.owners == manifest.owners for known in self.manifests(view, state)):
            return False
        return self._keep_manifest(view, state, manifest)

    def _keep_manifest(self, view: TaskView, state: RoundRecord, manifest: Manifest) -> bool:
        return self._node.publish_record(
            view.task, state.round, board.MANIFEST, 0, manifest.root(), manifest.encode()
        )

    def _check(self, view: TaskView, state: RoundRecord, manifest: Manifest) -> None:
        complained = self._complaints.unanswered(view, state, list(manifest.certificates))
        if complained:
            raise VerificationError("the manifest holds owners with unanswered complaints")
        required = self._certificates(view, state, (board.CERTIFICATE,))
        complained = self._complaints.unanswered(view, state, required)
        check_manifest(
            manifest,
            parameters=view.parameters,
            domain=self._node.market.domain,
            task=view.task,
            round_number=state.round,
            known=[entry for entry in required if entry.owner not in complained],
        )

    def _vote(self, view: TaskView, state: RoundRecord, manifest: Manifest, server: int) -> bool:
        """Sign the manifest if it leaves out nobody this server knows; several may be signed."""
        root = manifest.root()
        records = self._node.repository.records(view.task, state.round, (board.SEAL_VOTE,))
        if any((record.server, record.subject) == (server, root) for record in records):
            return False
        try:
            self._check(view, state, manifest)
        except VerificationError:
            return False
        vote = SealVote(
            task=view.task,
            round=state.round,
            submissions_root=root,
            count=len(manifest.certificates),
        )
        body = self._node.sign(vote).encode()
        return self._node.publish_record(
            view.task, state.round, board.SEAL_VOTE, server, root, body
        )

    def _seal(self, view: TaskView, state: RoundRecord) -> bool:
        """Send the seal transaction once n - e servers signed one manifest."""
        for manifest in self.manifests(view, state):
            vote, signatures = self._votes(view, state, manifest.root())
            if vote is None or len(signatures) < view.parameters.quorum:
                continue
            enough = dict(
                sorted(signatures.items())[: view.parameters.quorum]
            )  # more only cost gas
            try:
                self._node.writer.seal(vote, view.parameters.members, enough)
            except ChainError:
                # Another server was faster, or the deadline passed: the chain says which.
                if self._node.market.round_state(view.task) == state:
                    raise
            return True
        return False

    def _votes(
        self, view: TaskView, state: RoundRecord, root: Hash32
    ) -> tuple[SealVote | None, dict[int, bytes]]:
        vote: SealVote | None = None
        signatures: dict[int, bytes] = {}
        for record in self._node.repository.records(view.task, state.round, (board.SEAL_VOTE,)):
            if record.subject == root:
                signed = decode_signed(record.body)
                assert isinstance(signed.message, SealVote)
                vote = signed.message
                signatures[record.server - 1] = signed.signature
        return vote, signatures

    def _certificates(
        self,
        view: TaskView,
        state: RoundRecord,
        kinds: tuple[str, ...] = (board.CERTIFICATE, board.PULLED_CERTIFICATE),
    ) -> list[Certificate]:
        records = self._node.repository.records(view.task, state.round, kinds)
        return [Certificate.decode(record.body, max_bytes=MAX_MANIFEST_BYTES) for record in records]


def sequencer(view: TaskView, state: RoundRecord, now: int) -> int:
    """Return the evaluation point of the server whose turn it is to propose.

    committee[round mod n], and the next one after every `rotation_seconds` without a seal or, from
    then on, without a settlement; 0 means that the turn never passes on.
    """
    rotation = view.specification.windows.rotation_seconds
    late = max(0, now - state.submission_deadline) // rotation if rotation else 0
    return (state.round + late) % len(view.parameters.members) + 1
