"""Settling a round and releasing the sum (protocol.md sections 6.6 to 6.8)."""

from __future__ import annotations

from omnilytics.chain.records import RoundRecord, RoundSettled, SignedSettlement
from omnilytics.foundation.errors import ChainError, OmniLyticsError, VerificationError
from omnilytics.foundation.units import Address, Hash32, Round
from omnilytics.protocol.locks import agreed_value, lock_final
from omnilytics.protocol.settlement import (
    PayoutState,
    SealedRound,
    build_transcript,
    check_complete,
    check_transcript,
    settlement_message,
)
from omnilytics.roles.server import board
from omnilytics.roles.server.answering import Answering
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.server.sealing import sequencer
from omnilytics.roles.task_view import (
    MAX_TRANSCRIPT_BYTES,
    TaskView,
    decode_transcript,
    fetch_blob,
    fetch_transcript,
)
from omnilytics.transport.client import BoardItem
from omnilytics.wire.hashing import EMPTY_ROOT
from omnilytics.wire.messages import Final, Settlement
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import ServerWords, Transcript

GRACE_BLOCKS = 2
"""How long past the openings cut-off a sequencer waits for all of V before n - e must do."""


class Settling:
    """Agrees on the outcome of a round, posts it, and agrees to release its sum."""

    def __init__(self, node: ServerNode, answering: Answering) -> None:
        self._node = node
        self._answering = answering
        self._outcomes: dict[tuple[int, Round], Transcript] = {}

    async def step(self, view: TaskView, state: RoundRecord) -> bool:
        """Do what can be done now after the openings cut-off; tell whether anything changed."""
        sealed = await self._answering.sealed_round(view, state)
        cut_off = state.sealed_block + view.specification.windows.openings_blocks
        if sealed is None or self._node.chain.head() < cut_off:
            return False
        server = view.server_of(self._node.address)
        leads = sequencer(view, state, self._node.chain.head_timestamp()) == server
        changed = await self._propose(view, state, sealed) if leads else False
        for item in await self._node.pull(view, state.round, (board.TRANSCRIPT,)):
            changed |= await self._keep_transcript(view, state, item)
        changed |= await self._sign(view, state, sealed, server)
        changed |= await self._pull_settlements(view, state)
        if leads:
            changed |= self._settle(view, state, sealed, cut_off)
        return changed

    async def payout_state(self, view: TaskView) -> PayoutState:
        """Return the payout state after all settled rounds, from their transcripts."""
        counts: dict[Address, int] = {}
        root = EMPTY_ROOT
        for settled in self._node.market.settled_rounds(view.task):
            transcript = await self.outcome(view, settled)
            for owner in transcript.accepted:
                counts[owner] = counts.get(owner, 0) + 1
            root = settled.payouts_root
        return PayoutState(counts, root)

    async def outcome(self, view: TaskView, settled: RoundSettled) -> Transcript:
        """Return the transcript of a settled round, from the own store or else from a peer."""
        key = (view.task, settled.round)
        if key not in self._outcomes:
            own = self._node.repository.published(settled.transcript_hash)
            if own is not None:
                self._outcomes[key] = decode_transcript(own, settled)
            else:
                endpoints = self._node.endpoints(view)
                transcript = await fetch_transcript(
                    "servers", settled, endpoints, self._node.connect
                )
                self._node.repository.publish(transcript.encode())
                self._outcomes[key] = transcript
        return self._outcomes[key]

    # transcripts and settlements

    async def _propose(self, view: TaskView, state: RoundRecord, sealed: SealedRound) -> bool:
        """Publish the transcript of all evidence held; again if more became known since."""
        words = self._answering.words(view, state)
        convictions = self._answering.convictions(view, state)
        openings = self._answering.openings(view, state)
        for known in self._transcripts(view, state):
            try:
                check_complete(known, words=words, convictions=convictions, openings=openings)
            except VerificationError:
                continue
            return False
        transcript, resolution = build_transcript(
            sealed, words, convictions, openings, await self.payout_state(view)
        )
        if len(resolution.standing) < view.parameters.quorum:
            return False  # no settlement is possible; the round will be voided
        if len(resolution.accepted) < view.parameters.min_owners:
            return False
        return self._publish_transcript(view, state, transcript)

    def _publish_transcript(
        self, view: TaskView, state: RoundRecord, transcript: Transcript
    ) -> bool:
        name = self._node.repository.publish(transcript.encode())
        return self._node.publish_record(view.task, state.round, board.TRANSCRIPT, 0, name, name)

    async def _keep_transcript(self, view: TaskView, state: RoundRecord, item: BoardItem) -> bool:
        try:
            content = await fetch_blob(
                "servers", Hash32(item.body), self._node.endpoints(view), self._node.connect
            )
            transcript = Transcript.decode(content, max_bytes=MAX_TRANSCRIPT_BYTES)
        except OmniLyticsError:
            return False
        return self._publish_transcript(view, state, transcript)

    def _transcripts(self, view: TaskView, state: RoundRecord) -> list[Transcript]:
        found = []
        for record in self._node.repository.records(view.task, state.round, (board.TRANSCRIPT,)):
            content = self._node.repository.published(Hash32(record.body))
            assert content is not None
            found.append(Transcript.decode(content, max_bytes=MAX_TRANSCRIPT_BYTES))
        return found

    async def _sign(
        self, view: TaskView, state: RoundRecord, sealed: SealedRound, server: int
    ) -> bool:
        """Sign the first proposed transcript that is complete and follows from its evidence."""
        node = self._node
        if server in node.signed_records(view.task, state.round, board.SETTLEMENT):
            return False
        payouts = await self.payout_state(view)
        for transcript in self._transcripts(view, state):
            own = self._standing_words(transcript, server)
            if own is None:
                continue
            try:
                await self._check(view, state, sealed, transcript, payouts)
            except OmniLyticsError:
                continue
            message = settlement_message(transcript, own, sealed.context)
            body = node.sign(message).encode()
            return node.publish_record(view.task, state.round, board.SETTLEMENT, server, b"", body)
        return False

    def _standing_words(self, transcript: Transcript, server: int) -> ServerWords | None:
        if not transcript.v_bitmap >> (server - 1) & 1:
            return None
        return next((entry for entry in transcript.words if entry.server == server), None)

    async def _check(
        self,
        view: TaskView,
        state: RoundRecord,
        sealed: SealedRound,
        transcript: Transcript,
        payouts: PayoutState,
    ) -> None:
        windows = view.specification.windows
        words_block = state.sealed_block + windows.words_blocks
        openings_block = state.sealed_block + windows.openings_blocks
        if transcript.manifest != sealed.manifest or transcript.seed != sealed.seed:
            raise VerificationError("transcript of another sealing")
        check_complete(
            transcript,
            words=self._answering.words(view, state, by_block=words_block),
            convictions=self._answering.convictions(view, state, by_block=openings_block),
            openings=self._answering.openings(view, state, by_block=openings_block),
        )
        openings = await self._openings(view, state, transcript)
        check_transcript(transcript, sealed, openings, payouts)

    async def _openings(
        self, view: TaskView, state: RoundRecord, transcript: Transcript
    ) -> dict[tuple[Address, int], Opening]:
        """Return the openings that a transcript names, by hash."""
        found = {}
        for reference in transcript.openings:
            content = self._node.repository.published(reference.opening_hash)
            if content is None:
                content = await fetch_blob(
                    "servers",
                    reference.opening_hash,
                    self._node.endpoints(view),
                    self._node.connect,
                )
                self._node.repository.publish(content)
            opening = Opening.decode(content, max_bytes=view.parameters.package_bytes)
            found[reference.owner, reference.server] = opening
        return found

    async def _pull_settlements(self, view: TaskView, state: RoundRecord) -> bool:
        items = await self._node.pull(view, state.round, (board.SETTLEMENT,))
        return self._node.keep_all(
            items,
            lambda item: self._node.keep_signed(
                view, state.round, board.SETTLEMENT, Settlement, item.body
            ),
        )

    def _expected(
        self, transcript: Transcript, server: int, sealed: SealedRound
    ) -> Settlement | None:
        """Return what a server must sign: a false batch word would make the contract refuse all."""
        words = self._standing_words(transcript, server)
        return None if words is None else settlement_message(transcript, words, sealed.context)

    def _settle(
        self, view: TaskView, state: RoundRecord, sealed: SealedRound, cut_off: int
    ) -> bool:
        """Post the settlement once all of V signed it, or n - e did and the rest was waited for."""
        node = self._node
        for transcript in self._transcripts(view, state):
            signed = {
                server - 1: SignedSettlement(settlement=entry.message, signature=entry.signature)
                for server, entry in node.signed_records(
                    view.task, state.round, board.SETTLEMENT
                ).items()
                if isinstance(entry.message, Settlement)
                and entry.message == self._expected(transcript, server, sealed)
            }
            complete = len(signed) == transcript.v_bitmap.bit_count()
            waited = node.chain.head() >= cut_off + GRACE_BLOCKS
            if len(signed) < view.parameters.quorum or not (complete or waited):
                continue
            try:
                node.writer.settle(signed, view.parameters.members)
            except ChainError:
                # Another server was faster, or the deadline passed: the chain says which.
                if node.market.round_state(view.task) == state:
                    raise
            return True
        return False

    # release

    async def finalise(self, view: TaskView, settled: RoundSettled) -> bool:
        """Sign the one Final of a settled round and collect the others' (final lock)."""
        node = self._node
        server = view.server_of(node.address)
        finals = node.signed_records(view.task, settled.round, board.FINAL)
        if len(finals) == len(view.parameters.members):
            return False
        final_block = settled.position.block_number + view.specification.windows.confirmations
        if node.chain.head() < final_block:
            return False
        changed = False
        if server not in finals:
            await self.outcome(view, settled)
            message = Final(
                task=view.task, round=settled.round, accepted_root=settled.accepted_root
            )
            lock_final(node.repository, message)
            body = node.sign(message).encode()
            changed = node.publish_record(view.task, settled.round, board.FINAL, server, b"", body)
        items = await node.pull(view, settled.round, (board.FINAL,))
        return changed | node.keep_all(
            items,
            lambda item: node.keep_signed(view, settled.round, board.FINAL, Final, item.body),
        )

    def may_release(self, view: TaskView, settled: RoundSettled) -> None:
        """Raise VerificationError unless this and n - e servers signed Final for the set (!)."""
        votes = []
        for server, signed in self._node.signed_records(
            view.task, settled.round, board.FINAL
        ).items():
            assert isinstance(signed.message, Final)
            votes.append((server, signed.message.accepted_root))
        own = dict(votes).get(view.server_of(self._node.address))
        agreed = agreed_value(votes, view.parameters.quorum)
        if agreed is None or agreed != own or agreed != settled.accepted_root:
            raise VerificationError(
                "the round is not final yet",
                got=f"{len(votes)} signatures",
                want=f"{view.parameters.quorum} on one accepted set",
            )
