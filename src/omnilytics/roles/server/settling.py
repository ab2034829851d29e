"""Settling a round and releasing the sum (protocol.md sections 6.6 to 6.8)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import lru_cache

from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.chain.records import RoundRecord, SignedSettlement
from omnilytics.foundation.errors import ChainError, OmniLyticsError, VerificationError
from omnilytics.foundation.units import Address, Hash32, TaskId
from omnilytics.protocol.certificate import check_manifest
from omnilytics.protocol.locks import agreed_value, lock_final
from omnilytics.protocol.package import opening_matches
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
from omnilytics.roles.server.sealing import sequencer, turns_passed
from omnilytics.roles.task_view import (
    MAX_TRANSCRIPT_BYTES,
    TaskView,
    decode_transcript,
    fetch_blob,
    fetch_transcript,
)
from omnilytics.wire.hashing import EMPTY_ROOT
from omnilytics.wire.messages import Final, Settlement
from omnilytics.wire.package import Opening
from omnilytics.wire.record import MAX_COMMITTEE
from omnilytics.wire.transcript import Transcript

TRANSCRIPTS_PER_TURN = board.MAX_SIGNED[board.SETTLEMENT] // MAX_COMMITTEE
GRACE_BLOCKS = 2
"""How long past the openings cut-off a sequencer waits for all of V before n - e must do."""

_KEPT_TRANSCRIPTS = 4


@lru_cache(maxsize=_KEPT_TRANSCRIPTS)
def _read_transcript(content: bytes) -> Transcript:
    """Return a stored transcript; decoding one of 1,000 owners takes 70 ms, every step asks."""
    return Transcript.decode(content, max_bytes=MAX_TRANSCRIPT_BYTES)


@dataclass(frozen=True)
class CutOffs:
    """Blocks that divide what must be in a transcript from what may be and what must not.

    Words that a signer held by `words` must be in it. Words that it did not hold by
    `admitted_words`, half-way to the openings cut-off, must not: whoever they accuse still needs
    time to open its package. A proposer takes what it held by `proposed_words`, between the two, so
    that one relay of honest servers is enough in both directions.
    """

    words: int
    proposed_words: int
    admitted_words: int
    openings: int

    @classmethod
    def of(cls, view: TaskView, state: RoundRecord) -> CutOffs:
        """Return the cut-offs of a sealed round."""
        windows = view.specification.windows
        words = state.sealed_block + windows.words_blocks
        gap = windows.openings_blocks - windows.words_blocks
        openings = state.sealed_block + windows.openings_blocks
        return cls(words, words + gap // 4, words + gap // 2, openings)


class Settling:
    """Agrees on the outcome of a round, posts it, and agrees to release its sum."""

    def __init__(self, node: ServerNode, answering: Answering) -> None:
        self._node = node
        self._answering = answering
        self._refused: set[bytes] = set()
        self._paid: dict[TaskId, tuple[tuple[RoundSettled, ...], PayoutState]] = {}

    async def step(self, view: TaskView, state: RoundRecord) -> bool:
        """Do what can be done now after the openings cut-off; tell whether anything changed."""
        sealed = await self._answering.sealed_round(view, state)
        cut_offs = CutOffs.of(view, state)
        if sealed is None or self._node.chain.head() < cut_offs.openings:
            return False
        server = view.server_of(self._node.address)
        turn = sequencer(view, state, self._node.chain.head_timestamp())
        if turn == server:
            changed = await self._propose(view, state, sealed, cut_offs)
        else:
            changed = await self._pull_transcripts(view, state, sealed, turn)
        changed |= self._sign(view, state, sealed, server)
        changed |= await self._pull_settlements(view, state)
        if turn == server:
            changed |= await self._settle(view, state, sealed, cut_offs)
        return changed

    async def payout_state(self, view: TaskView) -> PayoutState:
        """Return the payout state after all settled rounds, from their transcripts.

        Rounds that were counted before are not read again, unless the chain replaced one.
        """
        settled = self._node.market.settled_rounds(view.task)
        known, state = self._paid.get(view.task, ((), PayoutState({}, EMPTY_ROOT)))
        if settled[: len(known)] != known:
            known, state = (), PayoutState({}, EMPTY_ROOT)
        for event in settled[len(known) :]:
            transcript = await self.outcome(view, event)
            state = PayoutState(state.after(transcript.accepted), event.payouts_root)
        self._paid[view.task] = (settled, state)
        return state

    async def outcome(self, view: TaskView, settled: RoundSettled) -> Transcript:
        """Return the transcript of a settled round, from the own store or else from a peer."""
        own = self._node.repository.published(settled.transcript_hash)
        if own is not None:
            return decode_transcript(own, settled)
        endpoints = self._node.endpoints(view)
        transcript = await fetch_transcript("servers", settled, endpoints, self._node.connect)
        self._node.repository.publish(transcript.encode())
        return transcript

    # transcripts and settlements

    async def _propose(
        self, view: TaskView, state: RoundRecord, sealed: SealedRound, cut_offs: CutOffs
    ) -> bool:
        """Publish the transcript of the evidence held; again if more became known since."""
        words = self._answering.words(view, state, by_block=cut_offs.proposed_words)
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

    async def _pull_transcripts(
        self, view: TaskView, state: RoundRecord, sealed: SealedRound, turn: int
    ) -> bool:
        """Fetch and check what the server proposes whose turn it is; keep only what holds."""
        changed = False
        payouts = await self.payout_state(view)
        now = self._node.chain.head_timestamp()
        room = TRANSCRIPTS_PER_TURN * (turns_passed(view, state, now) + 1)
        room -= len(self._transcripts(view, state))
        for item in await self._node.pull(view, state.round, (board.TRANSCRIPT,), only=turn):
            if room <= 0:
                break  # whose turn it is can make many that hold; the next one needs room too
            if item.body in self._refused:
                continue
            try:
                endpoint = view.specification.committee[turn - 1].endpoint
                content = await fetch_blob(
                    "servers", Hash32(item.body), [endpoint], self._node.connect
                )
                transcript = Transcript.decode(content, max_bytes=MAX_TRANSCRIPT_BYTES)
                await self._check(view, state, sealed, transcript, payouts)
            except VerificationError:
                self._refused.add(item.body)
                continue
            except OmniLyticsError:
                continue
            changed |= self._publish_transcript(view, state, transcript)
            room -= 1
        return changed

    def _publish_transcript(
        self, view: TaskView, state: RoundRecord, transcript: Transcript
    ) -> bool:
        name = self._node.repository.publish(transcript.encode())
        return self._node.publish_record(view.task, state.round, board.TRANSCRIPT, 0, name, name)

    def _transcripts(self, view: TaskView, state: RoundRecord) -> list[Transcript]:
        """Return the transcripts that this server made or checked."""
        found = []
        for record in self._node.repository.records(view.task, state.round, (board.TRANSCRIPT,)):
            content = self._node.repository.published(Hash32(record.body))
            assert content is not None
            found.append(_read_transcript(content))
        return found

    def _sign(self, view: TaskView, state: RoundRecord, sealed: SealedRound, server: int) -> bool:
        """Sign every transcript that is complete and follows from its evidence.

        Two of them differ at most in evidence that came late. Signing only the first would let a
        deviator divide the signatures. The contract settles once; the final lock guards the sum.
        """
        node = self._node
        signed = node.signed_records(view.task, state.round, board.SETTLEMENT)
        done = {entry.message for signer, entry in signed if signer == server}
        changed = False
        for transcript in self._transcripts(view, state):
            message = self._expected(transcript, server, sealed)
            if message is not None and message not in done:
                body = node.sign(message).encode()
                changed |= node.publish_record(
                    view.task, state.round, board.SETTLEMENT, server, b"", body
                )
        return changed

    def _expected(
        self, transcript: Transcript, server: int, sealed: SealedRound
    ) -> Settlement | None:
        """Return what a server of V signs; a false word would make the contract refuse all."""
        if not transcript.v_bitmap >> (server - 1) & 1:
            return None
        words = next(entry for entry in transcript.words if entry.server == server)
        return settlement_message(transcript, words, sealed.context)

    async def _check(
        self,
        view: TaskView,
        state: RoundRecord,
        sealed: SealedRound,
        transcript: Transcript,
        payouts: PayoutState,
    ) -> None:
        """Raise VerificationError unless this server may sign the transcript."""
        cut_offs = CutOffs.of(view, state)
        if transcript.seed != sealed.seed:
            raise VerificationError("transcript under another seed")
        if transcript.manifest.root() != sealed.submissions_root:
            raise VerificationError("transcript of other submissions than were sealed")
        check_manifest(
            transcript.manifest,
            parameters=view.parameters,
            domain=sealed.context.domain,
            task=view.task,
            round_number=state.round,
            known=(),
        )
        check_complete(
            transcript,
            words=self._answering.words(view, state, by_block=cut_offs.words),
            convictions=self._answering.convictions(view, state, by_block=cut_offs.openings),
            openings=self._answering.openings(view, state, by_block=cut_offs.openings),
        )
        admitted = self._answering.all_words(view, state, by_block=cut_offs.admitted_words)
        known = {(entry.server, entry.words) for entry in admitted}
        convicted = {entry.server for entry in transcript.convictions}
        if any(
            (entry.server, entry.words) not in known and entry.server not in convicted
            for entry in transcript.words
        ):
            # Whoever they accuse could not have opened its package in time (!).
            raise VerificationError("the transcript holds words that were shown too late")
        openings = await self.named_openings(view, sealed, transcript)
        listed = replace(sealed, manifest=transcript.manifest)
        resolution = check_transcript(transcript, listed, openings, payouts)
        if len(resolution.standing) < view.parameters.quorum:
            raise VerificationError("fewer than n - e servers stand")

    async def named_openings(
        self, view: TaskView, sealed: SealedRound, transcript: Transcript
    ) -> dict[tuple[Address, int], Opening]:
        """Return the openings that a transcript names, by hash."""
        certificates = {entry.owner: entry for entry in transcript.manifest.certificates}
        found = {}
        for reference in transcript.openings:
            content = self._node.repository.published(reference.opening_hash)
            if content is None:
                endpoints = self._node.endpoints(view)
                content = await fetch_blob(
                    "servers", reference.opening_hash, endpoints, self._node.connect
                )
            opening = Opening.decode(content, max_bytes=view.parameters.package_bytes)
            certificate = certificates.get(reference.owner)
            if certificate is None or not opening_matches(
                opening,
                server=reference.server,
                certificate=certificate,
                parameters=view.parameters,
                context=sealed.context,
            ):
                raise VerificationError("the transcript names an opening of no sealed package")
            self._node.repository.publish(content)
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

    async def _settle(
        self, view: TaskView, state: RoundRecord, sealed: SealedRound, cut_offs: CutOffs
    ) -> bool:
        """Post the settlement once all of V signed it, or n - e did and the rest was waited for."""
        node = self._node
        records = node.signed_records(view.task, state.round, board.SETTLEMENT)
        for transcript in self._transcripts(view, state):
            signed = {
                server - 1: SignedSettlement(settlement=entry.message, signature=entry.signature)
                for server, entry in records
                if isinstance(entry.message, Settlement)
                and entry.message == self._expected(transcript, server, sealed)
            }
            complete = len(signed) == transcript.v_bitmap.bit_count()
            waited = node.chain.head() >= cut_offs.openings + GRACE_BLOCKS
            if len(signed) < view.parameters.quorum or not (complete or waited):
                continue
            try:
                await asyncio.to_thread(node.writer.settle, signed, view.parameters.members)
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
        signed = node.signed_records(view.task, settled.round, board.FINAL)
        finals = {signer for signer, _ in signed}
        if finals == set(view.parameters.servers):
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
        votes = [
            (server, signed.message.accepted_root)
            for server, signed in self._node.signed_records(view.task, settled.round, board.FINAL)
            if isinstance(signed.message, Final)
        ]
        agreed = agreed_value(votes, view.parameters.quorum)
        own = (view.server_of(self._node.address), settled.accepted_root)
        if agreed != settled.accepted_root or own not in votes:
            raise VerificationError(
                "the round is not final yet",
                got=f"{len(votes)} signatures",
                want=f"{view.parameters.quorum} on one accepted set",
            )
