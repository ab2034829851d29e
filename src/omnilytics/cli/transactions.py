"""Before any transaction: what it does, on which network, what it costs, how the money comes back.

What is shown, what `--dry-run` tries, what `--unsigned` prints and what is sent are one and the
same; see `cli.plans`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import typer

from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.cli.options import Asking
from omnilytics.cli.output import narrate, print_json
from omnilytics.cli.plans import Payer, Plan, plan_call
from omnilytics.foundation.amounts import show_wei
from omnilytics.foundation.errors import FundsError, UsageError
from omnilytics.foundation.units import show_address

if TYPE_CHECKING:
    from omnilytics.chain.connection import Chain
    from omnilytics.chain.reader import MarketReader

_Result = TypeVar("_Result")


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
    # No more than was shown, whatever the node says by now.
    sender = Sender(market.chain, account.secret(), most_fee_wei=plan.fees_wei[0])
    writer = MarketWriter(market, sender)
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
