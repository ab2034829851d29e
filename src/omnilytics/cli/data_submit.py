"""`omnilytics data submit`: compute on one's own data and submit, for one round or for all."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from omnilytics.cli.options import AccountOptions, Asking, TaskNumber, grouped
from omnilytics.cli.output import narrate, print_json, reported_errors
from omnilytics.cli.sources import SourceOptions, read_samples


@grouped
def submit(
    task: TaskNumber,
    source: SourceOptions,
    options: AccountOptions,
    asking: Asking,
    follow: Annotated[
        bool, typer.Option("--follow", help="All rounds of the task, not only the next.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Samples a round, at random; default: all.", min=1),
    ] = None,
    fewest_owners: Annotated[
        int,
        typer.Option(
            "--fewest-owners", help="Refuse a task that may release a sum over fewer.", min=2
        ),
    ] = 2,
    accept_risks: Annotated[
        bool,
        typer.Option("--accept-risks", help="Compute on what `data inspect-task` refuses, too."),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", help="Longest wait for a round, in seconds."),
    ] = None,
) -> None:
    """Submit to the round that takes submissions, or the next one, and attend to it to its seal.

    Interrupted, the same command submits the same once more. Only sealed shares leave this machine.
    """
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.buying import open_seller, plan_forcing, refuse_unsigned
        from omnilytics.cli.party import client
        from omnilytics.cli.progress import Told
        from omnilytics.cli.transactions import approve
        from omnilytics.foundation.units import TaskId
        from omnilytics.learning.inspection import inspect_terms, refuse_risks
        from omnilytics.learning.sources import random_part

        refuse_unsigned(asking)
        party, number = client(options, asking), TaskId(task)
        record = party.market.task(number)
        left = record.terms.rounds - record.settled_rounds
        plan = plan_forcing(party, number, left if follow else 1)
        if not approve(party.market.chain, [plan], asking, can_try=False):
            return
        narrate(f"interrupted, the same command goes on; later: omnilytics data status {task}")
        done: list[dict[str, Any]] = []
        told = Told()
        with (
            open_seller(party, told.happened, fewest_owners) as seller,
            told.on_bar("rounds", left if follow else 1),
        ):
            joined = seller.join(task=task, accept_risks=accept_risks)
            if not accept_risks:
                terms = inspect_terms(
                    joined.specification, fewest_owners=fewest_owners, batch_size=batch_size
                )
                refuse_risks(terms, task=task)
            samples = read_samples(source, joined.specification.input_shape)
            for each in joined.rounds(timeout=timeout, most=None if follow else 1):
                sent = each.submit(random_part(samples, batch_size))
                done.append(_fields(sent))
                told.reached(len(done))
        if asking.as_json:
            print_json({"task": task, "submitted": done})
        else:
            for entry in done:
                typer.echo(
                    f"round {entry['round']:<4} submitted, {entry['receipts']} receipts, "
                    f"multiplied by {entry['clip_factor']:.3g}"
                    + (", put on chain" if entry["forced"] else "")
                )
        narrate(f"next: omnilytics data status {task}; once settled: omnilytics data claim {task}")


def _fields(sent: Any) -> dict[str, Any]:
    return {
        "round": sent.round,
        "receipts": sent.receipts,
        "clip_factor": sent.clip_factor,
        "forced": sent.forced,
    }
