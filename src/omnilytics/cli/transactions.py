"""Before any transaction: what it does, on which network, what it costs, how the money comes back.

A command gives the call as it will be made; the call is first made with a sender that only records
it, so what is shown, what `--dry-run` tries and what is sent in the end are one and the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from omnilytics.chain.sender import NOTHING, Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.cli.output import narrate, print_json
from omnilytics.foundation.amounts import show_wei
from omnilytics.foundation.errors import FundsError, UsageError
from omnilytics.foundation.units import Address, Wei, show_address

if TYPE_CHECKING:
    from omnilytics.chain.reader import MarketReader
    from omnilytics.chain.records import TransactionReceipt
    from omnilytics.wire.signatures import SigningKey

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Send without asking.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show it, try it on the node, send nothing.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

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


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a command was told to behave before it sends."""

    yes: bool = False
    dry_run: bool = False
    as_json: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A transaction that was not sent yet, and what it would cost."""

    action: str
    network: str
    chain_id: int
    contract: str
    """The contract's name and address."""
    account: Address
    value_wei: Wei
    gas_limit: int
    gas_cost_wei: Wei
    """If it used all its gas at the present base fee and tip."""
    most_wei: Wei
    """Value and gas at the highest fee it offers: what the account must hold."""
    balance_wei: Wei
    comes_back: str
    target: Address
    data: bytes

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


class _RecordedError(Exception):
    """Carries a call out of a writer instead of sending it."""

    def __init__(self, target: Address, data: bytes, value: Wei, gas: int) -> None:
        super().__init__("recorded")
        self.call = (target, data, value, gas)


class _RecordingSender(Sender):
    """Sends nothing."""

    def send(
        self, target: Address | None, data: bytes, *, value: Wei = NOTHING, gas: int
    ) -> NoReturn:
        """Carry the call out."""
        assert target is not None
        raise _RecordedError(target, data, value, gas)


def plan_call(
    market: MarketReader,
    key: SigningKey,
    call: Callable[[MarketWriter], object],
    *,
    action: str,
    comes_back: str,
) -> Plan:
    """Return what a writer's call would send; nothing is sent."""
    chain = market.chain
    try:
        call(MarketWriter(market, _RecordingSender(chain, key.secret)))
    except _RecordedError as recorded:
        target, data, value_wei, gas = recorded.call
    else:
        raise UsageError("the call sends nothing")
    max_fee_wei, tip_wei = chain.fees_wei()
    present_fee_wei = (max_fee_wei - tip_wei) // 2 + tip_wei  # fees leave room for twice the base
    name = "market" if target == market.address else "registry"
    return Plan(
        action=action,
        network=NETWORKS.get(chain.chain_id, "unknown network"),
        chain_id=chain.chain_id,
        contract=f"{name} {show_address(target)}",
        account=key.address,
        value_wei=value_wei,
        gas_limit=gas,
        gas_cost_wei=Wei(gas * present_fee_wei),
        most_wei=Wei(value_wei + gas * max_fee_wei),
        balance_wei=chain.balance(key.address),
        comes_back=comes_back,
        target=target,
        data=data,
    )


def transact(
    market: MarketReader,
    key: SigningKey,
    call: Callable[[MarketWriter], _Result],
    *,
    action: str,
    comes_back: str,
    asking: Asking,
) -> _Result | None:
    """Show a call, have it confirmed, send it and print its receipt.

    Args:
        market: The market that is called.
        key: Who pays; must send nothing else meanwhile.
        call: Makes one call of a writer.
        action: What it does, as a sentence.
        comes_back: How the money that it locks is had back.
        asking: Whether to ask, send, or print JSON.

    Returns:
        What the call returned; None after `--dry-run`.

    Raises:
        UsageError: Nobody could be asked, or the answer was no.
        FundsError: The account cannot pay.
        ChainError: It would revert; the message is the contract's reason.
    """
    plan = plan_call(market, key, call, action=action, comes_back=comes_back)
    for line in plan.lines():
        narrate(line)
    if plan.balance_wei < plan.most_wei:
        raise FundsError(
            "the account cannot pay for this transaction",
            got=show_wei(plan.balance_wei),
            want=show_wei(plan.most_wei),
            hint=f"send ether to {show_address(key.address)}",
        )
    market.chain.preflight(key.address, plan.target, plan.data, plan.value_wei, plan.gas_limit)
    if asking.dry_run:
        narrate("it would succeed now; nothing was sent (--dry-run)")
        if asking.as_json:
            print_json({"plan": plan.as_dict(), "sent": False})
        return None
    if not asking.yes:
        _confirm()
    writer = MarketWriter(market, Sender(market.chain, key.secret))
    result = call(writer)
    assert writer.last_receipt is not None
    _print_receipt(plan, writer.last_receipt, asking)
    return result


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise UsageError("nobody to ask whether to send", hint="give --yes, or --dry-run to look")
    if not typer.confirm("Send it?", err=True):
        raise UsageError("not confirmed: nothing was sent")


def _print_receipt(plan: Plan, receipt: TransactionReceipt, asking: Asking) -> None:
    transaction = "0x" + receipt.transaction_hash.hex()
    if asking.as_json:
        fields = {
            "transaction": transaction,
            "block": receipt.block_number,
            "gas_used": receipt.gas_used,
            "gas_cost_wei": str(receipt.gas_cost_wei),
        }
        print_json({"plan": plan.as_dict(), "sent": True, "receipt": fields})
        return
    typer.echo(
        f"done: {transaction} in block {receipt.block_number}, "
        f"{receipt.gas_used:,} gas for {show_wei(receipt.gas_cost_wei)}"
    )
