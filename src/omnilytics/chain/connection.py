"""A chain as the market needs it: blocks, balances, calls, logs, transactions, waiting.

`Chain` is the interface; `embedded.embedded_chain` runs one in this process, `connect` reaches one
by JSON-RPC. Everything blocks; every method may be called from any thread.

Not guaranteed: that the node behind a URL tells the truth. Block hashes are compared where that is
possible (`events`), but a lying node can hide blocks (protocol.md section 7).
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from omnilytics.chain.happenings import Position
from omnilytics.foundation.errors import ChainError, ResumableTimeoutError
from omnilytics.foundation.units import Address, Hash32, Wei

FIRST_POLL_SECONDS = 0.02
POLL_SECONDS = 1.0
STEADY_SECONDS = 1.0
MAX_FORCED_BLOCKS = 10_000
"""Blocks that one wait on a development chain may mine at most."""


class RefusedError(ChainError):
    """A node did not take a transaction, for a reason that lies in the transaction itself."""

    code = "chain-refused"


@dataclass(frozen=True)
class Block:
    """A block by number and hash."""

    number: int
    hash: Hash32


@dataclass(frozen=True, kw_only=True)
class RawLog:
    """A log before decoding."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    position: Position


@dataclass(frozen=True, kw_only=True)
class RawReceipt:
    """What a mined transaction did."""

    transaction_hash: Hash32
    block_number: int
    succeeded: bool
    gas_used: int
    gas_price_wei: Wei
    contract: Address | None
    logs: tuple[RawLog, ...]


class Chain(ABC):
    """One chain. Block numbers count from 0; timestamps are unix seconds."""

    chain_id: int
    is_development: bool
    """Whether it gives ether and mines on demand, as no real chain does."""
    moves: bool
    """Whether waiting mines blocks and sets the clock; a development chain alone can."""

    def __init__(self) -> None:
        self._moving = threading.Lock()  # one thread of this process at a time moves the chain

    @abstractmethod
    def head(self) -> int:
        """Return the number of the latest block."""

    @abstractmethod
    def block_hash(self, number: int) -> Hash32:
        """Return the hash of block `number`; raises ChainError if there is none yet."""

    @abstractmethod
    def block_header(self, number: int) -> bytes:
        """Return the header of block `number` as RLP: the bytes that its hash is of."""

    @abstractmethod
    def block_timestamp(self, number: int) -> int:
        """Return the timestamp of block `number`; raises ChainError if there is none yet."""

    @abstractmethod
    def balance(self, address: Address) -> Wei:
        """Return the balance at the latest block."""

    @abstractmethod
    def code(self, address: Address) -> bytes:
        """Return the code at an address, empty for an account without any."""

    @abstractmethod
    def call(self, target: Address, data: bytes) -> bytes:
        """Return what a view returns now; raises ChainError with its revert reason."""

    @abstractmethod
    def logs(self, address: Address, first_block: int, last_block: int) -> tuple[RawLog, ...]:
        """Return the logs of a contract in these blocks, both included, in chain order."""

    @abstractmethod
    def next_nonce(self, address: Address) -> int:
        """Return the number of transactions that the account has sent, pending ones too."""

    @abstractmethod
    def spent_nonces(self, address: Address) -> int:
        """Return how many of the account's transactions are mined."""

    @abstractmethod
    def fees_wei(self) -> tuple[Wei, Wei]:
        """Return (max fee, priority fee) per gas for a transaction that should be mined soon."""

    @abstractmethod
    def preflight(
        self, sender: Address, target: Address, data: bytes, value: Wei, gas: int
    ) -> None:
        """Raise ChainError with the revert reason if this transaction would revert now."""

    @abstractmethod
    def send(self, transaction: bytes) -> Hash32:
        """Send a signed transaction; return its hash.

        Raises:
            RefusedError: It was not taken, and no node will take it as it is.
            ChainError: It may have been taken or not.
        """

    @abstractmethod
    def receipt(self, transaction_hash: Hash32) -> RawReceipt | None:
        """Return the receipt, or None while the transaction is not mined."""

    @abstractmethod
    def calldata(self, transaction_hash: Hash32) -> tuple[Address | None, bytes]:
        """Return target and data of a mined transaction; raises ChainError if it is unknown."""

    @abstractmethod
    def fund(self, address: Address, amount_wei: Wei) -> None:
        """Give an account ether on a development chain; raises ChainError on any other."""

    @abstractmethod
    def mine(self, blocks: int) -> None:
        """Mine empty blocks on a development chain; raises ChainError on any other."""

    @abstractmethod
    def jump(self, timestamp: int) -> None:
        """Mine a block with at least this timestamp on a development chain; else ChainError."""

    def close(self) -> None:  # noqa: B027 - most chains hold nothing
        """Release what the chain holds."""

    def latest(self) -> Block:
        """Return the latest block."""
        number = self.head()
        return Block(number, self.block_hash(number))

    def steady(self) -> AbstractContextManager[object]:
        """Let this thread see the same blocks meanwhile, where asking for them costs.

        What it sees is at most `STEADY_SECONDS` old, and never older than any other answer that it
        had from the chain: a state, a receipt, logs.
        """
        return nullcontext()

    def look_again(self) -> None:  # noqa: B027 - most chains remember nothing
        """Forget what this thread saw in `steady`."""

    def head_timestamp(self) -> int:
        """Return the timestamp of the latest block."""
        return self.block_timestamp(self.head())

    def wait_for_block(self, number: int, *, timeout_seconds: float = 3600.0) -> None:
        """Return once `head() >= number`; a chain that `moves` mines the missing blocks.

        Raises:
            ResumableTimeoutError: The chain did not get there in time; wait again.
        """
        if not self.moves:
            self._poll(lambda: self.head() >= number, f"block {number}", timeout_seconds)
        else:
            self._mine_to(number)

    def wait_for_time(self, timestamp: int, *, timeout_seconds: float = 86400.0) -> None:
        """Return once `head_timestamp() >= timestamp`; a chain that `moves` jumps there.

        Raises:
            ResumableTimeoutError: The chain did not get there in time; wait again.
        """
        if not self.moves:
            reached = f"time {timestamp}"
            self._poll(lambda: self.head_timestamp() >= timestamp, reached, timeout_seconds)
        else:
            self._jump_to(timestamp)

    def wait_for_receipt(self, *hashes: Hash32, timeout_seconds: float = 600.0) -> RawReceipt:
        """Return the receipt once one of these transactions is mined.

        Raises:
            ResumableTimeoutError: None was mined in time.
        """
        found: list[RawReceipt] = []

        def look() -> bool:
            receipts = (self.receipt(transaction_hash) for transaction_hash in hashes)
            found.extend(receipt for receipt in receipts if receipt is not None)
            return bool(found)

        self._poll(look, f"transaction 0x{hashes[-1].hex()}", timeout_seconds)
        return found[0]

    def _mine_to(self, number: int) -> None:
        # One block at a time: another process that waits for the same block mines too, and blocks
        # beyond it use up the windows of a round.
        with self._moving:
            missing = number - self.head()
            if missing > MAX_FORCED_BLOCKS:
                raise ChainError("too many blocks to mine", got=missing, want=MAX_FORCED_BLOCKS)
            while self.head() < number:
                self.mine(1)

    def _jump_to(self, timestamp: int) -> None:
        with self._moving:
            if self.head_timestamp() >= timestamp:
                return
            try:
                self.jump(timestamp)
            except ChainError:  # another process may have jumped first
                if self.head_timestamp() < timestamp:
                    raise

    def _poll(self, reached: Callable[[], bool], wanted: str, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        pause_seconds = FIRST_POLL_SECONDS
        while not reached():
            if time.monotonic() >= deadline:
                raise ResumableTimeoutError(
                    "the chain is not there yet",
                    want=wanted,
                    got=f"block {self.head()}",
                    hint="run the same command again to go on waiting",
                )
            time.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, POLL_SECONDS)


def connect(url: str, *, timeout_seconds: float = 10.0, moves: bool = True) -> Chain:
    """Return the chain behind a JSON-RPC URL (http or https).

    Args:
        url: Where the node listens.
        timeout_seconds: Longest time that one request may take.
        moves: Whether waiting mines blocks and sets the clock where the chain is for development.
            Not where several processes share it: it must run by itself then.

    Raises:
        ChainError: The node does not answer or is not an Ethereum node.
    """
    from omnilytics.chain.jsonrpc import JsonRpcChain

    return JsonRpcChain(url, timeout_seconds=timeout_seconds, moves=moves)
