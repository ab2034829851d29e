"""Hashing: tags and boundaries, and Merkle trees against a verifier that shares no code."""

from __future__ import annotations

import hashlib

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak
from wire_samples import address, digest

from omnilytics.foundation.units import Hash32
from omnilytics.wire.hashing import (
    EMPTY_ROOT,
    content_hash,
    merkle_leaf,
    merkle_proof,
    merkle_root,
    tagged_hash,
)


def verifies(root: bytes, leaf: bytes, proof: tuple[Hash32, ...]) -> bool:
    """What the contract does: siblings in sorted order, tagged 0x01."""
    node = leaf
    for sibling in proof:
        low, high = sorted((node, bytes(sibling)))
        node = keccak(b"\x01" + low + high)
    return node == root


def leaves_of(size: int) -> list[Hash32]:
    return [merkle_leaf(digest(f"leaf {index}")) for index in range(size)]


@pytest.mark.parametrize("size", range(1, 41))
def test_every_proof_verifies_and_only_for_its_leaf(size: int) -> None:
    leaves = leaves_of(size)
    root = merkle_root(leaves)
    for index, leaf in enumerate(leaves):
        proof = merkle_proof(leaves, index)
        assert len(proof) <= (size - 1).bit_length()
        assert verifies(root, leaf, proof)
        assert not verifies(root, digest("foreign"), proof)
        for place, sibling in enumerate(proof):
            altered = Hash32(bytes([sibling[0] ^ 1]) + sibling[1:])
            assert not verifies(root, leaf, (*proof[:place], altered, *proof[place + 1 :]))
            assert not verifies(root, leaf, proof[:place] + proof[place + 1 :])
        assert not verifies(root, leaf, (*proof, digest("more")))


def test_roots_tell_trees_apart() -> None:
    roots = {merkle_root(leaves_of(size)) for size in range(41)}
    assert len(roots) == 41
    leaves = leaves_of(5)
    assert merkle_root([*leaves, leaves[-1]]) != merkle_root(leaves)  # an odd leaf is not doubled
    changed = [*leaves[:2], merkle_leaf(digest("x")), *leaves[3:]]
    assert merkle_root(changed) != merkle_root(leaves)


def test_small_trees_by_hand() -> None:
    a, b, c = leaves_of(3)
    low, high = sorted((a, b))
    pair = keccak(b"\x01" + low + high)
    assert merkle_root([]) == EMPTY_ROOT == keccak(b"\x02")
    assert merkle_root([a]) == a
    assert merkle_root([a, b]) == pair
    assert merkle_root([a, b, c]) == keccak(b"\x01" + min(pair, c) + max(pair, c))
    assert merkle_proof([a], 0) == ()
    assert merkle_proof([a, b, c], 2) == (pair,)


def test_leaves_are_abi_encoded_and_tagged() -> None:
    owner, amount = address("owner"), 10**18
    encoded = encode(["address", "uint256"], ["0x" + owner.hex(), amount])
    assert merkle_leaf(owner, amount.to_bytes(32, "big")) == keccak(b"\x00" + encoded)
    assert merkle_leaf(owner) == keccak(b"\x00" + encode(["address"], ["0x" + owner.hex()]))


def test_a_node_is_not_a_leaf() -> None:
    a, b = leaves_of(2)
    assert merkle_leaf(min(a, b), max(a, b)) != merkle_root([a, b])


def test_tagged_hash_separates_tags_and_parts() -> None:
    inputs: list[tuple[str, tuple[bytes, ...]]] = [
        ("x", ()),
        ("x", (b"",)),
        ("x", (b"", b"")),
        ("x", (b"ab", b"c")),
        ("x", (b"a", b"bc")),
        ("x", (b"abc",)),
        ("x", (b"abc", b"")),
        ("x", (b"", b"abc")),
        ("xa", (b"bc",)),
        ("", (b"x", b"abc")),
        ("xabc", ()),
        ("x", ((1).to_bytes(8, "big") + b"a",)),
    ]
    assert len({tagged_hash(tag, *parts) for tag, parts in inputs}) == len(inputs)


def test_tagged_hash_by_hand() -> None:
    expected = hashlib.sha256(
        b"omnilytics/1/" + (3).to_bytes(8, "big") + b"tag" + (2).to_bytes(8, "big") + b"ab"
    ).digest()
    assert tagged_hash("tag", b"ab") == expected


def test_content_hash_is_blake3() -> None:
    # The empty input of the BLAKE3 test vectors.
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert content_hash(b"").hex() == empty
    data = bytes(range(251)) * 20
    assert content_hash(memoryview(data)[8:]) == content_hash(data[8:]) != content_hash(data)
