"""Random terms of tasks, sound ones and ones with a single flaw."""

from __future__ import annotations

import random
from dataclasses import replace

from machine_state import NOBODY
from machine_world import MARKET, MIN_STAKE, TOKENS

from omnilytics.chain.bindings.market import Terms
from omnilytics.foundation.units import Address, Hash32

SHAPES = [(3, 1, 0)] * 4 + [(5, 1, 1)] * 4 + [(4, 1, 0), (5, 2, 0), (7, 2, 1)]
"""n, t, e."""
FLAWS: dict[str, dict[str, int]] = {
    "no threshold": {"t": 0},
    "budget above threshold": {"e": 9, "t": 8},
    "threshold above n": {"t": 12},
    "too few for the budget": {"t": 2, "e": 2},
    "stake below the least": {"min_stake_wei": MIN_STAKE - 1},
    "stake too big": {"min_stake_wei": 2**96},
    "stake above all": {"min_stake_wei": 2**96 - 1},
    "bond too big": {"min_bond_wei": 2**96},
    "no rounds": {"rounds": 0},
    "more rounds than most": {"rounds": 3, "max_rounds": 2},
    "too many rounds": {"max_rounds": 2**16},
    "no owners": {"min_owners": 0},
    "least above most": {"min_owners": 3, "max_owners": 2},
    "too many owners": {"max_owners": 2**32},
    "reward too big": {"reward_wei": 2**96},
    "rewards too big": {"reward_wei": 2**96 - 1, "max_owners": 2**20, "max_rounds": 2**5},
    "fee too big": {"fee_wei": 2**96},
    "opening fee too big": {"opening_fee_wei": 2**96},
    "no submission window": {"submission_seconds": 0, "forced_seconds": 0},
    "long submission window": {"submission_seconds": 30 * 86_400 + 1},
    "forced too early": {"submission_seconds": 10, "forced_seconds": 11},
    "no seal window": {"seal_seconds": 0},
    "long seal window": {"seal_seconds": 30 * 86_400 + 1},
    "longer than bonds": {"min_bond_wei": 1, "submission_seconds": 863_999, "seal_seconds": 2},
    "as long as bonds": {"min_bond_wei": 1, "submission_seconds": 863_999, "seal_seconds": 1},
    "long without bonds": {"min_bond_wei": 0, "submission_seconds": 863_999, "seal_seconds": 2},
    "no delta": {"delta": 0},
    "long delta": {"delta": 256, "words_blocks": 300, "openings_blocks": 300},
    "many confirmations": {"confirmations": 256, "words_blocks": 300, "openings_blocks": 300},
    "words before the seed": {"words_blocks": 1, "delta": 1, "confirmations": 0},
    "openings before words": {"words_blocks": 9, "openings_blocks": 8},
    "settlement with openings": {"openings_blocks": 40, "settlement_blocks": 40},
    "settlement too late": {"settlement_blocks": 8_000},
    "anything goes": {"t": 2**256 - 1, "e": 2**256 - 1, "rounds": 2**256 - 1},
}


def token_for(dice: random.Random) -> Address:
    """Return ether or a token; seldom something that is none."""
    roll = dice.random()
    if roll < 0.55:
        return NOBODY
    if roll < 0.97:
        return dice.choice([*list(TOKENS)[:2], *TOKENS])
    return MARKET


def random_terms(dice: random.Random) -> Terms:
    """Return terms within all bounds."""
    token = token_for(dice)
    huge = token != NOBODY and dice.random() < 0.1
    price = 2**96 - 1 if huge else dice.choice([0, 1, 10, 999])
    min_owners = dice.randint(1, 3)
    rounds = dice.randint(1, 3)
    submission = dice.choice([3, 60, 60, 600, 600, 86_400])
    delta, confirmations = dice.choice([(1, 0), (2, 1), (3, 2)])
    words = delta + confirmations + dice.randint(1, 3)
    long = dice.choice([0] * 8 + [260, 7_000])
    # The last one of a chain without old hashes: delta + settlement + confirmations = 255.
    settlement = words + 1 + dice.choice([0, 1, 9, 60, 200]) + long
    if dice.random() < 0.05:
        settlement = 255 - delta - confirmations
    return Terms(
        spec_hash=Hash32(dice.randbytes(32)),
        token=token,
        t=1,
        e=0,
        min_stake_wei=dice.choice([MIN_STAKE, MIN_STAKE, MIN_STAKE + 500]),
        min_bond_wei=dice.choice([0, 50, 400]),
        allow_root=Hash32(dice.randbytes(32) if dice.random() < 0.3 else bytes(32)),
        reward_wei=price if huge else dice.choice([0, 7, 100, 100_000]),
        fee_wei=price,
        opening_fee_wei=dice.choice([0, 13, 1_000]),
        rounds=rounds,
        max_rounds=rounds + dice.randint(0, 3),
        min_owners=min_owners,
        max_owners=min_owners + dice.choice([0, 1, 4, 2**20]),
        submission_seconds=submission,
        forced_seconds=dice.choice([0, 1, submission // 2, submission]),
        seal_seconds=dice.choice([1, 600, 3_600, 200_000]),
        delta=delta,
        confirmations=confirmations,
        words_blocks=words,
        openings_blocks=words + dice.randint(0, 1) if settlement > words + 1 else words,
        settlement_blocks=settlement,
    )


def flawed(terms: Terms, dice: random.Random) -> Terms:
    """Return terms with one flaw."""
    return replace(terms, **FLAWS[dice.choice(list(FLAWS))])  # type: ignore[arg-type]


def escrow_of(terms: Terms, n: int, rounds: int) -> int:
    """Return what some rounds cost, as far as it can be sent at all."""
    price = terms.max_owners * terms.reward_wei + n * terms.fee_wei + terms.opening_fee_wei
    return min(rounds * price, 2**79)
