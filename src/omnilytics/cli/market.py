"""`omnilytics market`: deploy a market, and see what is on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnilytics.cli.options import AccountOptions, Asking, Json, SettingsOptions, grouped
from omnilytics.cli.output import narrate, print_json, reported_errors

if TYPE_CHECKING:
    from omnilytics.chain.reader import MarketReader
    from omnilytics.chain.records import ServerRecord

application = typer.Typer(
    help="Deploy a market, and see which servers and tasks it has.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with values would show keys
)


@application.command()
@grouped
def deploy(
    options: AccountOptions,
    asking: Asking,
    min_stake: Annotated[
        str, typer.Option("--min-stake", help="Least stake of a server.")
    ] = "0.1 ether",
    draw_fee: Annotated[
        str, typer.Option("--draw-fee", help="What drawing a committee costs; it is burnt.")
    ] = "0.001 ether",
) -> None:
    """Create a registry and a market of its own; nobody has rights over them, the deployer neither.

    Interrupted between the two, run it again: both are made anew.
    """
    with reported_errors(as_json=asking.as_json):
        from omnilytics.chain.deploy import deploy_market
        from omnilytics.chain.market import connect_chain
        from omnilytics.chain.reader import MarketReader
        from omnilytics.chain.sender import Sender
        from omnilytics.cli.party import open_payer
        from omnilytics.cli.plans import plan_creations
        from omnilytics.cli.settings import client_settings
        from omnilytics.cli.transactions import approve
        from omnilytics.foundation.amounts import parse_wei
        from omnilytics.foundation.units import Address

        settings = client_settings(options)
        chain = connect_chain(settings.chain)
        payer = open_payer(settings.keys, options, asking)
        stake_wei, fee_wei = parse_wei(min_stake), parse_wei(draw_fee)

        def create(sender: Sender) -> Address:
            return deploy_market(sender, min_stake_wei=stake_wei, draw_fee_wei=fee_wei)

        plans = plan_creations(
            chain,
            payer,
            create,
            names=("registry", "market"),
            comes_back="nothing is locked; the gas is spent",
        )
        if not approve(chain, plans, asking):
            return
        first_block = chain.head() + 1
        sender = Sender(chain, payer.secret(), most_fee_wei=plans[0].fees_wei[0])
        market = MarketReader(chain, create(sender), first_block=first_block)
        _print_deployed(market, first_block, sender.gas_cost_wei, asking)


@application.command()
@grouped
def show(options: SettingsOptions, json: Json = False) -> None:
    """Show the market: addresses, least stake, tasks, and the servers with stakes and offers."""
    with reported_errors(as_json=json):
        from omnilytics.cli.party import market_of

        found = read_market(market_of(options))
        if json:
            print_json(found)
        else:
            _print_market(found)


def read_market(market: MarketReader) -> dict[str, Any]:
    """Return what is on a market whose code was checked, as plain JSON values; wei as text."""
    from omnilytics.foundation.units import show_address

    return {
        "chain_id": market.chain.chain_id,
        "head_block": market.chain.head(),
        "market": show_address(market.address),
        "registry": show_address(market.registry),
        "code": "that of this version",
        "min_stake_wei": str(market.min_stake()),
        "draw_fee_wei": str(market.draw_fee()),
        "tasks": market.task_count(),
        "servers": [_server(market, record) for record in market.servers()],
    }


def _server(market: MarketReader, record: ServerRecord) -> dict[str, Any]:
    from omnilytics.foundation.units import show_address
    from omnilytics.wire.task_specification import ETHER_TOKEN

    offer = market.offer(record.address, ETHER_TOKEN)
    terms = None
    if offer is not None:
        terms = {
            "min_fee_wei": str(offer.min_fee_wei),
            "max_stake_wei": str(offer.max_stake_wei),
        }
    return {
        "server": show_address(record.address),
        "endpoint": record.endpoint,
        "stake_wei": str(record.stake_wei),
        "active_tasks": record.active_tasks,
        "leaving": record.leaving_block > 0,
        "offer": terms,
    }


def _print_deployed(
    market: MarketReader, first_block: int, gas_cost_wei: int, asking: Asking
) -> None:
    from omnilytics.foundation.amounts import show_wei
    from omnilytics.foundation.units import show_address

    found = {
        "market": show_address(market.address),
        "registry": show_address(market.registry),
        "chain_id": market.chain.chain_id,
        "first_block": first_block,
        "gas_cost_wei": str(gas_cost_wei),
    }
    if asking.as_json:
        print_json({**found, "sent": True})
        return
    narrate(f"deployed for {show_wei(gas_cost_wei)}; registry {found['registry']}")
    narrate("for the settings files of servers, owners and buyers:")
    typer.echo("[chain]")
    typer.echo(f'market = "{found["market"]}"')
    typer.echo(f"chain_id = {found['chain_id']}")
    typer.echo(f"first_block = {first_block}")


def _print_market(found: dict[str, Any]) -> None:
    from omnilytics.foundation.amounts import show_wei

    typer.echo(f"market     {found['market']} on chain {found['chain_id']}")
    typer.echo(f"registry   {found['registry']}")
    typer.echo(f"code       {found['code']}, head {found['head_block']:,}")
    typer.echo(f"stake      at least {show_wei(int(found['min_stake_wei']))} a server")
    typer.echo(f"draw       {show_wei(int(found['draw_fee_wei']))} each, burnt")
    typer.echo(f"tasks      {found['tasks']}")
    for server in found["servers"]:
        offer = server["offer"]
        terms = "no offer"
        if offer:
            terms = (
                f"offers from {show_wei(int(offer['min_fee_wei']))} a round, "
                f"risks {show_wei(int(offer['max_stake_wei']))}"
            )
        leaving = ", leaving" if server["leaving"] else ""
        typer.echo(
            f"server     {server['server']} {server['endpoint']}: stake "
            f"{show_wei(int(server['stake_wei']))}, {terms}, "
            f"{server['active_tasks']} active tasks{leaving}"
        )
    if not found["servers"]:
        narrate("no servers yet; omnilytics server register")
