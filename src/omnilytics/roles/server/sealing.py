"""Sealing a round: manifest, votes, the transaction (protocol.md section 6.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

from omnilytics.chain.records import RoundRecord
from omnilytics.foundation.errors import ChainError, MalformedError, VerificationError
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.protocol.certificate import (
    build_manifest,
    check_certificate,
    check_manifest,
    merge_certificates,
)
from omnilytics.roles.server import board
from omnilytics.roles.server.complaints import (
    Complaints,
    answer_cut_off,
    complaint_cut_off,
    proposer_cut_off,
)
from omnilytics.roles.server.intake import MAX_CERTIFICATE_BYTES
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.task_view import TaskView
from omnilytics.transport.client import BoardItem
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.messages import SealVote
from omnilytics.wire.transcript import Certificate, Manifest

MAX_FORCED_BYTES = 8_192
"""Longest certificate that the contract takes on chain."""
MANIFESTS_PER_TURN = 4
"""Whose turn it is proposes again when certificates become known; each turn has room of its own."""

_KEPT_MANIFESTS = 4


@lru_cache(maxsize=_KEPT_MANIFESTS)
def _read_manifest(body: bytes) -> Manifest:
    """Return a stored manifest; decoding one of 1,000 owners takes 60 ms, every step asks."""
    return Manifest.decode(body, max_bytes=board.MAX_MANIFEST_BYTES)


class Sealing:
    """Agrees with the other servers on which submissions a round is sealed over."""

    def __init__(self, node: ServerNode, complaints: Complaints) -> None:
        self._node = node
        self._complaints = complaints
        self._forced_round: tuple[TaskId, Round] | None = None
        self._forced_seen: set[Hash32] = set()

    async def step(self, view: TaskView, state: RoundRecord) -> bool:
        """Do what can be done now, after the submission deadline; tell whether anything changed."""
        node = self._node
        server = view.server_of(node.address)
        changed = self._take_forced(view, state)
        changed |= await self._pull(view, state)
        changed |= await self._complaints.step(view, state)
        now = node.chain.head_timestamp()
        if now < answer_cut_off(view, state):
            return changed
        leads = sequencer(view, state, now) == server
        if leads:
            changed |= self._propose(view, state)
        for manifest in self.manifests(view, state):
            changed |= self._vote(view, state, manifest, server)
        if leads:
            changed |= await self._seal(view, state)
        return changed

    def manifests(self, view: TaskView, state: RoundRecord) -> list[Manifest]:
        """Return the proposed manifests of the round."""
        records = self._node.repository.records(view.task, state.round, (board.MANIFEST,))
        return [_read_manifest(record.body) for record in records]

    async def fetch_manifest(self, view: TaskView, state: RoundRecord) -> Manifest | None:
        """Return the manifest that was sealed, from the own board or a peer's."""
        for manifest in self.manifests(view, state):
            if manifest.root() == state.submissions_root:
                return manifest
        for item in await self._node.pull(view, state.round, (board.MANIFEST,)):
            try:
                manifest = Manifest.decode(item.body, max_bytes=board.MAX_MANIFEST_BYTES)
            except MalformedError:
                continue
            if manifest.root() == state.submissions_root:
                self._check_certified(view, state, manifest)
                self._keep_manifest(view, state, manifest)
                return manifest
        return None

    def _take_forced(self, view: TaskView, state: RoundRecord) -> bool:
        """Insist on the certificates that owners put on chain, as if they had come here in time.

        Each is looked at once: it is at most `MAX_FORCED_BYTES` long, so about sixty signatures,
        and one whose owner did not sign it, or is not admitted, costs one.
        """
        if self._forced_round != (view.task, state.round):
            self._forced_round, self._forced_seen = (view.task, state.round), set()
        changed = False
        for event in self._node.market.forced_submissions(view.task, state.round):
            name = content_hash(event.certificate)
            if name in self._forced_seen:
                continue
            self._forced_seen.add(name)
            try:
                certificate = self._certificate(view, state, event.certificate, MAX_FORCED_BYTES)
            except VerificationError:
                continue
            changed |= self._node.publish_certificate(view.task, state.round, certificate)
        return changed

    def _certificate(
        self, view: TaskView, state: RoundRecord, body: bytes, max_bytes: int
    ) -> Certificate:
        """Return the certificate in `body`; raises VerificationError unless it holds."""
        certificate = Certificate.decode(body, max_bytes=max_bytes)
        check_certificate(
            certificate,
            parameters=view.parameters,
            domain=self._node.market.domain,
            task=view.task,
            round_number=state.round,
        )
        return certificate

    async def _pull(self, view: TaskView, state: RoundRecord) -> bool:
        """Fetch certificates and votes from all, manifests from whose turn it is."""
        turn = sequencer(view, state, self._node.chain.head_timestamp())
        items = await self._node.pull(view, state.round, (board.CERTIFICATE, board.SEAL_VOTE))
        if turn != view.server_of(self._node.address):
            items += await self._node.pull(view, state.round, (board.MANIFEST,), only=turn)
        by_kind: dict[str, list[BoardItem]] = {}
        for item in items:
            by_kind.setdefault(item.kind, []).append(item)
        changed = self._node.keep_all(
            by_kind.get(board.CERTIFICATE, []), lambda item: self._keep_pulled(view, state, item)
        )
        for item in by_kind.get(board.MANIFEST, []):  # not all in one batch: each asks the chain
            with suppress(VerificationError):
                changed |= self._keep_proposed(view, state, item)
        return changed | self._node.keep_all(  # votes are on manifests
            by_kind.get(board.SEAL_VOTE, []), lambda item: self._keep_vote(view, state, item)
        )

    def _keep_pulled(self, view: TaskView, state: RoundRecord, item: BoardItem) -> bool:
        certificate = self._certificate(view, state, item.body, MAX_CERTIFICATE_BYTES)
        return self._node.publish_certificate(view.task, state.round, certificate, pulled=True)

    def _keep_proposed(self, view: TaskView, state: RoundRecord, item: BoardItem) -> bool:
        manifest = Manifest.decode(item.body, max_bytes=board.MAX_MANIFEST_BYTES)
        roots = {known.root() for known in self.manifests(view, state)}
        turns = turns_passed(view, state, self._node.chain.head_timestamp()) + 1
        if manifest.root() in roots or len(roots) >= MANIFESTS_PER_TURN * turns:
            return False  # the same submissions in another list, or no room before the next turn
        self._check(view, state, manifest)
        return self._keep_manifest(view, state, manifest)

    def _keep_vote(self, view: TaskView, state: RoundRecord, item: BoardItem) -> bool:
        node = self._node
        signed = decode_signed(item.body)
        vote = signed.message
        if not isinstance(vote, SealVote) or (vote.task, vote.round) != (view.task, state.round):
            raise VerificationError("not a vote of this round")
        server = view.server_of(signed.signer(node.market.domain))
        if vote not in [_vote_for(known) for known in self.manifests(view, state)]:
            raise VerificationError("vote for a manifest that is not known")
        votes = node.repository.records(view.task, state.round, (board.SEAL_VOTE,))
        if (server, vote.submissions_root) in {(one.server, one.subject) for one in votes}:
            return False  # the same vote under another signature
        return node.publish_record(
            view.task, state.round, board.SEAL_VOTE, server, vote.submissions_root, item.body
        )

    def _propose(self, view: TaskView, state: RoundRecord) -> bool:
        """Publish the manifest over every certificate known; again if more became known."""
        known_certificates = self._node.certificates(view.task, state.round)
        complained = self._complaints.unanswered(
            view, state, known_certificates.values(), by_time=proposer_cut_off(view, state)
        )
        certificates = [
            entry for owner, entry in known_certificates.items() if owner not in complained
        ]
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
        """Raise VerificationError unless this server may vote for the manifest."""
        known = self._node.certificates(view.task, state.round)
        required = self._node.certificates(view.task, state.round, (board.CERTIFICATE,))
        excusable = self._complaints.unanswered(view, state, known.values())
        self._check_certified(
            view, state, manifest, [required[owner] for owner in required.keys() - excusable]
        )
        # Its certificates were checked above, so receipts that this server did not know count.
        merged = [
            merge_certificates(known[entry.owner], entry)
            if entry.owner in known and known[entry.owner].commitment == entry.commitment
            else entry
            for entry in manifest.certificates
        ]
        early = complaint_cut_off(view, state)
        if self._complaints.unanswered(view, state, merged, by_time=early):
            raise VerificationError("the manifest holds owners with unanswered complaints")

    def _check_certified(
        self,
        view: TaskView,
        state: RoundRecord,
        manifest: Manifest,
        required: Sequence[Certificate] = (),
    ) -> None:
        check_manifest(
            manifest,
            parameters=view.parameters,
            domain=self._node.market.domain,
            task=view.task,
            round_number=state.round,
            known=required,
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
        body = self._node.sign(_vote_for(manifest)).encode()
        return self._node.publish_record(
            view.task, state.round, board.SEAL_VOTE, server, root, body
        )

    async def _seal(self, view: TaskView, state: RoundRecord) -> bool:
        """Send the seal transaction once n - e servers signed one manifest."""
        for manifest in self.manifests(view, state):
            vote = _vote_for(manifest)
            signatures = self._votes(view, state, vote)
            if len(signatures) < view.parameters.quorum:
                continue
            # More signatures than n - e would only cost gas.
            enough = dict(sorted(signatures.items())[: view.parameters.quorum])
            try:
                await asyncio.to_thread(
                    self._node.writer.seal, vote, view.parameters.members, enough
                )
            except ChainError:
                # Another server was faster, or the deadline passed: the chain says which.
                if self._node.market.round_state(view.task) == state:
                    raise
            return True
        return False

    def _votes(self, view: TaskView, state: RoundRecord, vote: SealVote) -> dict[int, bytes]:
        """Return the signatures on exactly this vote, by committee index."""
        signed = self._node.signed_records(view.task, state.round, board.SEAL_VOTE)
        return {server - 1: entry.signature for server, entry in signed if entry.message == vote}


def _vote_for(manifest: Manifest) -> SealVote:
    return SealVote(
        task=manifest.task,
        round=manifest.round,
        submissions_root=manifest.root(),
        count=len(manifest.certificates),
    )


def sequencer(view: TaskView, state: RoundRecord, now: int) -> int:
    """Return the evaluation point of the server whose turn it is to propose.

    committee[round mod n], and the next one after every `rotation_seconds` without a seal or, from
    then on, without a settlement.
    """
    return (state.round + turns_passed(view, state, now)) % len(view.parameters.members) + 1


def turns_passed(view: TaskView, state: RoundRecord, now: int) -> int:
    """Return how many sequencers have had their turn in this round."""
    return max(0, now - answer_cut_off(view, state)) // view.specification.windows.rotation_seconds


def next_turn(view: TaskView, state: RoundRecord, now: int) -> int | None:
    """Return when the turn passes on, or None once every server had one."""
    turn = turns_passed(view, state, now)
    if turn >= len(view.parameters.members):
        return None
    return answer_cut_off(view, state) + (turn + 1) * view.specification.windows.rotation_seconds
