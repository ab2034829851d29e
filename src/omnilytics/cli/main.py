"""The `omnilytics` command. Subcommands import what they need when they run."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from omnilytics import __version__
from omnilytics.cli import (
    account,
    audit,
    bench,
    config,
    data,
    demo,
    devnet,
    doctor,
    market,
    server,
    task,
)
from omnilytics.cli.output import narrate

application = typer.Typer(
    name="omnilytics",
    help="A data market for machine learning: private gradients, proven valid, paid on Ethereum.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
application.command("demo")(demo.demo)
application.command("doctor")(doctor.doctor)
application.add_typer(account.application, name="account")
application.add_typer(server.application, name="server")
application.add_typer(market.application, name="market")
application.add_typer(task.application, name="task")
application.add_typer(data.application, name="data")
application.add_typer(config.application, name="config")
application.add_typer(audit.application, name="audit")
application.add_typer(bench.application, name="bench")
application.add_typer(devnet.application, name="devnet")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"omnilytics {__version__}")
        raise typer.Exit


@application.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; a defect ends in one line and exit code 1, not in a traceback."""
    try:
        application()
    except Exception as error:
        if os.environ.get("OMNILYTICS_DEBUG"):
            raise
        narrate(f"error [internal]: {type(error).__name__}: {error}")
        narrate("hint: this is a defect; OMNILYTICS_DEBUG=1 shows where")
        sys.exit(1)
