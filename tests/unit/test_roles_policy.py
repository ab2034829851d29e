"""A server's policy, and what it costs an owner to force a certificate."""

from __future__ import annotations

from dataclasses import replace

import pytest
import wire_samples

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Hash32, Wei
from omnilytics.roles.server.policy import (
    DAY_SECONDS,
    SECONDS_PER_BLOCK,
    Price,
    ServerPolicy,
    longest_round_seconds,
)
from omnilytics.roles.server.sealing import MAX_FORCED_BYTES
from omnilytics.sharing.committee import OFFERED, Committee
from omnilytics.wire.task_specification import ETHER_TOKEN, TaskSpecification
from omnilytics.wire.transcript import Certificate, HeldSignature, ReceiptSignature

TOKEN = Address(b"t" * 20)
POLICY = ServerPolicy(
    prices=(
        Price(minimum_fee_wei=Wei(100), minimum_opening_fee_wei=Wei(10)),
        Price(token=TOKEN, minimum_fee_wei=Wei(3), minimum_opening_fee_wei=Wei(2)),
    ),
    most_stake_wei=Wei(1_000),
    longest_commitment_seconds=10 * DAY_SECONDS,
)


def _specification(**changes: object) -> TaskSpecification:
    fitting = {
        "token": ETHER_TOKEN,
        "fee_wei": 100,
        "opening_fee_wei": 10,
        "min_stake_wei": 1_000,
        "rounds": 1,
        "max_rounds": 1,
    }
    return wire_samples.specification(**(fitting | changes))


def test_a_policy_takes_what_just_fits() -> None:
    POLICY.check(_specification())
    POLICY.check(_specification(token=TOKEN, fee_wei=3, opening_fee_wei=2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fee_wei": 99}, "the fee per round is too small"),
        ({"opening_fee_wei": 9}, "the opening fee is too small"),
        ({"min_stake_wei": 1_001}, "the stake is more"),
        ({"max_rounds": 65_535}, "the commitment is more"),
        ({"token": Address(b"u" * 20)}, "does not accept the token"),
        ({"token": TOKEN, "fee_wei": 2}, "the fee per round is too small"),
        ({"token": TOKEN, "fee_wei": 3, "opening_fee_wei": 1}, "the opening fee is too small"),
    ],
)
def test_a_policy_refuses_what_just_does_not_fit(changes: dict[str, object], words: str) -> None:
    with pytest.raises(VerificationError, match=words):
        POLICY.check(_specification(**changes))


def test_the_commitment_counts_all_rounds_and_windows() -> None:
    specification = _specification(max_rounds=3)
    windows = specification.windows
    one = longest_round_seconds(windows)
    blocks = windows.settlement_blocks + windows.confirmations
    assert one == windows.submission_seconds + windows.seal_seconds + blocks * SECONDS_PER_BLOCK
    replace(POLICY, longest_commitment_seconds=3 * one).check(specification)
    with pytest.raises(VerificationError, match="commitment"):
        replace(POLICY, longest_commitment_seconds=3 * one - 1).check(specification)


def test_ether_alone_is_accepted_by_default() -> None:
    ServerPolicy().check(_specification())
    with pytest.raises(VerificationError, match="token"):
        ServerPolicy().check(_specification(token=TOKEN))


@pytest.mark.parametrize("committee", OFFERED, ids=str)
def test_a_full_certificate_of_an_honest_owner_fits_on_chain(committee: Committee) -> None:
    missing = range(committee.servers - committee.errors + 1, committee.servers + 1)
    receipts = tuple(
        ReceiptSignature(server=server, signature=b"\xff" * 65)
        for server in range(1, committee.quorum + 1)
    )
    held = tuple(
        HeldSignature(
            server=server,
            holder=holder,
            package_hash=Hash32(b"\xff" * 32),
            signature=b"\xff" * 65,
        )
        for server in missing
        for holder in range(1, committee.errors + 2)
    )
    certificate = Certificate(
        owner=Address(b"\xff" * 20),
        commitment=Hash32(b"\xff" * 32),
        submission_signature=b"\xff" * 65,
        receipts=receipts,
        held=held,
    )
    assert len(certificate.encode()) <= MAX_FORCED_BYTES // 3
