"""The demo's run: publish a task, train through the market round by round, settle all accounts.

It plays the clock, not the parties: it tells each party when to take its next step and lets the
development chain mine when all wait for a block. What they do they do themselves, over HTTP and the
chain.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from omnilytics.chain.bindings.market import RoundOpened, RoundSettled
from omnilytics.chain.records import FaultKind
from omnilytics.demo.accounts import close_books, pay_out
from omnilytics.demo.drive import drive_round
from omnilytics.demo.market import DemoMarket, seat_committee, set_up_market
from omnilytics.demo.options import DemoOptions
from omnilytics.demo.result import DemoResult, RoundReport, Slash
from omnilytics.demo.specification import calibrate_demo, demo_specification
from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.units import Address, TaskId
from omnilytics.learning.threads import pin_threads
from omnilytics.learning.training import Evaluation, train_plain
from omnilytics.roles.auditor import Auditor
from omnilytics.roles.data_owner import Contribution
from omnilytics.roles.task_view import TaskView


class Observer(Protocol):
    """Is told what happens, for the live view."""

    def stage(self, text: str) -> None:
        """A stage begins."""
        ...

    def round_done(self, report: RoundReport) -> None:
        """A round is over."""
        ...


async def run_demo(options: DemoOptions, folder: Path, observer: Observer) -> DemoResult:
    """Run the whole demo and return what happened.

    Args:
        options: What to run.
        folder: For the servers' databases and files.
        observer: Is told of progress.
    """
    start = time.perf_counter()
    pin_threads()
    observer.stage("starting the chain, the contract and all parties")
    market = set_up_market(options, folder)
    try:
        result = await _Run(market, observer).all()
    finally:
        await market.close()
    result.total_seconds = time.perf_counter() - start
    return result


class _Run:
    def __init__(self, market: DemoMarket, observer: Observer) -> None:
        self._market = market
        self._observer = observer
        self._auditor = Auditor(market.reader, market.network.connect)
        self._seconds: dict[str, float] = defaultdict(float)

    async def all(self) -> DemoResult:
        market, options = self._market, self._market.options
        self._observer.stage("calibrating the published scales on the model owner's sample")
        with self._time("calibrate"):
            calibration = calibrate_demo(market)
        self._observer.stage("training the same model without protection, for comparison")
        with self._time("plain training"):
            plain = train_plain(
                market.trainer.fresh_copy(),
                market.data,
                rounds=options.rounds,
                batch_size=options.preset.batch_size,
                seed=options.seed,
                owners=range(options.honest_owners),
            )
        result = DemoResult(
            options=options,
            dimension=market.trainer.graph.parameter_count,
            plain_accuracies=[evaluation.accuracy for evaluation in plain],
            clipping_rate=calibration.clipping_rate,
        )
        self._observer.stage("publishing the task and locking its escrow")
        view = await market.model_owner.publish_task(demo_specification(market, calibration))
        seat_committee(market, view)
        result.committee = [market.name(address) for address in view.parameters.members]
        self._observer.stage("training through the market")
        for _ in range(options.rounds):
            report = await self._round(view, plain)
            result.rounds.append(report)
            self._observer.round_done(report)
        self._observer.stage("auditing what was slashed")
        with self._time("audit"):
            result.slashes = self._slashes(view.task)
        self._observer.stage("claiming rewards and fees, returning the rest, stakes and bonds")
        with self._time("payout"):
            await pay_out(market, view)
        close_books(market, view.task, result)
        result.gas = self._median_gas()
        result.seconds = dict(self._seconds)
        return result

    async def _round(self, view: TaskView, plain: Sequence[Evaluation]) -> RoundReport:
        before = dict(self._market.meter.bytes)
        seconds_before = dict(self._seconds)
        with self._time("publish"):
            opened = await self._market.model_owner.open_round()
        with self._time("contribute"):
            contributions, refused = await self._contribute(view.task, opened)
        gas_before = self._gas_counts()
        settled = await drive_round(self._market, view, opened, self._time)
        gas = {"open_round": self._market.model_owner.writer.gas.calls[-1][1]}
        gas |= self._gas_since(gas_before)
        with self._time("recover"):
            exact, verdict = await self._recover(settled, contributions)
        evaluation = self._market.trainer.evaluate(self._market.data.test)
        return RoundReport(
            round=opened.round,
            settled=settled is not None,
            accepted=verdict[0],
            rejected=verdict[1],
            named_servers=verdict[2],
            refused=refused,
            accuracy=evaluation.accuracy,
            plain_accuracy=plain[opened.round - 1].accuracy,
            loss=evaluation.loss,
            exact_sum=exact,
            clipped_owners=sum(entry.clip_factor < 1 for entry in contributions.values()),
            gas=gas,
            seconds={
                phase: value - seconds_before.get(phase, 0.0)
                for phase, value in self._seconds.items()
                if value != seconds_before.get(phase)
            },
            bytes={
                phase: count - before.get(phase, 0)
                for phase, count in self._market.meter.bytes.items()
            },
        )

    async def _contribute(
        self, task: TaskId, opened: RoundOpened
    ) -> tuple[dict[Address, Contribution], dict[str, str]]:
        """Let all owners contribute at once; one that cannot does not stop the others."""
        owners = self._market.owners
        results = await asyncio.gather(
            *(owner.contribute(task, opened.round) for owner in owners), return_exceptions=True
        )
        contributions, refused = {}, {}
        for owner, outcome in zip(owners, results, strict=True):
            if isinstance(outcome, Contribution):
                contributions[owner.address] = outcome
            elif isinstance(outcome, OmniLyticsError):
                refused[self._market.name(owner.address)] = outcome.message
            else:
                raise outcome
            await owner.force_if_hidden(task)
        return contributions, refused

    async def _recover(
        self,
        settled: RoundSettled | None,
        contributions: dict[Address, Contribution],
    ) -> tuple[bool, tuple[list[str], dict[str, str], dict[str, str]]]:
        """Recover the sum and step; return whether the sum is exact, and the verdict."""
        if settled is None:
            return False, ([], {}, {})
        recovered = await self._market.model_owner.recover(settled.round)
        self._market.trainer.step(recovered.gradients | recovered.differences)
        accepted, rejected, named = await self._verdict(settled)
        vectors = [contributions[owner].vector for owner in accepted]
        exact = bool(np.array_equal(recovered.total, np.sum(vectors, axis=0)))
        names = ([self._market.name(owner) for owner in accepted], rejected, named)
        return exact, names

    async def _verdict(
        self, settled: RoundSettled
    ) -> tuple[list[Address], dict[str, str], dict[str, str]]:
        """Audit the round from its public transcript; it gives the reasons."""
        resolution = (await self._auditor.audit(settled)).resolution
        name = self._market.name
        rejected = {name(owner): why for owner, why in resolution.rejected.items()}
        members = self._market.model_owner.view.parameters.members
        named = {name(members[server - 1]): why for server, why in resolution.faults.items()}
        return list(resolution.accepted), rejected, named

    def _slashes(self, task: TaskId) -> list[Slash]:
        """Return what was slashed, each checked against its transcript."""
        name = self._market.name
        return [
            Slash(
                party=name(audited.slashed.party),
                round=audited.slashed.round,
                kind=FaultKind(audited.slashed.kind).name.lower().replace("_", " "),
                amount_wei=audited.slashed.amount_wei,
                reporter=name(audited.slashed.reporter),
                share_wei=audited.slashed.share_wei,
            )
            for audited in self._auditor.check_slashes(task)
        ]

    def _median_gas(self) -> dict[str, int]:
        """Return the median gas of each call over all parties."""
        used: dict[str, list[int]] = defaultdict(list)
        for party in self._market.parties:
            for name, gas in party.writer.gas.calls:
                used[name].append(gas)
        return {name: round(float(np.median(values))) for name, values in sorted(used.items())}

    def _gas_counts(self) -> dict[Address, int]:
        return {party.address: len(party.writer.gas.calls) for party in self._market.parties}

    def _gas_since(self, counts: dict[Address, int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for party in self._market.parties:
            for name, gas in party.writer.gas.calls[counts[party.address] :]:
                found[name] = found.get(name, 0) + gas
        return found

    @contextmanager
    def _time(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] += time.perf_counter() - start
