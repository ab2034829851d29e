"""A market with servers, a model owner and helpers to drive and to break a round."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from eth_hash.auto import keccak

from omnilytics.chain.abi import market_codec
from omnilytics.chain.compile import build
from omnilytics.chain.connection import Chain
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.embedded import EmbeddedChain, embedded_chain
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import (
    RoundOpened,
    SignedSettlement,
    TaskTerms,
    TransactionReceipt,
    Windows,
)
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import GAS_LIMITS, MarketWriter
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei
from omnilytics.wire.messages import SealVote, Settlement
from omnilytics.wire.signatures import SigningKey

P = 2**64 - 2**32 + 1
ETHER = Wei(10**18)
STAKE = Wei(10**17)
WINDOWS = Windows(
    submission_seconds=600,
    seal_seconds=120,
    delta=2,
    confirmations=1,
    words_blocks=5,
    openings_blocks=8,
    settlement_blocks=12,
)

build()


class World:
    """n registered servers (3 more stand by), a model owner, a contract; accounts with ether."""

    def __init__(self, n: int = 5, *, seed: int = 1, chain: Chain | None = None) -> None:
        self.random = random.Random(seed)
        self.chain = chain or embedded_chain()
        self.keys = [self.key() for _ in range(n)]
        self.model_owner = self.account()
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

    def send(
        self, name: str, *arguments: object, sender: Sender | None = None, value: int = 0
    ) -> TransactionReceipt:
        """Send a call as it stands, however wrong."""
        data = market_codec().call(name, *arguments)
        account = sender or self.model_owner
        return account.send(self.address, data, value=Wei(value), gas=GAS_LIMITS[name])

    def terms(self, **changes: Any) -> TaskTerms:
        plain = TaskTerms(
            spec_hash=Hash32(b"s" * 32),
            committee=self.committee,
            t=1,
            e=1,
            reward_wei=Wei(1_000),
            fee_wei=Wei(70),
            opening_fee_wei=Wei(13),
            rounds=4,
            min_owners=2,
            max_owners=1_000,
            windows=WINDOWS,
        )
        windows = {name: changes.pop(name) for name in list(changes) if hasattr(WINDOWS, name)}
        return replace(plain, windows=replace(WINDOWS, **windows), **changes)

    def task(self, **changes: Any) -> TaskId:
        return self.owner_writer.create_task(self.terms(**changes))

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

    def votes(self, vote: SealVote, signers: Iterable[int] = range(4)) -> dict[int, bytes]:
        return {index: self.keys[index].sign(vote, self.reader.domain) for index in signers}

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
