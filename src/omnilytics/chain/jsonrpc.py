"""A chain behind a JSON-RPC URL.

anvil and hardhat announce themselves by their client version; on those the clock and the blocks are
ours to move. Any other node is waited for. Every request is bounded in time; a failed one is a
`ChainError` with a hint.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
import rlp
from eth_hash.auto import keccak
from web3 import HTTPProvider
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

from omnilytics.chain.abi import revert_reason
from omnilytics.chain.connection import (
    STEADY_SECONDS,
    Block,
    Chain,
    RawLog,
    RawReceipt,
    RefusedError,
)
from omnilytics.chain.happenings import Position
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Hash32, Wei

_DEVELOPMENT_PREFIXES = {"anvil": "anvil", "hardhat": "hardhat", "edr": "hardhat"}

# Members of a block header in order; those after the nonce came later (EIP-1559, 4895, 4844, 4788,
# 7685), and older rules end it before them.
_HEADER = (
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
)
_HEADER_LATER = (
    "baseFeePerGas",
    "withdrawalsRoot",
    "blobGasUsed",
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",
)
_HEADER_NUMBERS = {
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "baseFeePerGas",
    "blobGasUsed",
    "excessBlobGas",
}


# What nodes say of a transaction that they will not take, whatever else is in their pools.
_FINAL_WORDS = (
    "insufficient funds",
    "intrinsic gas",
    "execution reverted",
    "exceeds block gas limit",
    "exceeds the configured cap",
    "invalid sender",
    "invalid signature",
    "invalid chain id",
    "oversized data",
    "max initcode size exceeded",
    "max priority fee per gas higher than max fee per gas",
)


class _Steady(threading.local):
    """The blocks that a thread sees while it is in `steady`; None outside."""

    blocks: dict[str, Any] | None = None
    """By number, and the latest, as the node gave them."""
    taken: float = 0.0


class JsonRpcChain(Chain):
    """One node; see `connection.connect`."""

    def __init__(self, url: str, *, timeout_seconds: float = 10.0, moves: bool = True) -> None:
        super().__init__()
        if not url.startswith(("http://", "https://")):
            raise ChainError("not an http URL", got=_shown(url), hint="http://127.0.0.1:8545")
        self._shown_url = _shown(url)
        self._steady = _Steady()
        self._provider = HTTPProvider(
            url,
            request_kwargs={"timeout": timeout_seconds},
            exception_retry_configuration=None,
        )
        version = str(self._ask("web3_clientVersion")).lower()
        prefix = next((name for name in _DEVELOPMENT_PREFIXES if version.startswith(name)), None)
        self._development = _DEVELOPMENT_PREFIXES[prefix] if prefix else None
        self.is_development = self._development is not None
        self.moves = moves and self.is_development
        self.chain_id = self._number("eth_chainId")

    def head(self) -> int:
        """Return the number of the latest block."""
        if self._steady.blocks is not None:
            return self.latest().number
        return self._number("eth_blockNumber")

    def latest(self) -> Block:
        """Return the latest block."""
        block = self._block("latest")
        return Block(_integer(_field(block, "number")), Hash32(_bytes(_field(block, "hash"))))

    def head_timestamp(self) -> int:
        """Return the timestamp of the latest block, in one question."""
        return _integer(_field(self._block("latest"), "timestamp"))

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Let this thread see the same blocks meanwhile; see `Chain.steady`."""
        outer = self._steady.blocks
        if outer is None:
            self._steady.blocks = {}
        try:
            yield
        finally:
            self._steady.blocks = outer

    def look_again(self) -> None:
        """Forget what this thread saw in `steady`."""
        if self._steady.blocks is not None:
            self._steady.blocks.clear()

    def block_hash(self, number: int) -> Hash32:
        """Return the hash of block `number`."""
        return Hash32(_bytes(_field(self._block(number), "hash")))

    def block_header(self, number: int) -> bytes:
        """Return the header of block `number` as RLP; raises ChainError if it hashes to another."""
        block = self._block(number)
        names = (*_HEADER, *(name for name in _HEADER_LATER if name in block))
        members = [
            (_number_bytes if name in _HEADER_NUMBERS else _bytes)(_field(block, name))
            for name in names
        ]
        header: bytes = rlp.encode(members)
        if keccak(header) != _bytes(_field(block, "hash")):
            raise ChainError("the node's header does not hash to the block's hash", got=number)
        return header

    def block_timestamp(self, number: int) -> int:
        """Return the timestamp of block `number`."""
        return _integer(_field(self._block(number), "timestamp"))

    def balance(self, address: Address) -> Wei:
        """Return the balance at the latest block."""
        return Wei(self._number("eth_getBalance", _hex(address), "latest"))

    def code(self, address: Address) -> bytes:
        """Return the code at an address."""
        return _bytes(self._ask("eth_getCode", _hex(address), "latest"))

    def next_nonce(self, address: Address) -> int:
        """Return the number of transactions that the account has sent, pending ones too."""
        return self._number("eth_getTransactionCount", _hex(address), "pending")

    def spent_nonces(self, address: Address) -> int:
        """Return how many of the account's transactions are mined."""
        return self._number("eth_getTransactionCount", _hex(address), "latest")

    def fees_wei(self) -> tuple[Wei, Wei]:
        """Return (max fee, priority fee) per gas: room for twice the base fee, the node's tip."""
        block = self._ask("eth_getBlockByNumber", "latest", False)
        base_fee_wei = _integer(_field(block, "baseFeePerGas"))
        tip_wei = self._number("eth_maxPriorityFeePerGas")
        return Wei(2 * base_fee_wei + tip_wei), Wei(tip_wei)

    def call(self, target: Address, data: bytes) -> bytes:
        """Return what a view returns at the latest block."""
        request = {"to": _hex(target), "data": _hex(data)}
        return _bytes(self._ask("eth_call", request, "latest"))

    def preflight(
        self, sender: Address, target: Address, data: bytes, value: Wei, gas: int
    ) -> None:
        """Raise ChainError with the revert reason if this would revert in the pending block."""
        request = {
            "from": _hex(sender),
            "to": _hex(target),
            "data": _hex(data),
            "value": hex(value),
            "gas": hex(gas),
        }
        self._ask("eth_call", request, "pending")

    def send(self, transaction: bytes) -> Hash32:
        """Send a signed transaction; return its hash.

        A refusal is final by its words: nodes have no codes for it. Anything else, such as an
        unknown block, a full pool or a nonce, may be one node's view of the moment.
        """
        return Hash32(_bytes(self._ask("eth_sendRawTransaction", _hex(transaction))))

    def receipt(self, transaction_hash: Hash32) -> RawReceipt | None:
        """Return the receipt, or None while the transaction is not mined."""
        fields = self._ask("eth_getTransactionReceipt", _hex(transaction_hash))
        if fields is None:
            return None
        created = _field(fields, "contractAddress")
        return RawReceipt(
            transaction_hash=transaction_hash,
            block_number=_integer(_field(fields, "blockNumber")),
            succeeded=_integer(_field(fields, "status")) == 1,
            gas_used=_integer(_field(fields, "gasUsed")),
            gas_price_wei=Wei(_integer(_field(fields, "effectiveGasPrice"))),
            contract=Address(_bytes(created)) if created else None,
            logs=tuple(map(_log, _list(_field(fields, "logs")))),
        )

    def calldata(self, transaction_hash: Hash32) -> tuple[Address | None, bytes]:
        """Return target and data of a mined transaction."""
        fields = self._ask("eth_getTransactionByHash", _hex(transaction_hash))
        if fields is None:
            raise ChainError("no such transaction", transaction=_hex(transaction_hash))
        target = _field(fields, "to")
        return Address(_bytes(target)) if target else None, _bytes(_field(fields, "input"))

    def logs(self, address: Address, first_block: int, last_block: int) -> tuple[RawLog, ...]:
        """Return the logs of a contract in these blocks."""
        wanted = {
            "address": _hex(address),
            "fromBlock": hex(first_block),
            "toBlock": hex(last_block),
        }
        return tuple(map(_log, _list(self._ask("eth_getLogs", wanted))))

    def fund(self, address: Address, amount_wei: Wei) -> None:
        """Raise an account's balance on a development chain."""
        kind = self._development_kind()
        total = hex(self.balance(address) + amount_wei)
        self._ask(f"{kind}_setBalance", _hex(address), total)

    def mine(self, blocks: int) -> None:
        """Mine empty blocks on a development chain."""
        self._ask(f"{self._development_kind()}_mine", hex(blocks))

    def jump(self, timestamp: int) -> None:
        """Mine a block with this timestamp on a development chain."""
        self._development_kind()
        self._ask("evm_setNextBlockTimestamp", timestamp)
        self._ask("evm_mine")

    def close(self) -> None:
        """Forget the node; its connections close with the process."""

    def _development_kind(self) -> str:
        if self._development is None:
            raise ChainError(
                "only a development chain gives ether and moves its clock",
                got=f"chain {self.chain_id} at {self._shown_url}",
                hint="use the embedded chain or anvil",
            )
        return self._development

    def _block(self, which: int | str) -> Any:
        """Return a block by its number, or "latest"."""
        name = which if isinstance(which, str) else hex(which)
        known = self._steady.blocks
        if known is not None and time.monotonic() - self._steady.taken > STEADY_SECONDS:
            known.clear()
        if known is not None and name in known:
            return known[name]
        block = self._request("eth_getBlockByNumber", name, False)
        if block is None:
            raise ChainError("no such block yet", got=which)
        if known is not None:
            if not known:
                self._steady.taken = time.monotonic()
            known[name] = known[_text(_field(block, "number"))] = block
        return block

    def _number(self, method: str, *parameters: object) -> int:
        return _integer(self._ask(method, *parameters))

    def _ask(self, method: str, *parameters: object) -> Any:
        """Return what the node answers; it may know a later block than this thread has seen."""
        try:
            return self._request(method, *parameters)
        finally:
            self.look_again()

    def _request(self, method: str, *parameters: object) -> Any:
        try:
            response = self._provider.make_request(RPCEndpoint(method), list(parameters))
        except (requests.RequestException, Web3Exception, ValueError, OSError) as error:
            raise ChainError(
                f"no answer from the node ({type(error).__name__})",
                got=self._shown_url,
                hint="start the node, or give the URL of one that runs",
            ) from None
        if not isinstance(response, Mapping):
            raise ChainError("not a JSON-RPC node", got=self._shown_url)
        if "error" in response:
            refusal = _refusal(method, response["error"])
            if method == "eth_sendRawTransaction" and _is_final(response["error"]):
                raise RefusedError(str(refusal))
            raise refusal
        if "result" not in response:
            raise ChainError("not a JSON-RPC node", got=self._shown_url)
        return response["result"]


def _refusal(method: str, error: Any) -> ChainError:
    data = error.get("data") if isinstance(error, Mapping) else None
    if isinstance(data, Mapping):
        data = data.get("data")
    if isinstance(data, str) and data.startswith("0x") and len(data) > 2:
        return ChainError(revert_reason(_bytes(data)))
    text = error.get("message", "") if isinstance(error, Mapping) else str(error)
    return ChainError(f"the node refused {method}: {str(text)[:200]}")


def _is_final(error: Any) -> bool:
    """Tell whether a transaction was refused for what it is itself."""
    text = error.get("message", "") if isinstance(error, Mapping) else error
    return any(words in str(text).lower() for words in _FINAL_WORDS)


def _log(fields: Any) -> RawLog:
    return RawLog(
        address=Address(_bytes(_field(fields, "address"))),
        topics=tuple(map(_bytes, _list(_field(fields, "topics")))),
        data=_bytes(_field(fields, "data")),
        position=Position(
            block_number=_integer(_field(fields, "blockNumber")),
            block_hash=Hash32(_bytes(_field(fields, "blockHash"))),
            transaction_hash=Hash32(_bytes(_field(fields, "transactionHash"))),
            log_index=_integer(_field(fields, "logIndex")),
        ),
    )


def _field(fields: Any, name: str) -> Any:
    if not isinstance(fields, Mapping) or name not in fields:
        raise ChainError("the node answered nonsense", want=name)
    return fields[name]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ChainError("the node answered nonsense", want="a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ChainError("the node answered nonsense", want="a text")
    return value


def _integer(text: Any) -> int:
    try:
        return int(text, 16)
    except (TypeError, ValueError):
        raise ChainError("the node answered nonsense", want="a hexadecimal number") from None


def _bytes(text: Any) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except (AttributeError, ValueError):
        raise ChainError("the node answered nonsense", want="hexadecimal bytes") from None


def _number_bytes(text: Any) -> bytes:
    """Return an integer as RLP takes it: big-endian without leading zeros."""
    number = _integer(text)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _shown(url: str) -> str:
    """Return scheme and host alone: paths and users of RPC URLs carry access keys."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")
