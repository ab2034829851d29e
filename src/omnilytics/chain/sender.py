"""Sending transactions: one key, one nonce counter. The only module that signs transactions.

A `Sender` must be the only one of its key: two would hand out the same nonce. Gas and fees are
explicit; where the chain can tell, a transaction that would revert is refused before it costs
anything. What is signed is written to the outbox before it is sent.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace

from eth_hash.auto import keccak

from omnilytics.chain.connection import Chain, RawReceipt
from omnilytics.chain.outbox import MemoryOutbox, Outbox, OutgoingCall
from omnilytics.chain.transaction import sign_transaction
from omnilytics.foundation.errors import ChainError, FundsError, ResumableTimeoutError
from omnilytics.foundation.units import Address, Hash32, Wei, show_address
from omnilytics.wire.signatures import SigningKey

NOTHING = Wei(0)
PATIENCE_SECONDS = 60.0
"""Time after which a transaction that is not mined is replaced by a dearer one."""
MAX_WAIT_SECONDS = 600.0
MAX_REPLACEMENTS = 8
"""Each raises the fee by an eighth at least, the least that nodes take: by 2.6 times in all."""


class Sender:
    """The one owner of an account's nonces. Its repr shows the address alone."""

    def __init__(
        self,
        chain: Chain,
        private_key: bytes,
        *,
        outbox: Outbox | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Send an account's transactions.

        Args:
            chain: Where to.
            private_key: 32 bytes of a secp256k1 key.
            outbox: Where unfinished calls are kept; by default in memory.
            patience_seconds: Time after which a transaction is replaced by a dearer one.

        Raises:
            KeyMaterialError: That is no key.
        """
        self._key = SigningKey(private_key)
        self._lock = threading.Lock()
        self._outbox = outbox or MemoryOutbox()
        self._patience_seconds = patience_seconds
        self.chain = chain
        self.address = self._key.address
        self.gas_cost_wei = Wei(0)
        """What all transactions of this sender have cost so far, without the value they sent."""

    def __repr__(self) -> str:
        return f"Sender({show_address(self.address)})"

    def send(
        self, target: Address | None, data: bytes, *, value: Wei = NOTHING, gas: int
    ) -> RawReceipt:
        """Send one transaction and wait until it is mined.

        Args:
            target: The contract; None creates one from `data`.
            data: Calldata.
            value: Ether to send along, in wei.
            gas: Most gas that it may use.

        Returns:
            The receipt.

        Raises:
            FundsError: The account cannot pay value and gas.
            ChainError: It reverts; the message is the contract's reason.
            ResumableTimeoutError: It was sent but not mined in time; `resume` goes on with it.
        """
        with self._lock:
            self._check_funds(value, gas)
            if target is not None:
                self.chain.preflight(self.address, target, data, value, gas)
            call = self._signed(target, data, value, gas)
            self._outbox.put(call)
            self._submit(call)
        receipt = self._mined(call)
        if not receipt.succeeded:
            if target is not None:  # another transaction came first: ask again for the reason
                self.chain.preflight(self.address, target, data, value, gas)
            shown = "0x" + receipt.transaction_hash.hex()
            raise ChainError("transaction reverted", transaction=shown)
        return receipt

    def resume(self) -> tuple[RawReceipt, ...]:
        """Finish what an earlier process left in the outbox; return the receipts.

        Raises:
            ResumableTimeoutError: Something is not mined yet; resume again.
        """
        with self._lock:
            calls = self._outbox.pending()
            for call in calls:
                self._resubmit(call)
        return tuple(self._mined(call) for call in calls if self._is_unfinished(call.nonce))

    def _signed(self, target: Address | None, data: bytes, value: Wei, gas: int) -> OutgoingCall:
        waiting = [call.nonce for call in self._outbox.pending()]
        max_fee_wei, priority_fee_wei = self.chain.fees_wei()
        call = OutgoingCall(
            nonce=max([self.chain.next_nonce(self.address), *(nonce + 1 for nonce in waiting)]),
            target=target,
            data=data,
            value_wei=value,
            gas=gas,
            transactions=(),
            hashes=(),
            max_fee_wei=max_fee_wei,
            priority_fee_wei=priority_fee_wei,
        )
        return self._with_transaction(call)

    def _with_transaction(self, call: OutgoingCall) -> OutgoingCall:
        """Return the call with a transaction at its present fees."""
        transaction = signed_transaction(
            self.chain,
            self._key.secret,
            nonce=call.nonce,
            target=call.target,
            data=call.data,
            value=call.value_wei,
            gas=call.gas,
            fees_wei=(call.max_fee_wei, call.priority_fee_wei),
        )
        return replace(
            call,
            transactions=(*call.transactions, transaction),
            hashes=(*call.hashes, Hash32(keccak(transaction))),
        )

    def _submit(self, call: OutgoingCall) -> None:
        """Send a new call; one that the chain refuses is forgotten.

        If the node does not even answer, nobody knows whether it has the transaction: it stays.
        """
        try:
            self.chain.send(call.transactions[-1])
        except ChainError:
            if self.chain.next_nonce(self.address) <= call.nonce:
                self._outbox.finish(call.nonce)
                raise

    def _resubmit(self, call: OutgoingCall) -> None:
        """Send a call's dearest transaction again; the chain may have it, or another of it."""
        try:
            self.chain.send(call.transactions[-1])
        except ChainError:
            if self.chain.next_nonce(self.address) <= call.nonce:
                self._outbox.finish(call.nonce)

    def _is_unfinished(self, nonce: int) -> bool:
        return any(call.nonce == nonce for call in self._outbox.pending())

    def _mined(self, call: OutgoingCall) -> RawReceipt:
        """Wait for one of a call's transactions, replacing it when that takes too long."""
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        while True:
            left_seconds = deadline - time.monotonic()
            patience_seconds = min(self._patience_seconds, max(0.0, left_seconds))
            try:
                receipt = self.chain.wait_for_receipt(
                    *call.hashes, timeout_seconds=patience_seconds
                )
                break
            except ResumableTimeoutError:
                if left_seconds <= patience_seconds:
                    raise
                call = self._dearer(call)
        self._outbox.finish(call.nonce)
        self.gas_cost_wei = Wei(self.gas_cost_wei + receipt.gas_used * receipt.gas_price_wei)
        return receipt

    def _dearer(self, call: OutgoingCall) -> OutgoingCall:
        if len(call.transactions) > MAX_REPLACEMENTS:
            return call
        now_max_wei, now_priority_wei = self.chain.fees_wei()
        dearer = self._with_transaction(
            replace(
                call,
                max_fee_wei=Wei(max(now_max_wei, call.max_fee_wei * 9 // 8 + 1)),
                priority_fee_wei=Wei(max(now_priority_wei, call.priority_fee_wei * 9 // 8 + 1)),
            )
        )
        with self._lock:
            self._outbox.put(dearer)
            # Refused where one of the others is mined, or the node wants more: the next is dearer.
            with suppress(ChainError):
                self.chain.send(dearer.transactions[-1])
        return dearer

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
    fees_wei: tuple[Wei, Wei] | None = None,
) -> bytes:
    """Return an EIP-1559 transaction for `chain`, signed and serialised.

    `fees_wei` is (max fee, priority fee) per gas, by default what the chain proposes.
    """
    return sign_transaction(
        SigningKey(private_key),
        chain_id=chain.chain_id,
        nonce=nonce,
        target=target,
        data=data,
        value=value,
        gas=gas,
        fees_wei=fees_wei or chain.fees_wei(),
    )
