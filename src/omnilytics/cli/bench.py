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
Owners = Annotated[int, typer.Option(help="Data owners of the round.")]
Repeats = Annotated[int, typer.Option(help="Runs; the median is reported.")]

_DIMENSIONS = [10_000, 100_000]


@application.command()
def protect(
    dimension: Dimensions = None, servers: Servers = 5, repeats: Repeats = 5, json: Json = False
) -> None:
    """Owner: quantise, prove, share, hash and seal one vector for all servers."""
    from omnilytics.benchmark.submission import protect as work

    _run(work, dimension, json, servers=servers, repeats=repeats)


@application.command()
def check(
    dimension: Dimensions = None, servers: Servers = 5, repeats: Repeats = 5, json: Json = False
) -> None:
    """Server: open, hash, expand and check one owner's package."""
    from omnilytics.benchmark.submission import check as work

    _run(work, dimension, json, servers=servers, repeats=repeats)


@application.command()
def aggregate(
    dimension: Dimensions = None,
    servers: Servers = 5,
    owners: Owners = 10,
    repeats: Repeats = 5,
    json: Json = False,
) -> None:
    """Server: add up the owners' shares, per owner; shares as they came, and from seeds."""
    from omnilytics.benchmark.summing import aggregate as work

    _run(work, dimension, json, servers=servers, owners=owners, repeats=repeats)


@application.command()
def recover(
    dimension: Dimensions = None, servers: Servers = 5, repeats: Repeats = 5, json: Json = False
) -> None:
    """Model owner: verify the servers' shares of the sum, interpolate and decode them."""
    from omnilytics.benchmark.summing import recover as work

    _run(work, dimension, json, servers=servers, repeats=repeats)


@application.command("round")
def whole_round(
    dimension: Dimensions = None,
    servers: Servers = 5,
    owners: Owners = 10,
    repeats: Repeats = 1,
    json: Json = False,
) -> None:
    """All parties: one round without chain and network, in a process of its own, by phase."""
    from omnilytics.benchmark.round_process import whole_round as work

    _run(work, dimension, json, servers=servers, owners=owners, repeats=repeats)


@application.command()
def wire(
    dimension: Dimensions = None, servers: Servers = 5, owners: Owners = 10, json: Json = False
) -> None:
    """Bytes: an owner's upload, a server's words and share of the sum, a round's transcript."""
    from omnilytics.benchmark.sizes import wire as work

    _run(work, dimension, json, servers=servers, owners=owners)


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
    from omnilytics.benchmark.gas import gas as work

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
    as_json: bool,
    **arguments: int,
) -> None:
    from omnilytics.benchmark.measure import exponents

    with reported_errors(as_json=as_json):
        rows = work(dimensions or _DIMENSIONS, **arguments)
        slopes = exponents(rows)
        if as_json:
            first = next(iter(slopes.values()))
            print_json({"rows": rows, "scaling_exponent": first, "scaling_exponents": slopes})
            return
        for row in rows:
            typer.echo(_figures(row))
            for line in (*map(_phase, row.get("phases", ())), *_bytes(row)):
                typer.echo(f"    {line}")
        for name, slope in slopes.items():
            if slope is not None:
                typer.echo(f"{name}: time grows as D^{slope:.2f}")


def _figures(row: dict[str, Any]) -> str:
    start = f"{row['work']:<16}  D = {row['dimension']:>10,}  n = {row['servers']:>2}  "
    sizes = f"{row['bytes_per_parameter']:>7.3f} bytes/parameter"
    if row["milliseconds"] is None:
        return start + sizes
    return (
        f"{start}{row['milliseconds']:>9.2f} ms  {row['ns_per_parameter']:>8.1f} ns/parameter  "
        f"{row['memory_passes']:>6.1f} memory passes  {row['cached_passes']:>6.1f} cached passes  "
        f"{sizes}  peak {row['peak_bytes'] / 1e6:,.1f} MB"
    )


def _phase(phase: dict[str, Any]) -> str:
    return (
        f"{phase['party']:<12} {phase['phase']:<26} {phase['count']:>7,} times  "
        f"{phase['milliseconds']:>10.1f} ms in all  "
        f"{phase['ns_per_parameter']:>9.2f} ns/parameter  "
        f"{phase['memory_passes']:>6.1f} memory passes  peak {phase['peak_bytes'] / 1e6:,.0f} MB"
    )


def _bytes(row: dict[str, Any]) -> list[str]:
    """Return what else a row counts in bytes."""
    if row["work"] != "wire":
        return []
    counted = [
        f"{name.replace('_', ' ')} {value:,}"
        for name, value in row.items()
        if "_bytes" in name and name != "peak_bytes"
    ]
    return [*counted, f"upload beyond the least {row['beyond_percent']:.2f}%"]
