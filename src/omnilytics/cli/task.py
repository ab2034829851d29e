"""`omnilytics task`: see tasks; publish one, train through it, pay for more rounds, close it."""

from __future__ import annotations

from typing import Annotated

import typer

from omnilytics.cli import task_calibrate, task_train
from omnilytics.cli.options import (
    AccountOptions,
    Asking,
    Json,
    SettingsOptions,
    TaskNumber,
    grouped,
)
from omnilytics.cli.output import narrate, print_json, reported_errors

application = typer.Typer(
    help="Tasks: what is bought, from whom, and what came of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with values would show keys
)


@application.command("list")
@grouped
def list_all(
    options: SettingsOptions,
    open_only: Annotated[
        bool, typer.Option("--open", help="Leave out those that are closed.")
    ] = False,
    json: Json = False,
) -> None:
    """List the market's tasks."""
    with reported_errors(as_json=json):
        from omnilytics.cli.party import market_of
        from omnilytics.cli.task_view import print_summary, read_summary
        from omnilytics.foundation.units import TaskId

        market = market_of(options)
        numbers = [TaskId(number) for number in range(1, market.task_count() + 1)]
        found = [read_summary(market, number) for number in numbers]
        shown = [each for each in found if not (open_only and each["closed"])]
        if json:
            print_json({"tasks": shown})
            return
        for each in shown:
            print_summary(each)
        if not shown:
            narrate("no tasks; omnilytics task publish --help")


@application.command()
@grouped
def show(
    task: TaskNumber,
    options: SettingsOptions,
    last: Annotated[
        int, typer.Option("--last", help="How many of the latest rounds to show.", min=0)
    ] = 10,
    chain_only: Annotated[
        bool, typer.Option("--chain-only", help="Ask no server: no title, no accepted owners.")
    ] = False,
    json: Json = False,
) -> None:
    """Show a task: terms, servers, rounds, who was accepted, what is left in escrow."""
    with reported_errors(as_json=json):
        import asyncio

        from omnilytics.cli.party import market_of
        from omnilytics.cli.peers import ask_servers
        from omnilytics.cli.task_view import print_task, read_task
        from omnilytics.foundation.units import TaskId

        market, number = market_of(options), TaskId(task)
        if chain_only:
            found = asyncio.run(read_task(market, number, None, last))
        else:
            found = ask_servers(lambda connect: read_task(market, number, connect, last))
        if json:
            print_json(found)
        else:
            print_task(found)


@application.command("top-up")
@grouped
def top_up(
    task: TaskNumber,
    rounds: Annotated[int, typer.Argument(help="How many more rounds.", min=1, max=65_535)],
    options: AccountOptions,
    asking: Asking,
) -> None:
    """Pay for more rounds of one's task, up to the number that its servers agreed to."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.party import client
        from omnilytics.foundation.units import TaskId

        party, number = client(options, asking), TaskId(task)
        party.send(
            lambda writer: writer.top_up(number, rounds),
            action=f"Pay for {rounds} more rounds of task {task}",
            comes_back=f"what no settled round uses, by `omnilytics task close {task}`",
            asking=asking,
        )


@application.command()
@grouped
def close(task: TaskNumber, options: AccountOptions, asking: Asking) -> None:
    """Close a task between rounds and take back what it did not spend."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.chain.records import Phase
        from omnilytics.cli.party import client
        from omnilytics.foundation.amounts import show_wei
        from omnilytics.foundation.errors import UsageError
        from omnilytics.foundation.units import TaskId

        party, number = client(options, asking), TaskId(task)
        state = party.market.round_state(number)
        if state.phase in (Phase.OPEN, Phase.SEALED):
            raise UsageError(
                "a round is under way",
                got=f"round {state.round}, {state.phase.name.lower()}",
                hint="close the task once the round is settled or voided: omnilytics task show",
                task=task,
            )
        unspent_wei = party.market.task(number).unspent_wei
        party.send(
            lambda writer: writer.close_task(number),
            action=f"Close task {task}: no further round",
            comes_back=f"{show_wei(unspent_wei)} (or units of the task's token), to the model "
            "owner, by this transaction",
            asking=asking,
        )


application.command()(task_calibrate.calibrate)
task_train.add_to(application)
