"""What `omnilytics server status` shows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from omnilytics.chain.reader import MarketReader
from omnilytics.cli.output import narrate
from omnilytics.foundation.amounts import show_wei
from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.units import Address, TaskId, show_address
from omnilytics.service.reconciling import own_tasks
from omnilytics.service.registration import find_server
from omnilytics.wire.task_specification import ETHER_TOKEN

if TYPE_CHECKING:
    from omnilytics.service.settings import ServerSettings


def read_status(
    market: MarketReader, address: Address, jobs: Mapping[TaskId, Mapping[str, object]]
) -> dict[str, Any]:
    """Return what is known of a server, as plain JSON values; wei as text.

    Args:
        market: What the chain knows.
        address: The server.
        jobs: What its database knows, by task (`stored_jobs`).
    """
    found: dict[str, Any] = {
        "server": show_address(address),
        "market": show_address(market.address),
        "chain_id": market.chain.chain_id,
        "head_block": market.chain.head(),
        "balance_wei": str(market.chain.balance(address)),
        "registered": False,
    }
    record = find_server(market, address)
    if record is not None:
        offer = market.offer(address, ETHER_TOKEN)
        found |= {
            "registered": True,
            "endpoint": record.endpoint,
            "hpke_key": "0x" + record.hpke_key.hex(),
            "stake_wei": str(record.stake_wei),
            "active_tasks": record.active_tasks,
            "leaving": record.leaving_block > 0,
            "free_at": record.free_at or None,
            "offer": None
            if offer is None
            else {
                "min_fee_wei": str(offer.min_fee_wei),
                "max_stake_wei": str(offer.max_stake_wei),
            },
        }
    found["tasks"] = [
        _task(market, task, address) | {"job": jobs.get(task)}
        for task in own_tasks(market, address)
    ]
    return found


def stored_jobs(settings: ServerSettings) -> dict[TaskId, dict[str, object]]:
    """Return how the server's work on each task goes; empty where its database cannot be read."""
    from omnilytics.service.settings import secret_text
    from omnilytics.storage.database import Database, default_url
    from omnilytics.storage.jobs import Jobs
    from omnilytics.storage.migration import Schema, schema_state

    url = secret_text(settings.storage.database_url) or default_url(settings.server.data)
    try:
        if schema_state(url).schema != Schema.CURRENT:
            return {}
        database = Database(url)
        try:
            now = database.now()
            return {
                job.task: {
                    "worked_on": job.lease_until > now,
                    "failed_attempts": job.attempts,
                    "last_error": job.last_error or None,
                }
                for job in Jobs(database).all()
            }
        finally:
            database.close()
    except OmniLyticsError as error:
        narrate(f"warning: the server's database is not shown: {error}")
        return {}


def print_status(found: dict[str, Any]) -> None:
    """Print a status for people."""
    typer.echo(f"server     {found['server']}, holds {_ether(found['balance_wei'])}")
    typer.echo(f"market     {found['market']} on chain {found['chain_id']}")
    if not found["registered"]:
        typer.echo("registered no; omnilytics server register")
    else:
        typer.echo(f"registered {found['endpoint']}, key {found['hpke_key']}")
        typer.echo(f"stake      {_ether(found['stake_wei'])}, {found['active_tasks']} active tasks")
        if found["leaving"]:
            moment = datetime.fromtimestamp(found["free_at"], UTC)
            typer.echo(f"leaving    the stake is free from {moment:%Y-%m-%d %H:%M} UTC on")
        if found["offer"]:
            offer = found["offer"]
            typer.echo(
                f"offer      from {_ether(offer['min_fee_wei'])} a round, "
                f"risks up to {_ether(offer['max_stake_wei'])}"
            )
    for task in found["tasks"]:
        closed = ", closed" if task["closed"] else ""
        typer.echo(
            f"task {task['task']:<5} round {task['round']} {task['phase']}{closed}, "
            f"{task['settled_rounds']} settled, fees due {task['fees_due_wei']} wei"
        )
        if job := task["job"]:
            worker = "a process works on it" if job["worked_on"] else "no process works on it"
            typer.echo(f"           {worker}")
            if job["failed_attempts"]:
                typer.echo(f"           failed {job['failed_attempts']} times: {job['last_error']}")


def _task(market: MarketReader, task: TaskId, address: Address) -> dict[str, Any]:
    record, state = market.task(task), market.round_state(task)
    index = record.committee.index(address)
    return {
        "task": task,
        "round": state.round,
        "phase": state.phase.name.lower(),
        "closed": record.closed,
        "settled_rounds": record.settled_rounds,
        "fees_due_wei": str(market.fees_due(task, index)),
        "token": show_address(record.terms.token),
    }


def _ether(wei: str) -> str:
    return show_wei(int(wei))
