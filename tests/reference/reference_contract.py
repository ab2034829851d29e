"""Terms, consents, committees, allow-lists and draws, from docs/wire.md section "Tasks" alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reference_cbor import ADDRESS, admission, array, decode_record
from reference_field import RefusedError
from reference_hashes import content_hash, keccak, merkle_leaf, merkle_proof, merkle_root
from reference_messages import Value, digest_of, encoded_member, hash_struct, signer_of_digest

MAX_SERVERS = 13
DRAW_STEPS = 256
TERMS = (
    ("bytes32", "spec_hash"),
    ("address", "token"),
    ("uint256", "t"),
    ("uint256", "e"),
    ("uint256", "min_stake_wei"),
    ("uint256", "min_bond_wei"),
    ("bytes32", "allow_root"),
    ("uint256", "reward_wei"),
    ("uint256", "fee_wei"),
    ("uint256", "opening_fee_wei"),
    ("uint256", "rounds"),
    ("uint256", "max_rounds"),
    ("uint256", "min_owners"),
    ("uint256", "max_owners"),
    ("uint256", "submission_seconds"),
    ("uint256", "forced_seconds"),
    ("uint256", "seal_seconds"),
    ("uint256", "delta"),
    ("uint256", "confirmations"),
    ("uint256", "words_blocks"),
    ("uint256", "openings_blocks"),
    ("uint256", "settlement_blocks"),
)
OF_SPECIFICATION = {
    "t": "privacy",
    "e": "errors",
    **{
        name: name
        for name in (
            "token",
            "min_stake_wei",
            "reward_wei",
            "fee_wei",
            "opening_fee_wei",
            "rounds",
            "max_rounds",
            "min_owners",
            "max_owners",
        )
    },
}
OF_WINDOWS = {
    "delta": "delta_blocks",
    **{
        name: name
        for name in (
            "submission_seconds",
            "forced_seconds",
            "seal_seconds",
            "confirmations",
            "words_blocks",
            "openings_blocks",
            "settlement_blocks",
        )
    },
}


def number(value: int) -> bytes:
    """The 32 bytes of a uint256."""
    return encoded_member("uint256", value)


def addresses(members: Sequence[bytes]) -> bytes:
    """The tail of a dynamic array: its length and its items."""
    array(ADDRESS, 0, MAX_SERVERS)(list(members))
    return number(len(members)) + b"".join(encoded_member("address", one) for one in members)


def committee_hash(committee: Sequence[bytes]) -> bytes:
    """keccak256(abi.encode(address[])): where the array starts, then the array."""
    return keccak(number(32) + addresses(committee))


def terms_hash(terms: Mapping[str, Value], committee: Sequence[bytes]) -> bytes:
    """keccak256(abi.encode(terms, committee)): the members, where the array starts, the array."""
    if set(terms) != {name for _, name in TERMS}:
        raise RefusedError("other terms")
    words = [encoded_member(solidity_type, terms[name]) for solidity_type, name in TERMS]
    start = 32 * (len(TERMS) + 1)
    return keccak(b"".join(words) + number(start) + addresses(committee))


def allow_root(admitted: Any) -> bytes:
    """The root of the listed owners, zero where anybody may take part."""
    admission(admitted)
    if admitted["mode"] == "open":
        return bytes(32)
    return merkle_root([merkle_leaf(owner) for owner in admitted["owners"]])


def allow_proof(admitted: Any, owner: bytes) -> list[bytes]:
    """That an owner is on the list."""
    owners = admitted["owners"]
    if owner not in owners:
        raise RefusedError("not on the list")
    return merkle_proof([merkle_leaf(one) for one in owners], owners.index(owner))


def terms_of_specification(content: bytes) -> dict[str, Value]:
    """The terms that the contract must have for a specification."""
    specification = decode_record("TaskSpecification", content)
    windows = specification["windows"]
    return {
        "spec_hash": content_hash(content),
        "allow_root": allow_root(specification["admission"]),
        "min_bond_wei": specification["admission"]["min_bond_wei"],
        **{name: specification[source] for name, source in OF_SPECIFICATION.items()},
        **{name: windows[source] for name, source in OF_WINDOWS.items()},
    }


def consent_digest(
    chain_id: int, contract: bytes, model_owner: bytes, terms: bytes, expires: int
) -> bytes:
    """What each server of a named committee signs; `terms` is the terms hash."""
    fields: dict[str, Value] = {"model_owner": model_owner, "terms_hash": terms, "expires": expires}
    return digest_of(chain_id, contract, "Consent", fields)


def check_consents(
    digest: bytes, committee: Sequence[bytes], signatures: Sequence[bytes], expires: int, now: int
) -> None:
    """Refuses a task that not every server of its committee agreed to, in time."""
    if now > expires:
        raise RefusedError("expired")
    if len(set(committee)) != len(committee) or len(signatures) != len(committee):
        raise RefusedError("a server twice, or another number of consents")
    for server, signature in zip(committee, signatures, strict=True):
        if signer_of_digest(signature, digest) != server:
            raise RefusedError("not the server's consent")


def rlp_items(content: bytes) -> list[bytes]:
    """The byte strings of one RLP list of short strings and strings up to 65,535 bytes."""
    start, end = rlp_payload(content, 0, 0xC0)
    if end != len(content):
        raise RefusedError("not one list")
    items = []
    while start < end:
        if content[start] < 0x80:
            first, last = start, start + 1
        else:
            first, last = rlp_payload(content, start, 0x80)
        items.append(content[first:last])
        start = last
    return items


def rlp_payload(content: bytes, at: int, kind: int) -> tuple[int, int]:
    """Where the payload of a string (0x80) or a list (0xc0) starts and ends."""
    prefix = content[at] - kind
    if not 0 <= prefix < 0x40:
        raise RefusedError("another kind of item")
    if prefix < 56:
        return at + 1, at + 1 + prefix
    first = at + 1 + prefix - 55
    return first, first + int.from_bytes(content[at + 1 : first], "big")


def rlp_list(items: Sequence[bytes]) -> bytes:
    """The inverse of `rlp_items`."""
    payload = b"".join(
        item if len(item) == 1 and item[0] < 0x80 else rlp_prefix(len(item), 0x80) + item
        for item in items
    )
    return rlp_prefix(len(payload), 0xC0) + payload


def rlp_prefix(length: int, kind: int) -> bytes:
    if length < 56:
        return bytes([kind + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([kind + 55 + len(size)]) + size


def draw_randomness(header: bytes, block_hash: bytes) -> bytes:
    """Of the header of the draw's block: keccak256(0xa0 | PREVRANDAO), its 14th member."""
    if keccak(header) != block_hash:
        raise RefusedError("another block's header")
    prevrandao = rlp_items(header)[13]
    return keccak(b"\xa0" + encoded_member("bytes32", prevrandao))


def draw_seed(randomness: bytes, task: int, draws: int) -> bytes:
    """Of one draw of a task's committee; `draws` counts from 1."""
    return keccak(encoded_member("bytes32", randomness) + number(task) + number(draws))


def draw_place(seed: bytes, step: int, pool: int) -> int:
    """The place that a step of a draw looks at, from 0."""
    return int.from_bytes(keccak(seed + number(step)), "big") % pool


def drawn_committee(
    seed: bytes, pool: Sequence[bytes], eligible: Sequence[bytes], n: int
) -> list[bytes]:
    """The first n distinct eligible servers at the places of 256 steps."""
    chosen: list[bytes] = []
    for step in range(DRAW_STEPS):
        if len(chosen) == n or not pool:
            break
        candidate = pool[draw_place(seed, step, len(pool))]
        if candidate in eligible and candidate not in chosen:
            chosen.append(candidate)
    if len(chosen) < n:
        raise RefusedError("too few servers offer")
    return chosen


def evidence_of_two(kind: str, first: Mapping[str, Value], second: Mapping[str, Value]) -> bytes:
    """The evidence hash of two messages of one server that may sign only one."""
    same = {
        "Word": ("task", "round", "submissions_root", "seed", "owner", "commitment"),
        "Seed": ("task", "round"),
        "Final": ("task", "round"),
    }
    if kind not in same:
        raise RefusedError("may be signed more than once")
    hashes = [hash_struct(kind, fields) for fields in (first, second)]
    if hashes[0] == hashes[1] or any(first[name] != second[name] for name in same[kind]):
        raise RefusedError("the same twice, or of different keys")
    return keccak(hashes[0] + hashes[1])


def case_hash(task: int, round_: int, party: bytes, by_itself: bool) -> bytes:
    """Under which the registry keeps that it has judged."""
    place = number(task) + number(round_) + encoded_member("address", party)
    return keccak(place + number(int(by_itself)))
