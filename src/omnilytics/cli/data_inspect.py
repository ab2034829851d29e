"""`omnilytics data inspect-task`: what a task and its model look like, before one computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnilytics.cli.options import Json, SettingsOptions, TaskNumber, grouped
from omnilytics.cli.output import narrate, print_json, reported_errors
from omnilytics.cli.sources import SourceOptions, names_samples, read_samples

if TYPE_CHECKING:
    from omnilytics.learning.datasets import Batch
    from omnilytics.roles.data_owner.inspecting import Looked
    from omnilytics.roles.task_view import TaskView

REFUSED = 8
"""Exit code of a task that is refused: that of whatever fails a check."""


@grouped
def inspect_task(
    task: TaskNumber,
    source: SourceOptions,
    options: SettingsOptions,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Samples that you mean to use in a round.", min=1),
    ] = None,
    fewest_owners: Annotated[
        int,
        typer.Option("--fewest-owners", help="Refuse a sum that may be over fewer.", min=1),
    ] = 2,
    json: Json = False,
) -> None:
    """Check a task's hashes, terms and latest model for signs that samples are wanted.

    With data of your own it tells how many of your samples would stand alone. Nothing is sent; the
    exit code is 8 where the task is refused.
    """
    with reported_errors(as_json=json):
        from omnilytics.cli.party import market_of
        from omnilytics.cli.peers import ask_servers
        from omnilytics.foundation.units import TaskId
        from omnilytics.roles.data_owner.inspecting import look_at
        from omnilytics.roles.task_view import Connect, fetch_task

        market = market_of(options)

        async def look(connect: Connect) -> Looked:
            return await look_at(
                market,
                await fetch_task(market, TaskId(task), connect),
                connect,
                fewest_owners=fewest_owners,
                batch_size=batch_size,
                read_samples=lambda view: _samples(source, view),
            )

        looked = ask_servers(look)
        found = _fields(looked)
        if json:
            print_json(found)
        else:
            for each in found["findings"]:
                place = f" [{each['place']}]" if each["place"] else ""
                typer.echo(f"{each['level']:<7} {each['check']:<20} {each['said']}{place}")
        if found["level"] == "refuse":
            narrate("refused; what the checks mean: docs/inspection.md")
            raise typer.Exit(REFUSED)


def _samples(source: SourceOptions, view: TaskView) -> Batch | None:
    from omnilytics.learning.inspection_numbers import MOST_SAMPLES
    from omnilytics.learning.user_data import collect
    from omnilytics.perturbation.graph import InputKind

    if not names_samples(source):
        return None
    specification = view.specification
    return collect(
        read_samples(source, specification.input_shape),
        most=MOST_SAMPLES,
        input_kind=InputKind(specification.input_kind),
    )


def _fields(looked: Looked) -> dict[str, Any]:
    from omnilytics.learning.inspection import worst

    return {
        "task": looked.view.task,
        "round": looked.round,
        "level": str(worst(looked.findings)),
        "findings": [finding.as_dict() for finding in looked.findings],
    }
