"""The durable index: it goes on where it was, follows forks, and trusts no other chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from forking_chain import ForkingChain, index_of, rounds

from omnilytics.chain.bindings.market import RoundVoided
from omnilytics.chain.connection import Block, RawLog
from omnilytics.chain.events import REMEMBERED_BLOCKS, EventIndex
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.service.event_log import EventLog
from omnilytics.storage.database import Database, default_url
from omnilytics.storage.migration import migrate


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    migrate(default_url(tmp_path))
    database = Database(default_url(tmp_path))
    yield database
    database.close()


@pytest.fixture
def chain() -> ForkingChain:
    chain = ForkingChain()
    for number in range(1, 6):
        chain.grow(b"a", number)
    return chain


def durable(chain: ForkingChain, database: Database, first_block: int = 0) -> EventIndex:
    """As a process that starts has it."""
    index = index_of(chain, first_block)
    index.keep_in(EventLog(database, first_block=first_block))
    return index


def stored(database: Database) -> tuple[list[int], list[int]]:
    """Return the blocks that are remembered, and those of the logs."""
    cursors, logs = EventLog(database, first_block=0).read(-1)
    return [one.block_number for one in cursors], [log.position.block_number for log in logs]


def test_a_restart_reads_on_from_the_cursor(chain: ForkingChain, database: Database) -> None:
    index = durable(chain, database)
    events = index.events()
    assert rounds(index) == [1, 2, 3, 4, 5]
    chain.asked.clear()
    again = durable(chain, database)
    assert again.events() == events
    assert chain.asked == []
    chain.grow(b"a", 6)
    assert rounds(again) == [1, 2, 3, 4, 5, 6]
    assert chain.asked == [(1, 6)]
    assert len(again.of_round(RoundVoided, TaskId(1), Round(6))) == 1
    assert stored(database) == ([0, 5, 6], [1, 2, 3, 4, 5, 6])


def test_what_a_lagging_node_left_out_is_not_lost_by_a_restart(
    chain: ForkingChain, database: Database
) -> None:
    durable(chain, database).events()
    chain.logs_end = 5
    chain.grow(b"a", 6)
    assert rounds(durable(chain, database)) == [1, 2, 3, 4, 5]
    chain.logs_end = None
    chain.grow(b"a")
    assert rounds(durable(chain, database)) == [1, 2, 3, 4, 5, 6]
    assert stored(database) == ([0, 5, 7], [1, 2, 3, 4, 5, 6])


def test_a_fork_is_rewound_in_database_and_memory(chain: ForkingChain, database: Database) -> None:
    index = durable(chain, database)
    for number in (6, 7):
        index.events()
        chain.grow(b"a", number)
    assert rounds(index)[-1] == 7
    chain.cut(5)
    chain.grow(b"b", 60)
    assert rounds(index) == [1, 2, 3, 4, 5, 60]
    assert rounds(durable(chain, database)) == [1, 2, 3, 4, 5, 60]
    assert stored(database) == ([0, 5, 6], [1, 2, 3, 4, 5, 6])


def test_a_fork_while_nobody_ran_is_found_at_the_start(
    chain: ForkingChain, database: Database
) -> None:
    durable(chain, database).events()
    chain.cut(2)
    chain.grow(b"b", 30)
    assert rounds(durable(chain, database)) == [1, 2, 30]  # all after the origin is read again
    chain.cut(1)  # and one that is behind
    assert rounds(durable(chain, database)) == [1]
    assert stored(database) == ([0, 1], [1])


def test_a_crash_while_it_reads_loses_and_repeats_nothing(
    chain: ForkingChain, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnilytics.chain.events.BLOCKS_PER_REQUEST", 2)
    insert, inserted = Database.insert, [0]

    def fail_in_between(self: Database, *arguments: object, **values: object) -> bool:
        inserted[0] += 1
        if inserted[0] == 5:  # of the second piece, some logs are in and the cursor is not
            raise KeyboardInterrupt
        return insert(self, *arguments, **values)  # type: ignore[arg-type]

    monkeypatch.setattr(Database, "insert", fail_in_between)
    with pytest.raises(KeyboardInterrupt):
        durable(chain, database).events()
    assert stored(database) == ([0, 2], [1, 2])
    assert rounds(durable(chain, database)) == [1, 2, 3, 4, 5]
    assert stored(database) == ([0, 2, 4, 5], [1, 2, 3, 4, 5])


def test_what_a_back_up_has_beyond_the_chain_is_not_trusted(
    chain: ForkingChain, database: Database
) -> None:
    durable(chain, database).events()
    chain.cut(0)
    chain.grow(b"b")
    index = durable(chain, database)
    assert rounds(index) == []
    chain.grow(b"b", 2)
    assert rounds(index) == [2]


def test_another_chain_is_refused_and_nothing_forgotten(
    chain: ForkingChain, database: Database
) -> None:
    durable(chain, database, first_block=3).events()
    other = ForkingChain()
    other.hashes = [Hash32(bytes(32))]
    for number in range(1, 6):
        other.grow(b"a", number)
    index = durable(other, database, first_block=3)
    for _ in range(2):
        with pytest.raises(ChainError, match="another chain"):
            index.events()
    assert rounds(durable(chain, database, first_block=3)) == [3, 4, 5]


def test_deeper_than_it_remembers_is_an_error(chain: ForkingChain, database: Database) -> None:
    index = durable(chain, database)
    for number in range(REMEMBERED_BLOCKS + 1):
        chain.grow(b"a", number)
        index.events()
    chain.cut(1)
    chain.grow(b"b", 2)
    for reader in (index, durable(chain, database)):
        with pytest.raises(ChainError, match="too deeply"):
            reader.events()


def test_two_processes_share_what_either_reads(chain: ForkingChain, database: Database) -> None:
    one, two = durable(chain, database), durable(chain, database)
    one.events()
    assert rounds(two) == [1, 2, 3, 4, 5]
    for number in range(6, 12):
        chain.grow(b"a", number)
        for reader in (one, two) if number % 2 else (two, one):
            assert rounds(reader)[-1] == number
    chain.cut(8)
    chain.grow(b"b", 90)
    assert rounds(two) == rounds(one) == [1, 2, 3, 4, 5, 6, 7, 8, 90]
    one.events()
    chain.grow(b"b", 100)
    assert rounds(one) == rounds(two)
    assert stored(database)[1] == list(range(1, 11))
    assert rounds(durable(chain, database)) == rounds(one)


def test_another_first_block_is_read_anew(chain: ForkingChain, database: Database) -> None:
    assert rounds(durable(chain, database, first_block=4)) == [4, 5]
    assert rounds(durable(chain, database, first_block=2)) == [2, 3, 4, 5]


def test_a_thread_that_saw_an_older_head_takes_nothing_back(
    chain: ForkingChain, database: Database
) -> None:
    """As in a steady look, while another thread reads on."""
    index = durable(chain, database)
    old = chain.latest()
    chain.grow(b"a", 6)
    index.events()
    stale = [old]

    def latest() -> Block:
        return stale[0] if stale else ForkingChain.latest(chain)

    def reads(address: Address, first_block: int, last_block: int) -> tuple[RawLog, ...]:
        raise AssertionError("nothing is to be read")

    chain.latest, chain.look_again = latest, stale.clear  # type: ignore[method-assign]
    chain.logs = reads  # type: ignore[method-assign]
    assert rounds(index) == [1, 2, 3, 4, 5, 6]
    assert stale == []
    assert stored(database)[1] == [1, 2, 3, 4, 5, 6]
