"""The reader refuses other contracts; gas is logged; anvil agrees with the embedded chain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract_world import STAKE, World, shared_world
from devnet import anvil_binary, running_anvil

from omnilytics.chain.bindings.market import RoundOpened, TaskCreated
from omnilytics.chain.connection import connect
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.embedded import embedded_chain
from omnilytics.chain.reader import MarketReader
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, Wei


@pytest.fixture
def world() -> Iterator[World]:
    yield from shared_world()


def test_another_contract_is_refused() -> None:
    world = World(3)
    with pytest.raises(ChainError, match="no contract at this address"):
        MarketReader(world.chain, world.key().address)
    # Init code that returns one zero byte: a contract that is not ours.
    other = world.model_owner.send(None, bytes.fromhex("60016000f3"), gas=100_000).contract
    assert other is not None
    with pytest.raises(ChainError, match="another contract at this address"):
        MarketReader(world.chain, other)


def test_a_longer_contract_is_refused() -> None:
    """Our code with more behind it is not our contract."""
    world = World(3)
    code = world.chain.code(world.address) + b"\x00"
    size = len(code).to_bytes(3, "big").hex()
    # PUSH3 size, PUSH1 offset, PUSH0, CODECOPY, PUSH3 size, PUSH0, RETURN, then the code
    init = bytes.fromhex(f"62{size}600e5f3962{size}5ff3")
    receipt = world.model_owner.send(None, init + code, gas=8_000_000)
    assert receipt.contract is not None
    with pytest.raises(ChainError, match="another contract"):
        MarketReader(world.chain, receipt.contract)


def test_minimum_stake_is_the_deployments() -> None:
    world = World(3)
    assert world.reader.min_stake() == STAKE
    assert MarketReader(world.chain, deploy_market(world.model_owner)).min_stake() == 10**17
    for stake in (1, 2**96 - 1):
        market = deploy_market(world.model_owner, min_stake_wei=Wei(stake))
        assert MarketReader(world.chain, market).min_stake() == stake
    for wrong in (0, 2**96):
        with pytest.raises(ChainError, match="bad stake"):
            deploy_market(world.model_owner, min_stake_wei=Wei(wrong))


def test_a_second_reader_sees_the_same(world: World) -> None:
    task = world.task()
    world.round(task)
    fresh = MarketReader(world.chain, world.address)
    assert fresh.events() == world.reader.events()
    assert fresh.events(task) == world.reader.events(task)
    assert isinstance(fresh.events(task)[0], TaskCreated)
    assert fresh.settled_rounds(task) == world.reader.settled_rounds(task)
    assert fresh.servers() == world.reader.servers()
    assert fresh.round_opened(task, Round(2)) is None


def test_two_markets_do_not_mix() -> None:
    chain = embedded_chain()
    one, other = World(chain=chain, seed=1), World(chain=chain, seed=2)
    task = one.task()
    assert other.reader.task_count() == 0
    assert other.reader.events(task) == ()
    assert one.address != other.address


def test_a_foreign_blockhash_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task = world.task()
    opened = world.open(task)
    true_hash = world.chain.block_hash
    before = opened.position.block_number - 1
    asked = []

    def lying(number: int) -> Hash32:
        asked.append(number)
        return Hash32(bytes(32)) if number == before else true_hash(number)

    with monkeypatch.context() as patched:
        patched.setattr(world.chain, "block_hash", lying)
        for _ in range(2):  # what did not hold is not remembered
            with pytest.raises(ChainError, match="BLOCKHASH is not its own"):
                world.reader.round_opened(task, opened.round)
        assert asked.count(before) == 2
    assert isinstance(world.reader.round_opened(task, opened.round), RoundOpened)
    monkeypatch.setattr(world.chain, "block_hash", lying)
    assert isinstance(world.reader.round_opened(task, opened.round), RoundOpened)
    assert asked.count(before) == 2  # the same event needs no second look


def test_gas_is_logged(world: World) -> None:
    task = world.task()
    world.round(task)
    world.round(task)
    summary = world.owner_writer.gas.summary()
    assert list(summary) == ["create_task", "open_round", "seal", "settle"]
    count, least, median, most = summary["settle"]
    assert count == 2
    assert 0 < least <= median <= most
    assert world.owner_writer.last_receipt is not None
    assert world.owner_writer.last_receipt.gas_used == world.owner_writer.gas.calls[-1][1]


def test_reprs_hide_keys() -> None:
    world = World(3)
    assert world.keys[0].secret.hex() not in repr(world.servers[0])
    assert Address(world.servers[0].address).hex() in repr(world.servers[0])


@pytest.mark.skipif(anvil_binary() is None, reason="no anvil: make devnet-tools")
def test_anvil_agrees() -> None:
    """A round over JSON-RPC costs the same gas and gives the same records."""
    with running_anvil() as url:
        world = World(chain=connect(url))
        task = world.task()
        world.round(task)
        world.round(task)
        local = World()
        local_task = local.task()
        local.round(local_task)
        local.round(local_task)
        with pytest.raises(ChainError, match="not model owner"):
            world.writer(world.servers[0]).open_round(task, world.hash())
    assert world.reader.chain.is_development
    for (name, gas), (other, local_gas) in zip(
        world.owner_writer.gas.calls, local.owner_writer.gas.calls, strict=True
    ):
        assert name == other
        assert abs(gas - local_gas) <= 300  # hashes differ in their zero bytes


@pytest.mark.skipif(anvil_binary() is None, reason="no anvil: make devnet-tools")
def test_anvil_keeps_the_hash_of_a_challenge_beyond_256_blocks() -> None:
    with running_anvil() as url:
        world = World(chain=connect(url))
        task = world.task(words_blocks=300, openings_blocks=400, settlement_blocks=1_000)
        world.sealed(task)
        agreed = world.settlement(task)
        world.chain.wait_for_block(world.reader.round_state(task).sealed_block + 900)
        world.owner_writer.settle(world.signed(agreed, world.words()), world.committee)
        assert world.reader.task(task).settled_rounds == 1
