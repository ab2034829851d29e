"""The model owner: escrows, publishes the perturbed model, recovers the sum.

The step along the mean gradient is its user's. It never sees one owner's vector: only the sum over
an accepted set, once n - e servers have agreed on that set. It trusts no server: shares of the sum
are checked against each other (protocol.md section 6.8).
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from omnilytics.algebra.fixed_point import IntegerVector, from_field
from omnilytics.chain.bindings.market import RoundOpened, RoundSettled
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import TransactionReceipt
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.errors import (
    ChainError,
    KeyMaterialError,
    OmniLyticsError,
    PeerError,
    VerificationError,
)
from omnilytics.foundation.mapping import mapped
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.learning.carried import CarriedModel
from omnilytics.perturbation.artefact import encode_artefact
from omnilytics.perturbation.gauge import analyse
from omnilytics.perturbation.round_secret import (
    Record,
    restore_round_secret,
    sample_round_secret,
)
from omnilytics.roles.model_owner.engaging import Engaging
from omnilytics.roles.task_view import (
    Connect,
    TaskView,
    check_specification,
    round_context,
    task_layout,
    task_profile,
)
from omnilytics.sharing.recovery import recover_sum
from omnilytics.transport.authentication import authenticate
from omnilytics.transport.client import aggregate_path, artefact_path
from omnilytics.transport.hpke import HpkeKey, aggregate_binding
from omnilytics.transport.meter import Meter
from omnilytics.transport.released import ReleasedShare, aggregate_bytes
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.task_specification import TaskSpecification

Gradients = dict[str, NDArray[np.floating[Any]]]


@dataclass(frozen=True, kw_only=True)
class RecoveredRound:
    """What a settled round gave the model owner."""

    round: Round
    accepted_count: int
    total: IntegerVector
    """Sum of the accepted owners' integers, shape (D,), exact."""
    gradients: Gradients
    """Mean gradient of the true model by the published graph's tensors."""
    differences: Gradients
    """Running statistics less the owners' mean, by the graph's tensors; see `statistics_after`."""
    loss: float | None
    """Mean loss of the true model over the accepted owners' samples; None but with noise."""
    lying_servers: tuple[int, ...]
    """Servers of V whose share of the sum was off the others' codeword."""


class RoundKeeper(Protocol):
    """Keeps what a round was prepared with until it is recovered."""

    def keep(self, round_number: Round, secret: Record, artefact: bytes) -> None:
        """Keep a round's secret and published artefact; durable once this returns."""
        ...

    def kept(self, round_number: Round) -> tuple[Record, bytes] | None:
        """Return secret and artefact of a round, or None."""
        ...


class _Memory:
    """Keeps rounds for as long as the process lives."""

    def __init__(self) -> None:
        self._rounds: dict[Round, tuple[Record, bytes]] = {}

    def keep(self, round_number: Round, secret: Record, artefact: bytes) -> None:
        self._rounds[round_number] = (secret, artefact)

    def kept(self, round_number: Round) -> tuple[Record, bytes] | None:
        return self._rounds.get(round_number)


class ModelOwner:
    """One model owner with one task."""

    def __init__(
        self,
        *,
        key: SigningKey,
        hpke_key: HpkeKey,
        market: MarketReader,
        writer: MarketWriter,
        connect: Connect,
        model: CarriedModel,
        randomness: Randomness,
        now: Callable[[], float],
        keeper: RoundKeeper | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.key = key
        self.hpke_key = hpke_key
        self.market = market
        self.writer = writer
        self.model = model
        self.meter = meter or Meter()
        self._connect = connect
        self._randomness = randomness
        self._now = now
        self._engaging = Engaging(
            key=key,
            market=market,
            writer=writer,
            connect=connect,
            randomness=randomness,
            now=now,
        )
        self._structure = analyse(model.graph)
        self._keeper = keeper or _Memory()
        self._view: TaskView | None = None
        self._frozen_is_published = False

    @property
    def view(self) -> TaskView:
        """The published task; raises VerificationError before `publish_task`."""
        if self._view is None:
            raise VerificationError("no task is published yet")
        return self._view

    async def publish_task(self, specification: TaskSpecification) -> TaskView:
        """Find the task's servers, escrow its rounds on chain, publish its specification.

        A repeat, after a failure or not, takes up the task that there is and pays nothing.

        Raises:
            PeerError: A named server does not agree, or too few took the specification.
        """
        task = await self._engaging.engage(specification)
        content = specification.encode()
        self._view = check_specification(self.market, task, content)
        await self._publish(task, Round(0), content)
        task_layout(specification).matches(self.model.graph, task_profile(specification))
        return self._view

    async def open_round(self) -> RoundOpened:
        """Perturb the model with fresh secrets, publish it, and open the next round.

        What the round was prepared with is kept before it is opened: a repeat, after a failure or
        not, opens it with the same artefact.

        Raises:
            PeerError: Too few servers took the artefact.
            ChainError: The contract refuses the round.
        """
        task = self.view.task
        number = Round(self.market.round_state(task).round + 1)
        kept = self._keeper.kept(number)
        if kept is None:
            with self.meter.measure("perturb"):
                profile = task_profile(self.view.specification)
                secret = sample_round_secret(
                    self.model.graph, self._structure, profile, self._randomness
                )
                content = encode_artefact(self.model.artefact(secret))
                self._keeper.keep(number, secret.record(), content)
        else:
            content = kept[1]
        with self.meter.measure("publish"):
            await self._publish_frozen(number)
            await self._publish(task, number, content)
            return self._open(task, number, content_hash(content))

    def _open(self, task: TaskId, number: Round, name: Hash32) -> RoundOpened:
        try:
            return self.writer.open_round(task, name)
        except ChainError:
            # An earlier process may have sent it: then this round is open with this artefact.
            opened = self.market.round_opened(task, number)
            if opened is None or opened.artefact_hash != name:
                raise
            return opened

    async def recover(self, round_number: Round) -> RecoveredRound:
        """Fetch the shares of the sum, check them, and undo the perturbation exactly."""
        settled = self.market.round_settled(self.view.task, round_number)
        if settled is None:
            raise VerificationError("the round is not settled", round=round_number)
        kept = self._keeper.kept(round_number)
        if kept is None:
            raise KeyMaterialError(
                "the secret of the round is not here",
                hint="recover the round where it was opened",
                round=round_number,
            )
        opened = self.market.round_opened(self.view.task, round_number)
        if opened is None or content_hash(kept[1]) != opened.artefact_hash:
            raise KeyMaterialError(
                "the secret that is kept here is not the one the round was opened with",
                hint="recover the round where it was opened; one account needs one folder",
                round=round_number,
            )
        specification = self.view.specification
        with tempfile.TemporaryDirectory(prefix="omnilytics-released-") as folder:
            with self.meter.measure("release"):
                shares = await self._collect(settled, Path(folder))
            with self.meter.measure("recover"):
                recovered = recover_sum(shares, self.view.parameters.committee, self._randomness)
        with self.meter.measure("recover"):
            total = from_field(recovered.values)
            layout, profile = task_layout(specification), task_profile(specification)
            perturbed = layout.mean_of_sum(
                total,
                fraction_bits=specification.fractional_bits,
                accepted=settled.accepted_count,
            )
            secret = restore_round_secret(self.model.graph, self._structure, profile, kept[0])
            found = secret.recover(perturbed)
        return RecoveredRound(
            round=round_number,
            accepted_count=settled.accepted_count,
            total=total,
            gradients=found.gradients,
            differences=found.differences,
            loss=found.loss,
            lying_servers=recovered.liars,
        )

    def close_task(self) -> TransactionReceipt:
        """Close the task and take back what no settled round used."""
        return self.writer.close_task(self.view.task)

    async def _publish_frozen(self, round_number: Round) -> None:
        """Give the committee the weights that never change, once in a process's life."""
        if self._frozen_is_published:
            return
        content = self.model.frozen_content(task_profile(self.view.specification).dtype)
        if content is not None:
            await self._publish(self.view.task, round_number, content)
        self._frozen_is_published = True

    async def _publish(self, task: TaskId, round_number: Round, content: bytes) -> None:
        """Give content to the committee; n - e servers must take it."""
        name = content_hash(content)
        results = await asyncio.gather(
            *(
                self._publish_at(member.endpoint, task, round_number, name, content)
                for member in self.view.specification.committee
            )
        )
        if sum(results) < self.view.parameters.quorum:
            raise PeerError(
                "too few servers took the content",
                got=sum(results),
                want=self.view.parameters.quorum,
                hint="check that the committee's servers are up",
            )

    async def _publish_at(
        self, endpoint: str, task: TaskId, round_number: Round, name: Hash32, content: bytes
    ) -> bool:
        path = artefact_path(task, name)
        headers = self._authenticate("PUT", path, content, task, round_number)
        try:
            await self._connect(endpoint).put_artefact(task, name, content, headers)
        except OmniLyticsError:
            return False
        return True

    async def _collect(self, settled: RoundSettled, folder: Path) -> dict[int, ReleasedShare]:
        """Return the shares of the sum of the servers in V that answered, still sealed."""
        standing = [
            server
            for server in self.view.parameters.servers
            if settled.v_bitmap >> (server - 1) & 1
        ]
        shares = await asyncio.gather(
            *(self._share(settled, server, folder / str(server)) for server in standing)
        )
        return {
            server: share
            for server, share in zip(standing, shares, strict=True)
            if share is not None
        }

    async def _share(
        self, settled: RoundSettled, server: int, answer: Path
    ) -> ReleasedShare | None:
        """Fetch a server's answer into a file; return the share in it, or None."""
        task, number = settled.task, settled.round
        endpoint = self.view.specification.committee[server - 1].endpoint
        path = aggregate_path(task, number)
        dimension = self.view.parameters.statement.dimension
        binding = aggregate_binding(
            round_context(self.market, task, number), settled.accepted_root, server
        )
        try:
            with answer.open("xb") as out:
                await self._connect(endpoint).aggregate(
                    task,
                    number,
                    lambda body: self._authenticate("POST", path, body, task, number),
                    out,
                    max_bytes=aggregate_bytes(dimension),
                )
            return ReleasedShare(mapped(answer), self.hpke_key, binding, dimension)
        except OmniLyticsError:
            return None

    def _authenticate(
        self, method: str, path: str, body: bytes, task: TaskId, round_number: Round
    ) -> dict[str, str]:
        return authenticate(
            method=method,
            path=path,
            body=body,
            task=task,
            round_number=round_number,
            time=int(self._now()),
            key=self.key,
            domain=self.market.domain,
            randomness=self._randomness,
        )
