"""Gas of every call of the contracts, for any committee and number of data owners.

The parties are made up but what reaches the chain is real: signatures, payouts trees, words on
codewords. All n servers post their words. The same scenario runs on the embedded chain and on any
development chain. Hashes have no zero bytes, which would make calldata cheaper by chance.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from omnilytics.algebra import field
from omnilytics.chain.connection import Chain, connect
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.embedded import EmbeddedChain
from omnilytics.chain.gas import GasLog
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import FaultKind, OfferRecord, SignedSettlement, TaskTerms, Windows
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import DRAW_BLOCKS, MarketWriter, TaskClaim, terms_hash
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, Wei
from omnilytics.sharing.committee import Committee
from omnilytics.wire.hashing import merkle_leaf, merkle_proof, merkle_root
from omnilytics.wire.messages import (
    Consent,
    Fault,
    Final,
    SealVote,
    Seed,
    Settlement,
    Submission,
    Word,
)
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.task_specification import ETHER_TOKEN

COMMITTEES = (
    Committee(servers=3, privacy=1, errors=0),
    Committee(servers=5, privacy=1, errors=1),
    Committee(servers=7, privacy=2, errors=1),
    Committee(servers=11, privacy=3, errors=2),
    Committee(servers=13, privacy=4, errors=1),
)
OWNERS = (1, 10, 100, 1_000)
MAX_OWNERS = 4_096
ROUNDS = (1, 2)
CERTIFICATE_BYTES = 1_024

_STAKE = Wei(10**17)
_BOND = Wei(10**16)
_REWARD = Wei(10**15)
_ETHER = Wei(10**18)
_OFFER = OfferRecord(min_fee_wei=Wei(1), max_stake_wei=_STAKE)
_WINDOWS = Windows(
    submission_seconds=600,
    forced_seconds=120,
    seal_seconds=3_600,
    delta=2,
    confirmations=1,
    words_blocks=5,
    openings_blocks=10,
    settlement_blocks=100,
)


def gas(
    *,
    servers: Sequence[int] | None = None,
    owners: Sequence[int] | None = None,
    chain_url: str | None = None,
) -> list[dict[str, Any]]:
    """Measure every call; one row for each call, committee, number of owners and round.

    Args:
        servers: Sizes of committees, of `COMMITTEES`.
        owners: Numbers of data owners that a round pays, 1 to 4,096.
        chain_url: A development chain; by default an embedded one for each combination.

    Returns:
        Rows of call, n, t, e, owners, round and gas; round 0 for calls that belong to no round.

    Raises:
        UsageError: A committee or a number of owners that is not measured.
    """
    by_size = {committee.servers: committee for committee in COMMITTEES}
    sizes, counts = servers or list(by_size), owners or OWNERS
    if not set(sizes) <= by_size.keys():
        raise UsageError("no such committee is measured", got=sizes, want=sorted(by_size))
    if not all(1 <= count <= MAX_OWNERS for count in counts):
        raise UsageError("impossible number of owners", got=counts, want=f"1 to {MAX_OWNERS}")
    rows = []
    for size in sizes:
        for count in counts:
            chain = connect(chain_url) if chain_url else EmbeddedChain()
            rows += [asdict(row) for row in _Scenario(chain, by_size[size], count).run()]
            chain.close()
    return rows


@dataclass(frozen=True)
class _Row:
    call: str
    n: int
    t: int
    e: int
    owners: int
    round: int
    gas: int


class _Account:
    """A funded account with its calls."""

    def __init__(self, reader: MarketReader, key: SigningKey, log: GasLog) -> None:
        self.key = key
        self.address = key.address
        self.writer = MarketWriter(reader, Sender(reader.chain, key.secret), log)


class _Scenario:
    """One market, two tasks with one committee, and whoever it takes to make every call once."""

    def __init__(self, chain: Chain, committee: Committee, owners: int) -> None:
        self._chain = chain
        self._committee = committee
        self._count = owners
        self._rows: list[_Row] = []
        self._log = GasLog()
        deployer = self._funded_key()
        self._reader = MarketReader(
            chain, deploy_market(Sender(chain, deployer.secret)), first_block=chain.head()
        )
        self._model_owner = _Account(self._reader, deployer, self._log)
        self._servers = [self._account() for _ in range(committee.servers)]
        self._owner = self._account()
        # After the one that claims, whose path to the root is then the longest.
        others = [Address(b"\xff" + _hash()[:19]) for _ in range(owners - 1)]
        self._owners = [self._owner.address, *sorted(others)]
        self._members = tuple(server.address for server in self._servers)

    def run(self) -> list[_Row]:
        """Make every call and return what each cost."""
        self._register()
        with self._recording(0):
            first = self._create()
        second = self._create()
        for number in ROUNDS:
            with self._recording(number):
                self._round(first, Round(number))
            self._round(second, Round(number))
            self._claims(first, second, number)
        self._accuse(first)
        self._void(first)
        with self._recording(0):
            self._model_owner.writer.top_up(first, 1)
            self._model_owner.writer.close_task(first)
        self._model_owner.writer.close_task(second)
        self._draw()
        return self._rows

    def _register(self) -> None:
        for server in self._servers:
            server.writer.register_server("https://server.example:8443", _hash(), _STAKE)
        writer = self._servers[0].writer
        with self._recording(0):
            newcomer = self._account().writer
            newcomer.register_server("https://server.example:8443", _hash(), _STAKE)
            writer.set_profile("https://other.example:8443", _hash())
            writer.add_stake(_STAKE)
            writer.set_offer(_OFFER)
            self._owner.writer.add_bond(_BOND)
        for server in self._servers[1:]:
            server.writer.set_offer(_OFFER)

    def _create(self) -> TaskId:
        terms = self._terms()
        expires = self._chain.head_timestamp() + 3_600
        consent = Consent(
            model_owner=self._model_owner.address,
            terms_hash=terms_hash(terms, self._members),
            expires=expires,
        )
        consents = [server.key.sign(consent, self._reader.domain) for server in self._servers]
        return self._model_owner.writer.create_task(
            terms, self._members, expires=expires, consents=consents
        )

    def _round(self, task: TaskId, number: Round) -> None:
        writer = self._model_owner.writer
        writer.open_round(task, _hash())
        self._owner.writer.force_submission(task, _bytes(CERTIFICATE_BYTES))
        self._chain.wait_for_time(self._reader.round_state(task).submission_deadline)
        vote = SealVote(task=task, round=number, submissions_root=_hash(), count=self._count)
        quorum = self._servers[: self._committee.quorum]
        writer.seal(vote, self._members, self._signatures(vote, quorum))
        self._chain.wait_for_block(self._reader.round_state(task).challenge_final_block)
        root, _ = self._payouts(number)
        agreed = Settlement(
            task=task,
            round=number,
            submissions_root=vote.submissions_root,
            seed=self._reader.seed(task),
            accepted_root=_hash(),
            accepted_count=self._count,
            v_bitmap=(1 << self._committee.servers) - 1,
            previous_payouts_root=self._reader.task(task).payouts_root,
            payouts_root=root,
            transcript_hash=_hash(),
            word=_hash(),
        )
        signed = {}
        for index, word in enumerate(_codewords(self._committee)):
            own = replace(agreed, word=word)
            signature = self._servers[index].key.sign(own, self._reader.domain)
            signed[index] = SignedSettlement(settlement=own, signature=signature)
        writer.settle(signed, self._members)

    def _claims(self, first: TaskId, second: TaskId, number: int) -> None:
        _, proof = self._payouts(number)
        due = Wei(number * _REWARD)
        owner = self._owner
        with self._recording(number):
            owner.writer.claim(first, owner.address, due, proof)
            self._servers[0].writer.claim_fees(first, self._members, 0)
            claims = [TaskClaim(task=second, cumulative_wei=due, proof=proof)]
            owner.writer.claim_many(owner.address, claims)

    def _accuse(self, task: TaskId) -> None:
        """Slash a server and an owner by reports, and three servers by their own signatures."""
        number = Round(ROUNDS[-1])
        reporter = self._account().writer
        fault = Fault(
            task=task,
            round=number,
            party=self._members[0],
            kind=FaultKind.SERVER,
            evidence_hash=_hash(),
        )
        votes = self._signatures(fault, self._servers[: self._committee.quorum])
        submission = Submission(task=task, round=number, commitment=_hash())
        signed = self._owner.key.sign(submission, self._reader.domain)
        with self._recording(number):
            reporter.report_fault(fault, self._members, votes)
        against_owner = replace(fault, party=self._owner.address, kind=FaultKind.OWNER)
        votes = self._signatures(against_owner, self._servers[: self._committee.quorum])
        reporter.report_fault(against_owner, self._members, votes, (submission, signed))
        words = (self._word(task, number), self._word(task, number))
        seeds = tuple(
            Seed(task=task, round=number, submissions_root=_hash(), seed=_hash()) for _ in range(2)
        )
        finals = tuple(Final(task=task, round=number, accepted_root=_hash()) for _ in range(2))
        second_word = replace(words[0], word=words[1].word)
        with self._recording(number):
            self._convict(reporter, 0, (words[0], second_word))
            self._convict(reporter, 1, seeds)
            self._convict(reporter, 2, finals)

    def _word(self, task: TaskId, number: Round) -> Word:
        return Word(
            task=task,
            round=number,
            submissions_root=_hash(),
            seed=_hash(),
            owner=self._owner.address,
            commitment=_hash(),
            word=_hash(),
        )

    def _convict(self, reporter: MarketWriter, index: int, messages: Any) -> None:
        server = self._servers[index]
        first, second = (server.key.sign(message, self._reader.domain) for message in messages)
        reporter.convict(server.address, self._members, messages, (first, second))

    def _void(self, task: TaskId) -> None:
        opened = self._model_owner.writer.open_round(task, _hash())
        self._chain.wait_for_time(self._reader.round_state(task).seal_deadline)
        with self._recording(opened.round):
            self._model_owner.writer.void_round(task)

    def _draw(self) -> None:
        """Draw a committee, and let a server leave whose place a draw keeps."""
        for server in self._servers:  # convicted ones have no stake left
            server.writer.add_stake(_STAKE)
        writer = self._model_owner.writer
        leaver, owner = self._account().writer, self._owner.writer
        leaver.register_server("https://server.example:8443", _hash(), _STAKE)
        owner.add_bond(_BOND)
        with self._recording(0):
            leaver.leave()
            owner.leave_bond()
            task = writer.create_drawn_task(self._terms())
            self._chain.wait_for_block(self._chain.head() + DRAW_BLOCKS + 1)
            writer.redraw(task)
            self._chain.wait_for_block(self._chain.head() + 5)
            writer.reveal_draw(task)
            writer.draw_committee(task)
        self._chain.wait_for_time(self._chain.head_timestamp() + 15 * 86_400)
        writer.create_drawn_task(self._terms())
        with self._recording(0):
            leaver.withdraw_stake()
            owner.withdraw_bond()
            self._chain.wait_for_block(self._chain.head() + DRAW_BLOCKS + 1)
            leaver.sweep(leaver.address)

    def _terms(self) -> TaskTerms:
        return TaskTerms(
            spec_hash=_hash(),
            n=self._committee.servers,
            t=self._committee.privacy,
            e=self._committee.errors,
            reward_wei=_REWARD,
            fee_wei=Wei(10**14),
            opening_fee_wei=Wei(10**14),
            rounds=3,
            max_rounds=10,
            min_owners=1,
            max_owners=self._count,
            min_stake_wei=_STAKE,
            min_bond_wei=_BOND,
            allow_root=Hash32(bytes(32)),
            token=ETHER_TOKEN,
            windows=_WINDOWS,
        )

    def _payouts(self, number: int) -> tuple[Hash32, tuple[Hash32, ...]]:
        """Return the payouts root after some rounds, and the proof of the owner that claims."""
        paid = (number * _REWARD).to_bytes(32, "big")
        leaves = [merkle_leaf(owner.rjust(32, b"\0"), paid) for owner in self._owners]
        return merkle_root(leaves), merkle_proof(leaves, 0)

    def _signatures(self, message: Any, servers: Sequence[_Account]) -> dict[int, bytes]:
        return {
            index: server.key.sign(message, self._reader.domain)
            for index, server in enumerate(servers)
        }

    @contextmanager
    def _recording(self, number: int) -> Iterator[None]:
        """Add a row for each call that is made meanwhile, as of this round."""
        before = len(self._log.calls)
        yield
        c = self._committee
        for call, used in self._log.calls[before:]:
            self._rows.append(_Row(call, c.servers, c.privacy, c.errors, self._count, number, used))

    def _account(self) -> _Account:
        return _Account(self._reader, self._funded_key(), self._log)

    def _funded_key(self) -> SigningKey:
        key = SigningKey.generate(SystemRandomness())
        self._chain.fund(key.address, Wei(1_000 * _ETHER))
        return key


def _bytes(size: int) -> bytes:
    return bytes(1 + secrets.randbelow(255) for _ in range(size))


def _hash() -> Hash32:
    return Hash32(_bytes(32))


def _codewords(committee: Committee) -> list[Hash32]:
    """Return each server's word on random codewords: c of degree 2t with 0 at 0, d of degree t."""
    limbs = []
    for degree, constant in ((2 * committee.privacy, 0),) * 2 + ((committee.privacy, None),) * 2:
        coefficients = [secrets.randbelow(field.MODULUS) for _ in range(degree + 1)]
        coefficients[0] = coefficients[0] if constant is None else constant
        limbs.append([_value(coefficients, point) for point in committee.points])
    return [
        Hash32(b"".join(v.to_bytes(8, "big") for v in word)) for word in zip(*limbs, strict=True)
    ]


def _value(coefficients: Sequence[int], point: int) -> int:
    return (
        sum(c * pow(point, power, field.MODULUS) for power, c in enumerate(coefficients))
        % field.MODULUS
    )
