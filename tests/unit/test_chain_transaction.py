"""Signed transactions against eth-account, which shares no line with ours."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account

from omnilytics.chain.transaction import sign_transaction
from omnilytics.foundation.units import Address, Wei
from omnilytics.wire.signatures import SigningKey

KEY = SigningKey(b"\x11" * 32)
TARGET = Address(b"\x22" * 20)


@pytest.mark.parametrize("target", [TARGET, None])
@pytest.mark.parametrize("data", [b"", b"\x00", b"\x7f", b"\x80", b"x" * 5_000])
@pytest.mark.parametrize(("nonce", "value"), [(0, 0), (127, 1), (128, 10**18), (2**32, 2**96 - 1)])
def test_the_bytes_are_those_of_another_program(
    target: Address | None, data: bytes, nonce: int, value: int
) -> None:
    ours = sign_transaction(
        KEY,
        chain_id=31337,
        nonce=nonce,
        target=target,
        data=data,
        value=Wei(value),
        gas=3_000_000,
        fees_wei=(Wei(3 * 10**9), Wei(10**9)),
    )
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": 31337,
        "nonce": nonce,
        "data": data,
        "value": value,
        "gas": 3_000_000,
        "maxFeePerGas": 3 * 10**9,
        "maxPriorityFeePerGas": 10**9,
    }
    if target is not None:
        fields["to"] = target
    assert ours == bytes(Account.sign_transaction(fields, KEY.secret).raw_transaction)
    assert Account.recover_transaction(ours) == "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
