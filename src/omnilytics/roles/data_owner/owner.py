"""The data owner: computes a gradient on private data, shares it, and is paid (protocol.md 6).

What leaves the owner are sealed shares, a commitment and signatures; no t servers together learn
anything about the vector. The owner verifies all it computes on: the specification and the artefact
by the hashes on chain, the artefact by the closed operation list.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnilytics.algebra.fixed_point import IntegerVector, round_vector
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import Phase, TransactionReceipt
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.errors import OmniLyticsError, PeerError, VerificationError
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.learning.datasets import Batch
from omnilytics.learning.encoding import FloatArray
from omnilytics.learning.gradients import compute_gradients
from omnilytics.perturbation.artefact import Artefact
from omnilytics.perturbation.losses import Loss
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package_builder import PackageBuilder, Packages
from omnilytics.roles.admission import check_admitted
from omnilytics.roles.claims import find_credit
from omnilytics.roles.data_owner.delivery import Delivery, call_seconds, succeeds
from omnilytics.roles.data_owner.inspecting import Inspect, fetch_artefact, refuse_risky
from omnilytics.roles.data_owner.sent import Forgetful, Sent, SentKeeper
from omnilytics.roles.task_view import (
    Connect,
    TaskView,
    fetch_task,
    round_context,
    task_layout,
    task_profile,
)
from omnilytics.transport.meter import Meter
from omnilytics.transport.sealed_files import Sealed, write_sealed
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.messages import Complaint
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.transcript import Certificate

BatchSource = Callable[[Round], Batch | Iterable[Batch]]
"""Gives the private data of a round, at once or in parts; they never leave this process."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What an owner submitted in a round; the vector itself is for the owner's own records."""

    round: Round
    certificate: Certificate
    vector: IntegerVector
    clip_factor: float
    """What the honest vector was multiplied by to stay within the norm bound, 1 if not clipped."""

    def __repr__(self) -> str:
        return f"Contribution(round={self.round})"


class DataOwner:
    """One data owner."""

    def __init__(
        self,
        *,
        key: SigningKey,
        market: MarketReader,
        writer: MarketWriter,
        connect: Connect,
        batches: BatchSource,
        randomness: Randomness,
        now: Callable[[], float] = time.time,
        fewest_owners: int = 2,
        keeper: SentKeeper | None = None,
        meter: Meter | None = None,
        inspect: Inspect = refuse_risky,
    ) -> None:
        """Take what the owner is and has.

        Args:
            key: Signs submissions and requests.
            market: The market on its chain.
            writer: Sends claims.
            connect: Makes clients of servers.
            batches: Gives the private data of a round.
            randomness: For seeds, blinds and masks.
            now: Clock in unix seconds, for authenticated requests.
            fewest_owners: Tasks that may release a sum over fewer are refused.
            keeper: Keeps what was prepared, for a restart within a round.
            meter: Counts seconds by phase.
            inspect: Looks at every published model before it is computed on.
        """
        self.key = key
        self.address: Address = key.address
        self.market = market
        self.writer = writer
        self.randomness = randomness
        self.meter = meter or Meter()
        self._connect = connect
        self._batches = batches
        self._now = now
        self._fewest_owners = fewest_owners
        self._keeper = keeper or Forgetful()
        self._inspect = inspect
        self._views: dict[TaskId, TaskView] = {}
        self._sent: dict[TaskId, Sent] = {}

    async def view(self, task: TaskId) -> TaskView:
        """Return the checked task."""
        if task not in self._views:
            view = await fetch_task(self.market, task, self._connect)
            if view.parameters.min_owners < self._fewest_owners:
                raise VerificationError(
                    "the task may release a sum over fewer owners than this owner accepts",
                    got=view.parameters.min_owners,
                    want=f">= {self._fewest_owners}",
                    task=task,
                )
            self._views[task] = view
        return self._views[task]

    async def contribute(self, task: TaskId, round_number: Round) -> Contribution:
        """Compute, prove, share and submit one gradient.

        A repeat in the same round, after a failure or not, sends the same packages again.

        Raises:
            ModelError: The artefact is unsound or the gradient is not finite.
            PeerError: Too few servers took the submission.
            VerificationError: The task does not admit this owner, or its model looks built to copy
                samples; the hint says what it takes.
        """
        view = await self.view(task)
        check_admitted(self.market, view.parameters.admission, self.address)
        context = round_context(self.market, task, round_number)
        if not self._take_up(context):
            sent = await self._prepare(view, context)
            self._keeper.keep(sent)
            self._sent[task] = sent
        sent = self._sent[task]
        delivery = self._delivery(view, context)
        with self.meter.measure("submit"):
            sent.certificate = await delivery.certify(sent.sealed)
            self._keeper.keep_certificate(sent)
            sent.taken_by = await delivery.publish(sent.certificate)
        if len(sent.taken_by) < delivery.enough:
            raise PeerError(
                "too few servers took the certificate",
                got=len(sent.taken_by),
                want=delivery.enough,
                hint="submit again before the submission deadline, or force the certificate",
            )
        return Contribution(
            round=round_number,
            certificate=sent.certificate,
            vector=sent.vector,
            clip_factor=sent.clip_factor,
        )

    def sent(self, task: TaskId) -> Sent | None:
        """Return what was prepared for the latest round, or None."""
        return self._sent.get(task)

    def take_up(self, task: TaskId, round_number: Round) -> bool:
        """Go on with what an earlier process prepared for a round; tell whether there is any."""
        return self._take_up(round_context(self.market, task, round_number))

    def _take_up(self, context: RoundContext) -> bool:
        sent = self._sent.get(context.task)
        if sent is not None and sent.context == context:
            return True
        sent = self._keeper.kept(context)
        if sent is None:
            return False
        if sent.certificate is not None:
            body = sent.certificate.encode()
            forced = self.market.forced_submissions(context.task, context.round)
            sent.forced = any(event.certificate == body for event in forced)
        self._sent[context.task] = sent
        return True

    async def _prepare(self, view: TaskView, context: RoundContext) -> Sent:
        artefact = await self._artefact(view, context)
        with self.meter.measure("gradient"):
            gradient = await asyncio.to_thread(self._gradient, view, artefact, context.round)
        with self.meter.measure("protect"):
            rounded, factor = await asyncio.to_thread(self.encode, view, gradient)
            packages = await asyncio.to_thread(self.build_packages, view, context, rounded)
            folder = self._keeper.place(context)
            sealed = await asyncio.to_thread(self._seal, view, context, packages, folder)
        return Sent(context, packages, sealed, rounded, factor)

    async def force_if_hidden(self, task: TaskId) -> TransactionReceipt | None:
        """Put the certificate on chain if too few servers hold it; None where that is needless.

        To be called after `contribute`, whether it failed or not, and before the last
        `forced_seconds` of the submission window: every server then insists on sealing the
        submission. It costs the owner some 200,000 to 400,000 gas.

        Raises:
            ChainError: The contract refused it.
            FundsError: The owner cannot pay for it.
        """
        sent = self._sent.get(task)
        if sent is None or sent.certificate is None or sent.forced:
            return None
        view = await self.view(task)
        state = self.market.round_state(task)
        closes = state.submission_deadline - view.specification.windows.forced_seconds
        present = (state.round, state.phase) == (sent.context.round, Phase.OPEN)
        if not present or self.market.chain.head_timestamp() >= closes:
            return None
        delivery = self._delivery(view, sent.context)
        if len(sent.taken_by) < delivery.enough:  # an answer may have been lost
            sent.taken_by |= await delivery.shown_by(sent.certificate)
        if len(sent.taken_by) >= delivery.enough:
            return None
        body = sent.certificate.encode()
        receipt = await asyncio.to_thread(self.writer.force_submission, task, body)
        sent.forced = True
        return receipt

    async def answer_complaints(self, task: TaskId) -> bool:
        """Open the package of a server that complains about it; tell whether there was one.

        To be called until the round is sealed, by an owner without all receipts: unanswered, it is
        not sealed. An opened package is public, so one server more can read this vector.
        """
        sent = self._sent.get(task)
        view = await self.view(task)
        if sent is None or sent.certificate is None:
            return False
        if len(sent.certificate.receipts) == len(view.parameters.servers):
            return False
        state = self.market.round_state(task)
        last = state.submission_deadline + view.specification.windows.complaint_seconds
        if state.phase != Phase.OPEN or self.market.chain.head_timestamp() >= last:
            return False  # too late: an opening would only give a share away
        answered = False
        for server in await self._complaining_servers(view, sent, sent.certificate):
            sent.answered.add(server)
            body = sent.packages[server - 1].encode()
            for endpoint in view.endpoints:
                client = self._connect(endpoint)
                answered |= await succeeds(client.post_opening(task, sent.context.round, body))
        return answered

    async def claim(self, task: TaskId) -> TransactionReceipt | None:
        """Claim everything the settled rounds credited; None where nothing is due."""
        credit = await find_credit(self.market, task, self.address, self._connect)
        if credit is None or not credit.due_wei:
            return None
        return self.writer.claim(task, self.address, credit.cumulative_wei, credit.proof)

    # steps that a cheat changes in tests and in the demo

    def encode(
        self, view: TaskView, gradient: dict[str, FloatArray]
    ) -> tuple[IntegerVector, float]:
        """Scale, clip and round a gradient to the integers that are shared."""
        layout = task_layout(view.specification)
        specification = view.specification
        encoded = round_vector(
            layout.flatten(gradient),
            components=specification.component_sizes,
            fractional_bits=specification.fractional_bits,
            randomness=self.randomness,
        )
        return encoded.values, encoded.factor

    def build_packages(
        self, view: TaskView, context: RoundContext, vector: IntegerVector
    ) -> Packages:
        """Share and prove the vector; returns the packages in clear, server 1 first."""
        builder = PackageBuilder(view.parameters, context, self.key, self.randomness)
        return builder.build(vector)

    # inside a contribution

    async def _complaining_servers(
        self, view: TaskView, sent: Sent, certificate: Certificate
    ) -> set[int]:
        """Return the servers without receipt whose signed complaint is on a board."""
        wanted = Complaint(
            task=sent.context.task,
            round=sent.context.round,
            owner=self.address,
            commitment=certificate.commitment,
        )
        taken = {receipt.server for receipt in certificate.receipts} | sent.answered
        found: set[int] = set()
        for endpoint in view.endpoints:
            try:
                items = await self._connect(endpoint).board(
                    "submit", view.task, sent.context.round, ("complaint",)
                )
            except OmniLyticsError:
                continue
            for item in items:
                try:
                    signed = decode_signed(item.body)
                    if signed.message == wanted:
                        found.add(view.server_of(signed.signer(sent.context.domain)))
                except VerificationError:
                    continue
        return found - taken

    async def _artefact(self, view: TaskView, context: RoundContext) -> Artefact:
        artefact = await fetch_artefact(view, context, self._connect, self._keeper)
        self._inspect(view, artefact)
        return artefact

    def _gradient(
        self, view: TaskView, artefact: Artefact, round_number: Round
    ) -> dict[str, FloatArray]:
        loss, profile = Loss(view.specification.loss), task_profile(view.specification)
        return dict(compute_gradients(artefact, self._batches(round_number), loss, profile))

    def _seal(
        self, view: TaskView, context: RoundContext, packages: Packages, folder: Path
    ) -> Sequence[Sealed]:
        keys = [member.hpke_key for member in view.specification.committee]
        return write_sealed(packages, keys, context, folder)

    def _delivery(self, view: TaskView, context: RoundContext) -> Delivery:
        deadline = self.market.round_state(view.task).submission_deadline
        last = deadline - view.specification.windows.forced_seconds
        left = last - self.market.chain.head_timestamp()
        return Delivery(
            call_seconds=call_seconds(left, view.parameters.committee.errors),
            view=view,
            context=context,
            key=self.key,
            connect=self._connect,
            now=self._now,
            randomness=self.randomness,
        )
