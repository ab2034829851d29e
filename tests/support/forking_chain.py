"""A chain whose blocks, forks and logs are as a test says, and an index that reads it."""

from __future__ import annotations

from eth_hash.auto import keccak

from omnilytics.chain.bindings import market, registry
from omnilytics.chain.bindings.market import RoundVoided
from omnilytics.chain.compile import build
from omnilytics.chain.connection import RawLog
from omnilytics.chain.embedded import EmbeddedChain
from omnilytics.chain.events import EventIndex
from omnilytics.chain.happenings import Position
from omnilytics.foundation.units import Address, Hash32

build()

CONTRACT = Address(b"\x0c" * 20)
OTHER = Address(b"\x0d" * 20)
"""The market, and its registry."""
VOIDED = keccak(b"RoundVoided(uint256,uint256)")


class ForkingChain(EmbeddedChain):
    """Blocks and logs as the test says; counts what was asked."""

    def __init__(self) -> None:
        self.hashes = [Hash32(keccak(b"genesis"))]
        super().__init__()
        self.raw: list[RawLog] = []
        self.asked: list[tuple[int, int]] = []
        self.logs_end: int | None = None
        """The head of the node that answers for logs, where it lags."""

    def grow(self, fork: bytes, *rounds: int) -> None:
        """Add one block with a RoundVoided of task 1 for each round."""
        number = len(self.hashes)
        self.hashes.append(Hash32(keccak(self.hashes[-1] + fork)))
        for index, round_number in enumerate(rounds):
            self.raw.append(log(number, self.hashes[-1], index, VOIDED, 1, round_number))

    def cut(self, head: int) -> None:
        """Forget the blocks after `head`."""
        del self.hashes[head + 1 :]
        self.raw = [raw for raw in self.raw if raw.position.block_number <= head]

    def head(self) -> int:
        return len(self.hashes) - 1

    def block_hash(self, number: int) -> Hash32:
        return self.hashes[number]

    def logs(self, address: Address, first_block: int, last_block: int) -> tuple[RawLog, ...]:
        if address == CONTRACT:
            self.asked.append((first_block, last_block))
        end = last_block if self.logs_end is None else min(last_block, self.logs_end)
        wanted = range(first_block, end + 1)
        found = (raw for raw in self.raw if raw.address == address)
        return tuple(raw for raw in found if raw.position.block_number in wanted)


def log(number: int, block_hash: Hash32, index: int, kind: bytes, *topics: int) -> RawLog:
    position = Position(
        block_number=number,
        block_hash=block_hash,
        transaction_hash=Hash32(bytes(32)),
        log_index=index,
    )
    words = tuple(topic.to_bytes(32, "big") for topic in topics)
    return RawLog(address=CONTRACT, topics=(kind, *words), data=b"", position=position)


def index_of(chain: ForkingChain, first_block: int = 0) -> EventIndex:
    return EventIndex(chain, {CONTRACT: market.codec(), OTHER: registry.codec()}, first_block)


def rounds(index: EventIndex) -> list[int]:
    return [event.round for event in index.events() if isinstance(event, RoundVoided)]
