"""`omnilytics bench`: what protection and checking cost, in figures that can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from omnilytics.cli.options import Json
from omnilytics.cli.output import print_json, reported_errors

application = typer.Typer(
    help="Measure the work of owners, servers and contracts.",
    no_args_is_help=True,
    add_completion=False,
)

Dimensions = Annotated[
    list[int] | None, typer.Option("--dimension", help="Number of parameters; may be repeated.")
]
Servers = Annotated[int, typer.Option(help="Servers in the committee.")]
Repeats = Annotated[int, typer.Option(help="Runs; the median is reported.")]


@application.command()
def protect(
    dimension: Dimensions = None, servers: Servers = 5, repeats: Repeats = 5, json: Json = False
) -> None:
    """Owner: quantise, prove, share, hash and seal one vector for all servers."""
    from omnilytics.benchmark import protect as work

    _run(work, dimension, servers, repeats, json)


@application.command()
def check(
    dimension: Dimensions = None, servers: Servers = 5, repeats: Repeats = 5, json: Json = False
) -> None:
    """Server: open, hash, expand and check one owner's package."""
    from omnilytics.benchmark import check as work

    _run(work, dimension, servers, repeats, json)


@application.command()
def gas(
    servers: Annotated[
        list[int] | None, typer.Option(help="Servers in the committee; may be repeated.")
    ] = None,
    owners: Annotated[
        list[int] | None, typer.Option(help="Data owners that a round pays; may be repeated.")
    ] = None,
    chain: Annotated[
        str | None, typer.Option(help="URL of a development chain; default: one in this process.")
    ] = None,
    json: Json = False,
) -> None:
    """Contracts: what every call costs, in the first and in later rounds."""
    from omnilytics.benchmark import gas as work

    with reported_errors(as_json=json):
        rows = work(servers=servers, owners=owners, chain_url=chain)
        if json:
            print_json({"rows": rows})
            return
        for row in rows:
            typer.echo(
                f"{row['call']:<22} n = {row['n']:>2}  t = {row['t']}  e = {row['e']}  "
                f"{row['owners']:>5,} owners  round {row['round'] or '-'}  {row['gas']:>8,} gas"
            )


def _run(
    work: Callable[..., list[dict[str, Any]]],
    dimensions: list[int] | None,
    servers: int,
    repeats: int,
    as_json: bool,
) -> None:
    with reported_errors(as_json=as_json):
        rows = work(dimensions or [10_000, 100_000], servers=servers, repeats=repeats)
        if as_json:
            print_json({"rows": rows})
            return
        for row in rows:
            typer.echo(
                f"{row['work']:<8} D = {row['dimension']:>9,}  n = {row['servers']}  "
                f"{row['milliseconds']:>9.2f} ms  {row['ns_per_parameter']:>8.1f} ns/parameter  "
                f"{row['memory_passes']:>7.1f} memory passes  "
                f"{row['bytes_per_parameter']:>6.2f} bytes/parameter  "
                f"peak {row['peak_bytes'] / 1e6:,.1f} MB"
            )
