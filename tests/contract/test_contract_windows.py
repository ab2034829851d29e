"""Windows wider than BLOCKHASH reaches: on chains that keep older hashes (EIP-2935) alone."""

from __future__ import annotations

from typing import Any

import pytest
from contract_world import World, refused
from eth.vm.forks.prague.constants import (
    HISTORY_SERVE_WINDOW,
    HISTORY_STORAGE_ADDRESS,
    HISTORY_STORAGE_CONTRACT_CODE,
)

from omnilytics.chain import embedded
from omnilytics.chain.embedded import EmbeddedChain
from omnilytics.chain.records import challenge_seed
from omnilytics.foundation.units import Hash32, TaskId

WIDE: dict[str, Any] = {"settlement_blocks": 300, "openings_blocks": 250, "words_blocks": 200}
# What it answers whatever it is asked: nothing, a zero word, a wrong hash, 31 bytes.
STOP = b"\x00"
ZERO_WORD = bytes.fromhex("60205ff3")
WRONG_WORD = bytes.fromhex("60015f5260205ff3")
SHORT = bytes.fromhex("601f5ff3")
REVERTS = bytes.fromhex("5f5ffd")


class HistoryChain(EmbeddedChain):
    """Keeps block hashes as EIP-2935 says, which py-evm does when it imports blocks, not here."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = self.head() - 1

    def send(self, transaction: bytes) -> Hash32:
        with self._lock:
            state = self._state()
            for number in range(self._kept + 1, self.head() + 1):
                value = int.from_bytes(self.block_hash(number), "big")
                state.set_storage(HISTORY_STORAGE_ADDRESS, number % HISTORY_SERVE_WINDOW, value)
            state.persist()
            self._chain.header = self._chain.header.copy(state_root=state.state_root)
            self._kept = self.head()
            return super().send(transaction)


def world_with(monkeypatch: pytest.MonkeyPatch, code: bytes) -> World:
    """Return a world on a chain with this code where EIP-2935 keeps block hashes."""
    backend: Any = vars(embedded)["PyEVMBackend"]

    def with_history(genesis_state: dict[bytes, Any]) -> Any:
        account = {"balance": 0, "nonce": 1, "code": code, "storage": {}}
        return backend(genesis_state={**genesis_state, bytes(HISTORY_STORAGE_ADDRESS): account})

    monkeypatch.setattr(embedded, "PyEVMBackend", with_history)
    keeps = code == HISTORY_STORAGE_CONTRACT_CODE
    return World(chain=HistoryChain() if keeps else EmbeddedChain())


def sealed_at(world: World, **changes: Any) -> TaskId:
    task = world.task(**changes)
    world.open(task)
    world.seal(task)
    return task


def seed_of(world: World, task: TaskId) -> Any:
    state = world.reader.round_state(task)
    dice = world.chain.block_hash(state.challenge_block)
    return challenge_seed(dice, task, state.round, state.submissions_root)


@pytest.mark.parametrize("age", [255, 256, 257, 290])
def test_settles_late_where_old_hashes_are_kept(monkeypatch: pytest.MonkeyPatch, age: int) -> None:
    """On both sides of where BLOCKHASH ends: 256 blocks back."""
    world = world_with(monkeypatch, HISTORY_STORAGE_CONTRACT_CODE)
    task = sealed_at(world, **WIDE)
    challenge = world.reader.round_state(task).challenge_block
    world.chain.wait_for_block(challenge + age - 1)
    with refused("wrong seed"):
        world.settle(task, seed=world.hash())
    world.settle(task, seed=seed_of(world, task))
    assert world.reader.task(task).settled_rounds == 1
    assert world.chain.head() == challenge + age


def test_the_last_block_of_a_wide_window(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with(monkeypatch, HISTORY_STORAGE_CONTRACT_CODE)
    task = sealed_at(world, **WIDE)
    last = world.reader.round_state(task).settlement_deadline_block
    world.chain.wait_for_block(last - 1)
    with refused("still settleable"):
        world.owner_writer.void_round(task)
    world.chain.mine(1)
    with refused("settlement deadline passed"):
        world.settle(task, seed=seed_of(world, task))
    world.owner_writer.void_round(task)


def test_the_widest_window_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with(monkeypatch, HISTORY_STORAGE_CONTRACT_CODE)
    most = 7_999
    widest: dict[str, Any] = {"words_blocks": most - 1, "openings_blocks": most - 1}
    task = world.task(**widest, settlement_blocks=most)
    assert world.reader.task(task).terms.windows.settlement_blocks == most
