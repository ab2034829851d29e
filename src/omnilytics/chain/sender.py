"""Sending transactions: one key, one nonce counter. The only module that signs transactions.

All `Sender`s of a key share one outbox: two with an outbox each would hand out the same nonce. Gas
and fees are explicit; where the chain can tell, a transaction that would revert is refused before
it costs anything. What is signed is written to the outbox before it is sent, and a call that is
there already, of another process or of a caller who gave up, is taken up, not made a second time.

Not guaranteed: that what was mined stays so. A call is forgotten once it is mined; after a
re-organisation whoever still wants it makes it again, under the same nonce where that is free.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

from eth_hash.auto import keccak

from omnilytics.chain.connection import Chain, RawReceipt, RefusedError
from omnilytics.chain.outbox import MemoryOutbox, Outbox, OutgoingCall
from omnilytics.foundation.errors import ChainError, FundsError, ResumableTimeoutError
from omnilytics.foundation.logging import get_logger
from omnilytics.foundation.units import Address, Hash32, Wei, show_address
from omnilytics.wire.signatures import SigningKey

NOTHING = Wei(0)
TRANSFER_GAS = 21_000
"""Of a transaction that does nothing."""
PATIENCE_SECONDS = 60.0
"""Time after which a transaction that is not mined is replaced by a dearer one."""
MAX_WAIT_SECONDS = 600.0
MOST_FEE_WEI = Wei(500 * 10**9)
"""The most to offer per gas, unless told otherwise."""
MOST_ABOVE_PRESENT = 3
"""Replacements, each dearer by an eighth at least, end at so many times what the chain proposes."""
_LOG = get_logger("omnilytics.chain.sender")
_AGAIN = "whether the call was made is on the chain; try again if not"


class Sender:
    """Hands out an account's nonces. Its repr shows the address alone."""

    def __init__(
        self,
        chain: Chain,
        private_key: bytes,
        *,
        outbox: Outbox | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        most_fee_wei: Wei = MOST_FEE_WEI,
    ) -> None:
        """Send an account's transactions.

        Args:
            chain: Where to.
            private_key: 32 bytes of a secp256k1 key.
            outbox: Where unfinished calls are kept; by default in memory.
            patience_seconds: Time after which a transaction is replaced by a dearer one.
            most_fee_wei: The most to offer per gas, tip and replacements included.

        Raises:
            KeyMaterialError: That is no key.
        """
        self._key = SigningKey(private_key)
        self._outbox = outbox or MemoryOutbox()
        self._patience_seconds = patience_seconds
        self._most_fee_wei = most_fee_wei
        self._awaited: set[int] = set()
        """Nonces of the calls that somebody in this process waits for in `send`."""
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
            ChainError: It reverts; the message is the contract's reason. Or gas is too dear.
            ResumableTimeoutError: It was sent but not mined in time; `resume` goes on with it.
        """
        with self._outbox.owned():
            call = self._left_over(target, data, value)
            if call is None:
                self._check_funds(value, gas)
                if target is not None:
                    self.chain.preflight(self.address, target, data, value, gas)
                call = self._signed(target, data, value, gas, nonce=self._free_nonce())
                self._outbox.put(call)
                self._submit(call)
            self._awaited.add(call.nonce)
        try:
            receipt = self._mined(call)
        finally:
            self._awaited.discard(call.nonce)
        if not receipt.succeeded:
            if target is not None:  # another transaction came first: ask again for the reason
                self.chain.preflight(self.address, target, data, value, gas)
            shown = "0x" + receipt.transaction_hash.hex()
            raise ChainError("transaction reverted", transaction=shown)
        return receipt

    def resume(self) -> tuple[RawReceipt, ...]:
        """Finish what is left in the outbox, say of an earlier process; return the receipts.

        A nonce before it that nobody used is used up by a transaction that does nothing.

        Raises:
            ResumableTimeoutError: Something is not mined yet; resume again.
        """
        with self._outbox.owned():
            with suppress(ChainError):  # what the node does not tell or take now, it will later
                self._fill_gaps()
            calls = [call for call in self._outbox.pending() if call.nonce not in self._awaited]
            for call in calls:
                self._resubmit(call)
        receipts = (self._resumed(call) for call in calls if self._latest(call.nonce))
        return tuple(receipt for receipt in receipts if receipt is not None)

    def _resumed(self, call: OutgoingCall) -> RawReceipt | None:
        try:
            return self._mined(call)
        except ChainError:
            if self._latest(call.nonce):
                raise
            return None  # another transaction took its nonce, or another process finished it

    def _left_over(self, target: Address | None, data: bytes, value: Wei) -> OutgoingCall | None:
        """Return the same call if it is under way; sent again, to be sure.

        Two who send the same at the same time in one process mean two calls, in two processes one:
        both follow the same chain.
        """
        wanted = (target, data, value)
        for call in self._outbox.pending():
            same = (call.target, call.data, call.value_wei) == wanted
            if same and call.nonce not in self._awaited:
                self._resubmit(call)
                return call
        return None

    def _fees_wei(self) -> tuple[Wei, Wei]:
        """Return what to offer per gas: what the chain proposes, up to the most.

        Raises:
            ChainError: Even the present fee, without room for a rise, is above the most.
        """
        max_fee_wei, tip_wei = self.chain.fees_wei()
        most_wei = self._most_fee_wei
        present_wei = (max_fee_wei - tip_wei) // 2 + tip_wei
        if present_wei > most_wei:
            raise ChainError(
                "gas is dearer than allowed",
                got=f"{present_wei} wei per gas",
                want=f"at most {most_wei}",
                hint="try again when it is cheaper; a server's limit is chain.most_fee",
            )
        return Wei(min(max_fee_wei, most_wei)), Wei(min(tip_wei, most_wei))

    def _free_nonce(self) -> int:
        """Return the first that is free: a gap would stop all after it."""
        taken = {call.nonce for call in self._outbox.pending()}
        return next(n for n in count(self.chain.next_nonce(self.address)) if n not in taken)

    def _signed(
        self, target: Address | None, data: bytes, value: Wei, gas: int, *, nonce: int
    ) -> OutgoingCall:
        max_fee_wei, priority_fee_wei = self._fees_wei()
        call = OutgoingCall(
            nonce=nonce,
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
        """Send a new call; one that can be mined nowhere, being what it is, is forgotten.

        After any other refusal, or none, nobody knows which node has the transaction: it stays.
        """
        try:
            self.chain.send(call.transactions[-1])
        except RefusedError:
            self._outbox.finish(call.nonce)
            raise
        except ChainError as error:
            _LOG.warning("a node did not take a transaction", nonce=call.nonce, error=str(error))

    def _resubmit(self, call: OutgoingCall) -> None:
        """Send a call's dearest transaction again; the chain may have it, or another of it.

        Whatever the node says, it was out once and may be mined: only a spent nonce ends that.
        """
        with suppress(ChainError):
            self.chain.send(call.transactions[-1])

    def _fill_gaps(self) -> None:
        """Use up nonces that nobody has: what waits behind one would wait for ever."""
        pending = self._outbox.pending()
        if not pending:
            return
        nonces = {call.nonce for call in pending}
        spent = self.chain.spent_nonces(self.address)
        gaps = [nonce for nonce in range(spent, max(nonces)) if nonce not in nonces]
        first = self.chain.next_nonce(self.address) if gaps else 0  # another program may have some
        for nonce in gaps:
            if nonce >= first:
                call = self._signed(self.address, b"", NOTHING, TRANSFER_GAS, nonce=nonce)
                self._outbox.put(call)
                self._submit(call)

    def _latest(self, nonce: int) -> OutgoingCall | None:
        """Return a call as the outbox has it now; None once it is finished."""
        return next((call for call in self._outbox.pending() if call.nonce == nonce), None)

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
                self._check_possible(call)
                if left_seconds <= patience_seconds:
                    raise
                call = self._dearer(call)
        if self._outbox.finish(call.nonce):
            self.gas_cost_wei = Wei(self.gas_cost_wei + receipt.gas_used * receipt.gas_price_wei)
        return receipt

    def _check_possible(self, call: OutgoingCall) -> None:
        """Raise ChainError, and forget the call, if none of its transactions can be mined."""
        if self.chain.spent_nonces(self.address) <= call.nonce:
            return
        # The nonce first: what spent it has its receipt by now.
        latest = self._latest(call.nonce)
        hashes = (*call.hashes, *(latest.hashes if latest and _is_same(latest, call) else ()))
        if all(self.chain.receipt(transaction_hash) is None for transaction_hash in hashes):
            self._outbox.finish(call.nonce)
            raise ChainError("another transaction has the call's nonce", hint=_AGAIN)

    def _dearer(self, call: OutgoingCall) -> OutgoingCall:
        """Return the call with a dearer transaction, its own or another waiter's."""
        with self._outbox.owned():
            latest = self._latest(call.nonce)
            if latest is None:
                if any(self.chain.receipt(name) is not None for name in call.hashes):
                    return call
                raise ChainError("another process finished the call", hint=_AGAIN)
            if not _is_same(latest, call):
                raise ChainError("another call has the call's nonce", hint=_AGAIN)
            if latest.hashes != call.hashes:
                return latest
            now_max_wei, now_tip_wei = self.chain.fees_wei()
            most_wei = min(self._most_fee_wei, MOST_ABOVE_PRESENT * now_max_wei)
            least_wei = call.max_fee_wei * 9 // 8 + 1
            if least_wei > most_wei:
                return latest
            max_fee_wei = min(max(now_max_wei, least_wei), most_wei)
            tip_wei = min(max(now_tip_wei, call.priority_fee_wei * 9 // 8 + 1), max_fee_wei)
            dearer = self._with_transaction(
                replace(call, max_fee_wei=Wei(max_fee_wei), priority_fee_wei=Wei(tip_wei))
            )
            self._outbox.put(dearer)
            # Refused where one of the others is mined, or the node wants more: the next is dearer.
            with suppress(ChainError):
                self.chain.send(dearer.transactions[-1])
        return dearer

    def _check_funds(self, value: Wei, gas: int) -> None:
        most_wei = value + gas * self._fees_wei()[0]
        balance_wei = self.chain.balance(self.address)
        if balance_wei < most_wei:
            raise FundsError(
                "the account cannot pay for this transaction",
                got=f"{balance_wei} wei",
                want=f"{most_wei} wei",
                hint=f"send ether to {show_address(self.address)}",
                account=show_address(self.address),
            )


def _is_same(one: OutgoingCall, other: OutgoingCall) -> bool:
    return (one.target, one.data, one.value_wei) == (other.target, other.data, other.value_wei)


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
    from eth_account import Account  # takes longer than all the rest of a command's start

    max_fee_wei, priority_fee_wei = fees_wei or chain.fees_wei()
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
