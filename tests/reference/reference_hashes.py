"""Hashes, Merkle trees, parts and commitments, written from docs/wire.md section "Hashes" alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import blake3
from Crypto.Hash import keccak as crypto_keccak


def keccak(content: bytes) -> bytes:
    return crypto_keccak.new(digest_bits=256, data=content).digest()


def content_hash(content: bytes) -> bytes:
    """B(content)."""
    return bytes(blake3.blake3(content).digest())


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    """H(tag, part_1, ..., part_k)."""
    joined = b"omnilytics/1/"
    for part in (tag.encode(), *parts):
        joined += len(part).to_bytes(8, "big") + part
    return hashlib.sha256(joined).digest()


def merkle_leaf(*words: bytes) -> bytes:
    return keccak(b"\x00" + b"".join(word.rjust(32, b"\x00") for word in words))


def merkle_levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """All levels from the leaves to the root."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        level, above = levels[-1], []
        for place in range(0, len(level) - 1, 2):
            left, right = sorted(level[place : place + 2])
            above.append(keccak(b"\x01" + left + right))
        if len(level) % 2:
            above.append(level[-1])
        levels.append(above)
    return levels


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    return merkle_levels(leaves)[-1][0] if leaves else keccak(b"\x02")


def merkle_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Siblings from the leaf up, none where the node moves up alone."""
    proof = []
    for level in merkle_levels(leaves)[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        index //= 2
    return proof


def merkle_proves(root: bytes, leaf: bytes, proof: Iterable[bytes]) -> bool:
    node = leaf
    for sibling in proof:
        node = keccak(b"\x01" + min(node, sibling) + max(node, sibling))
    return node == root


def submissions_root(commitments: Mapping[bytes, bytes]) -> bytes:
    """Of (owner: commitment)."""
    return merkle_root([merkle_leaf(owner, commitments[owner]) for owner in sorted(commitments)])


def accepted_root(accepted: Iterable[bytes]) -> bytes:
    return merkle_root([merkle_leaf(owner) for owner in sorted(accepted)])


def payout_leaves(payouts: Mapping[bytes, int]) -> list[bytes]:
    return [merkle_leaf(owner, payouts[owner].to_bytes(32, "big")) for owner in sorted(payouts)]


def payouts_root(payouts: Mapping[bytes, int]) -> bytes:
    """Of (owner: cumulative wei)."""
    return merkle_root(payout_leaves(payouts))


@dataclass(frozen=True)
class RoundContext:
    """What a round's ctx holds besides the owner."""

    chain_id: int
    contract: bytes
    task: int
    round: int
    artefact_hash: bytes
    block_hash: bytes

    def of_owner(self, owner: bytes) -> bytes:
        """Ctx of one owner."""
        numbers = [number.to_bytes(32, "big") for number in (self.chain_id, self.task, self.round)]
        return tagged_hash(
            "context",
            numbers[0],
            self.contract,
            *numbers[1:],
            self.artefact_hash,
            self.block_hash,
            owner,
        )


def x_part_of_seed(ctx: bytes, server: int, blind: bytes, seed: bytes) -> bytes:
    return tagged_hash("x", ctx, bytes([server]), blind, b"seed", seed)


def x_part_of_share(ctx: bytes, server: int, blind: bytes, x_share: bytes) -> bytes:
    return tagged_hash("x", ctx, bytes([server]), blind, b"hash", content_hash(x_share))


def proof_part_of_seed(ctx: bytes, server: int, blind: bytes) -> bytes:
    return tagged_hash("proof", ctx, bytes([server]), blind, b"none", b"")


def proof_part_of_share(ctx: bytes, server: int, blind: bytes, proof_share: bytes) -> bytes:
    return tagged_hash("proof", ctx, bytes([server]), blind, b"hash", content_hash(proof_share))


def joint_randomness(ctx: bytes, x_parts: Sequence[bytes]) -> bytes:
    """J."""
    return tagged_hash("joint", ctx, *x_parts)


def commitment_of_parts(
    ctx: bytes, x_parts: Sequence[bytes], proof_parts: Sequence[bytes]
) -> bytes:
    """C."""
    return tagged_hash("submission", ctx, *x_parts, *proof_parts, joint_randomness(ctx, x_parts))


def challenge_seed(block_hash: bytes, task: int, round_: int, root: bytes) -> bytes:
    return keccak(block_hash + task.to_bytes(32, "big") + round_.to_bytes(32, "big") + root)


def lot(seed: bytes, owner: bytes) -> bytes:
    return tagged_hash("lot", seed, owner)
