"""The contracts against the reference: consents, committees, terms, draws, convictions.

The reference makes every hash and signature here; the contracts take them, or refuse what the
reference refuses, and choose the servers that it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from reference_cbor import decode_record, encode
from reference_contract import (
    TERMS,
    case_hash,
    committee_hash,
    consent_digest,
    draw_place,
    draw_randomness,
    draw_seed,
    drawn_committee,
    evidence_of_two,
    terms_hash,
    terms_of_specification,
)
from reference_field import RefusedError
from reference_messages import address_of_key, compact_signature, digest_of, sign_digest
from reference_parties import Round as Parties
from vector_cases import changed, flipped, small_terms
from vector_wire import drawn, specification

from omnilytics.chain.abi import Signature
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.bindings.market import TaskCreated
from omnilytics.chain.bindings.registry import DrawRevealed, Slashed
from omnilytics.chain.compile import build
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.embedded import EmbeddedChain
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import OfferRecord, TransactionReceipt
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import MarketWriter, receipt_of
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, TaskId, Wei

STAKE = Wei(10**17)
DRAW_FEE = Wei(10**15)
FEE = 70
GAS = 6_000_000

build()


class Market:
    """A market with the servers of a committee, and a pool of others that offer to be drawn."""

    def __init__(self, pool: int = 0) -> None:
        self.random = Random(7)
        self.chain = EmbeddedChain()
        self.owner = self.account(self.random.randbytes(32))
        self.address = deploy_market(self.owner, min_stake_wei=STAKE, draw_fee_wei=DRAW_FEE)
        self.reader = MarketReader(self.chain, self.address)
        self.keys = [self.random.randbytes(32) for _ in range(pool or 5)]
        self.servers = [address_of_key(key) for key in self.keys]
        self.writers = [MarketWriter(self.reader, self.account(key)) for key in self.keys]
        for writer in self.writers:
            writer.register_server("http://server", self.random.randbytes(32), STAKE)

    def account(self, key: bytes) -> Sender:
        self.chain.fund(Address(address_of_key(key)), Wei(100 * 10**18))
        return Sender(self.chain, key)

    def send(self, target: Address, data: bytes, value: int = 0) -> TransactionReceipt:
        raw = self.owner.send(target, data, value=Wei(value), gas=GAS)
        return receipt_of(self.reader, raw)

    def specification(self, **changes: Any) -> dict[str, Any]:
        """A specification whose task the contract accepts."""
        n = len(self.servers)
        members = [{"address": s, "endpoint": "e", "hpke_key": bytes(32)} for s in self.servers]
        made = specification(self.random, Parties(small_terms(n, 1, 1), 5, owners=3))
        small = {"rounds": 2, "max_rounds": 4, "max_owners": 10, "reward_wei": 9, "fee_wei": FEE}
        blocks = {"settlement_blocks": 200, "words_blocks": 10, "openings_blocks": 14}
        windows = {**made["windows"], **blocks}
        ours = {**small, "min_stake_wei": int(STAKE), "token": bytes(20), "windows": windows}
        return {**made, "committee": members, "servers": n, **ours, **changes}

    def create(
        self, terms: dict[str, Any], signatures: Sequence[bytes], expires: int
    ) -> TransactionReceipt:
        consents = [contract_signature(signature) for signature in signatures]
        call = market.create_task(market.Terms(**terms), self.servers, expires, consents)  # type: ignore[arg-type]
        return self.send(self.address, call.data, escrow_wei(terms, len(self.servers)))

    def consents(self, terms: dict[str, Any], expires: int, **changes: Any) -> list[bytes]:
        """Every server's signature, of something else where it is said."""
        given: dict[str, Any] = {
            "chain_id": self.chain.chain_id,
            "contract": self.address,
            "model_owner": self.owner.address,
            "terms": terms_hash(terms, self.servers),
            "expires": expires,
        }
        return [sign_digest(key, consent_digest(**{**given, **changes})) for key in self.keys]


def contract_signature(signature: bytes) -> Signature:
    r, vs = compact_signature(signature)
    return Signature(r=Hash32(r), vs=int.from_bytes(vs, "big"))


def escrow_wei(terms: dict[str, Any], n: int) -> int:
    a_round = terms["max_owners"] * terms["reward_wei"] + n * terms["fee_wei"]
    return int(terms["rounds"] * (a_round + terms["opening_fee_wei"]))


@pytest.fixture(scope="module")
def named() -> Market:
    return Market()


@pytest.fixture(scope="module")
def pool() -> Market:
    return Market(pool=12)


def test_reference_terms_have_the_contracts_order() -> None:
    entry = next(e for e in market.codec()._functions.values() if e["name"] == "create_task")
    members = entry["inputs"][0]["components"]
    assert tuple((member["type"], member["name"]) for member in members) == TERMS


def test_reference_consents_make_a_task(named: Market) -> None:
    content = encode(named.specification())
    terms = terms_of_specification(content)
    expires = named.chain.head_timestamp() + 100
    receipt = named.create(terms, named.consents(terms, expires), expires)
    created = next(event for event in receipt.events if isinstance(event, TaskCreated))
    assert {name: getattr(created, name) for _, name in TERMS} == terms
    stored = market.codec().result(
        "task", named.chain.call(named.address, market.task(created.task).data)
    )
    assert stored.committee_hash == committee_hash(named.servers)
    assert stored.allow_root == terms["allow_root"] != bytes(32)
    listed = decode_record("TaskSpecification", content)["admission"]["owners"]
    assert len(listed) == 3


def test_reference_other_consents_are_refused(named: Market) -> None:
    terms = terms_of_specification(encode(named.specification(title="another")))
    now = named.chain.head_timestamp()
    expires = now + 100
    others: dict[str, list[bytes]] = {
        "another order": named.consents(terms, expires)[::-1],
        "another owner": named.consents(terms, expires, model_owner=named.servers[0]),
        "another time": named.consents(terms, expires + 1),
        "another chain": named.consents(terms, expires, chain_id=1),
        "another market": named.consents(terms, expires, contract=bytes(20)),
        "one missing": named.consents(terms, expires)[:4],
    }
    for name in ("spec_hash", "token", "t", "max_rounds", "allow_root", "settlement_blocks"):
        other = changed(terms, name, to=lambda old: old + 1 if type(old) is int else flipped(old))
        others[f"another {name}"] = named.consents(other, expires)
    named.servers.reverse()
    others["the committee in another order"] = named.consents(terms, expires)
    named.servers.reverse()
    for signatures in others.values():
        with pytest.raises(ChainError, match=r"bad signature|signatures missing"):
            named.create(terms, signatures, expires)
    with pytest.raises(ChainError, match="consents expired"):
        named.create(terms, named.consents(terms, now - 1), now - 1)
    named.create(terms, named.consents(terms, expires), expires)
    with pytest.raises(ChainError, match="specification used"):
        named.create(terms, named.consents(terms, expires), expires)


def test_reference_evidence_convicts(named: Market) -> None:
    """Two Finals by the reference: the registry takes them and records the reference's hashes."""
    terms = terms_of_specification(encode(named.specification(title="convicting")))
    expires = named.chain.head_timestamp() + 100
    receipt = named.create(terms, named.consents(terms, expires), expires)
    task = next(event.task for event in receipt.events if isinstance(event, TaskCreated))
    finals: list[dict[str, Any]] = [
        {"task": task, "round": 1, "accepted_root": bytes([k]) * 32} for k in (1, 2)
    ]
    domain = named.chain.chain_id, named.address
    pair = [
        contract_signature(sign_digest(named.keys[2], digest_of(*domain, "Final", fields)))
        for fields in finals
    ]
    roots = [Hash32(fields["accepted_root"]) for fields in finals]
    party, servers = Address(named.servers[2]), [Address(server) for server in named.servers]

    def convict(roots: list[Hash32], pair: list[Signature]) -> TransactionReceipt:
        call = registry.convict_of_two_finals(task, 1, roots, pair, party, servers)
        return named.send(named.reader.registry, call.data)

    with pytest.raises(ChainError, match="the same twice"):
        convict([roots[0]] * 2, [pair[0]] * 2)
    with pytest.raises(RefusedError):
        evidence_of_two("Final", finals[0], finals[0])
    with pytest.raises(ChainError, match="bad signature"):
        convict(roots, pair[::-1])
    slashed = next(e for e in convict(roots, pair).events if isinstance(e, Slashed))
    assert slashed.evidence_hash == evidence_of_two("Final", *finals)
    assert slashed.kind == 5
    assert slashed.amount_wei == STAKE
    assert slashed.share_wei == STAKE // 4
    judged = registry.judged(Hash32(case_hash(task, 1, party, True)))
    assert judged.result(named.chain.call(named.reader.registry, judged.data)) is True
    with pytest.raises(ChainError, match="already judged"):
        convict(roots[::-1], pair[::-1])


def drawing(market_: Market, title: str, n: int) -> TaskId:
    """A task whose servers are asked for."""
    content = encode(drawn(market_.specification(title=title, servers=n)))
    terms = terms_of_specification(content)
    value = escrow_wei(terms, n) + DRAW_FEE
    call = market.create_drawn_task(market.Terms(**terms), n)  # type: ignore[arg-type]
    receipt = market_.send(market_.address, call.data, value)
    return next(event.task for event in receipt.events if isinstance(event, TaskCreated))


def draws_alike(market_: Market, task: TaskId, eligible: Sequence[bytes], n: int) -> bool:
    """Draw on chain and by the reference; whether there was a committee."""
    state = market_.reader.draw_state(task)
    number = state.pinned_block + 4
    market_.chain.wait_for_block(number)
    header = market_.chain.block_header(number)
    randomness = draw_randomness(header, market_.chain.block_hash(number))
    seed = draw_seed(randomness, task, state.draws)
    assert state.pool == len(market_.servers)
    for wrong in (flipped(header, 400), header + b"\0", b"", bytes(1_024)):
        with pytest.raises(ChainError, match="wrong header"):
            market_.send(market_.reader.registry, registry.reveal_draw(task, wrong).data)
    with pytest.raises(ChainError, match="draw not revealed"):
        market_.send(market_.address, market.draw_committee(task).data)
    shown = market_.send(market_.reader.registry, registry.reveal_draw(task, header).data)
    event = next(event for event in shown.events if isinstance(event, DrawRevealed))
    assert event.randomness == randomness
    call = market.draw_committee(task)
    try:
        want = drawn_committee(seed, market_.servers, eligible, n)
    except RefusedError:
        with pytest.raises(ChainError, match="too few servers offer"):
            market_.send(market_.address, call.data)
        return False
    market_.send(market_.address, call.data)
    assert list(market_.reader.task(task).committee) == want
    return True


def offer(fee_wei: int = FEE, stake_wei: int = STAKE) -> OfferRecord:
    return OfferRecord(min_fee_wei=Wei(fee_wei), max_stake_wei=Wei(stake_wei))


def test_reference_draws_the_contracts_committees(pool: Market) -> None:
    """Servers that do not offer, ask too much, risk too little or leave are passed over by both."""
    for writer in pool.writers:
        writer.set_offer(offer())
    eligible = list(pool.servers)
    committees = []

    def draw(title: str, n: int) -> None:
        task = drawing(pool, title, n)
        assert draws_alike(pool, task, eligible, n)
        committees.append(pool.reader.task(task).committee)

    draw("everybody", 7)
    pool.writers[0].set_offer(None)
    eligible.remove(pool.servers[0])
    draw("all but one", 5)
    pool.writers[3].set_offer(offer(fee_wei=FEE + 1))
    pool.writers[6].set_offer(offer(stake_wei=STAKE - 1))
    pool.writers[9].leave()
    for out in (3, 6, 9):
        eligible.remove(pool.servers[out])
    for title in ("a", "b", "c"):
        draw(title, 5)
    assert len(set(committees)) == 5


def test_reference_an_offer_after_the_request_does_not_count(pool: Market) -> None:
    for writer in pool.writers[5:]:
        writer.set_offer(None)
    for writer in pool.writers[:5]:
        writer.set_offer(offer())
    task = drawing(pool, "offered too late", 5)
    pool.writers[4].set_offer(None)
    pool.writers[5].set_offer(offer())
    assert not draws_alike(pool, task, pool.servers[:4], 5)


def test_reference_a_missed_draw_is_drawn_again(pool: Market) -> None:
    for writer in pool.writers[4:]:
        writer.set_offer(None)
    task = drawing(pool, "too few", 5)
    assert not draws_alike(pool, task, pool.servers[:4], 5)
    pool.chain.wait_for_block(pool.reader.draw_state(task).pinned_block + 256)
    with pytest.raises(ChainError, match="draw missed"):
        pool.send(pool.address, market.draw_committee(task).data)
    able = [index for index in range(12) if index != 9]  # that one may be leaving
    for index in able:
        pool.writers[index].set_offer(offer())
    pool.send(pool.address, market.redraw(task).data, DRAW_FEE)
    assert pool.reader.draw_state(task).draws == 2
    pool.writers[9].set_offer(None)
    assert draws_alike(pool, task, [pool.servers[index] for index in able], 5)


def test_reference_places_are_even() -> None:
    """Places of many steps: each of 12 is met about as often, so that none is preferred."""
    met = [draw_place(bytes([k]) * 32, step, 12) for k in range(20) for step in range(256)]
    counts = [met.count(place) for place in range(12)]
    assert sum((count - 5120 / 12) ** 2 / (5120 / 12) for count in counts) < 40  # 11 degrees
