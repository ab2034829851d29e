"""A task that is being trained through: rounds are opened, waited for, and recovered in turn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.chain.records import Phase, RoundRecord
from omnilytics.client.bought_folder import BoughtFolder
from omnilytics.client.connection import Connection
from omnilytics.client.events import Event, OnEvent
from omnilytics.foundation.errors import (
    ChainError,
    PeerError,
    ResumableTimeoutError,
    VerificationError,
)
from omnilytics.foundation.units import Round, TaskId, Wei
from omnilytics.learning.carried import Module, fill_gradients, fill_statistics
from omnilytics.perturbation.artefact import Tensors
from omnilytics.roles import model_owner as role
from omnilytics.roles.model_owner.owner import Gradients
from omnilytics.wire.task_specification import TaskSpecification

RELEASE_SECONDS = 600.0
"""How long servers may take to release a sum once its settlement is final."""
MOST_VOIDED = 3
"""Rounds in a row that may come to nothing before the buyer is asked."""


@dataclass(frozen=True, kw_only=True)
class BoughtRound:
    """A settled round, recovered."""

    number: Round
    owners: int
    """How many owners' gradients are in the mean."""
    gradients: Gradients
    """Mean gradient by parameter name, float64 arrays."""
    statistics: Gradients
    """New running statistics by buffer name, where the module has batch normalisation."""
    loss: float | None
    """Mean loss over the owners' samples, in the profile noise; None in others."""
    lying_servers: tuple[int, ...]
    """Servers whose share of the sum was wrong; it was corrected."""

    def fill_gradients(self, net: Module) -> None:
        """Set `.grad` of the module's parameters, and its running statistics.

        Again it sets the same values.

        Raises:
            ModelError: The module's parameters are not the task's.
        """
        fill_gradients(net, self.gradients)
        fill_statistics(net, self.statistics)


class BoughtTask:
    """A published task of this buyer."""

    def __init__(
        self,
        *,
        connection: Connection,
        owner: role.ModelOwner,
        folder: BoughtFolder,
        applied: int,
        on_event: OnEvent,
    ) -> None:
        self._connection = connection
        self._owner = owner
        self._folder = folder
        self._applied = applied
        self._on_event = on_event
        self._market = connection.market
        self._voided = 0

    @property
    def number(self) -> TaskId:
        """Number of the task in its market."""
        return self._owner.view.task

    @property
    def specification(self) -> TaskSpecification:
        """What was published, with its committee."""
        return self._owner.view.specification

    def rounds(
        self, *, timeout: float | None = None, void_missed: bool = True
    ) -> Iterator[BoughtRound]:
        """Open rounds one after another; give each once it is settled and final.

        What the loop's body did to the module is kept when it comes back for the next round. A
        round that was settled but not applied is given first, also after a restart.

        Args:
            timeout: Seconds that one round may take; for ever by default.
            void_missed: Void a round that missed its deadline, and open the next one.

        Raises:
            ResumableTimeoutError: A round takes too long, or too many came to nothing.
            KeyMaterialError: The open round's secrets are not in this folder.
        """
        while True:
            found = self._connection.run(
                self._connection.bounded(self._next(void_missed), timeout, "the round")
            )
            if found is None:
                return
            before = self._owner.model.state()
            try:
                yield found
            except GeneratorExit:
                self._leave(found, before)
                raise
            self._keep(found.number)

    def close(self) -> Wei:
        """Close the task; return what comes back of the escrow.

        Raises:
            ChainError: A round is open.
        """
        before = self._market.chain.balance(self._owner.key.address)
        receipt = self._owner.close_task()
        after = self._market.chain.balance(self._owner.key.address)
        refund = Wei(after - before + receipt.gas_cost_wei)
        self._tell("closed", f"task {self.number} is closed")
        return refund

    def _leave(self, found: BoughtRound, before: Tensors) -> None:
        """Keep a round whose loop was left after the step; undo what was filled before it.

        Running statistics are set along with gradients: that they changed tells of no step, and
        this round will be given again for those it was opened with.
        """
        model = self._owner.model
        after = model.state()
        parameters = before.keys() - found.statistics.keys()
        if any(not np.array_equal(after[name], before[name]) for name in parameters):
            self._keep(found.number)
        else:
            fill_statistics(model.module, {name: before[name] for name in found.statistics})

    def _keep(self, number: Round) -> None:
        model = self._owner.model
        self._folder.keep_model(model.state(), number)
        self._applied = number

    async def _next(self, void_missed: bool) -> BoughtRound | None:
        """Return the next round that was settled; None once there are no more."""
        while True:
            state = self._market.round_state(self.number)
            if state.phase is not Phase.IDLE:
                await self._attend(state, void_missed)
                continue
            if state.round > self._applied:
                settled = self._market.round_settled(self.number, state.round)
                if settled is not None:
                    return await self._recover(settled)
            record = self._market.task(self.number)
            if record.closed or state.round >= record.terms.rounds:
                return None
            opened = await self._owner.open_round()
            self._tell("opened", f"round {opened.round} is open", opened.round)

    async def _attend(self, state: RoundRecord, void_missed: bool) -> None:
        """Look once at a round under way; void it past its deadline."""
        chain = self._market.chain
        if state.phase is Phase.OPEN:
            missed = chain.head_timestamp() >= state.seal_deadline
        else:
            missed = chain.head() > state.settlement_deadline_block
        if not missed:
            until = state.seal_deadline if state.phase is Phase.OPEN else None
            self._tell("waiting", f"round {state.round} is {state.phase.name}", state.round, until)
            await self._connection.pause()
            return
        if not void_missed:
            raise ResumableTimeoutError(
                "the round missed its deadline",
                hint="rounds(void_missed=True) voids it and opens the next one",
                task=self.number,
                round=state.round,
            )
        self._void(state)

    def _void(self, state: RoundRecord) -> None:
        try:
            self._connection.writer.void_round(self.number)
        except ChainError:  # anybody may void: another may have been faster, or it was settled
            now = self._market.round_state(self.number)
            if (now.round, now.phase) == (state.round, state.phase):
                raise
        if self._market.round_voided(self.number, state.round) is None:
            return
        self._tell("voided", f"round {state.round} came to nothing and is void", state.round)
        self._voided += 1
        if self._voided >= MOST_VOIDED:
            self._voided = 0
            raise ResumableTimeoutError(
                "rounds come to nothing",
                got=f"{MOST_VOIDED} in a row",
                hint="look whether owners and servers are up, then call rounds() again",
                task=self.number,
            )

    async def _recover(self, settled: RoundSettled) -> BoughtRound | None:
        """Wait until a settlement is final and its sum is released; None where it went away."""
        number = settled.round
        self._tell("settled", f"round {number} is settled", number)
        final = settled.position.block_number + self.specification.windows.confirmations
        while self._market.chain.head() < final:
            await self._connection.pause()
        deadline = time.monotonic() + RELEASE_SECONDS
        while True:
            try:
                found = await self._owner.recover(number)
            except (PeerError, VerificationError):
                # Servers release the sum when they see the final settlement, each in its time.
                if time.monotonic() >= deadline:
                    raise
                await self._connection.pause()
                continue
            break
        self._voided = 0
        self._tell("recovered", f"round {number}: {found.accepted_count} owners", number)
        model = self._owner.model
        return BoughtRound(
            number=number,
            owners=found.accepted_count,
            gradients=model.parameter_gradients(found.gradients),
            statistics=model.statistics_after(found.differences),
            loss=found.loss,
            lying_servers=found.lying_servers,
        )

    def _tell(
        self, kind: str, message: str, number: Round | None = None, until: int | None = None
    ) -> None:
        self._on_event(
            Event(kind=kind, message=message, task=self.number, round=number, until=until)
        )
