"""Sending transactions: one key, one nonce counter. The only module that signs transactions.

A `Sender` must be the only one of its key: two would hand out the same nonce. Gas and fees are
explicit; where the chain can tell, a transaction that would revert is refused before it costs
anything.
"""

from __future__ import annotations

import threading
from typing import Any

from eth_account import Account

from omnilytics.chain.abi import market_codec
from omnilytics.chain.connection import Chain, RawReceipt
from omnilytics.chain.events import decode_logs
from omnilytics.chain.records import TransactionReceipt
from omnilytics.foundation.errors import ChainError, FundsError
from omnilytics.foundation.units import Address, Hash32, Wei, show_address
from omnilytics.wire.signatures import SigningKey

NOTHING = Wei(0)


class Sender:
    """The one owner of an account's nonces. Its repr shows the address alone."""

    def __init__(self, chain: Chain, private_key: bytes) -> None:
        """Take 32 bytes of a secp256k1 key; raises KeyMaterialError when it is not one."""
        self._key = SigningKey(private_key)
        self._lock = threading.Lock()
        self._next_nonce: int | None = None
        self.chain = chain
        self.address = self._key.address
        self.gas_cost_wei = Wei(0)
        """What all transactions of this sender have cost so far, without the value they sent."""

    def __repr__(self) -> str:
        return f"Sender({show_address(self.address)})"

    def send(
        self, target: Address | None, data: bytes, *, value: Wei = NOTHING, gas: int
    ) -> TransactionReceipt:
        """Send one transaction and wait until it is mined.

        Args:
            target: The contract; None creates one from `data`.
            data: Calldata.
            value: Ether to send along, in wei.
            gas: Most gas that it may use.

        Returns:
            The receipt, with the events of the market contract at `target`.

        Raises:
            FundsError: The account cannot pay value and gas.
            ChainError: It reverts; the message is the contract's reason.
            ResumableTimeoutError: It was sent but not mined in time.
        """
        with self._lock:
            self._check_funds(value, gas)
            if target is not None:
                self.chain.preflight(self.address, target, data, value, gas)
            transaction_hash = self._submit(target, data, value, gas)
        receipt = self.chain.wait_for_receipt(transaction_hash)
        self.gas_cost_wei = Wei(self.gas_cost_wei + receipt.gas_used * receipt.gas_price_wei)
        if not receipt.succeeded:
            if target is not None:  # another transaction came first: ask again for the reason
                self.chain.preflight(self.address, target, data, value, gas)
            raise ChainError("transaction reverted", transaction="0x" + transaction_hash.hex())
        return _receipt(receipt, target)

    def _submit(self, target: Address | None, data: bytes, value: Wei, gas: int) -> Hash32:
        if self._next_nonce is None:
            self._next_nonce = self.chain.next_nonce(self.address)
        nonce, self._next_nonce = self._next_nonce, None  # asked again after a failure
        transaction = signed_transaction(
            self.chain,
            self._key.secret,
            nonce=nonce,
            target=target,
            data=data,
            value=value,
            gas=gas,
        )
        transaction_hash = self.chain.send(transaction)
        self._next_nonce = nonce + 1
        return transaction_hash

    def _check_funds(self, value: Wei, gas: int) -> None:
        most_wei = value + gas * self.chain.fees_wei()[0]
        balance_wei = self.chain.balance(self.address)
        if balance_wei < most_wei:
            raise FundsError(
                "the account cannot pay for this transaction",
                got=f"{balance_wei} wei",
                want=f"{most_wei} wei",
                hint=f"send ether to {show_address(self.address)}",
                account=show_address(self.address),
            )


def signed_transaction(
    chain: Chain,
    private_key: bytes,
    *,
    nonce: int,
    target: Address | None,
    data: bytes,
    value: Wei,
    gas: int,
) -> bytes:
    """Return an EIP-1559 transaction for `chain`, signed and serialised."""
    max_fee_wei, priority_fee_wei = chain.fees_wei()
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": chain.chain_id,
        "nonce": nonce,
        "data": data,
        "value": value,
        "gas": gas,
        "maxFeePerGas": max_fee_wei,
        "maxPriorityFeePerGas": priority_fee_wei,
    }
    if target is not None:
        fields["to"] = target
    return bytes(Account.sign_transaction(fields, private_key).raw_transaction)


def _receipt(receipt: RawReceipt, target: Address | None) -> TransactionReceipt:
    ours = [log for log in receipt.logs if log.address == target]
    return TransactionReceipt(
        transaction_hash=receipt.transaction_hash,
        block_number=receipt.block_number,
        gas_used=receipt.gas_used,
        gas_cost_wei=Wei(receipt.gas_used * receipt.gas_price_wei),
        contract=receipt.contract,
        events=decode_logs(market_codec(), ours),
    )
