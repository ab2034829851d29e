"""Random interleavings of all parties' calls, against an independent model (machine_*.py).

`OMNILYTICS_MACHINE_STEPS` is how many steps to run (5,000), `OMNILYTICS_MACHINE_SEED` where to
start (1). A run repeats exactly on the same sources. After a difference the note below the error
tells the calls that led to it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from machine_chain import LightChain, block_hash
from machine_codewords import on_codewords
from machine_mutants import MUTANTS, Mutant, mutated
from machine_rules import WEIGHTS, reasons_in_sources, run
from machine_world import Tally, World, present_bytecode

from omnilytics.chain.bindings import market, registry
from omnilytics.chain.compile import build
from omnilytics.foundation.units import Address

STEPS = int(os.environ.get("OMNILYTICS_MACHINE_STEPS", "5000"))
SEED = int(os.environ.get("OMNILYTICS_MACHINE_SEED", "1"))
LONG_RUN = 20_000
"""From so many steps on every revert reason must have been met."""
STEPS_FOR_A_MUTANT = 20_000
TRIED = [mutant for mutant in MUTANTS if STEPS >= LONG_RUN or not mutant.rare]
"""Bugs that only long runs find are left to those."""
SECONDS_FOR_A_STEP = 0.3

build()


def calls_of_the_contracts() -> set[str]:
    """Return all functions that change something."""
    abi = [entry for codec in (market.codec(), registry.codec()) for entry in codec.names]
    views = {
        "burnt_wei", "bond", "claimed", "domain_separator", "draw_fee_wei", "draws", "draws_until",
        "fees_paid", "interface_version", "judged", "market", "min_stake_wei", "offer", "pool",
        "pool_size", "profile", "registry", "released_at", "risk", "server", "task", "task_count",
        "task_of",
    }  # fmt: skip
    return set(abi) - views


def test_the_machine_makes_every_call() -> None:
    made = set(WEIGHTS) - {"convict", "pose_as_market", "behave", "meddle"}
    made |= {f"convict_of_two_{what}" for what in ("words", "seeds", "finals")}
    assert made | {"enlist", "pin_draw", "draw", "release"} == calls_of_the_contracts()


def test_the_light_chain_knows_the_blocks_that_a_chain_knows() -> None:
    chain = LightChain()
    history = bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935")
    for back in (1, 2, 256, 257, 8_191):
        number = chain.block - back
        answer = chain.view(Address(history), number.to_bytes(32, "big"))
        assert answer == block_hash(number)


def test_interpolation_knows_words_from_others() -> None:
    words = [[0, 5 * point, 7, 3 + point] for point in (1, 2, 3)]
    assert on_codewords([1, 2, 3], words, 1)
    assert not on_codewords([1, 2, 3], [*words[:2], [0, 15, 7, 7]], 1)
    assert not on_codewords([1, 2, 3], [*words[:2], [1, 15, 7, 6]], 1)


def test_a_difference_is_noticed() -> None:
    """The comparison itself, on a model that is wrong in each of several ways."""
    party = next(iter(World(present_bytecode(), Tally()).state.ether))
    for spoil in (
        lambda world: world.state.ether.update({party: 1}),
        lambda world: setattr(world.state, "burnt", 1),
        lambda world: setattr(world.state, "min_stake", 1),
    ):
        world = World(present_bytecode(), Tally())
        spoil(world)
        with pytest.raises(AssertionError):
            world.call(party, "register_server", "http://x", bytes([1]) * 32, value=2)


@pytest.mark.slow
@pytest.mark.timeout(max(300, STEPS * SECONDS_FOR_A_STEP))
def test_contracts_and_model_agree(capsys: pytest.CaptureFixture[str]) -> None:
    tally = run(present_bytecode(), STEPS, SEED)
    with capsys.disabled():
        print(f"\n{tally.table()}")
    assert tally.steps >= STEPS
    if STEPS < 5_000:
        return
    never_called = calls_of_the_contracts() - set(tally.succeeded) - set(tally.refused)
    assert not never_called
    only_the_markets = {"enlist", "pin_draw", "draw", "release"}
    assert not calls_of_the_contracts() - only_the_markets - set(tally.succeeded)
    if STEPS >= LONG_RUN:
        assert not reasons_in_sources() - set(tally.reasons)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", TRIED, ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_found(mutant: Mutant, tmp_path: Path) -> None:
    tally = Tally()
    code = mutated(mutant, tmp_path)
    with pytest.raises(AssertionError):
        run(code, STEPS_FOR_A_MUTANT, SEED + 1, tally=tally)
    print(f"{mutant.name}: found after {tally.steps} steps")
