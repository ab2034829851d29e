"""`omnilytics data`: take part in tasks with one's own data, and be paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from omnilytics.cli import data_inspect, data_submit
from omnilytics.cli.options import AccountOptions, Asking, Json, TaskNumber, grouped
from omnilytics.cli.output import narrate, print_json, reported_errors

if TYPE_CHECKING:
    from omnilytics.cli.party import Party
    from omnilytics.client.settings import ClientSettings
    from omnilytics.roles.claims import Credit

application = typer.Typer(
    help="Take part in tasks with your own data, which never leaves this machine, and be paid.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with values would show keys
)

MAX_CLAIMS = 16
"""Tasks that one transaction can claim of."""
BOND_COMES_BACK = (
    "by `omnilytics data leave-bond`, then `data withdraw-bond` 14 days later; less what proven "
    "faults cost"
)
MaybeTask = Annotated[
    int | None, typer.Argument(help="Number of the task; default: all of them.", min=1)
]


@application.command()
@grouped
def join(
    task: TaskNumber,
    options: AccountOptions,
    asking: Asking,
    fewest_owners: Annotated[
        int,
        typer.Option(
            "--fewest-owners", help="Refuse a task that may release a sum over fewer.", min=2
        ),
    ] = 2,
) -> None:
    """Read a task's terms in words, check that it admits you, and add to your bond if it asks."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.data_view import terms_in_words
        from omnilytics.cli.party import client
        from omnilytics.cli.peers import ask_servers
        from omnilytics.foundation.errors import VerificationError
        from omnilytics.foundation.units import TaskId, Wei, show_address
        from omnilytics.roles.task_view import fetch_task

        party, number = client(options, asking), TaskId(task)
        view = ask_servers(lambda connect: fetch_task(party.market, number, connect))
        words = terms_in_words(view)
        for sentence in words:
            narrate(sentence)
        admission = view.specification.admission
        if not admission.admits(party.address):
            raise VerificationError(
                "the task admits listed owners only, and this account is not one",
                got=show_address(party.address),
                hint=f"ask its model owner: {view.specification.contact}",
                task=task,
            )
        if view.specification.min_owners < fewest_owners:
            raise VerificationError(
                "the task may release a sum over fewer owners than you accept",
                got=view.specification.min_owners,
                want=f">= {fewest_owners}",
                task=task,
            )
        bond = party.market.bond(party.address)
        if bond.covers(admission.min_bond_wei):
            narrate(f"you may take part; next: omnilytics data submit {task}")
            if asking.as_json:
                print_json({"task": task, "terms": words, "admitted": True, "sent": False})
            return
        missing_wei = Wei(max(1, admission.min_bond_wei - bond.amount_wei))
        party.send(
            lambda writer: writer.add_bond(missing_wei),
            action="Keep the bond that was asked back, and add to it"
            if bond.free_at
            else f"Add to the bond what task {task} asks for",
            comes_back=BOND_COMES_BACK,
            asking=asking,
        )
        if not (asking.dry_run or asking.unsigned):
            narrate(f"you may take part; next: omnilytics data submit {task}")


application.command()(data_inspect.inspect_task)
application.command()(data_submit.submit)


@application.command()
@grouped
def status(task: MaybeTask = None, *, options: AccountOptions, json: Json = False) -> None:
    """Show the bond, and per task what was credited and claimed; of one task every round."""
    with reported_errors(as_json=json):
        from omnilytics.chain.market import connect_market
        from omnilytics.cli.data_view import print_status, read_status
        from omnilytics.cli.party import address_of
        from omnilytics.cli.peers import ask_servers
        from omnilytics.cli.settings import client_settings
        from omnilytics.foundation.units import TaskId

        settings = client_settings(options)
        owner = address_of(settings.keys, options)
        market = connect_market(settings.chain)[1]
        numbers = range(1, market.task_count() + 1) if task is None else [task]
        tasks = [TaskId(number) for number in numbers]
        found = ask_servers(
            lambda connect: read_status(market, owner, tasks, connect, rounds=task is not None)
        )
        if json:
            print_json(found)
        else:
            print_status(found)


@application.command()
@grouped
def claim(task: MaybeTask = None, *, options: AccountOptions, asking: Asking) -> None:
    """Have everything paid out that settled rounds credited, of one task or of all.

    All tasks go into one transaction each 16; interrupted, run it again: nothing is paid twice.
    """
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.data_view import find_credits
        from omnilytics.cli.party import client
        from omnilytics.cli.peers import ask_servers
        from omnilytics.foundation.errors import UsageError
        from omnilytics.foundation.units import TaskId

        party = client(options, asking)
        numbers = range(1, party.market.task_count() + 1) if task is None else [task]
        tasks = [TaskId(number) for number in numbers]
        credits_, problems = ask_servers(
            lambda connect: find_credits(party.market, party.address, tasks, connect)
        )
        for number, problem in problems.items():
            narrate(f"warning: task {number}: {problem}")
        if not credits_:
            raise UsageError("nothing is due to this account", hint="omnilytics data status")
        for start in range(0, len(credits_), MAX_CLAIMS):
            _claim(party, credits_[start : start + MAX_CLAIMS], asking)


@application.command("leave-bond")
@grouped
def leave_bond(options: AccountOptions, asking: Asking) -> None:
    """Ask for the bond back: no task that asks for one admits you meanwhile."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.party import client

        client(options, asking).send(
            lambda writer: writer.leave_bond(),
            action="Ask for the bond back: the waiting time of 14 days begins",
            comes_back="the bond by `omnilytics data withdraw-bond`, when `data status` says so",
            asking=asking,
        )


@application.command("withdraw-bond")
@grouped
def withdraw_bond(options: AccountOptions, asking: Asking) -> None:
    """Take the bond back after leaving."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.party import client
        from omnilytics.foundation.errors import UsageError

        party = client(options, asking)
        bond = party.market.bond(party.address)
        left_seconds = bond.free_at - party.market.chain.head_timestamp()
        if not bond.free_at:
            raise UsageError("the bond was not asked back", hint="omnilytics data leave-bond")
        if left_seconds > 0:
            raise UsageError(
                "the bond is not free yet",
                got=f"{left_seconds} seconds left",
                hint="the waiting time lets faults of the last rounds be reported",
            )
        party.send(
            lambda writer: writer.withdraw_bond(),
            action="Withdraw the bond to the account",
            comes_back="the bond is paid out by this transaction",
            asking=asking,
        )


def _claim(party: Party[ClientSettings], part: list[Credit], asking: Asking) -> None:
    from omnilytics.chain.writer import TaskClaim
    from omnilytics.cli.data_view import show_due

    claims = [
        TaskClaim(task=each.task, cumulative_wei=each.cumulative_wei, proof=each.proof)
        for each in part
    ]
    tasks = ", ".join(f"task {each.task}" for each in part)
    party.send(
        lambda writer: writer.claim_many(party.address, claims),
        action=f"Claim {show_due(party.market, part)} of {tasks}",
        comes_back="it is paid out by this transaction",
        asking=asking,
    )
