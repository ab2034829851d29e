"""A task that one sells to: rounds that take submissions, attended to until each is over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from omnilytics.chain.records import Phase
from omnilytics.client.connection import Connection
from omnilytics.client.events import Event, OnEvent
from omnilytics.client.sold_folder import SoldFolder
from omnilytics.foundation.errors import ChainError, FundsError, PeerError, UsageError
from omnilytics.foundation.units import Round, TaskId, Wei
from omnilytics.learning.user_data import Transform, batches_of
from omnilytics.perturbation.graph import InputKind
from omnilytics.roles import data_owner as role
from omnilytics.roles.task_view import TaskView
from omnilytics.wire.task_specification import TaskSpecification

if TYPE_CHECKING:
    from omnilytics.client.seller import Source


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What became of a submission."""

    round: Round
    receipts: int
    """Servers that gave a receipt."""
    clip_factor: float
    """What the gradient was multiplied by to stay within the bound, 1 if not shortened."""
    forced: bool
    """Whether the certificate had to be put on chain."""


class JoinedTask:
    """A task that admits this owner."""

    def __init__(
        self,
        *,
        connection: Connection,
        owner: role.DataOwner,
        view: TaskView,
        folder: SoldFolder,
        source: Source,
        on_event: OnEvent,
    ) -> None:
        self._connection = connection
        self._owner = owner
        self._view = view
        self._folder = folder
        self._source = source
        self._on_event = on_event
        self._market = connection.market
        self._over = 0

    @property
    def number(self) -> TaskId:
        """Number of the task in its market."""
        return self._view.task

    @property
    def specification(self) -> TaskSpecification:
        """The checked terms, with the committee."""
        return self._view.specification

    def rounds(
        self, *, timeout: float | None = None, most: int | None = None
    ) -> Iterator[JoinedRound]:
        """Give each round that takes submissions; attend to it until it is over.

        Attending means to answer servers that complain, and to put the certificate on chain where
        servers hide it: an owner that leaves the loop earlier may not be paid for the round.

        Args:
            timeout: Seconds that a round may take to open, or to end; for ever by default.
            most: End after so many rounds.

        Raises:
            ResumableTimeoutError: It took longer; call `rounds()` again.
        """
        connection = self._connection
        for _ in count() if most is None else range(most):
            coming = connection.bounded(self._next(), timeout, "the next round")
            found = connection.run(coming)
            if found is None:
                return
            yield found
            ending = connection.bounded(self._attend(found.number), timeout, "the round")
            connection.run(ending)

    def claim(self) -> Wei:
        """Claim what settled rounds credited; return how much was paid.

        Raises:
            PeerError: No server gives the transcript.
        """
        before = self._market.claimed(self.number, self._owner.address)
        self._connection.run(self._owner.claim(self.number))
        paid = Wei(self._market.claimed(self.number, self._owner.address) - before)
        self._tell("claimed", f"{paid} wei are paid")
        return paid

    async def _next(self) -> JoinedRound | None:
        """Return the next round that takes submissions; None once there are no more."""
        while True:
            state = self._market.round_state(self.number)
            ahead = state.round > self._over and state.phase is Phase.OPEN
            if ahead and self._market.chain.head_timestamp() < state.submission_deadline:
                return JoinedRound(self, state.round, state.submission_deadline)
            if state.round > self._over and state.phase is not Phase.IDLE:
                # Its submissions have ended: an earlier process may have sent one.
                if self._owner.take_up(self.number, state.round):
                    await self._attend(state.round)
                    continue
            elif state.phase is not Phase.OPEN:
                record = self._market.task(self.number)
                if record.closed or state.round >= record.terms.rounds:
                    return None
            self._tell("waiting", f"task {self.number}: waiting for the next round")
            await self._connection.pause()

    async def _attend(self, number: Round) -> None:
        """Do what a round still asks of its owner, until it is over."""
        self._owner.take_up(self.number, number)
        while True:
            state = self._market.round_state(self.number)
            if state.round != number or state.phase is Phase.IDLE:
                break
            if state.phase is Phase.OPEN:
                await self._force(number)
                if await self._owner.answer_complaints(self.number):
                    self._tell("answered", "a server's complaint is answered", number)
            self._tell("waiting", f"round {number} is {state.phase.name}", number)
            await self._connection.pause()
        self._over = number
        self._folder.forget(number)
        settled = self._market.round_settled(self.number, number) is not None
        ended = ("settled", "settled") if settled else ("voided", "void")
        self._tell(ended[0], f"round {number} is {ended[1]}", number)

    async def _submit(self, number: Round) -> Submitted:
        try:
            await self._owner.contribute(self.number, number)
        except PeerError:
            # With a certificate that too few servers show, the chain is left.
            if not await self._force(number):
                raise
        sent = self._owner.sent(self.number)
        assert sent is not None
        assert sent.certificate is not None
        self._tell("submitted", f"round {number}: the gradient is submitted", number)
        return Submitted(
            round=number,
            receipts=len(sent.certificate.receipts),
            clip_factor=sent.clip_factor,
            forced=sent.forced,
        )

    async def _force(self, number: Round) -> bool:
        try:
            forced = await self._owner.force_if_hidden(self.number) is not None
        except (FundsError, ChainError) as error:
            self._tell("waiting", f"the certificate could not be put on chain: {error}", number)
            return False
        if forced:
            self._tell("forced", "the certificate is on chain", number)
        return forced

    def _tell(self, kind: str, message: str, number: Round | None = None) -> None:
        self._on_event(Event(kind=kind, message=message, task=self.number, round=number))


class JoinedRound:
    """A round that takes submissions."""

    def __init__(self, task: JoinedTask, number: Round, deadline: int) -> None:
        self._task = task
        self.number = number
        self.deadline = deadline
        """When submissions end, in unix seconds of the chain."""

    def submit(self, data: object, *, transform: Transform | None = None) -> Submitted:
        """Compute the mean gradient over all samples of `data` and submit it.

        Again in the same round, also after a restart, what was prepared is sent once more and
        `data` is not looked at: a round takes one gradient of an owner.

        Args:
            data: DataLoader, Dataset, pair of arrays, or iterable of (inputs, labels) parts; one
                part is in memory at a time.
            transform: Applied to the inputs of every part: the task's preprocessing.

        Raises:
            ModelError: The data do not fit the model, or the gradient is not finite.
            PeerError: Too few servers took the submission: submit again before the deadline.
            UsageError: The submissions of the round have ended.
        """
        task = self._task
        if task._market.chain.head_timestamp() >= self.deadline:
            raise UsageError(
                "the round takes no more submissions",
                hint="go on to the next round",
                round=self.number,
            )
        task._source.data = batches_of(
            data,
            transform=transform,
            input_kind=InputKind(task.specification.input_kind),
        )
        return task._connection.run(task._submit(self.number))
