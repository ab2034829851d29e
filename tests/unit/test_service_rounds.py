"""The rounds' loop: which tasks it follows, one step at a time, what errors and deadlines do."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import address, digest

from omnilytics.chain.bindings.market import CommitteeFixed, RoundSettled, RoundVoided, TaskClosed
from omnilytics.chain.happenings import MarketEvent, Position
from omnilytics.chain.records import Phase, RoundRecord
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.roles.server import Server, StepResult
from omnilytics.roles.server.node import ServerNode
from omnilytics.service.leases import Leases
from omnilytics.service.metrics import Metrics
from omnilytics.service.rounds import (
    LINGER_BLOCKS,
    RoundsLoop,
    back_off_seconds,
    missed_deadline,
)
from omnilytics.service.settings import RoundsSection
from omnilytics.service.watch import ChainStatus, ChainWatch
from omnilytics.storage.database import Database, default_url
from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.storage.jobs import FREE, Jobs
from omnilytics.storage.migration import migrate

OWN, OTHER = address("own"), address("other")
NONE = Hash32(bytes(32))
QUICK = RoundsSection(
    recheck_seconds=0.1, back_off_seconds=0.05, longest_back_off_seconds=0.05, void="always"
)


def at(block: int) -> Position:
    return Position(
        block_number=block, block_hash=digest("b"), transaction_hash=digest("t"), log_index=0
    )


def fixed(task: int, *members: bytes, block: int = 1) -> CommitteeFixed:
    committee = cast(Any, members)
    return CommitteeFixed(position=at(block), task=TaskId(task), committee=committee, profiles=0)


def settled(task: int, number: int) -> RoundSettled:
    return RoundSettled(
        position=at(2),
        task=TaskId(task),
        round=Round(number),
        submissions_root=NONE,
        seed=NONE,
        accepted_root=NONE,
        accepted_count=1,
        v_bitmap=1,
        previous_payouts_root=NONE,
        payouts_root=NONE,
        transcript_hash=NONE,
        signers=1,
        words=(),
    )


def record(phase: Phase = Phase.IDLE, number: int = 1) -> RoundRecord:
    return RoundRecord(
        task=TaskId(1),
        round=Round(number),
        phase=phase,
        opened_block=1,
        submission_deadline=100,
        seal_deadline=200,
        submissions_root=NONE,
        count=0,
        sealed_block=10,
        challenge_block=11,
        challenge_final_block=12,
        settlement_deadline_block=50,
    )


class FakeMarket:
    def __init__(self) -> None:
        self.found: list[MarketEvent] = []
        self.state = record()
        self.leaving_block = 0

    def events(self) -> tuple[MarketEvent, ...]:
        return tuple(self.found)

    def steady(self) -> nullcontext[None]:
        return nullcontext()

    def round_state(self, task: TaskId) -> RoundRecord:
        return self.state

    def server(self, of: bytes) -> Any:
        return SimpleNamespace(leaving_block=self.leaving_block)


class FakeChain:
    def __init__(self) -> None:
        self.number, self.timestamp = 5, 50

    def head(self) -> int:
        return self.number

    def head_timestamp(self) -> int:
        return self.timestamp


class FakeServer:
    """Steps as a test says, and notices two at a time."""

    def __init__(self, step: Callable[[TaskId], StepResult]) -> None:
        self._step = step
        self.running: set[TaskId] = set()

    async def step(self, task: TaskId) -> StepResult:
        assert task not in self.running, "two steps of one task at once"
        assert threading.current_thread().name.startswith("worker-"), "steps may block"
        self.running.add(task)
        await asyncio.sleep(0)
        self.running.discard(task)
        return self._step(task)


class Clocked(Database):
    """A database whose clock a test moves."""

    seconds = 100

    def now(self) -> int:
        return self.seconds


class World:
    def __init__(
        self, step: Callable[[TaskId], StepResult], settings: RoundsSection, database: Database
    ) -> None:
        self.jobs = Jobs(database)
        self.market, self.chain, self.metrics = FakeMarket(), FakeChain(), Metrics()
        self.voided: list[TaskId] = []
        node = SimpleNamespace(
            market=self.market,
            chain=self.chain,
            address=OWN,
            writer=SimpleNamespace(void_round=self._void),
        )
        self.listeners: list[Callable[[], None]] = []
        self.watch = SimpleNamespace(status=ChainStatus(), listen=self.listeners.append)
        self.steps: list[TaskId] = []
        self.on_step = step

        def counted(task: TaskId) -> StepResult:
            self.steps.append(task)
            return self.on_step(task)

        self.loop = RoundsLoop(
            cast(ServerNode, node),
            cast(ChainWatch, self.watch),
            settings,
            self.metrics,
            Leases(self.jobs, seconds=settings.lease_seconds),
            make_server=lambda _: cast(Server, FakeServer(counted)),
        )

    def _void(self, task: TaskId) -> None:
        self.voided.append(task)
        self.market.state = record()

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def until(self, reached: Callable[[], bool]) -> None:
        """Run the loop until something is so, then stop it."""
        running = asyncio.create_task(self.loop.run())
        async with asyncio.timeout(20):
            while not reached():
                assert not running.done() or running.result() is None
                await asyncio.sleep(0.01)
        self.loop.stop()
        async with asyncio.timeout(20):
            await running


def idle(_task: TaskId) -> StepResult:
    return StepResult(changed=False)


def run(
    reached: Callable[[World], bool],
    *,
    step: Callable[[TaskId], StepResult] = idle,
    settings: RoundsSection = QUICK,
    prepare: Callable[[World], object] = lambda _: None,
    look: Callable[[World], object] = lambda _: None,
) -> World:
    """Run a loop until something is so; `look` sees how it ended."""

    async def scenario(database: Clocked) -> World:
        world = World(step, settings, database)
        prepare(world)
        await world.until(lambda: reached(world))
        look(world)
        return world

    with tempfile.TemporaryDirectory() as folder:
        url = default_url(Path(folder))
        migrate(url)
        database = Clocked(url)
        try:
            return asyncio.run(scenario(database))
        finally:
            database.close()


def with_tasks(*numbers: int) -> Callable[[World], object]:
    return lambda world: world.market.found.extend(fixed(number, OTHER, OWN) for number in numbers)


def test_it_follows_the_tasks_that_name_it() -> None:
    def prepare(world: World) -> None:
        world.market.found += [fixed(1, OWN), fixed(2, OTHER), fixed(3, OTHER, OWN)]
        world.market.found.append(TaskClosed(position=at(2), task=TaskId(1), unspent_wei=0))
        world.market.found += [fixed(4, OWN), fixed(5, OWN)]
        world.chain.number = 3 + LINGER_BLOCKS
        world.market.found.append(
            TaskClosed(position=at(world.chain.number), task=TaskId(4), unspent_wei=0)
        )

    world = run(lambda world: set(world.steps) == {3, 4, 5}, prepare=prepare)
    assert world.value("omnilytics_tasks_followed") == 3


def test_it_tells_how_many_steps_are_under_way() -> None:
    name = "omnilytics_round_steps_in_progress"
    seen: list[float] = []

    def prepare(world: World) -> None:
        def step(_task: TaskId) -> StepResult:
            seen.append(world.value(name))
            return StepResult(changed=False)

        world.on_step = step
        with_tasks(1)(world)

    world = run(lambda _: len(seen) > 1, prepare=prepare)
    assert set(seen) == {1.0}
    assert world.value(name) == 0


def test_it_steps_on_while_something_changes_then_waits_for_a_head() -> None:
    left = [3]

    def step(_task: TaskId) -> StepResult:
        left[0] -= 1
        return StepResult(changed=left[0] > 0)

    slow = QUICK.model_copy(update={"recheck_seconds": 600.0})
    woken: list[bool] = []

    def reached(world: World) -> bool:
        if len(world.steps) == 3 and not woken:
            woken.append(True)
            world.listeners[0]()  # a new head
        return len(world.steps) == 4

    world = run(reached, step=step, settings=slow, prepare=with_tasks(1))
    assert world.value("omnilytics_round_steps_total", outcome="changed") == 2


def test_one_bad_task_stops_no_other() -> None:
    def step(task: TaskId) -> StepResult:
        if task == 1:
            raise ChainError("no")
        if task == 2:
            raise RuntimeError("defect")
        return idle(task)

    world = run(
        lambda world: min(world.steps.count(TaskId(task)) for task in (1, 2, 3)) >= 3,
        step=step,
        prepare=with_tasks(1, 2, 3),
    )
    assert world.value("omnilytics_tasks_failing") == 2
    assert world.value("omnilytics_round_steps_total", outcome="failed") >= 6


def test_it_waits_while_the_chain_is_lost() -> None:
    def prepare(world: World) -> None:
        with_tasks(1)(world)
        world.watch.status = ChainStatus(problem="no answer")

    seen: list[bool] = []

    def reached(world: World) -> bool:
        if world.value("omnilytics_tasks_followed") == 1 and not seen:
            assert world.steps == []
            seen.append(True)
            world.watch.status = ChainStatus()
            world.listeners[0]()
        return bool(world.steps)

    run(reached, prepare=prepare)


def test_ends_of_rounds_are_counted_from_the_start() -> None:
    def prepare(world: World) -> None:
        world.market.found += [fixed(1, OWN), settled(1, 1), fixed(2, OTHER), settled(2, 1)]

    added: list[bool] = []

    def reached(world: World) -> bool:
        if world.steps and not added:
            added.append(True)
            voided = RoundVoided(position=at(3), task=TaskId(1), round=Round(3))
            world.market.found += [settled(1, 2), settled(2, 2), voided]
        return world.value("omnilytics_rounds_voided_total") == 1

    world = run(reached, prepare=prepare)
    assert world.value("omnilytics_rounds_settled_total") == 1


@pytest.mark.parametrize(
    ("void", "leaving", "pays"),
    [
        ("never", 9, False),
        ("when_leaving", 0, False),
        ("when_leaving", 9, True),
        ("always", 0, True),
    ],
)
def test_who_pays_for_ending_a_round(void: str, leaving: int, pays: bool) -> None:
    settings = QUICK.model_copy(update={"void": void})

    def prepare(world: World) -> None:
        with_tasks(1)(world)
        world.market.state = record(Phase.OPEN)
        world.market.leaving_block = leaving
        world.chain.timestamp = 200

    world = run(
        lambda world: bool(world.voided) if pays else len(world.steps) >= 3,
        settings=settings,
        prepare=prepare,
    )
    assert len(world.voided) == pays


def test_deadlines() -> None:
    assert not missed_deadline(record(Phase.OPEN), 1_000, 199)
    assert missed_deadline(record(Phase.OPEN), 0, 200)
    assert not missed_deadline(record(Phase.SEALED), 50, 10_000)
    assert missed_deadline(record(Phase.SEALED), 51, 0)
    assert not missed_deadline(record(Phase.IDLE), 1_000, 10_000)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_back_off_is_bounded_and_grows(failures: int, jitter: float) -> None:
    settings = RoundsSection(back_off_seconds=2, longest_back_off_seconds=60)
    pause = back_off_seconds(failures, settings, jitter)
    longest = min(60, 2 * 2 ** min(failures - 1, 20))
    assert longest / 2 <= pause <= longest


def test_a_step_that_hangs_holds_up_no_other_task() -> None:
    gate = threading.Event()

    def step(task: TaskId) -> StepResult:
        if task == 1:
            assert gate.wait(20)
        return idle(task)

    def reached(world: World) -> bool:
        if world.steps.count(TaskId(2)) >= 3:
            assert world.steps.count(TaskId(1)) == 1
            gate.set()
        return gate.is_set()

    run(reached, step=step, prepare=with_tasks(1, 2))


# leases


def test_it_holds_a_task_while_it_steps_it_and_gives_it_up_at_the_end() -> None:
    held: list[str] = []

    def prepare(world: World) -> None:
        with_tasks(1)(world)
        world.jobs.acquire(TaskId(1), "another", lease_seconds=50)
        world.jobs.release(TaskId(1), "another")

    def reached(world: World) -> bool:
        held.extend(job.lease_owner for job in world.jobs.all() if job.lease_owner != FREE)
        return bool(world.steps and held)

    def look(world: World) -> None:
        (job,) = world.jobs.all()
        assert (job.task, job.lease_owner, job.attempts) == (1, FREE, 0)

    run(reached, prepare=prepare, look=look)
    assert "another" not in held


def test_it_steps_no_task_of_another_process_until_that_ones_lease_ran_out() -> None:
    databases: list[Clocked] = []
    looks = [0]

    def prepare(world: World) -> None:
        with_tasks(1, 2)(world)
        assert world.jobs.acquire(TaskId(1), "another", lease_seconds=50)
        databases.append(cast(Clocked, world.jobs._database))

    def reached(world: World) -> bool:
        if world.steps.count(TaskId(2)) >= 3 + looks[0]:
            if databases[0].seconds == 100:
                assert TaskId(1) not in world.steps
                databases[0].seconds = 150
            world.listeners[0]()
            looks[0] += 1
        return TaskId(1) in world.steps

    run(reached, prepare=prepare)


def test_a_task_that_was_taken_over_is_not_stepped_any_more() -> None:
    """Its lease ran out while this process stalled."""
    one = QUICK.model_copy(update={"lease_seconds": 3})
    taken: list[int] = []

    def reached(world: World) -> bool:
        if world.steps and not taken:
            cast(Clocked, world.jobs._database).seconds += 4
            if world.jobs.acquire(TaskId(1), "another", lease_seconds=10_000):
                taken.append(0)
        if taken and not world.loop._leases._until:
            taken.append(len(world.steps))
        return len(taken) > 20

    world = run(reached, settings=one, prepare=with_tasks(1))
    assert taken[-1] == taken[5] == len(world.steps)


def test_a_failure_is_in_the_jobs_row_until_the_next_success() -> None:
    fails = [True]

    def step(_task: TaskId) -> StepResult:
        if fails[0]:
            raise ChainError("no gas", hint="wait")
        return idle(_task)

    seen: list[int] = []

    def reached(world: World) -> bool:
        jobs = world.jobs.all()
        if not jobs:
            return False
        job = jobs[0]
        if job.attempts >= 2 and fails[0]:
            assert "no gas" in job.last_error
            seen.append(job.attempts)
            fails[0] = False
        return bool(seen) and job.attempts == 0 and job.last_error == ""

    run(reached, step=step, prepare=with_tasks(1))


def test_a_defect_says_nothing_in_the_row_but_its_kind() -> None:
    def step(_task: TaskId) -> StepResult:
        raise RuntimeError("a secret")

    def look(world: World) -> None:
        (job,) = world.jobs.all()
        assert job.last_error == "RuntimeError: see the log"

    run(lambda world: len(world.steps) > 1, step=step, prepare=with_tasks(1), look=look)


def test_a_task_that_is_over_has_no_job() -> None:
    closed: list[bool] = []

    def reached(world: World) -> bool:
        if world.steps and not closed:
            closed.append(True)
            world.market.found.append(TaskClosed(position=at(2), task=TaskId(1), unspent_wei=0))
            world.chain.number = 3 + LINGER_BLOCKS
            world.listeners[0]()
        return bool(closed) and not world.jobs.all()

    run(reached, prepare=with_tasks(1))


def test_a_step_under_way_when_its_task_ends_leaves_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    may_step = Leases.may_step
    entered, is_over, stepped = threading.Event(), threading.Event(), threading.Event()

    def late(self: Leases, task: TaskId) -> bool:
        entered.set()
        assert is_over.wait(20), "the loop never noticed"
        result = may_step(self, task)
        stepped.set()
        return result

    monkeypatch.setattr(Leases, "may_step", late)

    def reached(world: World) -> bool:
        if entered.is_set() and len(world.market.found) == 1:
            world.market.found.append(TaskClosed(position=at(2), task=TaskId(1), unspent_wei=0))
            world.chain.number = 3 + LINGER_BLOCKS
            world.listeners[0]()
        elif entered.is_set() and not world.value("omnilytics_tasks_followed"):
            is_over.set()
        return stepped.is_set() and not world.jobs.all()

    run(reached, prepare=with_tasks(1))


def test_without_its_database_it_steps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    down = [True]
    acquire = Jobs.acquire

    def acquire_or_fail(self: Jobs, task: TaskId, owner: str, *, lease_seconds: int) -> bool:
        if down[0]:
            raise StorageUnavailableError("the database does not answer")
        return acquire(self, task, owner, lease_seconds=lease_seconds)

    monkeypatch.setattr(Jobs, "acquire", acquire_or_fail)

    def reached(world: World) -> bool:
        if world.value("omnilytics_round_steps_total", outcome="failed") >= 2 and down[0]:
            assert world.steps == []
            down[0] = False
        return bool(world.steps)

    run(reached, prepare=with_tasks(1))
