"""The event index: reads each block once, forgets replaced blocks, notices a moving chain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak
from forking_chain import CONTRACT, OTHER, VOIDED, ForkingChain, index_of, log, rounds

from omnilytics.chain.bindings.market import RoundSealed, RoundVoided
from omnilytics.chain.connection import RawLog
from omnilytics.chain.events import BLOCKS_PER_REQUEST, READ_AGAIN_BLOCKS, REMEMBERED_BLOCKS
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId


def test_reads_each_block_once() -> None:
    chain = ForkingChain()
    index = index_of(chain)
    assert index_of(chain).cursor is None
    assert rounds(index) == []
    chain.grow(b"a", 1, 2)
    chain.grow(b"a")
    assert rounds(index) == [1, 2]
    assert rounds(index) == [1, 2]
    chain.grow(b"a", 3)
    assert rounds(index) == [1, 2, 3]
    assert chain.asked == [(1, 2), (1, 3)]
    assert index.cursor is not None
    assert (index.cursor.block_number, index.cursor.block_hash) == (3, chain.hashes[3])
    (found,) = index.of_round(RoundVoided, TaskId(1), Round(3))
    assert found.position.block_number == 3
    assert index.of_round(RoundSealed, TaskId(1), Round(3)) == ()
    assert index.of_round(RoundVoided, TaskId(2), Round(3)) == ()


def test_several_of_a_kind_are_kept_in_their_order() -> None:
    """Two of one kind in one round, as of servers that are slashed."""
    chain = ForkingChain()
    chain.grow(b"a", 1, 1)
    chain.grow(b"a", 2)
    index = index_of(chain)
    places = [e.position.log_index for e in index.of_round(RoundVoided, TaskId(1), Round(1))]
    assert places == [0, 1]
    assert [e.round for e in index.of_kind(RoundVoided, TaskId(1))] == [1, 1, 2]
    assert index.of_kind(RoundSealed, TaskId(1)) == ()
    assert index.of_kind(RoundVoided, TaskId(2)) == ()


def test_events_of_market_and_registry_are_in_chain_order() -> None:
    """By block, then by place in the block, whichever contract was asked first."""
    chain = ForkingChain()
    chain.grow(b"a")
    chain.grow(b"a")
    swept = keccak(b"PoolSwept(address)")
    for number, index in ((2, 0), (1, 1), (1, 3)):
        raw = log(number, chain.hashes[number], index, swept, index)
        chain.raw.append(replace(raw, address=OTHER))
    for number, index in ((1, 0), (1, 2), (2, 1)):
        chain.raw.append(log(number, chain.hashes[number], index, VOIDED, 1, index))
    chain.raw.append(replace(chain.raw[0], address=Address(b"\x0e" * 20)))
    found = [(e.position.block_number, e.position.log_index) for e in index_of(chain).events()]
    assert found == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]
    kinds = [type(event).__name__ for event in index_of(chain).events()]
    assert kinds == ["RoundVoided", "PoolSwept"] * 2 + ["PoolSwept", "RoundVoided"]


def test_the_registrys_events_of_a_task_are_the_tasks() -> None:
    chain = ForkingChain()
    chain.grow(b"a", 1)
    kind = keccak(b"DrawRevealed(uint256,bytes32)")
    raw = log(1, chain.hashes[1], 1, kind, 1)
    chain.raw.append(replace(raw, address=OTHER, data=b"\x05" * 32))
    assert [type(e).__name__ for e in index_of(chain).of_task(TaskId(1))] == [
        "RoundVoided",
        "DrawRevealed",
    ]
    assert index_of(chain).of_task(TaskId(2)) == ()


def test_a_log_of_one_contract_is_none_of_the_others() -> None:
    """The market does not say what the registry does."""
    chain = ForkingChain()
    chain.grow(b"a")
    chain.raw.append(log(1, chain.hashes[1], 0, keccak(b"PoolSwept(address)"), 5))
    with pytest.raises(ChainError, match="something unknown"):
        index_of(chain).events()


@pytest.mark.parametrize("behind", [1, READ_AGAIN_BLOCKS])
def test_what_a_lagging_node_left_out_is_read_later(behind: int) -> None:
    """It answers for blocks that it does not have with nothing."""
    chain = ForkingChain()
    index = index_of(chain)
    chain.grow(b"a", 1)
    chain.grow(b"a", 2)
    assert rounds(index) == [1, 2]
    chain.logs_end = 2
    for number in range(3, 3 + behind):
        chain.grow(b"a", number)
        assert rounds(index) == [1, 2]
    chain.logs_end = None
    chain.grow(b"a")
    assert rounds(index) == list(range(1, 3 + behind))
    chain.asked.clear()
    chain.grow(b"a", 100)
    assert rounds(index)[-1] == 100
    assert len(chain.asked) == 1


def test_forgets_replaced_blocks() -> None:
    chain = ForkingChain()
    index = index_of(chain)
    for number in range(1, 6):
        chain.grow(b"a", number)
        assert rounds(index)[-1] == number
    chain.cut(2)
    for number in (30, 40, 50, 60):
        chain.grow(b"b", number)
    assert rounds(index) == [1, 2, 30, 40, 50, 60]
    assert index.of_round(RoundVoided, TaskId(1), Round(3)) == ()
    assert len(index.of_round(RoundVoided, TaskId(1), Round(30))) == 1
    assert [event.round for event in index.of_kind(RoundVoided, TaskId(1))] == rounds(index)


def test_follows_a_shorter_chain() -> None:
    chain = ForkingChain()
    index = index_of(chain)
    for number in range(1, 4):
        chain.grow(b"a", number)
        index.events()
    chain.cut(1)
    assert rounds(index) == [1]
    chain.grow(b"b", 20)
    assert rounds(index) == [1, 20]


def test_starts_again_when_nothing_it_read_is_left() -> None:
    chain = ForkingChain()
    chain.grow(b"a", 1)
    index = index_of(chain, first_block=1)
    assert rounds(index) == [1]
    chain.cut(0)
    chain.grow(b"b", 10)
    assert rounds(index) == [10]


def test_another_chain_is_an_error_until_the_right_one_is_back() -> None:
    chain = ForkingChain()
    chain.grow(b"a", 1)
    index = index_of(chain)
    assert rounds(index) == [1]
    right, raw = list(chain.hashes), list(chain.raw)
    chain.hashes = [Hash32(keccak(b"another genesis"))]
    chain.grow(b"a", 7)
    for _ in range(2):
        with pytest.raises(ChainError, match="another chain") as caught:
            index.events()
    assert caught.value.hint is not None
    assert "server reconcile" in caught.value.hint
    chain.hashes, chain.raw = right, raw
    assert rounds(index) == [1]


def test_a_reorganisation_deeper_than_what_is_remembered_is_an_error() -> None:
    chain = ForkingChain()
    index = index_of(chain)
    for number in range(1, REMEMBERED_BLOCKS + 3):
        chain.grow(b"a", number)
        index.events()
    chain.cut(2)
    for number in range(REMEMBERED_BLOCKS):
        chain.grow(b"b", 1_000 + number)
    with pytest.raises(ChainError, match="re-organised too deeply"):
        index.events()


def test_asks_in_pieces() -> None:
    chain = ForkingChain()
    for _ in range(2 * BLOCKS_PER_REQUEST):
        chain.grow(b"a")
    chain.grow(b"a", 9)
    assert rounds(index_of(chain, first_block=1)) == [9]
    assert chain.asked == [(1, 2_000), (1_989, 4_000), (3_989, 4_001)]


def test_notices_a_reorganisation_while_reading() -> None:
    class Moving(ForkingChain):
        def logs(self, address: Address, first_block: int, last_block: int) -> tuple[RawLog, ...]:
            found = super().logs(address, first_block, last_block)
            self.hashes[last_block] = Hash32(keccak(self.hashes[last_block]))
            return found

    chain = Moving()
    chain.grow(b"a", 1)
    with pytest.raises(ChainError, match="re-organised while"):
        index_of(chain).events()


@pytest.mark.parametrize(
    ("topics", "data"),
    [
        ((keccak(b"Other(uint256)"),), b""),
        ((), b""),
        ((VOIDED, bytes(32)), b""),
        ((keccak(b"RoundSealed(uint256,uint256,bytes32,uint256)"), bytes(32), bytes(32)), b"\x01"),
    ],
)
def test_refuses_logs_that_are_not_the_contracts(topics: tuple[bytes, ...], data: bytes) -> None:
    chain = ForkingChain()
    chain.grow(b"a")
    position = log(1, chain.hashes[1], 0, VOIDED).position
    chain.raw.append(RawLog(address=CONTRACT, topics=topics, data=data, position=position))
    with pytest.raises(ChainError):
        index_of(chain).events()


def test_decodes_members_by_name() -> None:
    chain = ForkingChain()
    chain.grow(b"a")
    kind = keccak(b"RoundSealed(uint256,uint256,bytes32,uint256)")
    raw = log(1, chain.hashes[1], 0, kind, 4, 5)
    data = encode(["bytes32", "uint256"], [b"r" * 32, 6])
    chain.raw.append(RawLog(address=CONTRACT, topics=raw.topics, data=data, position=raw.position))
    (event,) = index_of(chain).events()
    assert event == RoundSealed(
        position=raw.position,
        task=TaskId(4),
        round=Round(5),
        submissions_root=Hash32(b"r" * 32),
        count=6,
    )
