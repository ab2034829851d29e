"""Signing and reporting the faults of a settled round (protocol.md section 8).

A server signs a Fault only if its own `resolve` supports it twice: on the settled transcript, whose
hash is the evidence, and on that transcript with every opening this server holds besides. So a
transcript that leaves out what exonerates a server moves nobody who has seen it, and e deviators,
whatever they put on their boards, never reach n - e signatures alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.chain.records import FaultKind
from omnilytics.foundation.errors import PeerError, VerificationError
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.protocol.certificate import check_manifest
from omnilytics.protocol.settlement import SealedRound, judge
from omnilytics.protocol.word_jobs import round_challenge
from omnilytics.roles.faults import Openings, find_faults, judge_settled
from omnilytics.roles.server import board
from omnilytics.roles.server.answering import Answering
from omnilytics.roles.server.convicting import Convicting
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.server.reporting import (
    FinishedRound,
    at_risk,
    brought,
    has_turn,
    was_slashed,
)
from omnilytics.roles.server.settling import Settling
from omnilytics.roles.task_view import TaskView, round_context
from omnilytics.transport.client import BoardItem
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.messages import Fault, Submission
from omnilytics.wire.transcript import Transcript

ROUNDS_WATCHED = 8
"""How many of the latest rounds are watched for faults that are not on chain yet."""


class Faulting:
    """What a server does about the faults of rounds that are over."""

    def __init__(self, node: ServerNode, answering: Answering, settling: Settling) -> None:
        self._node = node
        self._answering = answering
        self._settling = settling
        self.convicting = Convicting(node)
        self._pulled: set[tuple[TaskId, Round]] = set()
        self._done: set[tuple[TaskId, Round]] = set()
        self._found: dict[tuple[TaskId, Round], tuple[tuple[Fault, ...], Transcript | None]] = {}

    async def step(self, view: TaskView, last: Round) -> bool:
        """Convict, sign and report what the rounds up to `last` call for."""
        changed = False
        for number in range(max(1, last - ROUNDS_WATCHED + 1), last + 1):
            place = (view.task, Round(number))
            finished = (
                FinishedRound.of(self._node.market, view, Round(number))
                if place not in self._done
                else None
            )
            if finished is None:
                continue
            try:
                changed |= await self._step(view, finished)
            except (VerificationError, PeerError):
                # A transcript that does not hold, or that nobody shows: nothing is signed.
                continue
        return changed

    async def _step(self, view: TaskView, finished: FinishedRound) -> bool:
        place = (view.task, finished.round)
        changed = False
        if place not in self._pulled:
            changed |= await self.convicting.pull(view, finished.round)
            self._pulled.add(place)
        changed |= await self.convicting.step(view, finished)
        faults, transcript = await self._faults(view, finished)
        if transcript is not None:
            changed |= self._sign(view, finished, faults)
            changed |= await self._pull_faults(view, finished, faults)
            for fault in self._due(view, finished, faults):
                changed |= await self._report(view, finished, fault, transcript)
        if not self._due(view, finished, faults) and not self._convictions_due(view, finished):
            self._done.add(place)
            self._found.pop(place, None)
        return changed

    def _convictions_due(self, view: TaskView, finished: FinishedRound) -> bool:
        return any(
            self.convicting.is_due(view, finished.round, found.server)
            for found in self.convicting.equivocations(view, finished.round)
        )

    # what this server finds

    async def _faults(
        self, view: TaskView, finished: FinishedRound
    ) -> tuple[tuple[Fault, ...], Transcript | None]:
        """Return the faults that this server stands for, with the transcript that shows them."""
        place = (view.task, finished.round)
        if place not in self._found:
            found: tuple[tuple[Fault, ...], Transcript | None] = ((), None)
            if finished.settled is not None:
                found = await self.examine(view, finished.settled)
            self._found[place] = found
        return self._found[place]

    async def examine(
        self, view: TaskView, settled: RoundSettled
    ) -> tuple[tuple[Fault, ...], Transcript | None]:
        """Return the faults that this server would sign for a settlement, and its transcript.

        Raises:
            VerificationError: The transcript does not hold.
            PeerError: Nobody shows it.
        """
        transcript = await self._settling.outcome(view, settled)
        if _is_clean(transcript):
            return (), None
        sealed = await self._sealed_round(view, settled, transcript)
        named = await self._settling.named_openings(view, sealed, transcript)
        held = await self._held_openings(view, sealed, settled)
        return await asyncio.to_thread(supported_faults, view, sealed, transcript, named, held)

    async def _sealed_round(
        self, view: TaskView, settled: RoundSettled, transcript: Transcript
    ) -> SealedRound:
        if (transcript.manifest.root(), transcript.seed) != (
            settled.submissions_root,
            settled.seed,
        ):
            raise VerificationError("the transcript is of another round than was settled")
        check_manifest(
            transcript.manifest,
            parameters=view.parameters,
            domain=self._node.market.domain,
            task=view.task,
            round_number=settled.round,
            known=(),
        )
        statement = view.parameters.statement
        challenge = await asyncio.to_thread(round_challenge, statement, settled.seed)
        return SealedRound(
            context=round_context(self._node.market, view.task, settled.round),
            parameters=view.parameters,
            manifest=transcript.manifest,
            seed=settled.seed,
            challenge=challenge,
        )

    async def _held_openings(
        self, view: TaskView, sealed: SealedRound, settled: RoundSettled
    ) -> Openings:
        """Return every opening of the round that is known by now, in time or not."""
        # Only the round's number matters for its records.
        state = replace(self._node.market.round_state(view.task), round=settled.round)
        await self._answering.pull_openings(view, state, sealed)
        return self._answering.openings(view, state)

    # signatures and reports

    def _sign(self, view: TaskView, finished: FinishedRound, faults: tuple[Fault, ...]) -> bool:
        node = self._node
        server = view.server_of(node.address)
        known = self._signatures(view, finished)
        changed = False
        for fault in faults:
            if server not in known.get(fault, {}):
                body = node.sign(fault).encode()
                changed |= node.publish_record(
                    view.task, finished.round, board.FAULT, server, fault.party, body
                )
        return changed

    async def _pull_faults(
        self, view: TaskView, finished: FinishedRound, faults: tuple[Fault, ...]
    ) -> bool:
        """Fetch what the others signed, until the signatures suffice for all faults."""
        known = self._signatures(view, finished)
        if all(len(known.get(fault, {})) >= view.parameters.quorum for fault in faults):
            return False
        items = await self._node.pull(view, finished.round, (board.FAULT,))
        return self._node.keep_all(items, lambda item: self._keep(view, finished, faults, item))

    def _keep(
        self, view: TaskView, finished: FinishedRound, faults: tuple[Fault, ...], item: BoardItem
    ) -> bool:
        """Keep a signature of a fault that this server stands for itself, once of each server."""
        signed = decode_signed(item.body)
        fault = signed.message
        if not isinstance(fault, Fault) or fault not in faults:
            raise VerificationError("not a fault that this server found")
        server = view.server_of(signed.signer(self._node.market.domain))
        if server in self._signatures(view, finished).get(fault, {}):
            return False
        return self._node.publish_record(
            view.task, finished.round, board.FAULT, server, fault.party, item.body
        )

    def _signatures(self, view: TaskView, finished: FinishedRound) -> dict[Fault, dict[int, bytes]]:
        """Return the signatures of each fault by server."""
        found: dict[Fault, dict[int, bytes]] = {}
        for server, entry in self._node.signed_records(view.task, finished.round, board.FAULT):
            if isinstance(entry.message, Fault):
                found.setdefault(entry.message, {})[server] = entry.signature
        return found

    def _due(
        self, view: TaskView, finished: FinishedRound, faults: tuple[Fault, ...]
    ) -> list[Fault]:
        """Return the faults that were not brought on chain and still cost their party something."""
        market = self._node.market
        return [
            fault
            for fault in faults
            if at_risk(market, fault.party, FaultKind(fault.kind))
            and not was_slashed(market, view, finished.round, fault.party, FaultKind(fault.kind))
        ]

    async def _report(
        self, view: TaskView, finished: FinishedRound, fault: Fault, transcript: Transcript
    ) -> bool:
        """Report a fault once n - e servers signed it, if it is this server's turn."""
        node = self._node
        now = node.chain.head_timestamp()
        if not has_turn(view, finished, now=now, server=node.address, party=fault.party):
            return False
        signed = self._signatures(view, finished).get(fault, {})
        if len(signed) < view.parameters.quorum:
            return False
        # More signatures than n - e would only cost gas.
        enough = {server - 1: signed[server] for server in sorted(signed)[: view.parameters.quorum]}
        submission = _submission(fault, transcript) if fault.kind == FaultKind.OWNER else None
        members = view.parameters.members
        return await asyncio.to_thread(
            brought, lambda: node.writer.report_fault(fault, members, enough, submission)
        )


def supported_faults(
    view: TaskView,
    sealed: SealedRound,
    transcript: Transcript,
    named: Openings,
    held: Openings,
) -> tuple[tuple[Fault, ...], Transcript]:
    """Return the faults that a transcript shows and that nothing held besides contradicts.

    Args:
        view: The task.
        sealed: The round, with the transcript's manifest.
        transcript: What was settled.
        named: The openings that the transcript names.
        held: The openings that this server holds, which may be more.

    Raises:
        VerificationError: The transcript does not follow from its evidence.
    """
    resolution = judge_settled(sealed, transcript, named)
    faults = find_faults(sealed, transcript, resolution, named, view.specification)
    own = judge(sealed, transcript.words, transcript.convictions, {**held, **named})
    at_fault = {Address(sealed.parameters.member(server)) for server in own.faults}
    supported = tuple(
        fault for fault in faults if fault.kind == FaultKind.OWNER or fault.party in at_fault
    )
    return supported, transcript


def _is_clean(transcript: Transcript) -> bool:
    """Tell whether everybody who sent words stands, and nothing was opened: nobody is at fault."""
    standing = sum(1 << (entry.server - 1) for entry in transcript.words)
    return (
        standing == transcript.v_bitmap and not transcript.openings and not transcript.convictions
    )


def _submission(fault: Fault, transcript: Transcript) -> tuple[Submission, bytes]:
    """Return what the owner at fault signed in the round, and its signature."""
    certificate = next(
        entry for entry in transcript.manifest.certificates if entry.owner == fault.party
    )
    message = Submission(task=fault.task, round=fault.round, commitment=certificate.commitment)
    return message, certificate.submission_signature
