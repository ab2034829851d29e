"""Signatures: the contract, wire.eip712 and eth_account agree on digests; one form is accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
from contract_world import World, refused, shared_world
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak

from omnilytics.chain.abi import Signature
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.compile import CONTRACTS
from omnilytics.chain.writer import compact_signature
from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.wire.eip712 import Domain, SignedMessage, TypedMessage
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

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


@pytest.fixture
def task(world: World) -> TaskId:
    """A task whose first round may be sealed."""
    task = world.task()
    world.open(task)
    world.to_seal_time(task)
    return task


def seal_with(world: World, vote: SealVote, signers: int, signatures: list[Any]) -> None:
    """Send a seal as it stands."""
    committee = list(world.committee)
    world.send("seal", vote.task, vote.submissions_root, vote.count, committee, signers, signatures)


MESSAGES: dict[str, list[type[TypedMessage]]] = {
    "Market": [SealVote, Settlement, Consent],
    "Registry": [Fault, Submission, Word, Seed, Final],
}


@pytest.mark.parametrize("contract", MESSAGES)
def test_type_strings_are_those_of_wire(contract: str) -> None:
    """What the contract hashes is what parties sign, and it hashes nothing else."""
    found = re.findall(r'"(\w+\(\w+ \w+,[^"]*)"', (CONTRACTS / f"{contract}.vy").read_text())
    assert sorted(found) == sorted(message.type_string() for message in MESSAGES[contract])


def test_signatures_end_with_the_chain(
    world: World, task: TaskId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a chain split with another chain id, both contracts sign for the new one."""
    chain: Any = world.chain
    vote = world.vote(task)
    here = {j: compact_signature(signature) for j, signature in world.votes(vote).items()}
    there = Domain(77, world.address)
    split = [compact_signature(world.keys[j].sign(vote, there)) for j in range(4)]
    with refused("bad signature"):
        seal_with(world, vote, 0b1111, split)
    monkeypatch.setattr(chain._chain, "chain_id", 77)
    monkeypatch.setattr(chain, "chain_id", 77)
    chain.mine(1)
    for found in (
        world.of_market(market.domain_separator()),
        world.of_registry(registry.domain_separator()),
    ):
        assert found == there.separator()
    with refused("bad signature"):
        seal_with(world, vote, 0b1111, list(here.values()))
    seal_with(world, vote, 0b1111, split)


def test_domain_is_that_of_wire(world: World) -> None:
    data = world.chain.call(world.address, market.codec().calldata("domain_separator"))
    assert data == Domain(world.chain.chain_id, world.address).separator()


@pytest.mark.parametrize("message", [SealVote, Settlement])
def test_digests_are_those_of_eth_account(world: World, message: type[SignedMessage]) -> None:
    """An independent EIP-712 implementation gives the digest that the contract accepts."""
    task = world.task()
    if message is SealVote:
        signed: SignedMessage = world.vote(task)
    else:
        signed = world.settlement(task, seed=world.hash())
    members = re.findall(r"(\w+) (\w+)", message.type_string())
    typed = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            message.__name__: [{"name": name, "type": kind} for kind, name in members],
        },
        "primaryType": message.__name__,
        "domain": {
            "name": "OmniLytics",
            "version": "1",
            "chainId": world.chain.chain_id,
            "verifyingContract": "0x" + world.address.hex(),
        },
        "message": {field.name: getattr(signed, field.name) for field in fields(signed)},
    }
    encoded = encode_typed_data(full_message=typed)
    digest = keccak(b"\x19" + encoded.version + encoded.header + encoded.body)
    assert digest == signed.digest(world.reader.domain)


def test_accepts_only_low_s(world: World, task: TaskId) -> None:
    vote = world.vote(task)
    signatures = world.votes(vote)
    compact = [compact_signature(signatures[j]) for j in range(4)]
    r, s, parity = compact[3].r, compact[3].vs % 2**255, compact[3].vs >> 255
    malleable = ORDER - s  # the same signature's other form, with the other parity
    assert malleable >> 255  # it does not even fit beside the recovery bit
    for high in (ORDER // 2 + 1, 2**255 - 1):
        with refused("high s"):
            seal_with(
                world, vote, 0b1111, [*compact[:3], Signature(r=r, vs=high + (parity << 255))]
            )
    with refused("bad signature"):
        seal_with(world, vote, 0b1111, [*compact[:3], Signature(r=r, vs=s + (1 - parity << 255))])
    seal_with(world, vote, 0b1111, compact)


@pytest.mark.parametrize(
    "nonsense",
    [(bytes(32), 0), (b"\xff" * 32, 1), (b"\x01" * 32, 0), (ORDER.to_bytes(32, "big"), 1)],
)
def test_refuses_what_is_no_signature(
    world: World, task: TaskId, nonsense: tuple[bytes, int]
) -> None:
    vote = world.vote(task)
    compact = [compact_signature(world.votes(vote)[j]) for j in range(3)]
    with refused("bad signature"):
        seal_with(world, vote, 0b1111, [*compact, Signature(r=Hash32(nonsense[0]), vs=nonsense[1])])


def test_the_writer_refuses_malleable_signatures(world: World, task: TaskId) -> None:
    vote = world.vote(task)
    signature = world.votes(vote)[0]
    s = ORDER - int.from_bytes(signature[32:64], "big")
    other = signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(MalformedError, match="malleable"):
        compact_signature(other)
    for wrong in (signature[:64], signature[:64] + b"\x00", signature + b"\x00"):
        with pytest.raises(MalformedError, match="not a signature"):
            compact_signature(wrong)


def test_refuses_foreign_repeated_and_unordered_signers(world: World, task: TaskId) -> None:
    vote = world.vote(task)
    good = world.votes(vote)
    foreign = world.key().sign(vote, world.reader.domain)
    wrong = [
        {**good, 3: foreign},
        {**good, 3: good[0]},  # one server twice
        {0: good[1], 1: good[0], 2: good[2], 3: good[3]},  # out of order
        {0: good[0], 1: good[1], 2: good[2], 4: good[3]},  # under another index
    ]
    for signatures in wrong:
        with refused("bad signature"):
            world.owner_writer.seal(vote, world.committee, signatures)
    compact = [compact_signature(good[j]) for j in range(4)]
    with refused("signatures missing"):
        seal_with(world, vote, 0b1111, compact[:3])
    with refused("signatures missing"):
        seal_with(world, vote, 0b0111, compact)
    with refused("signer beyond committee"):
        seal_with(world, vote, 0b100111, compact)
    with refused("signer beyond committee"):
        seal_with(world, vote, 2**255 + 0b111, compact)
    world.owner_writer.seal(vote, world.committee, good)


@pytest.mark.parametrize("field", ["task", "round", "submissions_root", "count", "domain"])
def test_a_vote_binds_all_it_says(world: World, task: TaskId, field: str) -> None:
    vote = world.vote(task)
    domain = world.reader.domain
    signed = vote
    if field == "task":
        signed = replace(vote, task=TaskId(vote.task + 1))
    elif field == "round":
        signed = replace(vote, round=Round(vote.round + 1))
    elif field == "submissions_root":
        signed = replace(vote, submissions_root=world.hash())
    elif field == "count":
        signed = replace(vote, count=vote.count + 1)
    else:
        domain = Domain(domain.chain_id + 1, domain.contract)
    signatures = {j: world.keys[j].sign(signed, domain) for j in range(4)}
    with refused("bad signature"):
        world.owner_writer.seal(vote, world.committee, signatures)


def test_a_vote_is_bound_to_the_contract(world: World, task: TaskId) -> None:
    vote = world.vote(task)
    elsewhere = Domain(world.chain.chain_id, Address(b"\x01" * 20))
    signatures = {j: world.keys[j].sign(vote, elsewhere) for j in range(4)}
    with refused("bad signature"):
        world.owner_writer.seal(vote, world.committee, signatures)


@pytest.mark.parametrize(
    "field",
    ["accepted_root", "accepted_count", "v_bitmap", "payouts_root", "transcript_hash", "word"],
)
def test_a_settlement_binds_all_it_says(world: World, field: str) -> None:
    """One server signed something else; what the contract checks otherwise is left right."""
    task = world.task()
    world.sealed(task)
    agreed, words = world.settlement(task), world.words()
    signed = world.signed(agreed, words)
    own = signed[2].settlement
    value = getattr(own, field)
    other: Any = value - 1 if isinstance(value, int) else Hash32(bytes(32))
    signature = world.keys[2].sign(replace(own, **{field: other}), world.reader.domain)
    wrong = {**signed, 2: replace(signed[2], signature=signature)}
    with refused("bad signature"):
        world.owner_writer.settle(wrong, world.committee)
    world.owner_writer.settle(signed, world.committee)
