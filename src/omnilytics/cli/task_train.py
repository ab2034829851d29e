"""`omnilytics task publish|train|result`: buy gradients for one's own model, round by round."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from omnilytics.cli.options import (
    AccountOptions,
    Asking,
    Json,
    SettingsOptions,
    TaskNumber,
    grouped,
)
from omnilytics.cli.output import narrate, print_json, reported_errors
from omnilytics.cli.sources import SourceOptions, read_samples
from omnilytics.cli.terms import TermsOptions

Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODULE:FUNCTION",
        help="Your own code, from the current folder; makes the network.",
    ),
]


@grouped
def publish(
    model: Model,
    source: SourceOptions,
    terms: TermsOptions,
    options: AccountOptions,
    asking: Asking,
    optimiser: Annotated[str, typer.Option("--optimiser", help="adam or sgd.")] = "adam",
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Of the optimiser.", min=0.0)
    ] = 1e-2,
) -> None:
    """Measure scales on your own sample, find servers, lock the escrow and publish the task.

    Under the same --name it takes up what was interrupted and pays nothing twice.
    """
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.buying import open_buyer, plans_of_draft, refuse_unsigned
        from omnilytics.cli.party import client
        from omnilytics.cli.progress import Told
        from omnilytics.cli.training import Training, TrainingFolder
        from omnilytics.cli.transactions import approve

        refuse_unsigned(asking)
        party = client(options, asking)
        training = Training(model=model, optimiser=optimiser, learning_rate=learning_rate)
        network = training.make_model()
        sample = read_samples(source)
        told = Told()
        with open_buyer(party, told.happened) as buyer:
            with told.on_bar("measure", 1):
                draft = buyer.draft(
                    network, sample=sample, learning_rate=learning_rate, **terms.given()
                )
            for line in terms.cost_lines(draft):
                narrate(line)
            plans = plans_of_draft(party, draft)
            if plans and not approve(party.market.chain, plans, asking, can_try=False):
                return
            if asking.dry_run:
                narrate("nothing is left to be sent (--dry-run)")
                return
            with told.on_bar("publish", 1):
                bought = buyer.publish_draft(network, draft)
        folder = TrainingFolder(party.settings.client.data, party.market, bought.number)
        if not folder.is_begun():
            folder.keep(training)
            folder.save(0, network, training.make_optimiser(network))
        if asking.as_json:
            print_json({"task": bought.number, "escrow_wei": str(draft.escrow_wei), "sent": True})
        else:
            typer.echo(f"task {bought.number}")
        narrate(f"next: omnilytics task train {bought.number}; it may be interrupted at any time")


@grouped
def train(
    task: TaskNumber,
    options: AccountOptions,
    asking: Asking,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", help="Longest time that one round may take, in seconds."),
    ] = None,
) -> None:
    """Open rounds one after another, recover each sum, take the step, keep a checkpoint.

    Interrupt it whenever you like: the same command goes on where it was.
    """
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.buying import (
            open_buyer,
            plan_rounds,
            plans_of_drawing,
            refuse_unsigned,
        )
        from omnilytics.cli.party import client
        from omnilytics.cli.progress import Told
        from omnilytics.cli.training import TrainingFolder, train_rounds
        from omnilytics.cli.transactions import approve
        from omnilytics.foundation.units import TaskId

        refuse_unsigned(asking)
        party, number = client(options, asking), TaskId(task)
        folder = TrainingFolder(party.settings.client.data, party.market, number)
        training = folder.training()
        record = party.market.task(number)
        plans = plans_of_drawing(party, number)
        plans += filter(None, [plan_rounds(party, number)])
        if plans and not approve(party.market.chain, plans, asking, can_try=False):
            return
        if asking.dry_run:
            narrate("nothing is left to be sent (--dry-run)")
            return
        network = training.make_model()
        optimiser = training.make_optimiser(network)
        narrate(f"interrupted, `omnilytics task train {task}` goes on; weights: {folder.path}")
        told = Told()
        with (
            open_buyer(party, told.happened) as buyer,
            told.on_bar("rounds", record.terms.rounds, done=folder.done()),
        ):
            bought = buyer.resume(number, network)
            for each in train_rounds(folder, bought, network, optimiser, timeout=timeout):
                told.reached(each.number)
        _print_trained(folder.rounds(), task, asking)


@grouped
def result(
    task: TaskNumber,
    options: SettingsOptions,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Safetensors file to write weights to.")
    ] = None,
    json: Json = False,
) -> None:
    """Export the present weights, and sum up the rounds: owners, gas, lying servers, payouts."""
    with reported_errors(as_json=json):
        from omnilytics.chain.market import connect_market
        from omnilytics.cli.peers import ask_servers
        from omnilytics.cli.result_view import print_result, read_result
        from omnilytics.cli.settings import client_settings
        from omnilytics.cli.training import TrainingFolder
        from omnilytics.foundation.units import TaskId
        from omnilytics.learning.checkpoints import export_weights

        settings, number = client_settings(options), TaskId(task)
        market = connect_market(settings.chain)[1]
        folder = TrainingFolder(settings.client.data, market, number)
        folder.training()
        place = output or Path(f"task-{task}.safetensors")
        facts = export_weights(folder.checkpoint(folder.done()), place)
        found = {
            "weights": str(place),
            "after_round": int(facts["round"]),
            **ask_servers(lambda connect: read_result(market, number, connect, folder.rounds())),
        }
        if json:
            print_json(found)
        else:
            print_result(found)


def add_to(application: typer.Typer) -> None:
    """Add these commands."""
    for command in (publish, train, result):
        application.command()(command)


def _print_trained(rounds: list[dict[str, Any]], task: int, asking: Asking) -> None:
    if asking.as_json:
        print_json({"task": task, "rounds": rounds})
    else:
        for each in rounds:
            typer.echo(f"round {each['round']:<4} {each['accepted']} accepted")
    narrate(f"next: omnilytics task result {task}, and omnilytics task close {task}")
