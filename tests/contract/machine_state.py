"""What an independent model of the market keeps: plain records, nothing packed.

The names are those of protocol.md; amounts are wei or a token's smallest unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict

from omnilytics.chain.abi import Signature
from omnilytics.chain.bindings import market
from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.wire.eip712 import Domain, TypedMessage
from omnilytics.wire.signatures import recover_address

DAYS_14 = 14 * 86_400
NO_REASON = "reverted without a reason"
NOBODY = Address(bytes(20))
NO_HASH = Hash32(bytes(32))
ETHER = NOBODY
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


class RefusedError(Exception):
    """A call that the contracts must refuse, with their reason."""


def refuse_if(condition: bool, reason: str) -> None:
    """Refuse a call under a condition."""
    if condition:
        raise RefusedError(reason)


@dataclass(frozen=True)
class Call:
    """A call of one of the two contracts by an account."""

    sender: Address
    name: str
    arguments: tuple[Any, ...]
    value: int = 0


class Where(TypedDict):
    """Task and round of a signed message."""

    task: TaskId
    round: Round


class Phase(Enum):
    """Where a task stands."""

    IDLE = "idle"
    OPEN = "open"
    SEALED = "sealed"
    DRAWING = "drawing"


@dataclass
class Server:
    """A registered server."""

    stake: int
    since_block: int
    tasks: int = 0
    left_block: int | None = None
    left_time: int | None = None


@dataclass
class Bond:
    """A data owner's bond."""

    amount: int = 0
    left_time: int | None = None


@dataclass
class Offer:
    """For what a server offers to be drawn."""

    min_fee: int
    max_stake: int
    since_block: int


@dataclass
class Draw:
    """The latest draw of a task's committee."""

    draws: int
    pinned_block: int
    pool: int
    randomness: Hash32 = NO_HASH


@dataclass
class Task:
    """A task, its round and its money."""

    owner: Address
    terms: market.Terms
    n: int
    paid_rounds: int
    created_block: int
    created_day: int
    idle_since: int
    phase: Phase
    empty_root: Hash32
    closed: bool = False
    refunded: bool = False
    committee: tuple[Address, ...] | None = None
    profiles: tuple[int, ...] = ()
    opened: int = 0
    settled: int = 0
    opened_block: int = 0
    sealed_block: int = 0
    submissions_root: Hash32 = NO_HASH
    sealed_count: int = 0
    root: Hash32 = NO_HASH
    previous_root: Hash32 = NO_HASH
    credited: int = 0
    claimed: dict[Address, int] = field(default_factory=dict)
    attested: list[int] = field(default_factory=list)
    fees_paid: dict[int, int] = field(default_factory=dict)
    refund: int = 0
    released_at: int | None = None

    def __post_init__(self) -> None:
        if not self.attested:
            self.root = self.previous_root = self.empty_root
            self.attested = [0] * self.n

    @property
    def round_price(self) -> int:
        """The most that a round can cost."""
        terms = self.terms
        return terms.max_owners * terms.reward_wei + self.n * terms.fee_wei + terms.opening_fee_wei

    @property
    def escrow(self) -> int:
        """All that was paid in."""
        return self.paid_rounds * self.round_price

    @property
    def total_claimed(self) -> int:
        """All that data owners were paid."""
        return sum(self.claimed.values())

    def fees(self, index: int) -> int:
        """Return what a server has earned so far."""
        shares = self.opened * self.terms.opening_fee_wei // self.n
        return self.attested[index] * self.terms.fee_wei + shares

    @property
    def unspent(self) -> int:
        """What the model owner gets back when the task closes."""
        return self.escrow - self.credited - sum(self.fees(index) for index in range(self.n))

    @property
    def held(self) -> int:
        """What the market still holds for the task."""
        return self.escrow - self.total_claimed - sum(self.fees_paid.values()) - self.refund


class Manner(Enum):
    """How a token behaves; the numbers are MachineToken's."""

    STANDARD = 0
    SILENT = 1
    SHY = 2
    TAXED = 3


@dataclass
class Token:
    """The books of a token."""

    manner: Manner
    balances: dict[Address, int] = field(default_factory=dict)
    allowances: dict[Address, int] = field(default_factory=dict)
    """What each account lets the market take."""
    blocked: set[Address] = field(default_factory=set)


@dataclass
class State:
    """Everything that a call can change."""

    market: Address
    registry: Address
    min_stake: int
    draw_fee: int
    tasks: dict[int, Task] = field(default_factory=dict)
    used_specifications: set[tuple[Address, Hash32]] = field(default_factory=set)
    servers: dict[Address, Server] = field(default_factory=dict)
    profiles: dict[Address, list[tuple[Hash32, str]]] = field(default_factory=dict)
    offers: dict[tuple[Address, Address], Offer] = field(default_factory=dict)
    pool: list[Address] = field(default_factory=list)
    draws: dict[int, Draw] = field(default_factory=dict)
    draws_until: int = 0
    bonds: dict[Address, Bond] = field(default_factory=dict)
    burnt: int = 0
    judged: set[tuple[int, int, Address, bool]] = field(default_factory=set)
    ether: dict[Address, int] = field(default_factory=dict)
    tokens: dict[Address, Token] = field(default_factory=dict)
    refusing: set[Address] = field(default_factory=set)
    calling_back: dict[Address, Call] = field(default_factory=dict)


def check_signature(
    message: TypedMessage, domain: Domain, signature: Signature, signer: Address, wrong: str
) -> None:
    """Refuse a signature that is malleable or by somebody else; nobody's is the zero address'."""
    s = signature.vs & (1 << 255) - 1
    refuse_if(s > _HALF_ORDER, "high s")
    raw = signature.r + s.to_bytes(32, "big") + bytes([27 + (signature.vs >> 255)])
    try:
        found = recover_address(message.digest(domain), raw)
    except MalformedError:
        found = NOBODY
    refuse_if(found != signer, wrong)


def check_signers(n: int, e: int, signers: int, given: int) -> None:
    """Refuse a bitmap that names no quorum of the committee or as many as signed."""
    refuse_if(signers >= 1 << n, "signer beyond committee")
    refuse_if(signers.bit_count() != given, "signatures missing")
    refuse_if(given < n - e, "too few signatures")


def check_quorum(
    message: TypedMessage,
    domain: Domain,
    committee: tuple[Address, ...],
    e: int,
    signers: int,
    signatures: list[Signature],
) -> None:
    """Refuse a message that n - e servers did not sign."""
    check_signers(len(committee), e, signers, len(signatures))
    members = [member for index, member in enumerate(committee) if signers >> index & 1]
    for member, signature in zip(members, signatures, strict=True):
        check_signature(message, domain, signature, member, "bad signature")
