"""What a command would send, worked out before anything is sent.

A command gives the call as it will be made; the call is made with a sender that only records it, so
what is shown, tried, printed and sent in the end are one and the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eth_hash.auto import keccak

from omnilytics.chain.connection import RawReceipt
from omnilytics.chain.deploy import contract_address
from omnilytics.chain.sender import NOTHING, Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.amounts import show_wei
from omnilytics.foundation.errors import KeyMaterialError, UsageError
from omnilytics.foundation.units import Address, Hash32, Wei, show_address

if TYPE_CHECKING:
    from omnilytics.chain.connection import Chain
    from omnilytics.chain.reader import MarketReader
    from omnilytics.wire.signatures import SigningKey

NETWORKS = {
    1: "Ethereum",
    10: "OP Mainnet",
    8_453: "Base",
    42_161: "Arbitrum One",
    17_000: "Holesky (test network)",
    560_048: "Hoodi (test network)",
    11_155_111: "Sepolia (test network)",
    31_337: "development chain",
}


@dataclass(frozen=True)
class Payer:
    """The account that pays: its address, and its key unless nothing is to be signed."""

    address: Address
    key: SigningKey | None = field(default=None, repr=False)

    def secret(self) -> bytes:
        """Return the private key; raises KeyMaterialError where only the address is known."""
        if self.key is None:
            raise KeyMaterialError("only the account's address is known", hint="give its keystore")
        return self.key.secret


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A transaction that was not sent yet, and what it would cost."""

    action: str
    network: str
    chain_id: int
    contract: str
    """The contract's name and address."""
    account: Address
    nonce: int
    value_wei: Wei
    gas_limit: int
    gas_cost_wei: Wei
    """If it used all its gas at the present base fee and tip."""
    fees_wei: tuple[Wei, Wei]
    """Max fee and priority fee per gas."""
    balance_wei: Wei
    comes_back: str
    target: Address | None
    """None where it creates a contract."""
    data: bytes

    @property
    def most_wei(self) -> Wei:
        """Value and gas at the highest fee it offers: what the account must hold."""
        return Wei(self.value_wei + self.gas_limit * self.fees_wei[0])

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values; wei as text, which JSON numbers may not hold."""
        return {
            "action": self.action,
            "network": self.network,
            "chain_id": self.chain_id,
            "contract": self.contract,
            "account": show_address(self.account),
            "value_wei": str(self.value_wei),
            "gas_limit": self.gas_limit,
            "gas_cost_wei": str(self.gas_cost_wei),
            "most_wei": str(self.most_wei),
            "balance_wei": str(self.balance_wei),
            "comes_back": self.comes_back,
        }

    def lines(self) -> list[str]:
        """The plan for people."""
        rows = {
            "network": f"{self.network} (chain {self.chain_id})",
            "contract": self.contract,
            "account": f"{show_address(self.account)}, holds {show_wei(self.balance_wei)}",
            "value": show_wei(self.value_wei),
            "gas": f"at most {self.gas_limit:,}, {show_wei(self.gas_cost_wei)} at present fees",
            "in all": f"at most {show_wei(self.most_wei)}, should fees double",
            "comes back": self.comes_back,
        }
        return [self.action, *(f"  {name:<11} {text}" for name, text in rows.items())]

    def unsigned(self) -> dict[str, str]:
        """The transaction (EIP-1559) as JSON-RPC, `cast`, ethers and eth-account take it."""
        max_fee_wei, priority_fee_wei = self.fees_wei
        target = {} if self.target is None else {"to": _checksummed(self.target)}
        return {
            "type": "0x2",
            "chainId": hex(self.chain_id),
            "nonce": hex(self.nonce),
            "from": _checksummed(self.account),
            **target,
            "value": hex(self.value_wei),
            "data": "0x" + self.data.hex(),
            "gas": hex(self.gas_limit),
            "maxFeePerGas": hex(max_fee_wei),
            "maxPriorityFeePerGas": hex(priority_fee_wei),
        }


@dataclass(frozen=True)
class _Recorded:
    target: Address | None
    data: bytes
    value_wei: Wei
    gas: int


class _RecordedError(Exception):
    """Ends a writer's call once it is recorded: nothing can be read from its receipt."""


class _RecordingSender(Sender):
    """Sends nothing; knows no key."""

    def __init__(self, chain: Chain, address: Address) -> None:
        self.chain = chain
        self.address = address
        self.nonce = chain.next_nonce(address)
        self.calls: list[_Recorded] = []

    def send(
        self, target: Address | None, data: bytes, *, value: Wei = NOTHING, gas: int
    ) -> RawReceipt:
        """Record a call; return a receipt where it creates a contract, whose address is known."""
        self.calls.append(_Recorded(target, data, value, gas))
        if target is not None:
            raise _RecordedError
        return RawReceipt(
            transaction_hash=Hash32(bytes(32)),
            block_number=0,
            succeeded=True,
            gas_used=0,
            gas_price_wei=NOTHING,
            contract=contract_address(self.address, self.nonce + len(self.calls) - 1),
            logs=(),
        )


def plan_call(
    market: MarketReader,
    account: Payer | SigningKey,
    call: Callable[[MarketWriter], object],
    *,
    action: str,
    comes_back: str,
) -> Plan:
    """Return what a writer's call would send; nothing is sent."""
    recorder = _RecordingSender(market.chain, account.address)
    try:
        call(MarketWriter(market, recorder))
    except _RecordedError:
        (recorded,) = recorder.calls
    else:
        raise UsageError("the call sends nothing")
    name = "market" if recorded.target == market.address else "registry"
    assert recorded.target is not None
    contract = f"{name} {show_address(recorded.target)}"
    return _plan(recorder, 0, action=action, comes_back=comes_back, contract=contract)


def plan_creations(
    chain: Chain,
    account: Payer,
    create: Callable[[Sender], object],
    *,
    names: Sequence[str],
    comes_back: str,
) -> tuple[Plan, ...]:
    """Return what creating these contracts, in this order, would send; nothing is sent."""
    recorder = _RecordingSender(chain, account.address)
    create(recorder)
    return tuple(
        _plan(
            recorder,
            index,
            action=f"Create the {name}",
            comes_back=comes_back,
            contract=f"{name} {show_address(contract_address(account.address, nonce))}, new",
        )
        for index, (name, nonce) in enumerate(
            zip(names, range(recorder.nonce, recorder.nonce + len(names)), strict=True)
        )
    )


def _plan(
    recorder: _RecordingSender, index: int, *, action: str, comes_back: str, contract: str
) -> Plan:
    chain, recorded = recorder.chain, recorder.calls[index]
    max_fee_wei, tip_wei = chain.fees_wei()
    present_fee_wei = (max_fee_wei - tip_wei) // 2 + tip_wei  # fees leave room for twice the base
    return Plan(
        action=action,
        network=NETWORKS.get(chain.chain_id, "unknown network"),
        chain_id=chain.chain_id,
        contract=contract,
        account=recorder.address,
        nonce=recorder.nonce + index,
        value_wei=recorded.value_wei,
        gas_limit=recorded.gas,
        gas_cost_wei=Wei(recorded.gas * present_fee_wei),
        fees_wei=(max_fee_wei, tip_wei),
        balance_wei=chain.balance(recorder.address),
        comes_back=comes_back,
        target=recorded.target,
        data=recorded.data,
    )


def _checksummed(address: Address) -> str:
    """Return the address with the checksum in its letters' cases (EIP-55)."""
    digits = address.hex()
    hashed = keccak(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(place, 16) >= 8 else digit
        for digit, place in zip(digits, hashed, strict=False)
    )
