"""A chain inside this process: py-evm under Prague rules, one block per transaction, no waiting.

It mines on demand, so blocks and deadlines cost nothing; a transaction that would revert is refused
and not mined, as a careful client's would be. Nothing survives the process.
"""

from __future__ import annotations

import threading
from typing import Any

import rlp
from eth.vm.forks.prague.constants import (
    HISTORY_STORAGE_ADDRESS,
    HISTORY_STORAGE_CONTRACT_CODE,
)
from eth_tester.backends.pyevm import PyEVMBackend
from eth_tester.exceptions import BlockNotFound
from eth_typing import Address as EthAddress

from omnilytics.chain.abi import revert_reason
from omnilytics.chain.connection import Chain, RawLog, RawReceipt, RefusedError
from omnilytics.chain.happenings import Position
from omnilytics.foundation.errors import ChainError, FundsError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Hash32, Wei
from omnilytics.wire.signatures import SigningKey

PRIORITY_FEE_WEI = Wei(10**9)
_SUPPLY_WEI = 10**27  # a thousand million ether: no test runs out of it
_CALL_GAS = 20_000_000
_TRANSFER_GAS = 21_000


def embedded_chain() -> Chain:
    """Return a fresh chain in this process."""
    return EmbeddedChain()


class EmbeddedChain(Chain):
    """py-evm, driven directly: web3's formatting would cost more than executing."""

    is_development = True
    moves = True

    def __init__(self, *, keeps_block_hashes: bool = False) -> None:
        """Start a chain.

        Args:
            keeps_block_hashes: Keep the hashes of the last 8,191 blocks where EIP-2935 has them, as
                chains under Prague rules do; py-evm leaves it out, and it costs a millisecond a
                block.
        """
        super().__init__()
        self._keeps_block_hashes = keeps_block_hashes
        self._lock = threading.RLock()
        self._faucet = SigningKey.generate(SystemRandomness())
        account = {"balance": _SUPPLY_WEI, "nonce": 0, "code": b"", "storage": {}}
        state: dict[bytes, Any] = {self._faucet.address: account}
        if keeps_block_hashes:
            code = HISTORY_STORAGE_CONTRACT_CODE
            state[HISTORY_STORAGE_ADDRESS] = {**account, "balance": 0, "nonce": 1, "code": code}
        self._backend = PyEVMBackend(genesis_state=state)
        self._chain: Any = self._backend.chain
        self.chain_id = int(self._chain.chain_id)
        self._receipts: dict[Hash32, RawReceipt] = {}
        self._calldata: dict[Hash32, tuple[Address | None, bytes]] = {}
        self._logs: list[RawLog] = []
        self._views: dict[tuple[Address, bytes], bytes] = {}
        self._views_at = -1
        self._mine(1)  # so that block 0 is not the head: `block_hash` of head - 1

    def head(self) -> int:
        """Return the number of the latest block."""
        with self._lock:
            return int(self._chain.header.block_number) - 1

    def block_hash(self, number: int) -> Hash32:
        """Return the hash of block `number`."""
        return Hash32(bytes(self._header(number).hash))

    def block_header(self, number: int) -> bytes:
        """Return the header of block `number` as RLP."""
        encoded: bytes = rlp.encode(self._header(number))
        return encoded

    def block_timestamp(self, number: int) -> int:
        """Return the timestamp of block `number`."""
        return int(self._header(number).timestamp)

    def balance(self, address: Address) -> Wei:
        """Return the balance at the latest block."""
        with self._lock:
            return Wei(int(self._state().get_balance(address)))

    def code(self, address: Address) -> bytes:
        """Return the code at an address."""
        with self._lock:
            return bytes(self._state().get_code(address))

    def next_nonce(self, address: Address) -> int:
        """Return the number of transactions that the account has sent."""
        with self._lock:
            return int(self._state().get_nonce(address))

    def spent_nonces(self, address: Address) -> int:
        """Return how many of the account's transactions are mined: all, here."""
        return self.next_nonce(address)

    def fees_wei(self) -> tuple[Wei, Wei]:
        """Return (max fee, priority fee) per gas."""
        with self._lock:
            base_fee_wei = int(self._chain.header.base_fee_per_gas)
        return Wei(2 * base_fee_wei + PRIORITY_FEE_WEI), PRIORITY_FEE_WEI

    def call(self, target: Address, data: bytes) -> bytes:
        """Return what a view returns; it sees the next block's number, as a transaction would."""
        with self._lock:
            if self._views_at != self.head():  # a view has one answer at one block
                self._views, self._views_at = {}, self.head()
            if (target, data) not in self._views:
                computation = self._simulate(Address(bytes(20)), target, data, Wei(0), _CALL_GAS)
                self._views[target, data] = bytes(computation.output)
            return self._views[target, data]

    def preflight(
        self, sender: Address, target: Address, data: bytes, value: Wei, gas: int
    ) -> None:
        """Do nothing: `send` refuses a reverting transaction without mining it."""

    def send(self, transaction: bytes) -> Hash32:
        """Execute a signed transaction and mine its block.

        Raises:
            RefusedError: It reverts (with the reason), or the chain would never accept it.
        """
        with self._lock:
            decoded = self._chain.get_transaction_builder().decode(transaction)
            pending = self._chain.header
            try:
                _, receipt, computation = self._chain.apply_transaction(decoded)
            except Exception as error:  # py-evm raises many kinds; all mean "not acceptable"
                self._chain.header = pending
                raise RefusedError(f"transaction refused: {error}") from None
            if computation.is_error:
                self._chain.header = pending
                raise RefusedError(_reason(computation))
            (block_hash,) = self._mine(1)
            return self._record(decoded, receipt, computation, Hash32(bytes(block_hash)))

    def receipt(self, transaction_hash: Hash32) -> RawReceipt | None:
        """Return the receipt of a transaction that was sent here."""
        with self._lock:
            return self._receipts.get(transaction_hash)

    def calldata(self, transaction_hash: Hash32) -> tuple[Address | None, bytes]:
        """Return target and data of a transaction that was sent here."""
        with self._lock:
            if transaction_hash not in self._calldata:
                raise ChainError("no such transaction", transaction="0x" + transaction_hash.hex())
            return self._calldata[transaction_hash]

    def logs(self, address: Address, first_block: int, last_block: int) -> tuple[RawLog, ...]:
        """Return the logs of a contract in these blocks."""
        with self._lock:
            start = _first_at(self._logs, first_block)
            found = self._logs[start : _first_at(self._logs, last_block + 1)]
        return tuple(log for log in found if log.address == address)

    def fund(self, address: Address, amount_wei: Wei) -> None:
        """Give an account ether from the faucet."""
        from omnilytics.chain.sender import signed_transaction

        with self._lock:
            if amount_wei >= self.balance(self._faucet.address):
                raise FundsError("the faucet does not have that much", got=amount_wei)
            self.send(
                signed_transaction(
                    self,
                    self._faucet.secret,
                    nonce=self.next_nonce(self._faucet.address),
                    target=address,
                    data=b"",
                    value=amount_wei,
                    gas=_TRANSFER_GAS,
                )
            )

    def mine(self, blocks: int) -> None:
        """Mine empty blocks."""
        with self._lock:
            self._mine(blocks)

    def jump(self, timestamp: int) -> None:
        """Mine a block with exactly this timestamp, which must be in the chain's future."""
        with self._lock:
            if timestamp <= self.head_timestamp():
                raise ChainError("time does not run backwards", got=timestamp)
            self._chain.header = self._chain.header.copy(timestamp=timestamp)
            self._mine(1)

    def _mine(self, blocks: int) -> list[Any]:
        if not self._keeps_block_hashes:
            return list(self._backend.mine_blocks(blocks))
        mined: list[Any] = []
        for _ in range(blocks):
            mined += self._backend.mine_blocks(1)
            vm = self._chain.get_vm(self._chain.header)
            vm.block_preprocessing(vm.get_block())
            vm.state.persist()
            self._chain.header = self._chain.header.copy(state_root=vm.state.state_root)
        return mined

    def _header(self, number: int) -> Any:
        with self._lock:
            if not 0 <= number <= self.head():
                raise ChainError("no such block yet", got=number, want=f"at most {self.head()}")
            try:
                return self._chain.get_canonical_block_header_by_number(number)
            except BlockNotFound:  # pragma: no cover - the range was checked
                raise ChainError("no such block", got=number) from None

    def _state(self) -> Any:
        return self._chain.get_vm(self._chain.header).state

    def _simulate(self, sender: Address, target: Address, data: bytes, value: Wei, gas: int) -> Any:
        state = self._state()
        state.lock_changes()
        context = state.get_transaction_context_class()(gas_price=0, origin=sender)
        from eth.vm.message import Message

        message = Message(
            gas=gas,
            to=EthAddress(target),
            sender=EthAddress(sender),
            value=value,
            data=data,
            code=state.get_code(target),
            is_static=True,
        )
        computation = state.computation_class.apply_message(state, message, context)
        if computation.is_error:
            raise ChainError(_reason(computation))
        return computation

    def _record(self, decoded: Any, receipt: Any, computation: Any, block_hash: Hash32) -> Hash32:
        number = self.head()
        header = self._header(number)
        transaction_hash = Hash32(bytes(decoded.hash))
        logs = tuple(
            RawLog(
                address=Address(bytes(log.address)),
                topics=tuple(int(topic).to_bytes(32, "big") for topic in log.topics),
                data=bytes(log.data),
                position=Position(
                    block_number=number,
                    block_hash=block_hash,
                    transaction_hash=transaction_hash,
                    log_index=index,
                ),
            )
            for index, log in enumerate(receipt.logs)
        )
        created = None if decoded.to else Address(bytes(computation.msg.storage_address))
        base_fee_wei = int(header.base_fee_per_gas)
        tip_wei = min(
            int(decoded.max_priority_fee_per_gas), int(decoded.max_fee_per_gas) - base_fee_wei
        )
        self._receipts[transaction_hash] = RawReceipt(
            transaction_hash=transaction_hash,
            block_number=number,
            succeeded=True,
            gas_used=int(header.gas_used),  # the block holds this transaction alone
            gas_price_wei=Wei(base_fee_wei + tip_wei),
            contract=created,
            logs=logs,
        )
        target = Address(bytes(decoded.to)) if decoded.to else None
        self._calldata[transaction_hash] = target, bytes(decoded.data)
        self._logs.extend(logs)
        return transaction_hash


def _first_at(logs: list[RawLog], block_number: int) -> int:
    from bisect import bisect_left

    return bisect_left(logs, block_number, key=lambda log: log.position.block_number)


def _reason(computation: Any) -> str:
    error = computation.error
    data = error.args[0] if error.args else b""
    if isinstance(data, bytes):
        return revert_reason(data)
    return f"execution failed: {type(error).__name__}"
