"""`omnilytics server`: run a server, register it, and look after its stake."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnilytics.cli import server_stake, server_store
from omnilytics.cli.options import AccountOptions, Asking, Json, SettingsOptions, grouped
from omnilytics.cli.output import narrate, print_json, reported_errors
from omnilytics.cli.settings import server_settings

if TYPE_CHECKING:
    from omnilytics.service.settings import ServerSettings

application = typer.Typer(
    help="Run a server of the market, and look after its registration and stake.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with values would show keys
)

Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint", help="URL under which it is reached; default: server.endpoint."),
]


@application.command()
@grouped
def run(
    options: SettingsOptions,
    listen: Annotated[
        str | None, typer.Option("--listen", help="HOST:PORT of the public interface.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of the database and the share files.")
    ] = None,
) -> None:
    """Serve owners, model owners and other servers, and take part in rounds, until SIGTERM."""
    with reported_errors():
        chosen = server_settings(options, {"server.listen": listen, "server.data": data})
        from omnilytics.foundation.logging import configure_logging

        configure_logging(level=chosen.log.level, as_json=chosen.log.format == "json")
        from omnilytics.service.process import run_server

        code = run_server(chosen)
        sys.stderr.flush()
        # Threads that wait for the chain would hold up an ordinary end; what they know is durable.
        os._exit(code)


@application.command()
def keygen(
    path: Annotated[Path, typer.Argument(help="File to write the key to.")], json: Json = False
) -> None:
    """Make the key that packages for the server are sealed to, in a new file of mode 0600."""
    with reported_errors(as_json=json):
        from omnilytics.foundation.randomness import SystemRandomness
        from omnilytics.service.keys import write_hpke_key

        key = write_hpke_key(path, SystemRandomness())
        if json:
            print_json({"path": str(path), "public_key": "0x" + key.public.hex()})
            return
        typer.echo(f"0x{key.public.hex()}")
        narrate(f"saved in {path}; without it nothing that is sealed to the server opens")


@application.command()
@grouped
def register(
    options: AccountOptions,
    asking: Asking,
    endpoint: Endpoint = None,
    stake: Annotated[
        str | None,
        typer.Option("--stake", help='Such as "1 ether"; default: the least the market takes.'),
    ] = None,
) -> None:
    """Register the account as a server, with its endpoint, its HPKE key and a stake."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.party import operator
        from omnilytics.foundation.amounts import parse_wei
        from omnilytics.service.keys import open_hpke_key

        party = operator(options, asking, {"server.endpoint": endpoint})
        url = _endpoint(party.settings)
        hpke_key = open_hpke_key(party.settings.keys)
        stake_wei = party.market.min_stake() if stake is None else parse_wei(stake)
        party.send(
            lambda writer: writer.register_server(url, hpke_key.public, stake_wei),
            action=f"Register as a server at {url}, key 0x{hpke_key.public.hex()}",
            comes_back=server_stake.STAKE_COMES_BACK,
            asking=asking,
        )


@application.command("set-profile")
@grouped
def set_profile(options: AccountOptions, asking: Asking, endpoint: Endpoint = None) -> None:
    """Change endpoint and HPKE key for tasks created from now on."""
    with reported_errors(as_json=asking.as_json):
        from omnilytics.cli.party import operator
        from omnilytics.service.keys import open_hpke_key

        party = operator(options, asking, {"server.endpoint": endpoint})
        url = _endpoint(party.settings)
        hpke_key = open_hpke_key(party.settings.keys)
        record = party.market.server(party.address)
        if record.active_tasks and record.hpke_key != hpke_key.public:
            narrate(
                f"warning: {record.active_tasks} tasks under way are sealed to the old key; "
                "a server that runs with the new one cannot open their packages"
            )
        party.send(
            lambda writer: writer.set_profile(url, hpke_key.public),
            action=f"Change the profile to {url}, key 0x{hpke_key.public.hex()}",
            comes_back=server_stake.NOTHING_LOCKED,
            asking=asking,
        )


@application.command()
@grouped
def status(options: AccountOptions, json: Json = False) -> None:
    """Show registration, stake, tasks and fees by the chain, and how work on the tasks goes."""
    with reported_errors(as_json=json):
        from omnilytics.chain.market import connect_market
        from omnilytics.cli.party import address_of
        from omnilytics.cli.server_view import print_status, read_status, stored_jobs

        chosen = server_settings(options)
        address = address_of(chosen.keys, options)
        _, market = connect_market(chosen.chain)
        found = read_status(market, address, stored_jobs(chosen))
        if json:
            print_json(found)
        else:
            print_status(found)


server_stake.add_to(application)
server_store.add_to(application)


def _endpoint(settings: ServerSettings) -> str:
    from omnilytics.foundation.errors import ConfigError

    if settings.server.endpoint is None:
        raise ConfigError("a setting is missing", want="server.endpoint", hint="give --endpoint")
    return settings.server.endpoint
