"""`omnilytics server add-stake|offer|leave|withdraw|claim-fees`: what a server risks and earns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnilytics.cli.options import AccountOptions, Asking, TaskNumber, grouped
from omnilytics.cli.output import reported_errors

if TYPE_CHECKING:
    from omnilytics.chain.reader import MarketReader
    from omnilytics.foundation.units import Address

STAKE_COMES_BACK = (
    "by `omnilytics server leave`, then `server withdraw` once the waiting time is over and no "
    "task is active; less what proven faults cost"
)
NOTHING_LOCKED = "nothing is locked; only gas is spent"


@grouped
def add_stake(
    amount: Annotated[str, typer.Argument(help='Such as "0.5 ether".')],
    options: AccountOptions,
    asking: Asking,
) -> None:
    """Add to the server's stake."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.party import operator
        from omnilytics.foundation.amounts import parse_wei, show_wei

        amount_wei = parse_wei(amount)
        operator(options, asking).send(
            lambda writer: writer.add_stake(amount_wei),
            action=f"Add {show_wei(amount_wei)} to the stake",
            comes_back=STAKE_COMES_BACK,
            asking=asking,
        )


@grouped
def offer(
    options: AccountOptions,
    asking: Asking,
    min_fee: Annotated[
        str | None, typer.Option("--min-fee", help="Least fee per settled round.")
    ] = None,
    max_stake: Annotated[
        str | None, typer.Option("--max-stake", help="Most of the stake that a task may risk.")
    ] = None,
    withdraw_it: Annotated[
        bool, typer.Option("--withdraw", help="Be drawn into no further committee.")
    ] = False,
    token: Annotated[
        str | None, typer.Option("--token", help="ERC-20 token of the fee; default: ether.")
    ] = None,
) -> None:
    """Offer to be drawn into committees for a price, or withdraw the offer."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.account import parse_address
        from omnilytics.cli.party import operator
        from omnilytics.foundation.errors import UsageError
        from omnilytics.foundation.units import Address

        if withdraw_it == (min_fee is not None and max_stake is not None) or (
            withdraw_it and (min_fee or max_stake)
        ):
            raise UsageError("give either --min-fee and --max-stake, or --withdraw")
        party = operator(options, asking)
        terms = _offer(min_fee, max_stake)
        token_address = Address(bytes(20)) if token is None else parse_address(token)
        party.send(
            lambda writer: writer.set_offer(terms, token=token_address),
            action="Withdraw the offer to be drawn"
            if terms is None
            else f"Offer to be drawn for at least {min_fee} a round, risking at most {max_stake}",
            comes_back=NOTHING_LOCKED,
            asking=asking,
        )


@grouped
def leave(options: AccountOptions, asking: Asking) -> None:
    """Take part in no further task; the way to have the stake back."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.party import operator

        operator(options, asking).send(
            lambda writer: writer.leave(),
            action="Leave: no further committee, the stake's waiting time begins",
            comes_back="the stake by `omnilytics server withdraw`, when `server status` says so; "
            "tasks under way are to be served to their end",
            asking=asking,
        )


@grouped
def withdraw(options: AccountOptions, asking: Asking) -> None:
    """Take the stake back after leaving."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.party import operator

        party = operator(options, asking)
        check_free(party.market, party.address)
        party.send(
            lambda writer: writer.withdraw_stake(),
            action="Withdraw the stake to the account",
            comes_back="the stake is paid out by this transaction",
            asking=asking,
        )


@grouped
def claim_fees(task: TaskNumber, options: AccountOptions, asking: Asking) -> None:
    """Have the server paid the fees of a task's settled rounds."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.party import operator
        from omnilytics.foundation.amounts import show_wei
        from omnilytics.foundation.errors import UsageError
        from omnilytics.foundation.units import TaskId

        party = operator(options, asking)
        number = TaskId(task)
        committee = party.market.task(number).committee
        if party.address not in committee:
            raise UsageError("the account is not in the task's committee", got=task)
        index = committee.index(party.address)
        due_wei = party.market.fees_due(number, index)
        if due_wei == 0:
            raise UsageError("no fees are due in this task", got=task)
        party.send(
            lambda writer: writer.claim_fees(number, committee, index),
            action=f"Claim the fees of task {task}: {show_wei(due_wei)} if it pays in ether",
            comes_back="the fees are paid out by this transaction",
            asking=asking,
        )


def add_to(application: typer.Typer) -> None:
    """Add these commands."""
    application.command("add-stake")(add_stake)
    application.command()(offer)
    application.command()(leave)
    application.command()(withdraw)
    application.command("claim-fees")(claim_fees)


def check_free(market: MarketReader, server: Address) -> None:
    """Raise UsageError that says what a withdrawal still waits for."""
    from omnilytics.foundation.errors import UsageError

    record = market.server(server)
    now = market.chain.head_timestamp()
    if not record.leaving_block:
        raise UsageError("the server has not left", hint="omnilytics server leave")
    if record.active_tasks:
        raise UsageError("tasks are still active", got=record.active_tasks, want=0)
    if now < record.free_at:
        raise UsageError(
            "the stake is not free yet",
            got=f"{record.free_at - now} seconds left",
            hint="the waiting time lets faults of the last tasks be reported",
        )


def _offer(min_fee: str | None, max_stake: str | None) -> Any:
    from omnilytics.chain.records import OfferRecord
    from omnilytics.foundation.amounts import parse_wei

    if min_fee is None or max_stake is None:
        return None
    return OfferRecord(min_fee_wei=parse_wei(min_fee), max_stake_wei=parse_wei(max_stake))
