"""Typed bindings of Market.vy, made by `compile --bindings`; do not edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omnilytics.chain.abi import Call, Codec, Signature, codec_of
from omnilytics.chain.happenings import RoundEvent, TaskEvent
from omnilytics.foundation.units import Address, Hash32


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Struct of the contract."""

    spec_hash: Hash32
    token: Address
    t: int
    e: int
    min_stake_wei: int
    min_bond_wei: int
    allow_root: Hash32
    reward_wei: int
    fee_wei: int
    opening_fee_wei: int
    rounds: int
    max_rounds: int
    min_owners: int
    max_owners: int
    submission_seconds: int
    forced_seconds: int
    seal_seconds: int
    delta: int
    confirmations: int
    words_blocks: int
    openings_blocks: int
    settlement_blocks: int


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """Struct of the contract."""

    submissions_root: Hash32
    seed: Hash32
    accepted_root: Hash32
    accepted_count: int
    v_bitmap: int
    previous_payouts_root: Hash32
    payouts_root: Hash32
    transcript_hash: Hash32


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Struct of the contract."""

    task: int
    cumulative_wei: int
    proof: tuple[Hash32, ...]


@dataclass(frozen=True, kw_only=True)
class Risk:
    """Struct of the contract."""

    committee_hash: Hash32
    n: int
    e: int
    min_stake_wei: int
    min_bond_wei: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """Struct of the contract."""

    payer: int
    prices: int
    terms: int
    progress: int
    spec_hash: Hash32
    committee_hash: Hash32
    submissions_root: Hash32
    payouts_root: Hash32
    previous_payouts_root: Hash32
    ledger: int
    attested: int
    token: Address
    risk: int
    allow_root: Hash32
    profiles: int


@dataclass(frozen=True, kw_only=True)
class TaskCreated(TaskEvent):
    """Event of the contract."""

    model_owner: Address
    escrow_wei: int
    n: int
    spec_hash: Hash32
    token: Address
    t: int
    e: int
    min_stake_wei: int
    min_bond_wei: int
    allow_root: Hash32
    reward_wei: int
    fee_wei: int
    opening_fee_wei: int
    rounds: int
    max_rounds: int
    min_owners: int
    max_owners: int
    submission_seconds: int
    forced_seconds: int
    seal_seconds: int
    delta: int
    confirmations: int
    words_blocks: int
    openings_blocks: int
    settlement_blocks: int


@dataclass(frozen=True, kw_only=True)
class CommitteeFixed(TaskEvent):
    """Event of the contract."""

    committee: tuple[Address, ...]
    profiles: int


@dataclass(frozen=True, kw_only=True)
class RoundsAdded(TaskEvent):
    """Event of the contract."""

    rounds: int
    amount_wei: int


@dataclass(frozen=True, kw_only=True)
class RoundOpened(RoundEvent):
    """Event of the contract."""

    artefact_hash: Hash32
    block_hash: Hash32
    submission_deadline: int


@dataclass(frozen=True, kw_only=True)
class SubmissionForced(RoundEvent):
    """Event of the contract."""

    sender: Address
    certificate: bytes


@dataclass(frozen=True, kw_only=True)
class RoundSealed(RoundEvent):
    """Event of the contract."""

    submissions_root: Hash32
    count: int


@dataclass(frozen=True, kw_only=True)
class RoundSettled(RoundEvent):
    """Event of the contract."""

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
    """Event of the contract."""

    pass


@dataclass(frozen=True, kw_only=True)
class RewardClaimed(TaskEvent):
    """Event of the contract."""

    owner: Address
    amount_wei: int


@dataclass(frozen=True, kw_only=True)
class FeesClaimed(TaskEvent):
    """Event of the contract."""

    server: Address
    index: int
    amount_wei: int


@dataclass(frozen=True, kw_only=True)
class TaskClosed(TaskEvent):
    """Event of the contract."""

    unspent_wei: int


@dataclass(frozen=True, kw_only=True)
class TaskRefunded(TaskEvent):
    """Event of the contract."""

    model_owner: Address
    amount_wei: int


def create_task(
    terms: Terms, committee: Sequence[Address], expires: int, consents: Sequence[Signature]
) -> Call[int]:
    """Create a task with servers that agreed to it, and lock the money of its rounds."""
    return codec().call("create_task", terms, committee, expires, consents)


def create_drawn_task(terms: Terms, n: int) -> Call[int]:
    """Create a task whose servers are drawn from those that offer to serve for its fee."""
    return codec().call("create_drawn_task", terms, n)


def redraw(task: int) -> Call[None]:
    """Ask for another draw after one was missed; the model owner pays the fee again."""
    return codec().call("redraw", task)


def draw_committee(task: int) -> Call[None]:
    """Draw the servers of a task by the hash of the block fixed when it was asked for."""
    return codec().call("draw_committee", task)


def top_up(task: int, rounds: int) -> Call[None]:
    """Pay for more rounds of one's task, up to the number the servers agreed to."""
    return codec().call("top_up", task, rounds)


def close_task(task: int, committee: Sequence[Address]) -> Call[None]:
    """Close a task that has no active round and return what it did not spend."""
    return codec().call("close_task", task, committee)


def open_round(task: int, artefact_hash: Hash32) -> Call[int]:
    """Open the next round on a published artefact; the opening fee becomes the committee's."""
    return codec().call("open_round", task, artefact_hash)


def force_submission(task: int, certificate: bytes) -> Call[None]:
    """Show every server the certificate of a submission that the sequencer might leave out."""
    return codec().call("force_submission", task, certificate)


def seal(
    task: int,
    submissions_root: Hash32,
    count: int,
    committee: Sequence[Address],
    signers: int,
    signatures: Sequence[Signature],
) -> Call[None]:
    """Fix the set of submissions of the open round by the votes of n - e servers."""
    return codec().call("seal", task, submissions_root, count, committee, signers, signatures)


def settle(
    task: int,
    settlement: Settlement,
    committee: Sequence[Address],
    signers: int,
    words: Sequence[Hash32],
    signatures: Sequence[Signature],
) -> Call[None]:
    """Settle the sealed round: record seed, words and roots, credit owners and servers."""
    return codec().call("settle", task, settlement, committee, signers, words, signatures)


def void_round(task: int) -> Call[None]:
    """End a round that was not sealed or not settled in time; only the opening fee is spent."""
    return codec().call("void_round", task)


def claim(task: int, owner: Address, cumulative_wei: int, proof: Sequence[Hash32]) -> Call[None]:
    """Pay a data owner everything that a payouts root credits to it and was not yet paid."""
    return codec().call("claim", task, owner, cumulative_wei, proof)


def claim_many(owner: Address, claims: Sequence[Claim]) -> Call[None]:
    """Pay a data owner its rewards of several tasks, as `claim` would, all or none."""
    return codec().call("claim_many", owner, claims)


def claim_fees(task: int, committee: Sequence[Address], index: int) -> Call[None]:
    """Pay a server its fees for settled rounds and its share of the opening fees."""
    return codec().call("claim_fees", task, committee, index)


def interface_version() -> Call[int]:
    """Version of this interface and of the signed messages."""
    return codec().call("interface_version")


def registry() -> Call[Address]:
    """The registry of this market."""
    return codec().call("registry")


def domain_separator() -> Call[Hash32]:
    """The EIP-712 domain separator."""
    return codec().call("domain_separator")


def risk(task: int) -> Call[Risk]:
    """What the parties of a task risk, for the registry."""
    return codec().call("risk", task)


def task(number: int) -> Call[Task]:
    """A task as it is stored; the layouts of the packed words are beside the constants."""
    return codec().call("task", number)


def task_count() -> Call[int]:
    """Read `task_count`."""
    return codec().call("task_count")


def task_of(arg0: Address, arg1: Hash32) -> Call[int]:
    """Read `task_of`."""
    return codec().call("task_of", arg0, arg1)


def claimed(arg0: int, arg1: Address) -> Call[int]:
    """Read `claimed`."""
    return codec().call("claimed", arg0, arg1)


def fees_paid(arg0: int, arg1: int) -> Call[int]:
    """Read `fees_paid`."""
    return codec().call("fees_paid", arg0, arg1)


STRUCTS = (
    Signature,
    Terms,
    Settlement,
    Claim,
    Risk,
    Task,
)
EVENTS = (
    TaskCreated,
    CommitteeFixed,
    RoundsAdded,
    RoundOpened,
    SubmissionForced,
    RoundSealed,
    RoundSettled,
    RoundVoided,
    RewardClaimed,
    FeesClaimed,
    TaskClosed,
    TaskRefunded,
)


def codec() -> Codec:
    """Return the encoder and decoder of this contract."""
    return codec_of("Market", STRUCTS, EVENTS)
