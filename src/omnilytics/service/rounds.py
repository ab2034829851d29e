"""The loop of a server: it follows its tasks on the chain and steps each of them.

Every unclosed task whose committee this server is in has a runner and, for each step, a thread of
its own, so one bad task stops no other; two steps of one task never run at once. A runner steps
until nothing changes, then waits for a new head or the time of another look. After an error it
backs off, with jitter, and while the chain does not answer it waits for that instead. Where several
processes share a database, one at a time steps a task (`leases`).

A round that missed its deadline is ended by whoever wants the next one, usually the model owner. A
server earns nothing by paying for it; only one that is leaving needs it, to have its stake back
(`rounds.void`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import SystemRandom

from structlog.contextvars import bound_contextvars

from omnilytics.chain.bindings.market import CommitteeFixed, RoundSettled, RoundVoided, TaskClosed
from omnilytics.chain.records import Phase, RoundRecord
from omnilytics.foundation.errors import ChainError, OmniLyticsError
from omnilytics.foundation.logging import get_logger
from omnilytics.foundation.units import Round, TaskId
from omnilytics.roles.server import Server, StepResult
from omnilytics.roles.server.node import ServerNode
from omnilytics.service.leases import Leases
from omnilytics.service.metrics import Metrics
from omnilytics.service.registration import find_server
from omnilytics.service.settings import RoundsSection
from omnilytics.service.threads import Workers
from omnilytics.service.watch import ChainWatch

LINGER_BLOCKS = 256
"""So long a closed task is still followed: its last round may have to become final."""
MOST_TASKS = 1 << 20
"""So many tasks may wait for a thread: they all wait, none is refused."""
STEPS_WITHOUT_REST = 100
"""An honest round takes about fifteen; a task that changes on and on gives others their turn."""
_LOG = get_logger("omnilytics.rounds")
_JITTER = SystemRandom()


def back_off_seconds(failures: int, settings: RoundsSection, jitter: float) -> float:
    """Return how long to wait after so many failures in a row, from 1.

    Doubles each time up to the longest, then is cut to between half and all by `jitter` in 0 .. 1,
    so that servers that failed together do not try again together.
    """
    doubled = settings.back_off_seconds * 2.0 ** min(failures - 1, 30)
    return float(min(doubled, settings.longest_back_off_seconds) * (0.5 + jitter / 2))


@dataclass
class _Runner:
    """One task and how it goes."""

    task: TaskId
    server: Server
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    is_recorded: bool = False
    """Whether the job's row says of this runner that all is well."""
    phase: tuple[Round, Phase] | None = None
    is_over: bool = False
    """Whether the task is over: the runner ends after the step under way."""
    running: asyncio.Task[None] | None = None


class RoundsLoop:
    """Takes part in the rounds of all tasks of one server; runs in one event loop."""

    def __init__(
        self,
        node: ServerNode,
        watch: ChainWatch,
        settings: RoundsSection,
        metrics: Metrics,
        leases: Leases,
        make_server: Callable[[ServerNode], Server] = Server,
        housekeeping: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the loop.

        Args:
            node: The server's environment.
            watch: Tells of new heads.
            settings: How often, how patiently.
            metrics: Where to count.
            leases: Which tasks this process may step; given up when the loop ends.
            make_server: Makes the server that steps one task, each its own.
            housekeeping: Called between looks at the chain, in a thread.
        """
        self._node = node
        self._watch = watch
        self._settings = settings
        self._metrics = metrics
        self._leases = leases
        self._make_server = make_server
        self._housekeeping = housekeeping
        self._runners: dict[TaskId, _Runner] = {}
        self._workers = Workers(settings.tasks_at_once, waiting=MOST_TASKS)
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._counted: set[tuple[str, TaskId, Round]] | None = None

    async def run(self) -> None:
        """Follow the chain until `stop`; ends once no step is under way."""
        self._leases.start()
        try:
            await self._run()
            await asyncio.to_thread(self._leases.release)
        finally:
            self._leases.stop()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._watch.listen(lambda: _call_soon(loop, self._wake))
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                await self._tend(await asyncio.to_thread(self._own_tasks))
                await asyncio.to_thread(self._housekeeping)
            except OmniLyticsError:
                _LOG.warning("cannot follow the chain", exc_info=True)
            except Exception:
                _LOG.exception("following the chain failed")
            await _wait_first(self._woken, self._settings.recheck_seconds)
        running = [each.running for each in self._runners.values() if each.running is not None]
        await asyncio.gather(*running, return_exceptions=True)
        self._workers.stop(timeout_seconds=0.1)

    def stop(self) -> None:
        """Begin no further step; from any thread by `call_soon_threadsafe`."""
        self._stopping.set()
        self._wake()

    def _wake(self) -> None:
        self._woken.set()
        for runner in self._runners.values():
            runner.woken.set()

    # which tasks

    def _own_tasks(self) -> set[TaskId]:
        """Return the tasks to follow, by the chain's events; counts what became of rounds."""
        own: set[TaskId] = set()
        ended: set[tuple[str, TaskId, Round]] = set()
        with self._node.market.steady():
            head, events = self._node.chain.head(), self._node.market.events()
        for event in events:
            if isinstance(event, CommitteeFixed) and self._node.address in event.committee:
                own.add(event.task)
            elif isinstance(event, TaskClosed):
                if head > event.position.block_number + LINGER_BLOCKS:
                    own.discard(event.task)
            elif isinstance(event, RoundSettled) and event.task in own:
                ended.add(("settled", event.task, event.round))
            elif isinstance(event, RoundVoided) and event.task in own:
                ended.add(("voided", event.task, event.round))
        self._count(ended)
        return own

    def _count(self, ended: set[tuple[str, TaskId, Round]]) -> None:
        """Count rounds that ended since the start; what was there before is history."""
        counted = ended if self._counted is None else self._counted
        for kind, task, round_number in sorted(ended - counted):
            counter = self._metrics.settled if kind == "settled" else self._metrics.voided
            counter.inc()
            _LOG.info(f"round {kind}", task=task, round=round_number)
        self._counted = counted | ended

    async def _tend(self, tasks: set[TaskId]) -> None:
        """Start a runner for each new task, let those of tasks that are over come to their end."""
        for task in tasks - self._runners.keys():
            runner = _Runner(task, self._make_server(self._node))
            runner.running = asyncio.create_task(self._follow(runner), name=f"task-{task}")
            self._runners[task] = runner
            _LOG.info("following task", task=task)
        for task in self._runners.keys() - tasks:
            self._runners[task].is_over = True
            self._runners[task].woken.set()
        self._metrics.tasks.set(len(tasks))

    # one task

    async def _follow(self, runner: _Runner) -> None:
        """Step a task until it is over or the loop stops; then its job goes as well.

        Only here, after its last step, which would take the lease again.
        """
        with bound_contextvars(task=runner.task):
            await self._step_on(runner)
            if runner.is_over:
                await asyncio.to_thread(self._leases.forget, runner.task)
                del self._runners[runner.task]
                _LOG.info("task is over")

    async def _step_on(self, runner: _Runner) -> None:
        steps = 0
        while not (self._stopping.is_set() or runner.is_over):
            runner.woken.clear()
            if self._watch.status.problem is not None:
                await _wait_first(runner.woken, self._settings.recheck_seconds)
                continue
            with self._metrics.stepping.track_inprogress():
                result = await self._workers.run(lambda: self._step(runner))
            steps = steps + 1 if result is not None and result.changed else 0
            if 0 < steps < STEPS_WITHOUT_REST:
                continue
            if result is None:
                await self._back_off(runner)
            else:
                await _wait_first(runner.woken, self._settings.recheck_seconds)

    async def _step(self, runner: _Runner) -> StepResult | None:
        """Take one step in a worker's thread; None where it failed, which is logged and counted.

        Steps read the chain and wait for transactions, which blocks: each has a thread and an event
        loop of its own while it lasts.
        """
        if self._stopping.is_set():
            return StepResult(changed=False)
        try:
            if not self._leases.may_step(runner.task):
                runner.is_recorded = False
                return StepResult(changed=False)  # another process does
            with self._metrics.step_seconds.time(), self._node.market.steady():
                result = await runner.server.step(runner.task)
                self._tell_phase(runner)
                if not result.changed and self._void_if_due(runner):
                    result = StepResult(changed=True)
        except OmniLyticsError as error:
            _LOG.warning("step failed", failures=runner.failures + 1, exc_info=True)
            self._record_failure(runner, error)
            return None
        except Exception as error:
            _LOG.exception("step failed", failures=runner.failures + 1)
            self._record_failure(runner, error)
            return None
        self._record_success(runner, result)
        return result

    def _record_failure(self, runner: _Runner, error: Exception) -> None:
        self._metrics.steps.labels(outcome="failed").inc()
        runner.failures += 1
        runner.is_recorded = False
        self._count_failing()
        self._leases.failed(runner.task, error)

    def _record_success(self, runner: _Runner, result: StepResult) -> None:
        self._metrics.steps.labels(outcome="changed" if result.changed else "unchanged").inc()
        runner.failures = 0
        self._count_failing()
        if not runner.is_recorded:
            self._leases.succeeded(runner.task)
            runner.is_recorded = True

    async def _back_off(self, runner: _Runner) -> None:
        pause = back_off_seconds(runner.failures, self._settings, _JITTER.random())
        await _wait_first(self._stopping, pause)

    def _count_failing(self) -> None:
        failing = sum(each.failures > 0 for each in list(self._runners.values()))
        self._metrics.failing.set(failing)

    def _tell_phase(self, runner: _Runner) -> None:
        state = self._node.market.round_state(runner.task)
        if runner.phase != (state.round, state.phase):
            runner.phase = (state.round, state.phase)
            _LOG.info("round is " + state.phase.name.lower(), round=state.round)

    def _void_if_due(self, runner: _Runner) -> bool:
        """End a round that missed its deadline, if this server is to pay for that."""
        node = self._node
        if self._settings.void == "never":
            return False
        state = node.market.round_state(runner.task)
        if not missed_deadline(state, node.chain.head(), node.chain.head_timestamp()):
            return False
        if self._settings.void == "when_leaving":
            record = find_server(node.market, node.address)
            if record is None or not record.leaving_block:
                return False
        try:
            node.writer.void_round(runner.task)
        except ChainError:
            if node.market.round_state(runner.task) == state:
                raise
            return False  # another party was faster
        _LOG.info("voided a round past its deadline", round=state.round)
        return True


def missed_deadline(state: RoundRecord, head: int, head_timestamp: int) -> bool:
    """Tell whether a round can be neither sealed nor settled any more."""
    if state.phase == Phase.OPEN:
        return head_timestamp >= state.seal_deadline
    return state.phase == Phase.SEALED and head > state.settlement_deadline_block


async def _wait_first(event: asyncio.Event, seconds: float) -> None:
    """Return once the event is set, or after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)
