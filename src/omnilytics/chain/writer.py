"""Calling the market and its registry: one method per call, for whoever holds the key.

Every method waits until its transaction is mined and raises FundsError when the account cannot pay,
ChainError with the contract's reason when it reverts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from eth_hash.auto import keccak

from omnilytics.chain.abi import Call, Signature
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.bindings.market import RoundOpened, TaskCreated
from omnilytics.chain.connection import RawReceipt
from omnilytics.chain.events import decode_logs
from omnilytics.chain.gas import GasLog
from omnilytics.chain.happenings import MarketEvent
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import (
    FaultKind,
    OfferRecord,
    SignedSettlement,
    TaskTerms,
    TransactionReceipt,
)
from omnilytics.chain.sender import NOTHING, Sender
from omnilytics.foundation.errors import ChainError, MalformedError, UsageError
from omnilytics.foundation.units import Address, Hash32, TaskId, Wei
from omnilytics.wire.messages import Fault, Final, SealVote, Seed, Settlement, Submission, Word
from omnilytics.wire.signatures import SIGNATURE_BYTES
from omnilytics.wire.task_specification import ETHER_TOKEN

_Event = TypeVar("_Event", bound=MarketEvent)
_ZERO = Hash32(bytes(32))
_NO_SIGNATURE = Signature(r=_ZERO, vs=0)
DRAW_DELAY_BLOCKS = 4
"""A draw is decided by the block this many after the one in which it was asked for."""
DRAW_BLOCKS = 256
"""For this many blocks after its request a draw can be made (Registry.vy)."""

# Most gas of each call with 13 servers, an endpoint of 256 bytes and 32 proof steps, with room to
# spare; what is not used is not paid.
GAS_LIMITS = {
    "register_server": 600_000,
    "set_profile": 500_000,
    "add_stake": 100_000,
    "set_offer": 100_000,
    "leave": 100_000,
    "withdraw_stake": 300_000,
    "sweep": 150_000,
    "add_bond": 100_000,
    "leave_bond": 100_000,
    "withdraw_bond": 150_000,
    "report_fault": 400_000,
    "convict_of_two_words": 300_000,
    "convict_of_two_seeds": 300_000,
    "convict_of_two_finals": 300_000,
    "create_task": 1_200_000,
    "create_drawn_task": 900_000,
    "redraw": 300_000,
    "reveal_draw": 200_000,
    "draw_committee": 5_000_000,
    "top_up": 200_000,
    "open_round": 100_000,
    "force_submission": 700_000,
    "seal": 250_000,
    "settle": 500_000,
    "void_round": 80_000,
    "claim": 250_000,
    "claim_many": 3_000_000,
    "claim_fees": 250_000,
    "close_task": 500_000,
}


@dataclass(frozen=True, kw_only=True)
class TaskClaim:
    """What a data owner claims of one task: its leaf and the path to a payouts root."""

    task: TaskId
    cumulative_wei: Wei
    proof: tuple[Hash32, ...]


class MarketWriter:
    """The calls of one account to one market."""

    def __init__(self, reader: MarketReader, sender: Sender, gas: GasLog | None = None) -> None:
        """Call `reader`'s market; what each call costs goes into `gas`."""
        self.reader = reader
        self.sender = sender
        self.address = sender.address
        self.gas = gas or GasLog()
        self.last_receipt: TransactionReceipt | None = None

    def register_server(self, endpoint: str, hpke_key: bytes, stake_wei: Wei) -> TransactionReceipt:
        """Register the account as a server.

        Args:
            endpoint: URL, at most 256 bytes of UTF-8.
            hpke_key: X25519 public key, 32 bytes.
            stake_wei: At least the market's minimum.
        """
        _check_profile(endpoint, hpke_key)
        return self._registry(registry.register_server(endpoint, Hash32(hpke_key)), value=stake_wei)

    def set_profile(self, endpoint: str, hpke_key: bytes) -> TransactionReceipt:
        """Change endpoint and key for tasks created from now on."""
        _check_profile(endpoint, hpke_key)
        return self._registry(registry.set_profile(endpoint, Hash32(hpke_key)))

    def add_stake(self, amount_wei: Wei) -> TransactionReceipt:
        """Add to the server's stake."""
        return self._registry(registry.add_stake(), value=amount_wei)

    def set_offer(
        self, offer: OfferRecord | None, *, token: Address = ETHER_TOKEN
    ) -> TransactionReceipt:
        """Offer to be drawn, in draws that are asked for from now on; None withdraws the offer."""
        terms = (offer.min_fee_wei, offer.max_stake_wei) if offer else (0, 0)
        return self._registry(registry.set_offer(token, offer is not None, *terms))

    def leave(self) -> TransactionReceipt:
        """Join no further task; the stake is free 14 days after this and the last task's end."""
        return self._registry(registry.leave())

    def withdraw_stake(self) -> TransactionReceipt:
        """Take the stake back."""
        return self._registry(registry.withdraw_stake())

    def sweep(self, server: Address) -> TransactionReceipt:
        """Remove the place in the pool of a server that has withdrawn its stake."""
        return self._registry(registry.sweep(server))

    def add_bond(self, amount_wei: Wei) -> TransactionReceipt:
        """Add to the data owner's bond."""
        return self._registry(registry.add_bond(), value=amount_wei)

    def leave_bond(self) -> TransactionReceipt:
        """Ask for the bond back; it is free after 14 days and admits to no round until then."""
        return self._registry(registry.leave_bond())

    def withdraw_bond(self) -> TransactionReceipt:
        """Take the bond back."""
        return self._registry(registry.withdraw_bond())

    def report_fault(
        self,
        fault: Fault,
        committee: Sequence[Address],
        signatures: Mapping[int, bytes],
        submission: tuple[Submission, bytes] | None = None,
    ) -> TransactionReceipt:
        """Have a party slashed that n - e servers found at fault; the account gets the share.

        Args:
            fault: What the servers signed.
            committee: The task's servers, in order.
            signatures: Committee index -> 65-byte signature of `fault`.
            submission: A data owner's submission of that round, and its signature.
        """
        if (fault.kind == FaultKind.OWNER) != (submission is not None):
            raise UsageError("a data owner's fault, and only that, needs its submission")
        signed = submission[0].commitment if submission else _ZERO
        signature = compact_signature(submission[1]) if submission else _NO_SIGNATURE
        return self._registry(
            registry.report_fault(
                fault.task,
                fault.round,
                fault.party,
                fault.kind,
                fault.evidence_hash,
                list(committee),
                _bitmap(signatures),
                _compact(signatures),
                signed,
                signature,
            )
        )

    def convict(
        self,
        server: Address,
        committee: Sequence[Address],
        messages: tuple[Word, Word] | tuple[Seed, Seed] | tuple[Final, Final],
        signatures: tuple[bytes, bytes],
    ) -> TransactionReceipt:
        """Have a server's stake taken that signed two different messages where it may sign one.

        Args:
            server: Who signed both.
            committee: The task's servers, in order.
            messages: The two, of one round; two words must have one key.
            signatures: Their 65-byte signatures.
        """
        first, second = messages
        pair = [compact_signature(signature) for signature in signatures]
        if (first.task, first.round) != (second.task, second.round):
            raise UsageError("the messages are of different rounds")
        place = (first.task, first.round)
        if isinstance(first, Word) and isinstance(second, Word):
            if replace(first, word=_ZERO) != replace(second, word=_ZERO):
                raise UsageError("the words have different keys")
            call = registry.convict_of_two_words(
                *place,
                first.submissions_root,
                first.seed,
                first.owner,
                first.commitment,
                [first.word, second.word],
                pair,
                server,
                list(committee),
            )
        elif isinstance(first, Seed) and isinstance(second, Seed):
            roots = [first.submissions_root, second.submissions_root]
            seeds = [first.seed, second.seed]
            call = registry.convict_of_two_seeds(
                *place, roots, seeds, pair, server, list(committee)
            )
        elif isinstance(first, Final) and isinstance(second, Final):
            accepted = [first.accepted_root, second.accepted_root]
            call = registry.convict_of_two_finals(*place, accepted, pair, server, list(committee))
        else:
            raise UsageError("the messages are of different kinds")
        return self._registry(call)

    def create_task(
        self,
        terms: TaskTerms,
        committee: Sequence[Address],
        *,
        expires: int,
        consents: Sequence[bytes],
    ) -> TaskId:
        """Create a task with named servers, lock its escrow and return its number.

        Args:
            terms: The terms.
            committee: The servers, in order.
            expires: Until when the consents hold, in unix seconds.
            consents: Each server's 65-byte signature of `Consent`, in order.
        """
        receipt = self._market(
            market.create_task(
                contract_terms(terms),
                list(committee),
                expires,
                [compact_signature(consent) for consent in consents],
            ),
            value=self._ether(terms, terms.escrow_wei),
        )
        return _only(receipt, TaskCreated).task

    def create_drawn_task(self, terms: TaskTerms) -> TaskId:
        """Create a task whose servers will be drawn, lock its escrow and return its number."""
        fee_wei = self.reader.draw_fee()
        receipt = self._market(
            market.create_drawn_task(contract_terms(terms), terms.n),
            value=Wei(self._ether(terms, terms.escrow_wei) + fee_wei),
        )
        return _only(receipt, TaskCreated).task

    def redraw(self, task: TaskId) -> TransactionReceipt:
        """Ask for another draw after one was missed, for its fee."""
        return self._market(market.redraw(task), value=self.reader.draw_fee())

    def reveal_draw(self, task: TaskId) -> TransactionReceipt:
        """Show the header of a draw's block, once that is mined and followed by another."""
        number = self.reader.draw_state(task).pinned_block + DRAW_DELAY_BLOCKS
        return self._registry(registry.reveal_draw(task, self.reader.chain.block_header(number)))

    def draw_committee(self, task: TaskId) -> TransactionReceipt:
        """Draw a task's servers, once the draw is revealed."""
        return self._market(market.draw_committee(task))

    def top_up(self, task: TaskId, rounds: int) -> TransactionReceipt:
        """Pay for more rounds of the account's own task."""
        terms = self.reader.task(task).terms
        amount_wei = Wei(rounds * terms.round_wei)
        return self._market(market.top_up(task, rounds), value=self._ether(terms, amount_wei))

    def open_round(self, task: TaskId, artefact_hash: Hash32) -> RoundOpened:
        """Open the next round of the account's own task."""
        return _only(self._market(market.open_round(task, artefact_hash)), RoundOpened)

    def force_submission(self, task: TaskId, certificate: bytes) -> TransactionReceipt:
        """Put a submission's certificate on chain, so that every server must seal it."""
        return self._market(market.force_submission(task, certificate))

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
        return self._market(
            market.seal(
                vote.task,
                vote.submissions_root,
                vote.count,
                list(committee),
                _bitmap(signatures),
                _compact(signatures),
            )
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
        return self._market(
            market.settle(
                agreed.task,
                contract_settlement(agreed),
                list(committee),
                _bitmap(settlements),
                [signed.settlement.word for signed in ordered],
                [compact_signature(signed.signature) for signed in ordered],
            )
        )

    def void_round(self, task: TaskId) -> TransactionReceipt:
        """End a round that missed a deadline."""
        return self._market(market.void_round(task))

    def claim(
        self, task: TaskId, owner: Address, cumulative_wei: Wei, proof: Sequence[Hash32]
    ) -> TransactionReceipt:
        """Have a data owner paid up to its leaf in the current or previous payouts tree."""
        return self._market(market.claim(task, owner, cumulative_wei, list(proof)))

    def claim_many(self, owner: Address, claims: Sequence[TaskClaim]) -> TransactionReceipt:
        """Have a data owner paid for up to 16 tasks, all or none."""
        return self._market(
            market.claim_many(
                owner,
                [
                    market.Claim(
                        task=claim.task, cumulative_wei=claim.cumulative_wei, proof=claim.proof
                    )
                    for claim in claims
                ],
            )
        )

    def claim_fees(
        self, task: TaskId, committee: Sequence[Address], index: int
    ) -> TransactionReceipt:
        """Have the server with this committee index paid its fees."""
        return self._market(market.claim_fees(task, list(committee), index))

    def close_task(self, task: TaskId) -> TransactionReceipt:
        """Close a task without an active round and return what it did not spend."""
        return self._market(market.close_task(task, list(self.reader.task(task).committee)))

    def _ether(self, terms: TaskTerms, amount_wei: Wei) -> Wei:
        """Return the ether to send for an amount of what the task pays in."""
        return amount_wei if terms.token == ETHER_TOKEN else NOTHING

    def _market(self, call: Call[object], *, value: Wei = NOTHING) -> TransactionReceipt:
        return self._send(self.reader.address, call, value)

    def _registry(self, call: Call[object], *, value: Wei = NOTHING) -> TransactionReceipt:
        return self._send(self.reader.registry, call, value)

    def _send(self, target: Address, call: Call[object], value: Wei) -> TransactionReceipt:
        raw = self.sender.send(target, call.data, value=value, gas=GAS_LIMITS[call.name])
        self.gas.record(call.name, raw.gas_used)
        receipt = receipt_of(self.reader, raw)
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


def _compact(signatures: Mapping[int, bytes]) -> list[Signature]:
    return [compact_signature(signatures[index]) for index in sorted(signatures)]


def _check_profile(endpoint: str, hpke_key: bytes) -> None:
    if len(hpke_key) != 32 or len(endpoint.encode()) > 256:
        raise UsageError("endpoint over 256 bytes or key not of 32 bytes")


def receipt_of(reader: MarketReader, raw: RawReceipt) -> TransactionReceipt:
    """Return a receipt with the events of the market and its registry in it."""
    return TransactionReceipt(
        transaction_hash=raw.transaction_hash,
        block_number=raw.block_number,
        gas_used=raw.gas_used,
        gas_cost_wei=Wei(raw.gas_used * raw.gas_price_wei),
        contract=raw.contract,
        events=decode_logs(reader.codecs, raw.logs),
    )


def compact_signature(signature: bytes) -> Signature:
    """Return r and (s with the recovery bit on top) of r | s | v (EIP-2098)."""
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        raise MalformedError("not a signature", want="65 bytes r|s|v, v 27 or 28")
    s = int.from_bytes(signature[32:64], "big")
    if s >> 255:
        raise MalformedError("malleable signature", want="s in the lower half (EIP-2)")
    return Signature(r=Hash32(signature[:32]), vs=s | (signature[64] - 27) << 255)


def _agreed(settlements: Sequence[Settlement]) -> Settlement:
    if not settlements:
        raise UsageError("no settlements")
    distinct = {replace(settlement, word=_ZERO) for settlement in settlements}
    if len(distinct) != 1:
        raise UsageError("settlements differ in more than their words", got=len(distinct))
    return distinct.pop()


def contract_settlement(settlement: Settlement) -> market.Settlement:
    """Return the contract's `Settlement`: all but task, round and word."""
    return market.Settlement(
        submissions_root=settlement.submissions_root,
        seed=settlement.seed,
        accepted_root=settlement.accepted_root,
        accepted_count=settlement.accepted_count,
        v_bitmap=settlement.v_bitmap,
        previous_payouts_root=settlement.previous_payouts_root,
        payouts_root=settlement.payouts_root,
        transcript_hash=settlement.transcript_hash,
    )


def contract_terms(terms: TaskTerms) -> market.Terms:
    """Return the contract's `Terms`: all but the number of servers."""
    values = asdict(terms)
    return market.Terms(**values.pop("windows"), **{k: v for k, v in values.items() if k != "n"})


def terms_hash(terms: TaskTerms, committee: Sequence[Address]) -> Hash32:
    """Return what servers consent to: keccak256(abi.encode(terms, committee))."""
    encoded = market.codec().encoded_inputs("create_task", contract_terms(terms), list(committee))
    return Hash32(keccak(encoded))
