"""What the market contract stores and says, as plain records (protocol.md section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from eth_hash.auto import keccak

from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei
from omnilytics.wire.messages import Settlement

EMPTY_ROOT = Hash32(keccak(b"\x02"))
"""Payouts root of a task in which nobody was paid yet: tagged apart from leaves and nodes."""

MAX_SERVERS = 13
IDLE_SECONDS = 14 * 86400
"""After that long without a round anyone may close a task."""


class Phase(IntEnum):
    """Where a task's latest round stands."""

    IDLE = 0
    OPEN = 1
    SEALED = 2


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Deadlines of a task's rounds (wire.md, "Windows").

    Seconds are 1 .. 30 days; 1 <= delta, delta + confirmations < words_blocks <= openings_blocks <
    settlement_blocks, and delta + settlement_blocks + confirmations < 256.
    """

    submission_seconds: int
    seal_seconds: int
    delta: int
    confirmations: int
    words_blocks: int
    openings_blocks: int
    settlement_blocks: int


@dataclass(frozen=True, kw_only=True)
class TaskTerms:
    """What a task fixes for ever. Server j of `committee` evaluates at point j + 1.

    Prices are below 2^96 wei, rounds 1 .. 65,535, 1 <= min_owners <= max_owners < 2^32.
    """

    spec_hash: Hash32
    committee: tuple[Address, ...]
    t: int
    e: int
    reward_wei: Wei
    fee_wei: Wei
    opening_fee_wei: Wei
    rounds: int
    min_owners: int
    max_owners: int
    windows: Windows

    @property
    def n(self) -> int:
        """Number of servers."""
        return len(self.committee)

    @property
    def quorum(self) -> int:
        """Number of servers whose signatures a seal or a settlement needs: n - e."""
        return self.n - self.e

    @property
    def escrow_wei(self) -> Wei:
        """What `create_task` locks: the most that all rounds together can cost."""
        per_round = self.max_owners * self.reward_wei + self.n * self.fee_wei + self.opening_fee_wei
        return Wei(self.rounds * per_round)


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """A task and where it stands."""

    task: TaskId
    model_owner: Address
    terms: TaskTerms
    created_block: int
    opened_rounds: int
    settled_rounds: int
    closed: bool
    refunded: bool
    credited_wei: Wei
    claimed_wei: Wei
    payouts_root: Hash32
    previous_payouts_root: Hash32


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """The latest round of a task; round 0, idle, before the first.

    Submissions count while the head's timestamp is below `submission_deadline`; a seal is accepted
    from then on and before `seal_deadline`. From `submissions_root` on, fields are zero unless the
    round is sealed: the hash of `challenge_block` makes the seed; once the head has reached
    `challenge_final_block` it may be used and a settlement sent, to be mined no later than
    `settlement_deadline_block`.
    """

    task: TaskId
    round: Round
    phase: Phase
    opened_block: int
    submission_deadline: int
    seal_deadline: int
    submissions_root: Hash32
    count: int
    sealed_block: int
    challenge_block: int
    challenge_final_block: int
    settlement_deadline_block: int


@dataclass(frozen=True, kw_only=True)
class ServerRecord:
    """A registered server."""

    address: Address
    endpoint: str
    hpke_key: bytes
    stake_wei: Wei
    active_tasks: int


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where in the chain an event is."""

    block_number: int
    block_hash: Hash32
    transaction_hash: Hash32
    log_index: int


@dataclass(frozen=True, kw_only=True)
class MarketEvent:
    """Base of all events of the market contract."""

    position: Position


@dataclass(frozen=True, kw_only=True)
class ServerRegistered(MarketEvent):
    """A server joined the market."""

    server: Address
    stake_wei: Wei
    hpke_key: bytes
    endpoint: str


@dataclass(frozen=True, kw_only=True)
class ServerUnregistered(MarketEvent):
    """A server left with its stake."""

    server: Address
    stake_wei: Wei


@dataclass(frozen=True, kw_only=True)
class TaskEvent(MarketEvent):
    """Base of the events of one task."""

    task: TaskId


@dataclass(frozen=True, kw_only=True)
class TaskCreated(TaskEvent):
    """A task was created and its escrow locked."""

    model_owner: Address
    escrow_wei: Wei
    terms: TaskTerms


@dataclass(frozen=True, kw_only=True)
class RoundEvent(TaskEvent):
    """Base of the events of one round."""

    round: Round


@dataclass(frozen=True, kw_only=True)
class RoundOpened(RoundEvent):
    """A round began; `block_hash`, of the block before, goes into every owner's context."""

    artefact_hash: Hash32
    block_hash: Hash32
    submission_deadline: int


@dataclass(frozen=True, kw_only=True)
class RoundSealed(RoundEvent):
    """The set of submissions is fixed."""

    submissions_root: Hash32
    count: int


@dataclass(frozen=True, kw_only=True)
class RoundSettled(RoundEvent):
    """The round's public outcome. `words[k]` belongs to the k-th set bit of `signers`."""

    submissions_root: Hash32
    seed: Hash32
    accepted_root: Hash32
    accepted_count: int
    v_bitmap: int
    previous_payouts_root: Hash32
    payouts_root: Hash32
    transcript_hash: Hash32
    signers: int
    words: tuple[Hash32, ...]


@dataclass(frozen=True, kw_only=True)
class RoundVoided(RoundEvent):
    """The round missed a deadline; its escrow is the model owner's again."""


@dataclass(frozen=True, kw_only=True)
class RewardClaimed(TaskEvent):
    """A data owner was paid."""

    owner: Address
    amount_wei: Wei
    cumulative_wei: Wei


@dataclass(frozen=True, kw_only=True)
class FeesClaimed(TaskEvent):
    """A server was paid."""

    server: Address
    index: int
    amount_wei: Wei


@dataclass(frozen=True, kw_only=True)
class TaskClosed(TaskEvent):
    """No further round; `unspent_wei` is due to the model owner."""

    unspent_wei: Wei


@dataclass(frozen=True, kw_only=True)
class TaskRefunded(TaskEvent):
    """The model owner received what the task did not spend."""

    model_owner: Address
    amount_wei: Wei


@dataclass(frozen=True, kw_only=True)
class TransactionReceipt:
    """A mined transaction of ours and what it said."""

    transaction_hash: Hash32
    block_number: int
    gas_used: int
    gas_cost_wei: Wei
    contract: Address | None
    events: tuple[MarketEvent, ...]


@dataclass(frozen=True, kw_only=True)
class SignedSettlement:
    """One server's settlement with its own word, and its signature."""

    settlement: Settlement
    signature: bytes


def settlement_of(settled: RoundSettled, word: Hash32) -> Settlement:
    """Return what a server with this word signed, from the round's public outcome."""
    return Settlement(
        task=settled.task,
        round=settled.round,
        submissions_root=settled.submissions_root,
        seed=settled.seed,
        accepted_root=settled.accepted_root,
        accepted_count=settled.accepted_count,
        v_bitmap=settled.v_bitmap,
        previous_payouts_root=settled.previous_payouts_root,
        payouts_root=settled.payouts_root,
        transcript_hash=settled.transcript_hash,
        word=word,
    )


def challenge_seed(
    block_hash: Hash32, task: TaskId, round_number: Round, submissions_root: Hash32
) -> Hash32:
    """Return the challenge seed as the contract computes it (protocol.md section 6, step 4).

    keccak256(abi.encode(block hash, task, round, submissions root)): four 32-byte words.
    """
    numbers = task.to_bytes(32, "big") + round_number.to_bytes(32, "big")
    return Hash32(keccak(block_hash + numbers + submissions_root))
