"""`omnilytics devnet`: a whole market of real processes on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnilytics.cli.output import narrate, print_json, reported_errors

if TYPE_CHECKING:
    from omnilytics.devnet.looking import Look

application = typer.Typer(
    help="A market on this machine: anvil, server processes, accounts with ether.",
    no_args_is_help=True,
    add_completion=False,
)

Folder = Annotated[Path, typer.Option("--folder", help="Where the network lies.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DEFAULT_FOLDER = Path("omnilytics-devnet")
NOT_WELL = 7


@application.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    servers: Annotated[
        int | None, typer.Option("--servers", min=1, max=32, help="Servers.", show_default="5")
    ] = None,
    owners: Annotated[
        int | None, typer.Option("--owners", min=0, max=100, help="Data owners.", show_default="8")
    ] = None,
    block_seconds: Annotated[
        int | None,
        typer.Option(
            "--block-seconds",
            min=1,
            max=3_600,
            help="Time between blocks; a transaction makes one at once.",
            show_default="1",
        ),
    ] = None,
    port_base: Annotated[
        int | None,
        typer.Option(
            "--port-base",
            min=1,
            max=65_535,
            help="The chain's port; server k is at 10 k above it, its metrics one higher.",
            show_default="8600, or the next thousand that is free",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make the network, or start what is down of it; it goes on in the background."""
    with reported_errors(as_json=json):
        from omnilytics.devnet.looking import look
        from omnilytics.devnet.running import Wanted, bring_up

        bring_up(folder, Wanted(servers, owners, block_seconds, port_base), narrate)
        found = look(folder)
        if json:
            print_json(_fields(folder, found))
            return
        _print(folder, found)
        _print_accounts(folder, found)
        _print_next(folder)


@application.command()
def status(folder: Folder = DEFAULT_FOLDER, json: Json = False) -> None:
    """Show what runs, the chain's head and the tasks; exit code 7 unless all is well."""
    with reported_errors(as_json=json):
        from omnilytics.devnet.looking import look

        found = look(folder)
        if json:
            print_json(_fields(folder, found))
        else:
            _print(folder, found)
            _print_tasks(found)
        if not found.is_well:
            narrate("not all is well; omnilytics devnet up starts what is down")
            raise typer.Exit(NOT_WELL)


@application.command()
def down(
    folder: Folder = DEFAULT_FOLDER,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove the folder, keys and all.")
    ] = False,
    json: Json = False,
) -> None:
    """Stop servers and chain; the chain's state stays, and `up` goes on from it."""
    with reported_errors(as_json=json):
        from omnilytics.devnet.running import take_down

        killed = take_down(folder, delete=delete, tell=narrate)
        if killed:
            narrate(f"did not stop in time and was killed: {', '.join(killed)}")
        if json:
            print_json({"folder": str(folder.absolute()), "deleted": delete, "killed": killed})


def _fields(folder: Path, found: Look) -> dict[str, Any]:
    place = folder.absolute()
    network = found.network.model_dump(mode="json")
    for record in (*network["servers"], *network["accounts"]):
        record["config"] = str(place / record["config"])
    return {
        "folder": str(place),
        **network,
        "head": found.head,
        "well": found.is_well,
        "processes": [
            {
                "name": process.name,
                "pid": process.pid,
                "place": process.place,
                "ready": process.problem is None,
                "problem": process.problem,
                "log": str(process.log),
            }
            for process in found.processes
        ],
        "tasks": list(found.tasks),
    }


def _print(folder: Path, found: Look) -> None:
    network = found.network
    head = "no answer" if found.head is None else f"block {found.head}"
    typer.echo(f"market     {network.market} on chain {network.chain_id}, {head}")
    addresses = ["", *(server.address for server in network.servers)]
    for process, address in zip(found.processes, addresses, strict=True):
        state = "ready" if process.problem is None else process.problem
        pid = "-" if process.pid is None else process.pid
        typer.echo(f"{process.name:<10} {process.place:<24} {pid:>8}  {state}  {address}".rstrip())
    typer.echo(f"logs       {folder / 'servers'}/*/server.log, {folder / 'logs'}/anvil.log")


def _print_accounts(folder: Path, found: Look) -> None:
    for account in found.network.accounts:
        typer.echo(f"{account.name:<10} {account.address}")
    typer.echo(f"settings   {folder / 'accounts'}/NAME/client.toml, {folder / 'network.json'}")


def _print_tasks(found: Look) -> None:
    for task in found.tasks:
        end = "closed" if task["closed"] else f"round {task['round']} {task['phase']}"
        typer.echo(
            f"task {task['task']:<5} {end}, {task['settled_rounds']} of {task['rounds']} rounds "
            "settled"
        )
    if not found.tasks:
        typer.echo("tasks      none")


def _print_next(folder: Path) -> None:
    option = "" if folder == DEFAULT_FOLDER else f" --folder {folder}"
    narrate(f"next: omnilytics devnet status{option}")
    narrate(f"      omnilytics server status --config {folder}/servers/server-1/server.toml")
    narrate(f"stop: omnilytics devnet down{option}")
