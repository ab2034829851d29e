"""Transactions of type 2 (EIP-1559) as bytes: fields, signature, RLP."""

from __future__ import annotations

import rlp
from eth_hash.auto import keccak

from omnilytics.foundation.units import Address, Wei
from omnilytics.wire.signatures import SigningKey

_TYPE = b"\x02"


def sign_transaction(
    key: SigningKey,
    *,
    chain_id: int,
    nonce: int,
    target: Address | None,
    data: bytes,
    value: Wei,
    gas: int,
    fees_wei: tuple[Wei, Wei],
) -> bytes:
    """Return a signed transaction as nodes take it; without a target it creates a contract.

    `fees_wei` is (max fee, priority fee) per gas.
    """
    max_fee_wei, priority_fee_wei = fees_wei
    no_access_list: list[bytes] = []
    fields = [
        chain_id,
        nonce,
        priority_fee_wei,
        max_fee_wei,
        gas,
        target or b"",
        value,
        data,
        no_access_list,
    ]
    signature = key.sign_digest(keccak(_TYPE + rlp.encode(fields)))
    parity = signature[64] - 27
    r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
    transaction: bytes = _TYPE + rlp.encode([*fields, parity, r, s])
    return transaction
