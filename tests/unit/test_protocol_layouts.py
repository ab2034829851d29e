"""Hash inputs and names that other programs and stored data rely on, written out from wire.md."""

from __future__ import annotations

import hashlib
from random import Random

import pytest
from protocol_words import honest_words
from protocol_world import World

from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.commitment import (
    joint_randomness,
    proof_part,
    submission_commitment,
    x_part,
)
from omnilytics.protocol.locks import FINAL_LOCK, SEED_LOCK
from omnilytics.protocol.resolve import Evidence, resolve


def tagged(tag: bytes, *parts: bytes) -> Hash32:
    """Return H(tag, parts) as wire.md, "Hashes", has it."""
    data = b"omnilytics/1/"
    for part in (tag, *parts):
        data += len(part).to_bytes(8, "big") + part
    return Hash32(hashlib.sha256(data).digest())


CONTEXT, BLIND = Hash32(b"c" * 32), b"b" * 32
SEED, CONTENT = b"s" * 32, Hash32(b"h" * 32)


def test_parts_and_commitment() -> None:
    seeded = x_part(CONTEXT, 3, BLIND, seed=SEED, x_hash=None)
    explicit = x_part(CONTEXT, 3, BLIND, seed=None, x_hash=CONTENT)
    assert seeded == tagged(b"x", CONTEXT, b"\x03", BLIND, b"seed", SEED)
    assert explicit == tagged(b"x", CONTEXT, b"\x03", BLIND, b"hash", CONTENT)
    covered = proof_part(CONTEXT, 13, BLIND, None)
    proved = proof_part(CONTEXT, 13, BLIND, CONTENT)
    assert covered == tagged(b"proof", CONTEXT, b"\x0d", BLIND, b"none", b"")
    assert proved == tagged(b"proof", CONTEXT, b"\x0d", BLIND, b"hash", CONTENT)
    joint = joint_randomness(CONTEXT, [seeded, explicit])
    assert joint == tagged(b"joint", CONTEXT, seeded, explicit)
    commitment = submission_commitment(CONTEXT, [seeded, explicit], [covered, proved], joint)
    assert commitment == tagged(b"submission", CONTEXT, seeded, explicit, covered, proved, joint)


def test_context() -> None:
    world = World()
    context, owner = world.context, Address(b"o" * 20)
    assert context.owner_context(owner) == tagged(
        b"context",
        context.domain.chain_id.to_bytes(32, "big"),
        context.domain.contract,
        context.task.to_bytes(32, "big"),
        context.round.to_bytes(32, "big"),
        context.artefact_hash,
        context.block_hash,
        owner,
    )


@pytest.mark.parametrize("seed", [b"1" * 32, b"2" * 32])
def test_the_lot_chooses_the_smallest_hashes(seed: bytes) -> None:
    world = World(max_owners=3)
    owners = tuple(Address(bytes([place]) * 20) for place in range(8))
    random = Random(1)
    valid = [honest_words(world.committee, random) for _ in owners]
    evidence = Evidence(
        owners=owners,
        words={j: tuple(words[j] for words in valid) for j in world.committee.points},
        convicted=frozenset(),
        opening_convicts=lambda _owner, _server: False,
        seed=Hash32(seed),
    )
    resolution = resolve(evidence, world.parameters)
    lots = sorted(owners, key=lambda owner: tagged(b"lot", seed, owner))
    assert resolution.accepted == tuple(sorted(lots[:3]))
    assert resolution.rejected.keys() == set(lots[3:])


def test_names_of_locks_stay() -> None:
    """A server that is updated in the middle of a round must find the locks that it holds."""
    assert (SEED_LOCK, FINAL_LOCK) == ("seed", "final")
