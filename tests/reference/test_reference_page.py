"""The reference against values that others made: those of docs/wire.md and of eth_account."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reference_cbor import encode
from reference_contract import (
    TERMS,
    committee_hash,
    consent_digest,
    draw_place,
    draw_randomness,
    draw_seed,
    rlp_list,
    terms_hash,
)
from reference_field import Pair, RefusedError, bytes_of_elements
from reference_hashes import (
    RoundContext,
    content_hash,
    joint_randomness,
    keccak,
    merkle_leaf,
    merkle_proof,
    merkle_root,
    tagged_hash,
)
from reference_messages import (
    MESSAGE_TYPES,
    Value,
    address_of_key,
    digest_of,
    domain_separator,
    hash_struct,
    members_of,
    sign_digest,
)
from reference_statement import (
    DealingRandomness,
    Terms,
    batch_word,
    deal,
    joint_decoding,
    proof_bits,
    word_bytes,
    word_pair,
)
from reference_streams import (
    challenge_of_seed,
    kappa_of_owner,
    stream_bytes,
    stream_elements,
)
from reference_vectors import commitment_of_hashes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "wire.md").read_text()
VECTORS = PAGE[PAGE.index("## Vectors") :]
UNBROKEN = re.sub(r"\s+", "", VECTORS)
SEED, OWNER, EMPTY = bytes(range(32)), bytes(range(1, 21)), merkle_root([])
CONTEXT = RoundContext(31337, b"\x11" * 20, 3, 2, b"\x22" * 32, b"\x33" * 32)


def on_page(*values: Any) -> None:
    for value in values:
        text = value.hex() if isinstance(value, bytes) else str(value).replace(" ", "")
        assert text in UNBROKEN, text


def test_reference_makes_the_pages_hashes_and_streams() -> None:
    on_page(tagged_hash("x", b"ab", b""), EMPTY)
    leaves = [merkle_leaf(bytes([i]) * 20) for i in (1, 2, 3)]
    on_page(merkle_root(leaves), *merkle_proof(leaves, 0))
    elements = stream_elements("share", SEED, 8193)
    on_page(*elements[:3], elements[8192], stream_bytes("tests", SEED, 32))
    challenge = challenge_of_seed(SEED, 4)
    on_page(challenge.rho, challenge.chi, kappa_of_owner(SEED, EMPTY, OWNER))
    on_page(*challenge.weights[0], *challenge.weights[1])


def test_reference_makes_the_pages_commitment_and_signature() -> None:
    ctx = CONTEXT.of_owner(OWNER)
    x_parts, proof_parts, commitment = commitment_of_hashes(
        ctx, [b"\x44" * 32] * 3, [SEED], [b"\x55" * 32] * 2, [b"\x66" * 32] * 2
    )
    on_page(ctx, *x_parts[:2], *proof_parts[:2], joint_randomness(ctx, x_parts), commitment)
    fields: dict[str, Value] = {"task": 3, "round": 2, "commitment": commitment}
    digest = digest_of(31337, b"\x11" * 20, "Submission", fields)
    signature = sign_digest(b"\x01" * 32, digest)
    on_page(domain_separator(31337, b"\x11" * 20), hash_struct("Submission", fields), digest)
    on_page(address_of_key(b"\x01" * 32), signature)
    envelope = encode({"kind": "Submission", "fields": fields, "signature": signature}).hex()
    shown = envelope.replace(commitment.hex(), "<C>").replace(signature.hex(), "<signature>")
    on_page(shown)


def test_reference_makes_the_pages_words() -> None:
    def pair(low: int, high: int) -> Pair:
        return int.from_bytes(bytes([low]) * 8, "little"), int.from_bytes(
            bytes([high]) * 8, "little"
        )

    terms, integers, joint = Terms(5, 1, 1, 16, 128, (3,)), [5, -7, 65000], b"\x77" * 32
    bits = proof_bits(terms, integers, joint)
    drawn = DealingRandomness((SEED,), (pair(1, 2),), pair(3, 4))
    shares = deal(terms, integers, bits, drawn)
    on_page(sum(integer**2 for integer in integers), sum(2**m * bits[32 + m] for m in range(21)))
    on_page(*shares[2][:3], *shares[2][-4:], content_hash(bytes_of_elements(shares[2][:3])))
    challenge = challenge_of_seed(b"\x88" * 32, 128)
    words = {j: word_pair(terms, shares[j], joint, challenge) for j in shares}
    on_page(*(word_bytes(word) for word in words.values()))
    on_page(batch_word({OWNER: word_bytes(words[1])}, b"\x88" * 32, EMPTY))
    assert joint_decoding(terms, words) == {1, 2, 3, 4, 5}


def test_reference_makes_the_pages_terms_and_draw() -> None:
    made: dict[str, Callable[[int], Value]] = {
        "uint256": lambda place: place,
        "bytes32": lambda place: bytes([place]) * 32,
        "address": lambda place: bytes([place]) * 20,
    }
    terms = {name: made[kind](place) for place, (kind, name) in enumerate(TERMS, start=1)}
    committee = [bytes([i]) * 20 for i in (1, 2, 3)]
    hashed = terms_hash(terms, committee)
    on_page(committee_hash(committee), hashed)
    on_page(consent_digest(31337, b"\x11" * 20, OWNER, hashed, 1_800_000_000))
    header = rlp_list([bytes(32)] * 13 + [SEED, bytes(8)])
    randomness = draw_randomness(header, keccak(header))
    seed = draw_seed(randomness, 3, 1)
    places = ",".join(str(draw_place(seed, step, 10)) for step in range(8))
    on_page(randomness, seed, f"place_0..7{places}")


def test_page_and_reference_have_the_terms_in_the_same_order() -> None:
    table = PAGE[PAGE.index("| member | type | specification |") : PAGE.index("**Committee.**")]
    rows = [row.split("|")[1:3] for row in table.splitlines()[2:] if row]
    listed = [(kind.strip(), name.strip()) for names, kind in rows for name in names.split(",")]
    assert tuple(listed) == TERMS


def test_page_has_every_type_string() -> None:
    for text in MESSAGE_TYPES.values():
        assert f"`{text}`" in PAGE


def parsed_fields(kind: str, fields: dict[str, str]) -> dict[str, Any]:
    def parsed(solidity_type: str, text: str) -> Any:
        if solidity_type == "uint256":
            return int(text)
        return text if solidity_type == "string" else bytes.fromhex(text[2:])

    return {name: parsed(solidity_type, fields[name]) for solidity_type, name in members_of(kind)}


def test_reference_makes_the_digests_of_eth_account() -> None:
    cases = json.loads((ROOT / "tests" / "vectors" / "wire_messages.json").read_text())
    for case in cases["good"]:
        contract = bytes.fromhex(case["domain"]["contract"][2:])
        fields = parsed_fields(case["kind"], case["fields"])
        made = digest_of(int(case["domain"]["chain_id"]), contract, case["kind"], fields)
        assert "0x" + made.hex() == case["digest"]
    for case in cases["bad"]:
        with pytest.raises(RefusedError):
            hash_struct(case["kind"], parsed_fields(case["kind"], case["fields"]))


def test_reference_does_not_use_the_package() -> None:
    for path in Path(__file__).parent.glob("*.py"):
        if not path.name.startswith("test_"):
            assert not re.search(r"^\s*(from|import) omnilytics", path.read_text(), re.M), path.name
