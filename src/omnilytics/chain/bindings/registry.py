"""Typed bindings of Registry.vy, made by `compile --bindings`; do not edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omnilytics.chain.abi import Call, Codec, Signature, codec_of
from omnilytics.chain.happenings import MarketEvent, RoundEvent, TaskEvent
from omnilytics.foundation.units import Address, Hash32


@dataclass(frozen=True, kw_only=True)
class ServerView:
    """Struct of the contract."""

    stake_wei: int
    active_tasks: int
    since_block: int
    leaving_block: int
    free_at: int
    profile: int
    hpke_key: Hash32
    endpoint: str


@dataclass(frozen=True, kw_only=True)
class BondView:
    """Struct of the contract."""

    amount_wei: int
    free_at: int


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Struct of the contract."""

    draws: int
    pinned_block: int
    pool: int
    randomness: Hash32


@dataclass(frozen=True, kw_only=True)
class ServerRegistered(MarketEvent):
    """Event of the contract."""

    server: Address
    stake_wei: int


@dataclass(frozen=True, kw_only=True)
class ProfileSet(MarketEvent):
    """Event of the contract."""

    server: Address
    profile: int
    hpke_key: Hash32
    endpoint: str


@dataclass(frozen=True, kw_only=True)
class StakeAdded(MarketEvent):
    """Event of the contract."""

    server: Address
    amount_wei: int


@dataclass(frozen=True, kw_only=True)
class OfferSet(MarketEvent):
    """Event of the contract."""

    server: Address
    token: Address
    open: bool
    min_fee_wei: int
    max_stake_wei: int


@dataclass(frozen=True, kw_only=True)
class ServerLeaving(MarketEvent):
    """Event of the contract."""

    server: Address
    free_at: int


@dataclass(frozen=True, kw_only=True)
class StakeWithdrawn(MarketEvent):
    """Event of the contract."""

    server: Address
    amount_wei: int


@dataclass(frozen=True, kw_only=True)
class PoolSwept(MarketEvent):
    """Event of the contract."""

    server: Address


@dataclass(frozen=True, kw_only=True)
class ServersEnlisted(MarketEvent):
    """Event of the contract."""

    servers: tuple[Address, ...]


@dataclass(frozen=True, kw_only=True)
class ServersReleased(TaskEvent):
    """Event of the contract."""

    servers: tuple[Address, ...]


@dataclass(frozen=True, kw_only=True)
class DrawPinned(TaskEvent):
    """Event of the contract."""

    draws: int
    pinned_block: int
    pool: int
    fee_wei: int


@dataclass(frozen=True, kw_only=True)
class DrawRevealed(TaskEvent):
    """Event of the contract."""

    randomness: Hash32


@dataclass(frozen=True, kw_only=True)
class BondAdded(MarketEvent):
    """Event of the contract."""

    owner: Address
    amount_wei: int


@dataclass(frozen=True, kw_only=True)
class OwnerLeaving(MarketEvent):
    """Event of the contract."""

    owner: Address
    free_at: int


@dataclass(frozen=True, kw_only=True)
class BondWithdrawn(MarketEvent):
    """Event of the contract."""

    owner: Address
    amount_wei: int


@dataclass(frozen=True, kw_only=True)
class Slashed(RoundEvent):
    """Event of the contract."""

    party: Address
    kind: int
    evidence_hash: Hash32
    amount_wei: int
    reporter: Address
    share_wei: int


def register_server(endpoint: str, hpke_key: Hash32) -> Call[None]:
    """Register the caller as a server; the ether sent is its stake."""
    return codec().call("register_server", endpoint, hpke_key)


def set_profile(endpoint: str, hpke_key: Hash32) -> Call[None]:
    """Change the caller's endpoint and key, for tasks created (or drawn) from now on."""
    return codec().call("set_profile", endpoint, hpke_key)


def add_stake() -> Call[None]:
    """Add the ether sent to the caller's stake."""
    return codec().call("add_stake")


def set_offer(token: Address, open: bool, min_fee_wei: int, max_stake_wei: int) -> Call[None]:
    """Offer to be drawn for tasks that pay in a token, or withdraw the offer."""
    return codec().call("set_offer", token, open, min_fee_wei, max_stake_wei)


def leave() -> Call[None]:
    """Join no further task."""
    return codec().call("leave")


def withdraw_stake() -> Call[None]:
    """Take the stake back, 14 days after leaving and after the last task closed."""
    return codec().call("withdraw_stake")


def sweep(server: Address) -> Call[None]:
    """Remove the place of a server that has withdrawn its stake."""
    return codec().call("sweep", server)


def add_bond() -> Call[None]:
    """Add the ether sent to the caller's bond; one that was leaving stays."""
    return codec().call("add_bond")


def leave_bond() -> Call[None]:
    """Ask for the bond back."""
    return codec().call("leave_bond")


def withdraw_bond() -> Call[None]:
    """Take the bond back, 14 days after asking for it."""
    return codec().call("withdraw_bond")


def enlist(
    servers: Sequence[Address],
    min_stake_wei: int,
    consent_hash: Hash32,
    consents: Sequence[Signature],
) -> Call[int]:
    """Bind the stakes of servers that agreed to a task by their signatures."""
    return codec().call("enlist", servers, min_stake_wei, consent_hash, consents)


def pin_draw(task: int) -> Call[None]:
    """Burn the fee of a draw and fix the block and the pool it uses."""
    return codec().call("pin_draw", task)


def reveal_draw(task: int, header: bytes) -> Call[None]:
    """Show the header of a draw's block, whose PREVRANDAO decides it."""
    return codec().call("reveal_draw", task, header)


def draw(
    task: int, n: int, min_stake_wei: int, token: Address, fee_wei: int
) -> Call[tuple[tuple[Address, ...], int]]:
    """Draw a committee without replacement and bind its stakes."""
    return codec().call("draw", task, n, min_stake_wei, token, fee_wei)


def release(task: int, servers: Sequence[Address]) -> Call[None]:
    """Free the stakes of a closed task's committee."""
    return codec().call("release", task, servers)


def report_fault(
    task: int,
    round: int,
    party: Address,
    kind: int,
    evidence_hash: Hash32,
    servers: Sequence[Address],
    signers: int,
    signatures: Sequence[Signature],
    commitment: Hash32,
    submission: Signature,
) -> Call[None]:
    """Slash a party that n - e servers of a task found at fault in a round."""
    return codec().call(
        "report_fault",
        task,
        round,
        party,
        kind,
        evidence_hash,
        servers,
        signers,
        signatures,
        commitment,
        submission,
    )


def convict_of_two_words(
    task: int,
    round: int,
    submissions_root: Hash32,
    seed: Hash32,
    owner: Address,
    commitment: Hash32,
    words: Sequence[Hash32],
    signatures: Sequence[Signature],
    server: Address,
    servers: Sequence[Address],
) -> Call[None]:
    """Take the whole stake of a server that signed two different words under one key."""
    return codec().call(
        "convict_of_two_words",
        task,
        round,
        submissions_root,
        seed,
        owner,
        commitment,
        words,
        signatures,
        server,
        servers,
    )


def convict_of_two_seeds(
    task: int,
    round: int,
    submissions_roots: Sequence[Hash32],
    seeds: Sequence[Hash32],
    signatures: Sequence[Signature],
    server: Address,
    servers: Sequence[Address],
) -> Call[None]:
    """Take the whole stake of a server that signed two different Seeds in one round."""
    return codec().call(
        "convict_of_two_seeds", task, round, submissions_roots, seeds, signatures, server, servers
    )


def convict_of_two_finals(
    task: int,
    round: int,
    accepted_roots: Sequence[Hash32],
    signatures: Sequence[Signature],
    server: Address,
    servers: Sequence[Address],
) -> Call[None]:
    """Take the whole stake of a server that signed two different Finals in one round."""
    return codec().call(
        "convict_of_two_finals", task, round, accepted_roots, signatures, server, servers
    )


def market() -> Call[Address]:
    """The market this registry serves."""
    return codec().call("market")


def min_stake_wei() -> Call[int]:
    """Smallest stake of a server."""
    return codec().call("min_stake_wei")


def draw_fee_wei() -> Call[int]:
    """What a draw of a committee costs."""
    return codec().call("draw_fee_wei")


def domain_separator() -> Call[Hash32]:
    """The EIP-712 domain separator, the market's."""
    return codec().call("domain_separator")


def server(account: Address) -> Call[ServerView]:
    """A registered server."""
    return codec().call("server", account)


def profile(account: Address, number: int) -> Call[tuple[Hash32, str]]:
    """A profile of a server, also an earlier one."""
    return codec().call("profile", account, number)


def offer(account: Address, token: Address) -> Call[tuple[bool, int, int]]:
    """For what a server offers to be drawn."""
    return codec().call("offer", account, token)


def bond(account: Address) -> Call[BondView]:
    """The bond of a data owner."""
    return codec().call("bond", account)


def burnt_wei() -> Call[int]:
    """Read `burnt_wei`."""
    return codec().call("burnt_wei")


def pool_size() -> Call[int]:
    """Read `pool_size`."""
    return codec().call("pool_size")


def pool(arg0: int) -> Call[Address]:
    """Read `pool`."""
    return codec().call("pool", arg0)


def draws_until() -> Call[int]:
    """Read `draws_until`."""
    return codec().call("draws_until")


def draws(arg0: int) -> Call[Draw]:
    """Read `draws`."""
    return codec().call("draws", arg0)


def released_at(arg0: int) -> Call[int]:
    """Read `released_at`."""
    return codec().call("released_at", arg0)


def judged(arg0: Hash32) -> Call[bool]:
    """Read `judged`."""
    return codec().call("judged", arg0)


STRUCTS = (
    Signature,
    ServerView,
    BondView,
    Draw,
)
EVENTS = (
    ServerRegistered,
    ProfileSet,
    StakeAdded,
    OfferSet,
    ServerLeaving,
    StakeWithdrawn,
    PoolSwept,
    ServersEnlisted,
    ServersReleased,
    DrawPinned,
    DrawRevealed,
    BondAdded,
    OwnerLeaving,
    BondWithdrawn,
    Slashed,
)


def codec() -> Codec:
    """Return the encoder and decoder of this contract."""
    return codec_of("Registry", STRUCTS, EVENTS)
