"""`omnilytics demo`: a whole market in one process, on real data, in a few minutes."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from omnilytics.cli.output import narrate, print_json, reported_errors


def demo(
    dataset: Annotated[
        str, typer.Option(help="digits or breast-cancer; both come with scikit-learn.")
    ] = "digits",
    model: Annotated[
        str | None,
        typer.Option(
            help="of digits: cnn, mlp, resnet20, mobilenet, transformer, transformer-swiglu, "
            "transformer-lora; of breast-cancer: mlp."
        ),
    ] = None,
    owners: Annotated[int, typer.Option(help="Data owners; the last three cheat.")] = 10,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds of training; 40 of most models.")
    ] = None,
    servers: Annotated[int, typer.Option(help="Servers in the committee (n).")] = 5,
    privacy: Annotated[
        int | None, typer.Option(help="Servers that may collude and learn nothing (t).")
    ] = None,
    errors: Annotated[int | None, typer.Option(help="Servers that may lie or be down (e).")] = None,
    committee_mode: Annotated[
        str, typer.Option(help="named by the model owner, or drawn from those that offer.")
    ] = "named",
    seed: Annotated[
        int, typer.Option(help="Fixes data split, initial weights and cheats; never secrets.")
    ] = 1,
    chain: Annotated[
        str | None,
        typer.Option(help="JSON-RPC URL of a development chain; embedded by default."),
    ] = None,
    contract: Annotated[
        str | None,
        typer.Option(help="Address of a market on that chain; a new one is deployed by default."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path(
        "omnilytics-demo"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Train a real model through the market and show who was paid, who was caught, and the cost."""
    with reported_errors(as_json=json):
        from omnilytics.cli.demo_view import DemoView, print_summary
        from omnilytics.demo.options import check_options
        from omnilytics.demo.report import write_reports
        from omnilytics.demo.run import run_demo

        options = check_options(
            dataset=dataset,
            model=model,
            owners=owners,
            rounds=rounds,
            servers=servers,
            privacy=privacy,
            errors=errors,
            committee_mode=committee_mode,
            seed=seed,
            chain_url=chain,
            contract=contract,
        )
        with tempfile.TemporaryDirectory(prefix="omnilytics-") as folder, DemoView(options) as view:
            result = asyncio.run(run_demo(options, Path(folder), view))
        paths = write_reports(result, output)
        if json:
            print_json(result.as_dict())
        else:
            print_summary(result)
        for path in paths:
            narrate(f"wrote {path}")
