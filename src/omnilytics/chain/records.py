"""What the contracts store and say, as plain records (protocol.md section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from eth_hash.auto import keccak

from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.chain.happenings import MarketEvent
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
    DRAWING = 3
    """The committee is not drawn yet; there was no round."""


class FaultKind(IntEnum):
    """For what a party is slashed. The first two take n - e signatures, the others none."""

    SERVER = 1
    OWNER = 2
    TWO_WORDS = 3
    TWO_SEEDS = 4
    TWO_FINALS = 5


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Deadlines of a task's rounds (wire.md, "Windows").

    Seconds are 1 .. 30 days, forced_seconds 0 .. submission_seconds: that long before the
    submission deadline no submission can be forced any more. 1 <= delta, delta + confirmations <
    words_blocks <= openings_blocks < settlement_blocks < 8,000; delta + settlement_blocks +
    confirmations < 256 unless the chain keeps older block hashes (EIP-2935).
    """

    submission_seconds: int
    forced_seconds: int
    seal_seconds: int
    delta: int
    confirmations: int
    words_blocks: int
    openings_blocks: int
    settlement_blocks: int


@dataclass(frozen=True, kw_only=True)
class TaskTerms:
    """What a task fixes for ever, but for `rounds`, which may grow up to `max_rounds`.

    Prices are below 2^96 in wei, or in the smallest unit of `token` where that is not zero; stakes
    and bonds are wei. 1 <= rounds <= max_rounds <= 65,535, 1 <= min_owners <= max_owners < 2^32.
    """

    spec_hash: Hash32
    n: int
    """Number of servers."""
    t: int
    e: int
    reward_wei: Wei
    fee_wei: Wei
    opening_fee_wei: Wei
    rounds: int
    max_rounds: int
    min_owners: int
    max_owners: int
    min_stake_wei: Wei
    """What each server has at stake at least, and may lose by a report."""
    min_bond_wei: Wei
    """What each data owner has as a bond at least, and may lose by a report."""
    allow_root: Hash32
    """Merkle root over the admitted data owners; zero admits everybody."""
    token: Address
    """The ERC-20 token the task pays in; zero is ether."""
    windows: Windows

    @property
    def quorum(self) -> int:
        """Number of servers whose signatures a seal or a settlement needs: n - e."""
        return self.n - self.e

    @property
    def round_wei(self) -> Wei:
        """The most that one round can cost."""
        return Wei(self.max_owners * self.reward_wei + self.n * self.fee_wei + self.opening_fee_wei)

    @property
    def escrow_wei(self) -> Wei:
        """What is locked for the task: the most that all its rounds together can cost."""
        return Wei(self.rounds * self.round_wei)


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """A task and where it stands. Server j of `committee` evaluates at point j + 1."""

    task: TaskId
    model_owner: Address
    terms: TaskTerms
    committee: tuple[Address, ...]
    """The servers in order; empty until they are drawn."""
    profiles: tuple[int, ...]
    """Number of each server's profile when the committee was fixed."""
    created_block: int
    opened_rounds: int
    settled_rounds: int
    attested_rounds: tuple[int, ...]
    """In how many settled rounds each server was in V."""
    closed: bool
    refunded: bool
    credited_wei: Wei
    claimed_wei: Wei
    payouts_root: Hash32
    previous_payouts_root: Hash32

    def fees_earned(self, index: int) -> Wei:
        """Return a server's fees so far: attested rounds, an equal share of the opening fees."""
        opening_wei = self.opened_rounds * self.terms.opening_fee_wei // self.terms.n
        return Wei(self.attested_rounds[index] * self.terms.fee_wei + opening_wei)

    @property
    def unspent_wei(self) -> Wei:
        """What is left of the escrow: closing the task returns it."""
        if self.refunded:
            return Wei(0)
        fees_wei = sum(self.fees_earned(index) for index in range(self.terms.n))
        return Wei(self.terms.escrow_wei - self.credited_wei - fees_wei)


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
    """A registered server and its present profile. It is leaving unless block and time are zero."""

    address: Address
    endpoint: str
    hpke_key: Hash32
    profile: int
    stake_wei: Wei
    active_tasks: int
    since_block: int
    """Block in which the stake last grew."""
    leaving_block: int
    free_at: int
    """From when on the stake may be withdrawn if no task is active, in unix seconds."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where a server is reached and the X25519 key that packages for it are sealed to."""

    hpke_key: Hash32
    endpoint: str


@dataclass(frozen=True, kw_only=True)
class OfferRecord:
    """For what a server offers to be drawn: from which fee per round, at most at what risk."""

    min_fee_wei: Wei
    max_stake_wei: Wei


@dataclass(frozen=True, kw_only=True)
class BondRecord:
    """A data owner's bond. One that was asked back (`free_at`, unix seconds) admits to nothing."""

    amount_wei: Wei
    free_at: int

    def covers(self, amount_wei: int) -> bool:
        """Tell whether the bond admits to a task that asks for this much."""
        return amount_wei == 0 or (self.free_at == 0 and self.amount_wei >= amount_wei)


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
