"""Taking one round from its opening to its end, as the parties' own loops and a chain would.

It plays the clock, not the parties: all servers take steps until none changes anything, then the
development chain mines up to the block or moves to the time that the first of them waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from omnilytics.chain.bindings.market import RoundOpened, RoundSettled
from omnilytics.chain.records import Phase, RoundRecord
from omnilytics.demo.market import DemoMarket
from omnilytics.foundation.errors import ResumableTimeoutError
from omnilytics.roles.server import StepResult
from omnilytics.roles.task_view import TaskView

MAX_SWEEPS = 200
"""Steps of all servers that one round may take; an honest round takes about fifteen."""

Timer = Callable[[str], AbstractContextManager[None]]


def _no_timer(_phase: str) -> AbstractContextManager[None]:
    return nullcontext()


async def drive_round(
    market: DemoMarket, view: TaskView, opened: RoundOpened, timer: Timer = _no_timer
) -> RoundSettled | None:
    """Step all servers until the round is settled and final, or void it; None if it was voided.

    Args:
        market: The market; its servers may be replaced between sweeps.
        view: The task.
        opened: The round; submissions end now.
        timer: Measures the phases by name.
    """
    chain, reader = market.chain, market.reader
    with timer("seal"):
        chain.wait_for_time(opened.submission_deadline)
    for _ in range(MAX_SWEEPS):
        state = reader.round_state(view.task)
        with timer(_phase_name(view, state, chain.head())):
            steps = await asyncio.gather(*(server.step(view.task) for server in market.servers))
        if any(step.changed for step in steps):
            continue
        answers = [await owner.answer_complaints(view.task) for owner in market.owners]
        if any(answers):
            continue
        if reader.round_state(view.task).phase == Phase.IDLE:
            return reader.round_settled(view.task, opened.round)
        _wait(market, view, state, steps)
    raise ResumableTimeoutError("the round did not settle", round=opened.round)


def _wait(market: DemoMarket, view: TaskView, state: RoundRecord, steps: list[StepResult]) -> None:
    """Let the chain advance to what the servers wait for; void the round past its deadline."""
    chain, writer = market.chain, market.model_owner.writer
    sealed = state.phase == Phase.SEALED
    if sealed and chain.head() >= state.settlement_deadline_block:
        chain.wait_for_block(state.settlement_deadline_block + 1)
        writer.void_round(view.task)
    elif not sealed and chain.head_timestamp() >= state.seal_deadline:
        writer.void_round(view.task)
    elif blocks := [step.wait_for_block for step in steps if step.wait_for_block is not None]:
        chain.wait_for_block(min(blocks))
    else:
        chain.wait_for_time(
            min(step.wait_for_time for step in steps if step.wait_for_time is not None)
        )


def _phase_name(view: TaskView, state: RoundRecord, head: int) -> str:
    if state.phase == Phase.OPEN:
        return "seal"
    if state.phase == Phase.IDLE:
        return "finalise"
    windows = view.specification.windows
    return "check" if head < state.sealed_block + windows.openings_blocks else "settle"
