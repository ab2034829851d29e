"""The server as one object: what its HTTP routes call, and the step its loop repeats."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from omnilytics.chain.records import Phase, RoundRecord
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.roles.server import board
from omnilytics.roles.server.answering import Answering
from omnilytics.roles.server.complaints import (
    Complaints,
    answer_cut_off,
    complaint_cut_off,
    hearing_cut_off,
)
from omnilytics.roles.server.consenting import Consenting
from omnilytics.roles.server.faulting import Faulting
from omnilytics.roles.server.intake import Intake
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.server.releasing import Releasing
from omnilytics.roles.server.sealing import Sealing, next_turn
from omnilytics.roles.server.settling import GRACE_BLOCKS, CutOffs, Settling
from omnilytics.roles.server.uploading import Uploading
from omnilytics.roles.task_view import TaskView
from omnilytics.wire import cbor
from omnilytics.wire.hpke_configuration import HpkeConfiguration
from omnilytics.wire.package import Opening


@dataclass(frozen=True)
class StepResult:
    """Whether a step changed anything and, if not, what it waits for on the chain."""

    changed: bool
    wait_for_block: int | None = None
    wait_for_time: int | None = None


class Server:
    """One committee server; see protocol.md section 6."""

    def __init__(self, node: ServerNode) -> None:
        self.node = node
        self.consenting = Consenting(node)
        self.intake = Intake(node)
        self.uploading = Uploading(node, self.intake)
        self.complaints = Complaints(node, self.intake)
        self.sealing = Sealing(node, self.complaints)
        self.answering = self.make_answering()
        self.settling = Settling(node, self.answering)
        self.releasing = Releasing(node, self.settling)
        self.faulting = Faulting(node, self.answering, self.settling)

    def make_answering(self) -> Answering:
        """Return the part that answers challenges; tests and the demo put a liar here."""
        return Answering(self.node, self.sealing, self.complaints)

    def hpke_configuration(self) -> bytes:
        """Return what this server says of its HPKE key; nobody need believe it."""
        node = self.node
        return HpkeConfiguration(server=node.address, public_key=node.hpke_key.public).encode()

    def board(self, task: TaskId, round_number: Round, kinds: tuple[str, ...]) -> bytes:
        """Return the public records of these kinds, as CBOR."""
        unknown = set(kinds) - board.PUBLIC_KINDS
        if unknown:
            raise VerificationError(
                "no such records", got=sorted(unknown), want=sorted(board.PUBLIC_KINDS)
            )
        records = self.node.repository.records(task, round_number, kinds)
        return cbor.encode([{"kind": record.kind, "body": record.body} for record in records])

    def blob(self, name: Hash32) -> bytes | None:
        """Return published content by its hash."""
        return self.node.repository.published(name)

    def blob_part(self, name: Hash32, *, first: int, count: int) -> tuple[int, bytes] | None:
        """Return how many bytes published content has, and up to `count` of them."""
        return self.node.repository.published_part(name, first=first, count=count)

    def held_part(
        self,
        task: TaskId,
        round_number: Round,
        server: int,
        owner: Address,
        *,
        first: int,
        count: int,
    ) -> tuple[int, bytes] | None:
        """Return the size of the package kept for another server, and up to `count` bytes."""
        return self.node.repository.held_part(
            task, round_number, server, owner, first=first, count=count
        )

    def held_package(
        self, task: TaskId, round_number: Round, server: int, owner: Address
    ) -> bytes | None:
        """Return the sealed package kept for another server."""
        return self.node.repository.held(task, round_number, server, owner)

    async def accept_answer(self, task: TaskId, round_number: Round, body: bytes) -> None:
        """Take an owner's opening of a package that its server complained about."""
        view = await self.node.view(task)
        state = self.node.market.round_state(task)
        now = self.node.chain.head_timestamp()
        if (state.round, state.phase) != (round_number, Phase.OPEN):
            raise VerificationError("the round takes no answers", got=state.phase.name)
        if now >= answer_cut_off(view, state):
            raise VerificationError("answers to complaints have ended", got=now)
        opening = Opening.decode(body, max_bytes=view.parameters.package_bytes)
        self.complaints.accept_answer(view, state, opening)

    async def step(self, task: TaskId) -> StepResult:
        """Do everything that the task's current round allows now.

        Safe to repeat and to interrupt: what was done is durable, and what was not is done by a
        later step.
        """
        state = self.node.market.round_state(task)
        if state.round == 0:
            return StepResult(changed=False)
        view = await self.node.view(task)
        changed = await self._finalise(view, state)
        over = state.phase == Phase.IDLE
        changed |= await self.faulting.step(view, Round(state.round if over else state.round - 1))
        if state.phase == Phase.OPEN:
            return await self._step_open(view, state, changed)
        if state.phase == Phase.SEALED:
            return await self._step_sealed(view, state, changed)
        return StepResult(changed)

    async def _step_open(self, view: TaskView, state: RoundRecord, changed: bool) -> StepResult:
        if self.node.chain.head_timestamp() < state.submission_deadline:
            return StepResult(changed, wait_for_time=state.submission_deadline)
        changed |= await self.sealing.step(view, state)
        now = self.node.chain.head_timestamp()
        moments = [
            complaint_cut_off(view, state),
            hearing_cut_off(view, state),
            answer_cut_off(view, state),
            next_turn(view, state, now) or state.seal_deadline,
            state.seal_deadline,
        ]
        ahead = [moment for moment in moments if moment > now]
        return StepResult(changed, wait_for_time=min(ahead, default=state.seal_deadline))

    async def _step_sealed(self, view: TaskView, state: RoundRecord, changed: bool) -> StepResult:
        if self.node.chain.head() < state.challenge_final_block:
            return StepResult(changed, wait_for_block=state.challenge_final_block)
        changed |= await self.answering.step(view, state)
        changed |= await self.settling.step(view, state)
        cut_offs = CutOffs.of(view, state)
        head = self.node.chain.head()
        blocks = [*astuple(cut_offs), cut_offs.openings + GRACE_BLOCKS]
        if ahead := [block for block in blocks if block > head]:
            return StepResult(changed, wait_for_block=min(ahead))
        turn = next_turn(view, state, self.node.chain.head_timestamp())
        if turn is not None:
            return StepResult(changed, wait_for_time=turn)
        return StepResult(changed, wait_for_block=state.settlement_deadline_block)

    async def _finalise(self, view: TaskView, state: RoundRecord) -> bool:
        # The latest settled round is the open one's predecessor, or this one once it is idle.
        for round_number in (state.round, state.round - 1):
            if round_number >= 1:
                settled = self.node.market.round_settled(view.task, Round(round_number))
                if settled is None:
                    continue
                try:
                    return await self.settling.finalise(view, settled)
                except VerificationError:
                    # The final lock holds another set: no sum is released, later rounds go on.
                    return False
        return False
