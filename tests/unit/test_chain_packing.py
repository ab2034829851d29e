"""Packed storage words: every field in its bits, at its bounds, beside full neighbours."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from omnilytics.chain.bindings import market
from omnilytics.chain.packing import unpack_round, unpack_task, unpack_terms
from omnilytics.chain.records import Phase
from omnilytics.foundation.units import Address, Hash32, TaskId

FULL = 2**256 - 1
ZERO = Hash32(bytes(32))
PLACES = {
    ("terms", "n"): (0, 8),
    ("terms", "t"): (8, 8),
    ("terms", "e"): (16, 8),
    ("terms", "rounds"): (24, 16),
    ("terms", "max_rounds"): (40, 16),
    ("terms", "min_owners"): (120, 32),
    ("terms", "max_owners"): (152, 32),
    ("prices", "reward_wei"): (0, 96),
    ("prices", "fee_wei"): (96, 96),
    ("payer", "opening_fee_wei"): (160, 96),
    ("risk", "min_stake_wei"): (0, 96),
    ("risk", "min_bond_wei"): (96, 96),
}
WINDOWS = {
    "delta": (56, 8),
    "confirmations": (64, 8),
    "words_blocks": (72, 16),
    "openings_blocks": (88, 16),
    "settlement_blocks": (104, 16),
    "submission_seconds": (184, 24),
    "forced_seconds": (208, 24),
    "seal_seconds": (232, 24),
}
RECORD = {
    ("prices", "created_block"): (192, 48),
    ("progress", "closed"): (8, 1),
    ("progress", "refunded"): (9, 1),
    ("progress", "opened_rounds"): (16, 16),
    ("progress", "settled_rounds"): (32, 16),
    ("ledger", "credited_wei"): (0, 120),
    ("ledger", "claimed_wei"): (120, 120),
}


def stored(**words: Any) -> market.Task:
    """Return a task of zeros but for these words; IDLE has phase 0."""
    plain: dict[str, Any] = {field.name: 0 for field in fields(market.Task)}
    for name in ("spec_hash", "committee_hash", "submissions_root", "payouts_root"):
        plain[name] = ZERO
    plain |= {"previous_payouts_root": ZERO, "allow_root": ZERO, "token": Address(bytes(20))}
    return market.Task(**{**plain, **words})


def alone_and_left_out(place: tuple[int, int]) -> tuple[int, int]:
    """Return a word with only these bits, and one with all others."""
    start, size = place
    alone = ((1 << size) - 1) << start
    return alone, FULL ^ alone


@pytest.mark.parametrize(("where", "place"), PLACES.items())
def test_terms(where: tuple[str, str], place: tuple[int, int]) -> None:
    word, name = where
    alone, others = alone_and_left_out(place)
    assert getattr(unpack_terms(stored(**{word: alone})), name) == 2 ** place[1] - 1
    assert getattr(unpack_terms(stored(**{word: others})), name) == 0


@pytest.mark.parametrize(("name", "place"), WINDOWS.items())
def test_windows(name: str, place: tuple[int, int]) -> None:
    alone, others = alone_and_left_out(place)
    assert getattr(unpack_terms(stored(terms=alone)).windows, name) == 2 ** place[1] - 1
    assert getattr(unpack_terms(stored(terms=others)).windows, name) == 0


def test_the_terms_fill_their_word() -> None:
    places = [place for (word, _), place in PLACES.items() if word == "terms"]
    bits = [
        bit for start, size in [*places, *WINDOWS.values()] for bit in range(start, start + size)
    ]
    assert sorted(bits) == list(range(256))


@pytest.mark.parametrize(("where", "place"), RECORD.items())
def test_records(where: tuple[str, str], place: tuple[int, int]) -> None:
    word, name = where
    alone, others = alone_and_left_out(place)
    full = unpack_task(TaskId(1), stored(**{word: alone}), ())
    none = unpack_task(TaskId(1), stored(**{word: others}), ())
    assert int(getattr(full, name)) == 2 ** place[1] - 1
    assert int(getattr(none, name)) == 0


def test_the_model_owner_is_beside_the_opening_fee() -> None:
    owner = Address(bytes(range(20)))
    word = int.from_bytes(owner, "big") | (2**96 - 1) << 160
    assert unpack_task(TaskId(1), stored(payer=word), ()).model_owner == owner


def test_lists_are_by_committee_index() -> None:
    committee = tuple(Address(bytes([j]) * 20) for j in range(13))
    numbers = [65_535 - j for j in range(13)]
    word = sum(number << 16 * j for j, number in enumerate(numbers))
    task = stored(terms=13, profiles=word, attested=word | 1 << 255)
    record = unpack_task(TaskId(1), task, committee)
    assert list(record.profiles) == list(record.attested_rounds) == numbers
    drawing = unpack_task(TaskId(1), stored(terms=13), ())
    assert (drawing.profiles, drawing.attested_rounds) == ((), (0,) * 13)


@pytest.mark.parametrize("phase", list(Phase))
def test_rounds(phase: Phase) -> None:
    """What a seal fixed is told only while the round is sealed."""
    root = Hash32(b"\x07" * 32)
    terms = 3 << 56 | 2 << 64 | 40 << 104 | 120 << 232
    progress = phase | 9 << 16 | 1_000 << 48 | 77 << 96 | 80 << 144 | 500 << 192
    found = unpack_round(TaskId(4), stored(progress=progress, terms=terms, submissions_root=root))
    assert (found.task, found.round, found.phase) == (4, 9, phase)
    assert (found.opened_block, found.submission_deadline) == (77, 1_000)
    assert found.seal_deadline == 1_120
    sealed = (
        found.submissions_root,
        found.count,
        found.sealed_block,
        found.challenge_block,
        found.challenge_final_block,
        found.settlement_deadline_block,
    )
    assert sealed == ((root, 500, 80, 83, 85, 120) if phase is Phase.SEALED else (ZERO, *[0] * 5))


def test_fees_are_attested_rounds_and_a_share_of_the_openings() -> None:
    task = stored(
        terms=5,
        prices=70 << 96,
        payer=13 << 160,
        progress=3 << 16,
        attested=2 << 16,
    )
    record = unpack_task(TaskId(1), task, ())
    assert [record.fees_earned(index) for index in range(5)] == [7, 147, 7, 7, 7]
    assert replace(record, opened_rounds=0).fees_earned(0) == 0
