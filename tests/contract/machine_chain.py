"""A chain as thin as it gets: py-evm's state under Prague rules, without blocks or transactions.

It executes the real bytecode of the contracts, message by message, at a block number and time that
the test sets. Gas costs nothing and nothing is hashed into tries, so that a call takes as long as
its execution. A call that reverts changes nothing, as a reverted transaction.

Not modelled: signatures, nonces and fees of transactions, and re-organisations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import rlp
from eth.constants import BLANK_ROOT_HASH
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague.constants import (
    HISTORY_SERVE_WINDOW,
    HISTORY_STORAGE_ADDRESS,
    HISTORY_STORAGE_CONTRACT_CODE,
)
from eth.vm.forks.prague.state import PragueState
from eth.vm.message import Message
from eth_hash.auto import keccak
from eth_typing import Address as EthAddress
from eth_typing import BlockNumber
from eth_typing import Hash32 as EthHash

from omnilytics.chain.abi import revert_reason
from omnilytics.foundation.units import Address, Hash32

GAS = 30_000_000
FIRST_TIME = 1_700_000_000
FIRST_BLOCK = 20_000
CHAIN_ID = 1_337
_NOBODY = EthAddress(bytes(20))


@dataclass(frozen=True)
class Log:
    """What a contract logged."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class Outcome:
    """What became of a call: its revert reason, or what it returned and logged."""

    reason: str | None
    output: bytes = b""
    logs: tuple[Log, ...] = ()


def prev_randao(number: int) -> Hash32:
    """Return what the beacon chain decided for a block."""
    return Hash32(keccak(b"randao" + number.to_bytes(8, "big")))


@lru_cache(maxsize=4096)
def block_header(number: int) -> bytes:
    """Return a block's header as RLP, with the members and sizes that a real one has."""
    digest, address, bloom = bytes(32), bytes(20), bytes(256)
    # Numbers are as short as they can be; extra data has any length.
    extra = b"x" * (number % 33)
    numbers = [0, number, 2 * GAS, number % 3 * 21_000, FIRST_TIME + number]
    head = [digest, digest, address, digest, digest, digest, bloom, *numbers, extra]
    header: bytes = rlp.encode([*head, prev_randao(number), bytes(8), 7, digest, 0, 0, digest])
    return header


@lru_cache(maxsize=16384)
def block_hash(number: int) -> Hash32:
    """Return the hash that this chain gives a block."""
    return Hash32(keccak(block_header(number)))


class _State(PragueState):
    """State whose earlier block hashes are those of `block_hash`, for BLOCKHASH and EIP-2935."""

    def get_ancestor_hash(self, block_number: int) -> EthHash:
        if 1 <= self.block_number - block_number <= 256:
            return EthHash(block_hash(block_number))
        return EthHash(b"")

    def get_storage(self, address: EthAddress, slot: int, from_journal: bool = True) -> int:
        if address != HISTORY_STORAGE_ADDRESS:
            return super().get_storage(address, slot, from_journal)
        # The history contract keeps the hash of block b in slot b mod 8,191.
        last = self.block_number - 1
        return int.from_bytes(block_hash(last - (last - slot) % HISTORY_SERVE_WINDOW), "big")


class LightChain:
    """Accounts and contracts at a block number and a time that only move forward."""

    def __init__(self) -> None:
        self._state = _State(AtomicDB(), _context(FIRST_BLOCK, FIRST_TIME), BLANK_ROOT_HASH)
        self._state.set_code(HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CONTRACT_CODE)
        self._transaction = _State.get_transaction_context_class()(gas_price=0, origin=_NOBODY)
        self._mark: Any = None
        self.block, self.time = FIRST_BLOCK, FIRST_TIME

    def advance(self, blocks: int, seconds: int) -> None:
        """Go on by some blocks, and seconds: at least one a block, and none without a block."""
        assert seconds >= blocks >= 0
        assert blocks or not seconds
        self.block, self.time = self.block + blocks, self.time + seconds
        self._state.execution_context = _context(self.block, self.time)

    def save(self) -> None:
        """Remember the accounts as they are, for `restore`."""
        self._mark = self._state.snapshot(), self.block, self.time

    def restore(self) -> None:
        """Go back to what was saved."""
        snapshot, self.block, self.time = self._mark
        self._state.revert(snapshot)
        self.advance(0, 0)
        self.save()

    def deploy(self, address: Address, code: bytes) -> None:
        """Create a contract at an address of one's choice."""
        message = Message(
            gas=GAS,
            to=EthAddress(b""),
            sender=_NOBODY,
            value=0,
            data=b"",
            code=code,
            create_address=EthAddress(address),
        )
        computation = self._state.computation_class.apply_create_message(
            self._state, message, self._transaction
        )
        self._state.clear_transient_storage()
        assert not computation.is_error, computation.error

    def send(
        self, sender: Address, target: Address, data: bytes, value: int = 0, *, static: bool = False
    ) -> Outcome:
        """Execute a call from any account."""
        message = Message(
            gas=GAS,
            to=EthAddress(target),
            sender=EthAddress(sender),
            value=value,
            data=data,
            code=self._state.get_code(EthAddress(target)),
            is_static=static,
        )
        computation = self._state.computation_class.apply_message(
            self._state, message, self._transaction
        )
        self._state.clear_transient_storage()
        if computation.is_error:
            return Outcome(_reason(computation.error))
        logs = tuple(
            Log(Address(bytes(address)), tuple(t.to_bytes(32, "big") for t in topics), bytes(data))
            for address, topics, data in computation.get_log_entries()
        )
        return Outcome(None, bytes(computation.output), logs)

    def view(self, target: Address, data: bytes) -> bytes:
        """Return what a view returns."""
        outcome = self.send(Address(bytes(20)), target, data, static=True)
        assert outcome.reason is None, outcome.reason
        return outcome.output

    def balance(self, address: Address) -> int:
        """Return an account's ether in wei."""
        return int(self._state.get_balance(EthAddress(address)))

    def fund(self, address: Address, amount_wei: int) -> None:
        """Give an account ether out of nothing."""
        self._state.delta_balance(EthAddress(address), amount_wei)

    def storage(self, address: Address, slot: int) -> int:
        """Return a storage word of a contract."""
        return int(self._state.get_storage(EthAddress(address), slot))

    def set_code(self, address: Address, code: bytes) -> None:
        """Give an account code, as a delegation would (EIP-7702)."""
        self._state.set_code(EthAddress(address), code)

    def forget_history(self) -> None:
        """Be a chain without EIP-2935: BLOCKHASH alone knows earlier blocks."""
        self._state.set_code(HISTORY_STORAGE_ADDRESS, b"")


def _context(block: int, time: int) -> ExecutionContext:
    return ExecutionContext(
        coinbase=_NOBODY,
        timestamp=time,
        block_number=BlockNumber(block),
        difficulty=0,
        mix_hash=EthHash(bytes(32)),
        gas_limit=2 * GAS,
        prev_hashes=(),
        chain_id=CHAIN_ID,
        base_fee_per_gas=0,
        excess_blob_gas=0,
    )


def _reason(error: Any) -> str:
    data = error.args[0] if error.args else b""
    if isinstance(data, bytes):
        return revert_reason(data)
    return f"execution failed: {type(error).__name__}"
