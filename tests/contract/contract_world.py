"""A market with servers, a model owner and helpers to drive and to break a round."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import pytest
from eth_hash.auto import keccak

from omnilytics.chain.abi import Call
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.bindings.market import RoundOpened
from omnilytics.chain.compile import build
from omnilytics.chain.connection import Chain
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.embedded import EmbeddedChain, embedded_chain
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import (
    FaultKind,
    OfferRecord,
    SignedSettlement,
    TaskTerms,
    TransactionReceipt,
    Windows,
)
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import (
    GAS_LIMITS,
    MarketWriter,
    compact_signature,
    receipt_of,
    terms_hash,
)
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei
from omnilytics.wire.eip712 import TypedMessage
from omnilytics.wire.messages import Consent, Fault, SealVote, Settlement
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.task_specification import ETHER_TOKEN

P = 2**64 - 2**32 + 1
ETHER = Wei(10**18)
STAKE = Wei(10**17)
WINDOWS = Windows(
    submission_seconds=600,
    forced_seconds=120,
    seal_seconds=120,
    delta=2,
    confirmations=1,
    words_blocks=5,
    openings_blocks=8,
    settlement_blocks=12,
)

Result = TypeVar("Result")

build()


class World:
    """n registered servers, a model owner, a market with its registry; accounts with ether."""

    def __init__(self, n: int = 5, *, seed: int = 1, chain: Chain | None = None) -> None:
        self.random = random.Random(seed)
        self.chain = chain or embedded_chain()
        self.keys = [self.key() for _ in range(n)]
        self.known = {key.address: key for key in self.keys}
        self.owner_key = self.key()
        self.model_owner = self.account(self.owner_key)
        self.address = deploy_market(self.model_owner, min_stake_wei=STAKE)
        self.reader = MarketReader(self.chain, self.address)
        self.servers = [self.account(key) for key in self.keys]
        self.committee = tuple(key.address for key in self.keys)
        for server in self.servers:
            self.writer(server).register_server("http://server", self.hash(), STAKE)
        self.owner_writer = self.writer(self.model_owner)

    def key(self) -> SigningKey:
        return SigningKey(self.random.randbytes(32))

    def hash(self) -> Hash32:
        return Hash32(self.random.randbytes(32))

    def account(self, key: SigningKey | None = None) -> Sender:
        key = key or self.key()
        self.chain.fund(key.address, Wei(100 * ETHER))
        return Sender(self.chain, key.secret)

    def writer(self, sender: Sender) -> MarketWriter:
        return MarketWriter(self.reader, sender)

    def server(self, stake_wei: int = STAKE) -> MarketWriter:
        """Register one more server, whose consents `consents` can give too."""
        key = self.key()
        self.known[key.address] = key
        writer = self.writer(self.account(key))
        writer.register_server("http://another", self.hash(), Wei(stake_wei))
        return writer

    def offers(self, min_fee_wei: int, *, token: Address = ETHER_TOKEN) -> None:
        """Have every server of the committee offer to be drawn, at any risk."""
        for server in self.servers:
            self.writer(server).set_offer(offer(min_fee_wei), token=token)

    def of_market(self, call: Call[Result]) -> Result:
        """Return what a view of the market returns."""
        return call.result(self.chain.call(self.address, call.data))

    def of_registry(self, call: Call[Result]) -> Result:
        """Return what a view of the registry returns."""
        return call.result(self.chain.call(self.reader.registry, call.data))

    def send(
        self, name: str, *arguments: object, sender: Sender | None = None, value: int = 0
    ) -> TransactionReceipt:
        """Send a call of the market or its registry as it stands, however wrong."""
        in_market = name in market.codec().names
        codec = market.codec() if in_market else registry.codec()
        target = self.address if in_market else self.reader.registry
        account = sender or self.model_owner
        data = codec.calldata(name, *arguments)
        raw = account.send(target, data, value=Wei(value), gas=GAS_LIMITS.get(name, 5_000_000))
        return receipt_of(self.reader, raw)

    def terms(self, **changes: Any) -> TaskTerms:
        plain = TaskTerms(
            spec_hash=self.hash(),
            n=len(self.committee),
            t=1,
            e=1,
            reward_wei=Wei(1_000),
            fee_wei=Wei(70),
            opening_fee_wei=Wei(13),
            rounds=4,
            max_rounds=6,
            min_owners=2,
            max_owners=1_000,
            min_stake_wei=STAKE,
            min_bond_wei=Wei(0),
            allow_root=Hash32(bytes(32)),
            token=ETHER_TOKEN,
            windows=WINDOWS,
        )
        windows = {name: changes.pop(name) for name in list(changes) if hasattr(WINDOWS, name)}
        return replace(plain, windows=replace(WINDOWS, **windows), **changes)

    def task(self, *, committee: Sequence[Address] | None = None, **changes: Any) -> TaskId:
        """Create a task whose servers all consent."""
        return self.create(self.terms(**changes), committee=committee)

    def create(
        self,
        terms: TaskTerms,
        *,
        committee: Sequence[Address] | None = None,
        writer: MarketWriter | None = None,
    ) -> TaskId:
        """Create a task on these terms, honestly consented to."""
        caller = writer or self.owner_writer
        members = self.committee if committee is None else tuple(committee)
        expires = self.chain.head_timestamp() + 3_600
        consents = self.consents(terms, members, caller.address, expires)
        return caller.create_task(terms, members, expires=expires, consents=consents)

    def consents(
        self, terms: TaskTerms, committee: Sequence[Address], model_owner: Address, expires: int
    ) -> list[bytes]:
        """Return the consents of those servers of a committee whose keys are known."""
        consent = Consent(
            model_owner=model_owner, terms_hash=terms_hash(terms, committee), expires=expires
        )
        return [self.known[member].sign(consent, self.reader.domain) for member in committee]

    def open(self, task: TaskId) -> RoundOpened:
        return self.owner_writer.open_round(task, self.hash())

    def to_seal_time(self, task: TaskId) -> None:
        """Go to where the next block is the first that may seal."""
        # The embedded chain's next block is one second later; other chains use their clock.
        early = 1 if isinstance(self.chain, EmbeddedChain) else 0
        self.chain.wait_for_time(self.reader.round_state(task).submission_deadline - early)

    def vote(self, task: TaskId, count: int = 500) -> SealVote:
        number = self.reader.round_state(task).round
        return SealVote(task=task, round=number, submissions_root=self.hash(), count=count)

    def votes(self, message: TypedMessage, signers: Iterable[int] = range(4)) -> dict[int, bytes]:
        """Return servers' signatures of one message, by committee index."""
        return {index: self.keys[index].sign(message, self.reader.domain) for index in signers}

    def seal(self, task: TaskId, count: int = 500) -> SealVote:
        self.to_seal_time(task)
        vote = self.vote(task, count)
        quorum = self.reader.task(task).terms.quorum
        signatures = self.votes(vote, range(quorum))
        self.owner_writer.seal(vote, self.committee, signatures)
        return vote

    def to_settle_time(self, task: TaskId) -> None:
        self.chain.wait_for_block(self.reader.round_state(task).challenge_final_block)

    def sealed(self, task: TaskId, count: int = 500) -> None:
        """Open a round, seal it and go to the first block that may hold a settlement."""
        self.open(task)
        self.seal(task, count)
        self.to_settle_time(task)

    def settlement(self, task: TaskId, **changes: Any) -> Settlement:
        """Return a settlement that the contract accepts, but for the changes and its word."""
        state = self.reader.round_state(task)
        agreed = Settlement(
            task=task,
            round=state.round,
            submissions_root=state.submissions_root,
            seed=changes.get("seed") or self.reader.seed(task),
            accepted_root=self.hash(),
            accepted_count=min(10, state.count),
            v_bitmap=(1 << len(self.committee)) - 1,
            previous_payouts_root=self.reader.task(task).payouts_root,
            payouts_root=self.hash(),
            transcript_hash=self.hash(),
            word=Hash32(bytes(32)),
        )
        return replace(agreed, **changes)

    def stored(self, slot: int) -> int:
        """Return a storage word of the registry."""
        chain: Any = self.chain
        return int(chain._state().get_storage(self.reader.registry, slot))

    def store(self, slot: int, value: int) -> None:
        """Change a storage word of the registry, where calls would take too long."""
        chain: Any = self.chain
        state = chain._state()
        state.set_storage(self.reader.registry, slot, value)
        state.persist()
        chain._chain.header = chain._chain.header.copy(state_root=state.state_root)
        chain._views_at = -1

    def slash(self, task: TaskId, index: int, *, round_number: int = 1) -> TransactionReceipt:
        """Have a server lose what a task puts at risk, by the votes of all others."""
        return self.send("report_fault", *self.report(task, index, round_number=round_number))

    def report(self, task: TaskId, index: int, *, round_number: int = 1) -> tuple[object, ...]:
        """Return the arguments of an honest report of a server by all others."""
        fault = Fault(
            task=task,
            round=Round(round_number),
            party=self.committee[index],
            kind=FaultKind.SERVER,
            evidence_hash=self.hash(),
        )
        votes = self.votes(fault, [j for j in range(len(self.committee)) if j != index])
        return (*self.fault_arguments(fault, votes), bytes(32), (bytes(32), 0))

    def fault_arguments(self, fault: Fault, votes: Mapping[int, bytes]) -> tuple[object, ...]:
        """Return the arguments of a report, but for a data owner's submission."""
        compact = [compact_signature(votes[j]) for j in sorted(votes)]
        said = (fault.task, fault.round, fault.party, fault.kind, fault.evidence_hash)
        return (*said, self.committee, sum(1 << j for j in votes), compact)

    def words(self, t: int = 1, n: int | None = None) -> list[Hash32]:
        return codewords(self.random, n or len(self.committee), t)

    def signed(
        self,
        agreed: Settlement,
        words: Sequence[Hash32],
        signers: Iterable[int] | None = None,
    ) -> dict[int, SignedSettlement]:
        chosen = range(len(self.committee)) if signers is None else signers
        return {index: self._sign(index, agreed, words[index]) for index in chosen}

    def _sign(self, index: int, agreed: Settlement, word: Hash32) -> SignedSettlement:
        own = replace(agreed, word=word)
        signature = self.keys[index].sign(own, self.reader.domain)
        return SignedSettlement(settlement=own, signature=signature)

    def settle(
        self,
        task: TaskId,
        *,
        signers: Iterable[int] | None = None,
        words: Sequence[Hash32] | None = None,
        **changes: Any,
    ) -> TransactionReceipt:
        """Settle with changed fields, all honestly signed by `signers`."""
        agreed = self.settlement(task, **changes)
        t = self.reader.task(task).terms.t
        signed = self.signed(agreed, words or self.words(t), signers)
        return self.owner_writer.settle(signed, self.committee)

    def round(self, task: TaskId, *, count: int = 500, **changes: Any) -> Round:
        """Run one whole round."""
        self.sealed(task, count)
        self.settle(task, **changes)
        return self.reader.round_state(task).round


@cache
def built_world(n: int = 5) -> World:
    """Return a world to be used within `rewound` only."""
    return World(n)


def shared_world(n: int = 5) -> Iterator[World]:
    """Yield a world as it was built, and undo afterwards whatever was done to it.

    Building one takes longer than most tests: they share it by a fixture that yields from this.
    """
    world = built_world(n)
    with rewound(world):
        yield world


@contextmanager
def rewound(world: World) -> Iterator[None]:
    """Put the embedded chain of a world back to where it is now, at the end."""
    chain: Any = world.chain
    head, pending = chain._chain.get_canonical_head(), chain._chain.header
    dice = world.random.getstate()
    receipts, calldata, logs = dict(chain._receipts), dict(chain._calldata), list(chain._logs)
    try:
        yield
    finally:
        database = chain._chain.chaindb
        database._set_as_canonical_chain_head(database.db, head, bytes(32))
        chain._chain.header = pending
        chain._receipts, chain._calldata, chain._logs = receipts, calldata, logs
        chain._views_at = -1
        world.random.setstate(dice)
        world.reader = MarketReader(chain, world.address)
        world.model_owner = Sender(chain, world.owner_key.secret)
        world.servers = [Sender(chain, key.secret) for key in world.keys]
        world.owner_writer = world.writer(world.model_owner)


@contextmanager
def refused(reason: str) -> Iterator[None]:
    """Expect a contract to refuse, for exactly this reason."""
    with pytest.raises(ChainError) as caught:
        yield
    assert caught.value.message == reason


def offer(min_fee_wei: int, max_stake_wei: int = 2**96 - 1) -> OfferRecord:
    """Return an offer to be drawn, at any risk if none is named."""
    return OfferRecord(min_fee_wei=Wei(min_fee_wei), max_stake_wei=Wei(max_stake_wei))


def codewords(source: random.Random, n: int, t: int) -> list[Hash32]:
    """Return n words on random codewords: c of degree 2t with value 0 at 0, d of degree t."""
    limbs = []
    for degree, first in ((2 * t, 0), (2 * t, 0), (t, None), (t, None)):
        coefficients = [source.randrange(P) for _ in range(degree + 1)]
        if first is not None:
            coefficients[0] = first
        limbs.append([_value(coefficients, point) for point in range(1, n + 1)])
    return [Hash32(b"".join(limb[j].to_bytes(8, "big") for limb in limbs)) for j in range(n)]


def _value(coefficients: Sequence[int], point: int) -> int:
    return sum(c * pow(point, power, P) for power, c in enumerate(coefficients)) % P


def with_limb(word: Hash32, limb: int, change: Callable[[int], int]) -> Hash32:
    """Return a word with one of its limbs c0, c1, d0, d1 changed."""
    limbs = [int.from_bytes(word[8 * k : 8 * k + 8], "big") for k in range(4)]
    limbs[limb] = change(limbs[limb])
    return Hash32(b"".join(value.to_bytes(8, "big") for value in limbs))


def with_value(word: Hash32, limb: int, value: int) -> Hash32:
    """Return a word with one of its limbs c0, c1, d0, d1 set."""
    return with_limb(word, limb, lambda _: value)


def leaf(owner: Address, cumulative: int) -> bytes:
    return keccak(b"\x00" + owner.rjust(32, b"\x00") + cumulative.to_bytes(32, "big"))


def payouts_tree(
    amounts: Mapping[Address, int],
) -> tuple[Hash32, dict[Address, tuple[Hash32, ...]]]:
    """Return root and proofs of a tree of payouts: a slow reference."""
    owners = sorted(amounts)
    level = [leaf(owner, amounts[owner]) for owner in owners]
    places = {owner: index for index, owner in enumerate(owners)}
    proofs: dict[Address, list[Hash32]] = {owner: [] for owner in owners}
    while len(level) > 1:
        for owner, place in places.items():
            if place ^ 1 < len(level):
                proofs[owner].append(Hash32(level[place ^ 1]))
            places[owner] = place // 2
        level = [_parent(level[k : k + 2]) for k in range(0, len(level), 2)]
    return Hash32(level[0]), {owner: tuple(proof) for owner, proof in proofs.items()}


def _parent(pair: Sequence[bytes]) -> bytes:
    return pair[0] if len(pair) == 1 else keccak(b"\x01" + min(pair) + max(pair))
