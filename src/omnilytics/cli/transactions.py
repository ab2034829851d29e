"""Before any transaction: what it does, on which network, what it costs, how the money comes back.

A command gives the call as it will be made; the call is first made with a sender that only records
it, so what is shown, what `--dry-run` tries, what `--unsigned` prints and what is sent in the end
are one and the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from eth_hash.auto import keccak

from omnilytics.chain.connection import RawReceipt
from omnilytics.chain.deploy import contract_address
from omnilytics.chain.sender import NOTHING, Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.cli.options import Asking
from omnilytics.cli.output import narrate, print_json
from omnilytics.foundation.amounts import show_wei
from omnilytics.foundation.errors import FundsError, KeyMaterialError, UsageError
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

_Result = TypeVar("_Result")


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


def transact(
    market: MarketReader,
    account: Payer,
    call: Callable[[MarketWriter], _Result],
    *,
    action: str,
    comes_back: str,
    asking: Asking,
) -> _Result | None:
    """Show a call, have it confirmed, send it and print its receipt.

    Args:
        market: The market that is called.
        account: Who pays; must send nothing else meanwhile.
        call: Makes one call of a writer.
        action: What it does, as a sentence.
        comes_back: How the money that it locks is had back.
        asking: Whether to ask, send, or print JSON.

    Returns:
        What the call returned; None after `--dry-run` and `--unsigned`.

    Raises:
        UsageError: Nobody could be asked, or the answer was no.
        FundsError: The account cannot pay.
        ChainError: It would revert; the message is the contract's reason.
    """
    plan = plan_call(market, account, call, action=action, comes_back=comes_back)
    if not approve(market.chain, [plan], asking):
        return None
    writer = MarketWriter(market, Sender(market.chain, account.secret()))
    result = call(writer)
    assert writer.last_receipt is not None
    receipt = writer.last_receipt
    transaction = "0x" + receipt.transaction_hash.hex()
    if asking.as_json:
        fields = {
            "transaction": transaction,
            "block": receipt.block_number,
            "gas_used": receipt.gas_used,
            "gas_cost_wei": str(receipt.gas_cost_wei),
        }
        print_json({"plan": plan.as_dict(), "sent": True, "receipt": fields})
    else:
        typer.echo(
            f"done: {transaction} in block {receipt.block_number}, "
            f"{receipt.gas_used:,} gas for {show_wei(receipt.gas_cost_wei)}"
        )
    return result


def approve(chain: Chain, plans: Sequence[Plan], asking: Asking, *, can_try: bool = True) -> bool:
    """Show transactions of one account and tell whether they are to be sent now.

    Args:
        chain: Where they would be sent; those to a contract that is there are tried on it.
        plans: In the order of sending.
        asking: `--dry-run` and `--unsigned` print what they are for, and nothing is to be sent.
        can_try: Whether they are whole; those that still lack what others sign cannot be tried.

    Raises:
        UsageError: Nobody could be asked, the answer was no, or options contradict each other.
        FundsError: The account cannot pay for them all.
        ChainError: One would revert; the message is the contract's reason.
    """
    if asking.unsigned and (asking.dry_run or asking.yes):
        raise UsageError("--unsigned sends nothing", hint="leave out --yes and --dry-run")
    for line in (line for plan in plans for line in plan.lines()):
        narrate(line)
    _check_funds(plans)
    for plan in plans:
        if plan.target is not None and can_try:
            chain.preflight(plan.account, plan.target, plan.data, plan.value_wei, plan.gas_limit)
    shown = [plan.as_dict() for plan in plans]
    if asking.unsigned:
        unsigned = [plan.unsigned() for plan in plans]
        narrate("nothing was sent (--unsigned); sign and send it before the nonce is used")
        print_json(unsigned if len(unsigned) > 1 else unsigned[0])
        return False
    if asking.dry_run:
        narrate(f"{'it would succeed now; ' if can_try else ''}nothing was sent (--dry-run)")
        if asking.as_json:
            several = {"plans": shown} if len(shown) > 1 else {"plan": shown[0]}
            print_json({**several, "sent": False})
        return False
    if not asking.yes:
        confirm()
    return True


def confirm() -> None:
    """Ask whether to send what was shown; raises UsageError unless the answer is yes."""
    if not sys.stdin.isatty():
        raise UsageError("nobody to ask whether to send", hint="give --yes, or --dry-run to look")
    if not typer.confirm("Send it?", err=True):
        raise UsageError("not confirmed: nothing was sent")


def _check_funds(plans: Sequence[Plan]) -> None:
    most_wei = sum(plan.most_wei for plan in plans)
    if plans[0].balance_wei < most_wei:
        raise FundsError(
            "the account cannot pay for this",
            got=show_wei(plans[0].balance_wei),
            want=show_wei(most_wei),
            hint=f"send ether to {show_address(plans[0].account)}",
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
