"""The auditor: judges a settled round again, from the chain and its published transcript alone.

It holds no key and reads no server's database. What it can check: the sealed submissions, the seed,
every signed word, the openings, the verdict and the payouts. What nobody can check afterwards:
shares that were not opened, and the sum that was released (protocol.md section 8).
"""

from __future__ import annotations

from dataclasses import dataclass

from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.chain.evidence import settlements
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import challenge_seed
from omnilytics.foundation.errors import OmniLyticsError, VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.protocol.certificate import check_manifest
from omnilytics.protocol.resolve import Resolution
from omnilytics.protocol.settlement import (
    PayoutState,
    SealedRound,
    check_transcript,
    settlement_message,
)
from omnilytics.roles.faults import Equivocation, find_faults, two_answers, two_words
from omnilytics.roles.slashes import AuditedSlash, check_slash
from omnilytics.roles.task_view import (
    Connect,
    TaskView,
    fetch_blob,
    fetch_task,
    fetch_transcript,
    round_context,
)
from omnilytics.validity.challenge import Challenge
from omnilytics.wire.envelope import Signed, decode_signed
from omnilytics.wire.hashing import EMPTY_ROOT
from omnilytics.wire.messages import Fault
from omnilytics.wire.package import Opening
from omnilytics.wire.signatures import verify
from omnilytics.wire.transcript import Transcript


@dataclass(frozen=True)
class AuditedRound:
    """A settled round whose transcript was checked."""

    settled: RoundSettled
    transcript: Transcript
    resolution: Resolution
    faults: tuple[Fault, ...]
    """For what its parties may be slashed."""


class Auditor:
    """Replays a task round by round, oldest first."""

    def __init__(self, market: MarketReader, connect: Connect) -> None:
        self._market = market
        self._connect = connect
        self._payouts = PayoutState({}, EMPTY_ROOT)
        self._view: TaskView | None = None
        self._faults: dict[Round, tuple[Fault, ...]] = {}

    async def audit(self, settled: RoundSettled) -> AuditedRound:
        """Check the next settled round of a task.

        Raises:
            VerificationError: Something does not follow from what it claims to rest on.
            PeerError: No server publishes what the chain names.
        """
        view = await self._task_view(settled.task)
        transcript = await fetch_transcript("audit", settled, view.endpoints, self._connect)
        sealed = self._sealed_round(view, settled, transcript)
        openings = await self._openings(view, transcript)
        resolution = check_transcript(transcript, sealed, openings, self._payouts)
        self._check_chain(settled, sealed, transcript)
        self._payouts = PayoutState(self._payouts.after(resolution.accepted), settled.payouts_root)
        faults = find_faults(sealed, transcript, resolution, openings, view.specification)
        self._faults[settled.round] = faults
        return AuditedRound(settled, transcript, resolution, faults)

    async def equivocations(self, task: TaskId, round_number: Round) -> tuple[Equivocation, ...]:
        """Return what convicts servers of a round by itself, from all boards and the transcript.

        Whoever has an account may bring it on chain (`MarketWriter.convict`) and gets the share.
        """
        view = await self._task_view(task)
        found: dict[Address, Equivocation] = {}
        for kind in ("seed", "final"):
            for server, signed in (await self._answers(view, round_number, kind)).items():
                if (evidence := two_answers(server, signed)) is not None:
                    found.setdefault(server, evidence)
        settled = self._market.round_settled(task, round_number)
        if settled is not None:
            transcript = await fetch_transcript("audit", settled, view.endpoints, self._connect)
            sealed = self._sealed_round(view, settled, transcript)
            for conviction in transcript.convictions:
                sealed.check_conviction(conviction)
                evidence = two_words(conviction, transcript.manifest, settled.seed, view.parameters)
                found.setdefault(evidence.server, evidence)
        return tuple(found[server] for server in sorted(found))

    async def _answers(
        self, view: TaskView, round_number: Round, kind: str
    ) -> dict[Address, list[Signed]]:
        """Return what servers signed of a kind in a round, by signer, from all boards."""
        found: dict[Address, list[Signed]] = {}
        for endpoint in view.endpoints:
            try:
                items = await self._connect(endpoint).board(
                    "audit", view.task, round_number, (kind,)
                )
            except OmniLyticsError:
                continue
            for item in items[: 2 * len(view.endpoints)]:  # two of each show all there is to show
                try:
                    signed = decode_signed(item.body)
                    signer = signed.signer(self._market.domain)
                except VerificationError:
                    continue
                message = signed.message
                place = (message.task, message.round)
                if signer in view.parameters.members and place == (view.task, round_number):
                    found.setdefault(signer, []).append(signed)
        return found

    async def _task_view(self, task: TaskId) -> TaskView:
        if self._view is None or self._view.task != task:
            self._view = await fetch_task(self._market, task, self._connect)
        return self._view

    def check_slashes(self, task: TaskId) -> tuple[AuditedSlash, ...]:
        """Check everything slashed in a task, once its settled rounds are audited.

        Raises:
            VerificationError: Somebody was slashed for what no transcript or signature shows.
        """
        if self._view is None or self._view.task != task:
            raise VerificationError("audit the task's settled rounds first", task=task)
        return tuple(
            check_slash(self._market, self._view, event, self._faults)
            for event in self._market.slashes(task)
        )

    def _check_chain(
        self, settled: RoundSettled, sealed: SealedRound, transcript: Transcript
    ) -> None:
        """Check what the chain recorded against the transcript, signatures included."""
        if settled.accepted_count != len(transcript.accepted):
            raise VerificationError("the settlement paid another number of owners")
        words = {entry.server: entry for entry in transcript.words}
        signed = settlements(self._market, settled)
        for index, entry in signed.items():
            expected = settlement_message(transcript, words[index + 1], sealed.context)
            if entry.settlement != expected:
                raise VerificationError("a batch word is not that of its words", server=index + 1)
            member = sealed.parameters.member(index + 1)
            verify(entry.settlement, entry.signature, member, sealed.context.domain)
        if len(signed) < sealed.parameters.quorum:
            raise VerificationError("fewer than n - e servers signed", got=len(signed))

    def _sealed_round(
        self, view: TaskView, settled: RoundSettled, transcript: Transcript
    ) -> SealedRound:
        """Return the round as the chain recorded it, with the transcript's manifest checked."""
        sealed = self._market.round_sealed(view.task, settled.round)
        if sealed is None or transcript.manifest.root() != sealed.submissions_root:
            raise VerificationError("the manifest is not the one that was sealed")
        delta = view.specification.windows.delta_blocks
        block_hash = self._market.chain.block_hash(sealed.position.block_number + delta)
        seed = challenge_seed(block_hash, view.task, settled.round, sealed.submissions_root)
        if not transcript.seed == settled.seed == seed:
            raise VerificationError("the seed is not that of the challenge block")
        check_manifest(
            transcript.manifest,
            parameters=view.parameters,
            domain=self._market.domain,
            task=view.task,
            round_number=settled.round,
            known=(),
        )
        return SealedRound(
            context=round_context(self._market, view.task, settled.round),
            parameters=view.parameters,
            manifest=transcript.manifest,
            seed=Hash32(settled.seed),
            challenge=Challenge(view.parameters.statement, settled.seed),
        )

    async def _openings(
        self, view: TaskView, transcript: Transcript
    ) -> dict[tuple[Address, int], Opening]:
        found = {}
        for reference in transcript.openings:
            content = await fetch_blob(
                "audit", reference.opening_hash, view.endpoints, self._connect
            )
            opening = Opening.decode(content, max_bytes=view.parameters.package_bytes)
            found[reference.owner, reference.server] = opening
        return found
