"""The state machine: which calls follow one another is hypothesis' choice."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from machine_actions import Parties
from machine_choices import Dice
from machine_liveness import free_everything
from machine_market import DAY, TASK_DAYS
from machine_registry import DRAW_BLOCKS
from machine_state import DAYS_14, NOBODY, Task
from machine_state import Phase as TaskPhase
from machine_world import KEYS, SERVERS, TOKENS, Bytecode, Tally, World

from omnilytics.chain.compile import CONTRACTS
from omnilytics.foundation.units import Hash32

STEPS_PER_EXAMPLE = 120
SEEDS = st.integers(0, 2**48 - 1)
COMPARE_ALL_EVERY = 40
WEIGHTS = {
    "create_task": 3,
    "create_drawn_task": 3,
    "redraw": 2,
    "reveal_draw": 2,
    "draw_committee": 3,
    "top_up": 2,
    "close_task": 3,
    "open_round": 5,
    "force_submission": 2,
    "seal": 8,
    "settle": 9,
    "void_round": 3,
    "claim": 8,
    "claim_many": 3,
    "claim_fees": 4,
    "report_fault": 5,
    "convict": 4,
    "register_server": 3,
    "set_profile": 2,
    "add_stake": 2,
    "set_offer": 3,
    "leave": 3,
    "withdraw_stake": 5,
    "sweep": 2,
    "add_bond": 2,
    "leave_bond": 1,
    "withdraw_bond": 1,
    "pose_as_market": 1,
    "behave": 2,
    "meddle": 1,
}
UNREACHABLE = frozenset(
    {
        "registry of another market",  # deployment
        "too many profiles",  # 65,535 calls
    }
)
"""Reasons in the sources that no call of the machine can meet."""


class Machine(RuleBasedStateMachine):
    """Random interleavings of everybody's calls, each compared with the model."""

    code: Bytecode
    tally: Tally

    def __init__(self) -> None:
        super().__init__()
        self.parties = Parties(World(self.code, self.tally))
        self.steps = 0

    @property
    def world(self) -> World:
        """Chain and model."""
        return self.parties.world

    @initialize(number=SEEDS)
    def start(self, number: int) -> None:
        """Register servers with offers; some chains keep no old block hashes."""
        dice = self._dice(number)
        self.tally.examples += 1
        history = dice.random() < 0.8
        self.parties = Parties(World(self.code, self.tally, has_history=history))
        for name in SERVERS[: dice.choice([3, 5, 6, 7, 7, 7])]:
            party = KEYS[name].address
            key = Hash32(dice.randbytes(32))
            stake = 1_000 * dice.randint(1, 4)
            self.world.call(party, "register_server", "http://server", key, value=stake)
            for token in (NOBODY, *list(TOKENS)[: dice.choice([0, 2, 2, 3])]):
                fee = dice.choice([0, 0, 0, 0, 0, 0, 10, 2**96 - 1])
                self.world.call(party, "set_offer", token, True, fee, 2**96 - 1)
        for name in SERVERS[5 : dice.choice([5, 6, 7])]:  # some could go at any time
            self.world.call(KEYS[name].address, "leave")
        self.world.advance(1, DAYS_14)

    @rule(number=SEEDS)
    def any_call(self, number: int) -> None:
        """Make any call."""
        dice = self._dice(number)
        (name,) = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
        self._step(self._one_of(dice, name) if self.world.state.tasks else self._next(dice), dice)

    @rule(number=SEEDS)
    def go_on(self, number: int) -> None:
        """Make the call that a task waits for, so that whole rounds happen."""
        dice = self._dice(number)
        self._step(self._next(dice), dice)

    @rule(number=SEEDS)
    def be_paid(self, number: int) -> None:
        """Claim, or close; where there is nothing to claim yet, go on."""
        dice = self._dice(number)
        credited = any(task.credited for task in self.world.state.tasks.values())
        names = ["claim", "claim", "claim_many", "claim_fees", "close_task"] if credited else []
        self._step(self._one_of(dice, *names), dice)

    @rule(number=SEEDS)
    def judge(self, number: int) -> None:
        """Report or convict somebody."""
        dice = self._dice(number)
        served = any(task.committee for task in self.world.state.tasks.values())
        names = ["report_fault", "report_fault", "convict", "add_bond"] if served else []
        self._step(self._one_of(dice, *names), dice)

    @rule(number=SEEDS)
    def come_and_go(self, number: int) -> None:
        """Change who serves and what is at stake."""
        dice = self._dice(number)
        names = ["register_server", "leave", "withdraw_stake", "add_stake", "set_offer", "sweep"]
        names += ["leave", "withdraw_stake", "withdraw_stake", "set_profile"]
        names += ["add_bond", "leave_bond", "withdraw_bond"]
        self._step(self._one_of(dice, *names), dice)

    @rule(number=SEEDS)
    def wait(self, number: int) -> None:
        """Change what accounts do with ether, or let much time pass, and go on."""
        dice = self._dice(number)
        if dice.random() < 0.1:
            self.parties.wait(dice)
        self._step(self._one_of(dice, "behave", "meddle", "pose_as_market"), dice)

    def _dice(self, number: int) -> Dice:
        """Return randomness of this step: hypothesis likes to repeat numbers."""
        return random.Random(f"{number} {self.steps}")

    def _one_of(self, dice: Dice, *names: str) -> str:
        """Return one of these calls, or else the one that a task waits for."""
        return dice.choice(names) if names and dice.random() < 0.4 else self._next(dice)

    def _next(self, dice: Dice) -> str:
        """Return what a task waits for: most steps should be rounds' business."""
        active = self.parties.tasks()
        servers = self.world.state.servers.values()
        if sum(server.left_time is None for server in servers) < 4 and dice.random() < 0.5:
            return dice.choice(["register_server", "withdraw_stake"])
        if len(active) < 2 or (len(active) < 5 and dice.random() < 0.04):
            return dice.choice(["create_task", "create_task", "create_drawn_task"])
        self.parties.focus = number = dice.choice(active)
        return self._due(number, dice)

    def _due(self, number: int, dice: Dice) -> str:
        """Return what a task waits for."""
        task = self.world.state.tasks[number]
        if task.phase in (TaskPhase.OPEN, TaskPhase.SEALED):
            return self._due_in_round(task, dice)
        if task.phase is TaskPhase.DRAWING:
            return self._due_in_draw(number, dice)
        expired = self.world.chain.time // DAY > task.created_day + TASK_DAYS
        if task.opened < task.paid_rounds and not expired:
            return "open_round"
        return dice.choice(["top_up", "close_task", "close_task", "claim", "open_round"])

    def _due_in_draw(self, number: int, dice: Dice) -> str:
        draw = self.world.state.draws[number]
        if self.world.chain.block > draw.pinned_block + DRAW_BLOCKS or dice.random() < 0.1:
            return dice.choice(["redraw", "close_task"])
        if dice.random() < 0.3:  # who comes, offers more or goes while a draw is under way
            names = ["add_stake"] * 3 + ["set_offer"] * 2 + ["leave", "register_server"]
            names += ["withdraw_stake"] * 2 + ["sweep"] * 2
            return dice.choice(names)
        if number in self.parties.hopeless and dice.random() < 0.85:
            return "close_task"
        return "draw_committee" if any(draw.randomness) else "reveal_draw"

    def _due_in_round(self, task: Task, dice: Dice) -> str:
        chain = self.world.chain
        if dice.random() < 0.04:
            return "void_round"
        if task.phase is TaskPhase.OPEN:
            late = chain.time >= task.idle_since + task.terms.seal_seconds
            early = chain.time < task.idle_since and dice.random() < 0.15
            return "void_round" if late else "force_submission" if early else "seal"
        late = chain.block > task.sealed_block + task.terms.settlement_blocks
        return "void_round" if late else "settle"

    def _step(self, name: str, dice: Dice) -> None:
        self.tally.steps += 1
        self.steps += 1
        action: Callable[[Dice], None] = getattr(self.parties, name)
        self._traced(lambda: action(dice))
        if self.steps % COMPARE_ALL_EVERY == 0:
            self._traced(self.world.compare_everything)

    def teardown(self) -> None:
        """Free everything, and compare everything once more."""
        if self.steps and not self.world.broken:
            self._traced(self._end)

    def _end(self) -> None:
        free_everything(self.parties)
        self.world.compare_everything()

    def _traced(self, action: Callable[[], Any]) -> None:
        """Say what led to a difference."""
        try:
            action()
        except Exception as error:
            self.world.broken = True
            error.add_note("\n".join(self.world.trace[-150:]))
            raise


def run(
    code: Bytecode,
    steps: int,
    first_seed: int,
    tally: Tally | None = None,
) -> Tally:
    """Run at least so many steps; an AssertionError carries the calls that led to it."""
    tally = Tally() if tally is None else tally
    machine = type("SeededMachine", (Machine,), {"code": code, "tally": tally})
    batch = 0
    while tally.steps < steps:
        examples = max(1, min(40, -(-(steps - tally.steps) // STEPS_PER_EXAMPLE)))
        seed(first_seed * 1_000_003 + batch)(machine)
        run_state_machine_as_test(machine, settings=_settings(examples))
        batch += 1
    return tally


def _settings(examples: int) -> settings:
    # Not shrunk: a step's choices depend on how many there were before it.
    return settings(
        max_examples=examples,
        stateful_step_count=STEPS_PER_EXAMPLE,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        print_blob=False,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )


def reasons_in_sources() -> set[str]:
    """Return all revert reasons that the contracts' sources name."""
    texts = [path.read_text() for path in sorted(Path(CONTRACTS).glob("*.vy"))]
    reasons = re.findall(r'(?:assert [^"#]*?|^ *\)), "([^"]+)"', "\n".join(texts), re.MULTILINE)
    return set(reasons) - UNREACHABLE
