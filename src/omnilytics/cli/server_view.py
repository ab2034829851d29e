"""What `omnilytics server status` shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import typer

from omnilytics.chain.reader import MarketReader
from omnilytics.foundation.amounts import show_wei
from omnilytics.foundation.units import Address, TaskId, show_address
from omnilytics.service.reconciling import own_tasks
from omnilytics.service.registration import find_server
from omnilytics.wire.task_specification import ETHER_TOKEN


def read_status(market: MarketReader, address: Address) -> dict[str, Any]:
    """Return what the chain knows of a server, as plain JSON values; wei as text."""
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
    found["tasks"] = [_task(market, task, address) for task in own_tasks(market, address)]
    return found


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
