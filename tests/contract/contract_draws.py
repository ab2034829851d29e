"""Drawing committees: asking, waiting for the dice, and the draw as its text says it."""

from __future__ import annotations

from collections.abc import Sequence

import rlp
from contract_world import World
from eth_hash.auto import keccak

from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.units import Address, TaskId

DELAY = 4
DRAW_BLOCKS = 256
FEE = 10**15
UNBONDING = 14 * 86400
TOKEN = Address(b"\x70" * 20)


def writers(world: World) -> list[MarketWriter]:
    return [world.writer(server) for server in world.servers]


def drawn_task(world: World, **changes: object) -> TaskId:
    return world.owner_writer.create_drawn_task(world.terms(**{"n": 5, **changes}))


def pinned_block(world: World, task: TaskId) -> int:
    return world.reader.draw_state(task).pinned_block


def to_reveal(world: World, task: TaskId) -> None:
    """Go to where the next block is the first that can reveal a draw."""
    world.chain.wait_for_block(pinned_block(world, task) + DELAY)


def to_draw(world: World, task: TaskId) -> None:
    """Go to where the next block is the first that can draw."""
    to_reveal(world, task)
    world.owner_writer.reveal_draw(task)


def dice(world: World, task: TaskId) -> bytes:
    """Return PREVRANDAO of the block that decides a draw, out of its header."""
    header: list[bytes] = rlp.decode(world.chain.block_header(pinned_block(world, task) + DELAY))
    assert len(header[13]) == 32
    return header[13]


def drawn(world: World, task: TaskId) -> tuple[Address, ...]:
    to_draw(world, task)
    world.owner_writer.draw_committee(task)
    return world.reader.task(task).committee


def reference(
    randao: bytes,
    task: int,
    draws: int,
    pool: Sequence[Address],
    eligible: set[Address],
    n: int,
) -> list[Address]:
    """Return the committee as the registry's text says it is drawn."""
    seed = keccak(keccak(b"\xa0" + randao) + task.to_bytes(32, "big") + draws.to_bytes(32, "big"))
    chosen: list[Address] = []
    for step in range(256):
        place = int.from_bytes(keccak(seed + step.to_bytes(32, "big")), "big") % len(pool)
        if pool[place] in eligible and pool[place] not in chosen:
            chosen.append(pool[place])
        if len(chosen) == n:
            return chosen
    raise AssertionError("too few servers offer")
