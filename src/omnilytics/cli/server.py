"""`omnilytics server`: run a server, register it, and look after its stake."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnilytics.cli import server_store
from omnilytics.cli.config import ConfigFile, Set, server_settings
from omnilytics.cli.output import narrate, print_json, reported_errors

if TYPE_CHECKING:
    from omnilytics.chain.reader import MarketReader
    from omnilytics.chain.writer import MarketWriter
    from omnilytics.foundation.units import Address
    from omnilytics.service.settings import ServerSettings
    from omnilytics.wire.signatures import SigningKey

application = typer.Typer(
    help="Run a server of the market, and look after its registration and stake.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with values would show keys
)

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Send without asking.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show it, try it on the node, send nothing.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint", help="URL under which it is reached; default: server.endpoint."),
]

STAKE_COMES_BACK = (
    "by `omnilytics server leave`, then `server withdraw` once the waiting time is over and no "
    "task is active; less what proven faults cost"
)
NOTHING_LOCKED = "nothing is locked; only gas is spent"


@application.command()
def run(
    config: ConfigFile = None,
    listen: Annotated[
        str | None, typer.Option("--listen", help="HOST:PORT of the public interface.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of the database and the share files.")
    ] = None,
    settings: Set = None,
) -> None:
    """Serve owners, model owners and other servers, and take part in rounds, until SIGTERM."""
    with reported_errors():
        chosen = server_settings(config, settings, {"server.listen": listen, "server.data": data})
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
def register(
    config: ConfigFile = None,
    endpoint: Endpoint = None,
    stake: Annotated[
        str | None,
        typer.Option("--stake", help='Such as "1 ether"; default: the least the market takes.'),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    settings: Set = None,
) -> None:
    """Register the account as a server, with its endpoint, its HPKE key and a stake."""
    with reported_errors(as_json=json):
        from omnilytics.foundation.amounts import parse_wei
        from omnilytics.service.keys import open_hpke_key

        operator = _operator(config, settings, {"server.endpoint": endpoint})
        url = _endpoint(operator.settings)
        hpke_key = open_hpke_key(operator.settings.keys)
        stake_wei = operator.market.min_stake() if stake is None else parse_wei(stake)
        operator.send(
            lambda writer: writer.register_server(url, hpke_key.public, stake_wei),
            action=f"Register as a server at {url}, key 0x{hpke_key.public.hex()}",
            comes_back=STAKE_COMES_BACK,
            asking=(yes, dry_run, json),
        )


@application.command("set-profile")
def set_profile(
    config: ConfigFile = None,
    endpoint: Endpoint = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    settings: Set = None,
) -> None:
    """Change endpoint and HPKE key for tasks created from now on."""
    with reported_errors(as_json=json):
        from omnilytics.service.keys import open_hpke_key

        operator = _operator(config, settings, {"server.endpoint": endpoint})
        url = _endpoint(operator.settings)
        hpke_key = open_hpke_key(operator.settings.keys)
        record = operator.market.server(operator.key.address)
        if record.active_tasks and record.hpke_key != hpke_key.public:
            narrate(
                f"warning: {record.active_tasks} tasks under way are sealed to the old key; "
                "a server that runs with the new one cannot open their packages"
            )
        operator.send(
            lambda writer: writer.set_profile(url, hpke_key.public),
            action=f"Change the profile to {url}, key 0x{hpke_key.public.hex()}",
            comes_back=NOTHING_LOCKED,
            asking=(yes, dry_run, json),
        )


@application.command("add-stake")
def add_stake(
    amount: Annotated[str, typer.Argument(help='Such as "0.5 ether".')],
    config: ConfigFile = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    settings: Set = None,
) -> None:
    """Add to the server's stake."""
    with reported_errors(as_json=json):
        from omnilytics.foundation.amounts import parse_wei, show_wei

        amount_wei = parse_wei(amount)
        _operator(config, settings).send(
            lambda writer: writer.add_stake(amount_wei),
            action=f"Add {show_wei(amount_wei)} to the stake",
            comes_back=STAKE_COMES_BACK,
            asking=(yes, dry_run, json),
        )


@application.command()
def offer(
    min_fee: Annotated[
        str | None, typer.Option("--min-fee", help="Least fee per settled round.")
    ] = None,
    max_stake: Annotated[
        str | None, typer.Option("--max-stake", help="Most of the stake that a task may risk.")
    ] = None,
    withdraw_it: Annotated[
        bool, typer.Option("--withdraw", help="Be drawn into no further committee.")
    ] = False,
    token: Annotated[
        str | None, typer.Option("--token", help="ERC-20 token of the fee; default: ether.")
    ] = None,
    config: ConfigFile = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    settings: Set = None,
) -> None:
    """Offer to be drawn into committees for a price, or withdraw the offer."""
    with reported_errors(as_json=json):
        from omnilytics.foundation.errors import UsageError

        if withdraw_it == (min_fee is not None and max_stake is not None) or (
            withdraw_it and (min_fee or max_stake)
        ):
            raise UsageError("give either --min-fee and --max-stake, or --withdraw")
        operator = _operator(config, settings)
        terms, token_address = _offer(min_fee, max_stake), _token(token)
        operator.send(
            lambda writer: writer.set_offer(terms, token=token_address),
            action="Withdraw the offer to be drawn"
            if terms is None
            else f"Offer to be drawn for at least {min_fee} a round, risking at most {max_stake}",
            comes_back=NOTHING_LOCKED,
            asking=(yes, dry_run, json),
        )


@application.command()
def leave(
    config: ConfigFile = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    settings: Set = None,
) -> None:
    """Take part in no further task; the way to have the stake back."""
    with reported_errors(as_json=json):
        _operator(config, settings).send(
            lambda writer: writer.leave(),
            action="Leave: no further committee, the stake's waiting time begins",
            comes_back="the stake by `omnilytics server withdraw`, when `server status` says so; "
            "tasks under way are to be served to their end",
            asking=(yes, dry_run, json),
        )


@application.command()
def withdraw(
    config: ConfigFile = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    settings: Set = None,
) -> None:
    """Take the stake back after leaving."""
    with reported_errors(as_json=json):
        operator = _operator(config, settings)
        operator.check_free()
        operator.send(
            lambda writer: writer.withdraw_stake(),
            action="Withdraw the stake to the account",
            comes_back="the stake is paid out by this transaction",
            asking=(yes, dry_run, json),
        )


@application.command("claim-fees")
def claim_fees(
    task: Annotated[int, typer.Argument(help="Number of the task.", min=1)],
    config: ConfigFile = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    settings: Set = None,
) -> None:
    """Have the server paid the fees of a task's settled rounds."""
    with reported_errors(as_json=json):
        from omnilytics.foundation.amounts import show_wei
        from omnilytics.foundation.errors import UsageError
        from omnilytics.foundation.units import TaskId

        operator = _operator(config, settings)
        number, address = TaskId(task), operator.key.address
        committee = operator.market.task(number).committee
        if address not in committee:
            raise UsageError("the account is not in the task's committee", got=task)
        index = committee.index(address)
        due_wei = operator.market.fees_due(number, index)
        if due_wei == 0:
            raise UsageError("no fees are due in this task", got=task)
        operator.send(
            lambda writer: writer.claim_fees(number, committee, index),
            action=f"Claim the fees of task {task}: {show_wei(due_wei)} if it pays in ether",
            comes_back="the fees are paid out by this transaction",
            asking=(yes, dry_run, json),
        )


@application.command()
def status(config: ConfigFile = None, json: Json = False, settings: Set = None) -> None:
    """Show registration, stake, tasks and fees by the chain, and how work on the tasks goes."""
    with reported_errors(as_json=json):
        from omnilytics.chain.market import connect_market
        from omnilytics.cli.server_view import (
            print_status,
            read_status,
            stated_address,
            stored_jobs,
        )

        chosen = server_settings(config, settings)
        address = stated_address(chosen)
        _, market = connect_market(chosen.chain)
        found = read_status(market, address, stored_jobs(chosen))
        if json:
            print_json(found)
        else:
            print_status(found)


for store_command in (
    server_store.migrate,
    server_store.backup,
    server_store.restore,
    server_store.reconcile,
):
    application.command()(store_command)


@dataclass(frozen=True)
class _Operator:
    """Whoever runs the server: its settings, its market and its key."""

    settings: ServerSettings
    market: MarketReader
    key: SigningKey

    def send(
        self,
        call: Callable[[MarketWriter], Any],
        *,
        action: str,
        comes_back: str,
        asking: tuple[bool, bool, bool],
    ) -> None:
        """Show, confirm and send one call; `asking` is (yes, dry run, JSON)."""
        from omnilytics.cli.transactions import Asking, transact

        yes, dry_run, as_json = asking
        transact(
            self.market,
            self.key,
            call,
            action=action,
            comes_back=comes_back,
            asking=Asking(yes=yes, dry_run=dry_run, as_json=as_json),
        )

    def check_free(self) -> None:
        """Raise UsageError that says what a withdrawal still waits for."""
        from omnilytics.foundation.errors import UsageError

        record = self.market.server(self.key.address)
        now = self.market.chain.head_timestamp()
        if not record.leaving_block:
            raise UsageError("the server has not left", hint="omnilytics server leave")
        if record.active_tasks:
            raise UsageError("tasks are still active", got=record.active_tasks, want=0)
        if now < record.free_at:
            raise UsageError(
                "the stake is not free yet",
                got=f"{record.free_at - now} seconds left",
                hint="the waiting time lets faults of the last tasks be reported",
            )


def _operator(
    config: Path | None,
    assignments: list[str] | None,
    flags: dict[str, object] | None = None,
) -> _Operator:
    from omnilytics.chain.account_files import open_signing_key
    from omnilytics.chain.market import connect_market
    from omnilytics.cli.account import read_password

    settings = server_settings(config, assignments, flags)
    _, market = connect_market(settings.chain)
    key = open_signing_key(settings.keys, ask=lambda: read_password(None))
    return _Operator(settings, market, key)


def _endpoint(settings: ServerSettings) -> str:
    from omnilytics.foundation.errors import ConfigError

    if settings.server.endpoint is None:
        raise ConfigError("a setting is missing", want="server.endpoint", hint="give --endpoint")
    return settings.server.endpoint


def _offer(min_fee: str | None, max_stake: str | None) -> Any:
    from omnilytics.chain.records import OfferRecord
    from omnilytics.foundation.amounts import parse_wei

    if min_fee is None or max_stake is None:
        return None
    return OfferRecord(min_fee_wei=parse_wei(min_fee), max_stake_wei=parse_wei(max_stake))


def _token(text: str | None) -> Address:
    import re

    from omnilytics.foundation.errors import UsageError
    from omnilytics.foundation.units import Address

    if text is None:
        return Address(bytes(20))
    if not re.fullmatch("0x[0-9a-fA-F]{40}", text):
        raise UsageError("not an address", got=text[:80], want="0x and 40 hexadecimal digits")
    return Address(bytes.fromhex(text[2:]))
