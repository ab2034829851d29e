"""Calling a market contract: one method per call, for whoever holds the key.

Every method waits until its transaction is mined and raises FundsError when the account cannot pay,
ChainError with the contract's reason when it reverts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from omnilytics.chain.abi import market_codec
from omnilytics.chain.events import terms_tuple
from omnilytics.chain.gas import GasLog
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import (
    MarketEvent,
    RoundOpened,
    SignedSettlement,
    TaskCreated,
    TaskTerms,
    TransactionReceipt,
)
from omnilytics.chain.sender import NOTHING, Sender
from omnilytics.foundation.errors import ChainError, MalformedError, UsageError
from omnilytics.foundation.units import Address, Hash32, TaskId, Wei
from omnilytics.wire.messages import SealVote, Settlement
from omnilytics.wire.signatures import SIGNATURE_BYTES

_Event = TypeVar("_Event", bound=MarketEvent)
_ZERO = Hash32(bytes(32))

# Most gas of each call with 13 servers, an endpoint of 256 bytes and 32 proof steps, with room to
# spare; what is not used is not paid.
GAS_LIMITS = {
    "register_server": 400_000,
    "unregister_server": 150_000,
    "create_task": 600_000,
    "open_round": 100_000,
    "seal": 200_000,
    "settle": 400_000,
    "void_round": 80_000,
    "claim": 200_000,
    "claim_fees": 200_000,
    "refund": 300_000,
}


class MarketWriter:
    """The calls of one account to one market."""

    def __init__(self, reader: MarketReader, sender: Sender) -> None:
        self.reader = reader
        self.sender = sender
        self.address = sender.address
        self.gas = GasLog()
        self.last_receipt: TransactionReceipt | None = None

    def register_server(self, endpoint: str, hpke_key: bytes, stake_wei: Wei) -> TransactionReceipt:
        """Register the account as a server.

        Args:
            endpoint: URL, at most 256 bytes of UTF-8.
            hpke_key: X25519 public key, 32 bytes.
            stake_wei: At least the market's minimum.
        """
        if len(hpke_key) != 32 or len(endpoint.encode()) > 256:
            raise UsageError("endpoint over 256 bytes or key not of 32 bytes")
        return self._send("register_server", endpoint, hpke_key, value=stake_wei)

    def unregister_server(self) -> TransactionReceipt:
        """Leave the market and take the stake back."""
        return self._send("unregister_server")

    def create_task(self, terms: TaskTerms) -> TaskId:
        """Create a task, lock its escrow and return its number."""
        arguments = (terms_tuple(terms), list(terms.committee))
        receipt = self._send("create_task", *arguments, value=terms.escrow_wei)
        return _only(receipt, TaskCreated).task

    def open_round(self, task: TaskId, artefact_hash: Hash32) -> RoundOpened:
        """Open the next round of the account's own task."""
        return _only(self._send("open_round", task, artefact_hash), RoundOpened)

    def seal(
        self, vote: SealVote, committee: Sequence[Address], signatures: Mapping[int, bytes]
    ) -> TransactionReceipt:
        """Seal the open round with at least n - e votes.

        Args:
            vote: What was signed; its round must be the open one.
            committee: The task's servers, in order.
            signatures: Committee index -> 65-byte signature.
        """
        self._check_round(vote.task, vote.round)
        return self._send(
            "seal",
            vote.task,
            vote.submissions_root,
            vote.count,
            list(committee),
            _bitmap(signatures),
            [compact_signature(signatures[index]) for index in sorted(signatures)],
        )

    def settle(
        self, settlements: Mapping[int, SignedSettlement], committee: Sequence[Address]
    ) -> TransactionReceipt:
        """Settle the sealed round with at least n - e settlements.

        Args:
            settlements: Committee index -> that server's, equal to the others but for the word.
            committee: The task's servers, in order.
        """
        ordered = [settlements[index] for index in sorted(settlements)]
        agreed = _agreed([signed.settlement for signed in ordered])
        self._check_round(agreed.task, agreed.round)
        return self._send(
            "settle",
            agreed.task,
            settlement_tuple(agreed),
            list(committee),
            _bitmap(settlements),
            [signed.settlement.word for signed in ordered],
            [compact_signature(signed.signature) for signed in ordered],
        )

    def void_round(self, task: TaskId) -> TransactionReceipt:
        """End a round that missed a deadline."""
        return self._send("void_round", task)

    def claim(
        self, task: TaskId, owner: Address, cumulative_wei: Wei, proof: Sequence[Hash32]
    ) -> TransactionReceipt:
        """Have a data owner paid up to its leaf in the current or previous payouts tree."""
        return self._send("claim", task, owner, cumulative_wei, list(proof))

    def claim_fees(
        self, task: TaskId, committee: Sequence[Address], index: int
    ) -> TransactionReceipt:
        """Have the server with this committee index paid its fees."""
        return self._send("claim_fees", task, list(committee), index)

    def refund(self, task: TaskId) -> TransactionReceipt:
        """Close a task without an active round and return what it did not spend."""
        committee = self.reader.task(task).terms.committee
        return self._send("refund", task, list(committee))

    def _send(self, name: str, *arguments: object, value: Wei = NOTHING) -> TransactionReceipt:
        data = market_codec().call(name, *arguments)
        receipt = self.sender.send(self.reader.address, data, value=value, gas=GAS_LIMITS[name])
        self.gas.record(name, receipt.gas_used)
        self.last_receipt = receipt
        return receipt

    def _check_round(self, task: TaskId, round_number: int) -> None:
        """The contract signs for its own round: say so better than "bad signature" would."""
        present = self.reader.round_state(task).round
        if round_number != present:
            raise ChainError(
                "not the task's present round", got=round_number, want=present, task=task
            )


def _only(receipt: TransactionReceipt, kind: type[_Event]) -> _Event:
    for event in receipt.events:
        if isinstance(event, kind):
            return event
    raise ChainError(f"the contract did not log {kind.__name__}")


def _bitmap(indices: Mapping[int, object]) -> int:
    return sum(1 << index for index in indices)


def compact_signature(signature: bytes) -> tuple[bytes, int]:
    """Return (r, s with the recovery bit on top) of r | s | v (EIP-2098)."""
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        raise MalformedError("not a signature", want="65 bytes r|s|v, v 27 or 28")
    s = int.from_bytes(signature[32:64], "big")
    if s >> 255:
        raise MalformedError("malleable signature", want="s in the lower half (EIP-2)")
    return signature[:32], s | (signature[64] - 27) << 255


def _agreed(settlements: Sequence[Settlement]) -> Settlement:
    if not settlements:
        raise UsageError("no settlements")
    distinct = {replace(settlement, word=_ZERO) for settlement in settlements}
    if len(distinct) != 1:
        raise UsageError("settlements differ in more than their words", got=len(distinct))
    return distinct.pop()


def settlement_tuple(settlement: Settlement) -> tuple[object, ...]:
    """Return the contract's `Settlement` tuple: all but task, round and word."""
    return (
        settlement.submissions_root,
        settlement.seed,
        settlement.accepted_root,
        settlement.accepted_count,
        settlement.v_bitmap,
        settlement.previous_payouts_root,
        settlement.payouts_root,
        settlement.transcript_hash,
    )
