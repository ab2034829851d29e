"""What `omnilytics task result` sums up: who was accepted and paid, what it cost, who lied."""

from __future__ import annotations

from typing import Any

import typer

from omnilytics.chain.bindings.market import RoundOpened, RoundSealed, RoundSettled
from omnilytics.chain.reader import MarketReader
from omnilytics.cli.task_view import read_task
from omnilytics.foundation.amounts import show_wei
from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.units import TaskId, show_address
from omnilytics.roles.task_view import Connect, fetch_transcript

_STEPS = {RoundOpened: "open", RoundSealed: "seal", RoundSettled: "settle"}


async def read_result(
    market: MarketReader, task: TaskId, connect: Connect, recovered: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return a summary as plain JSON values; wei as text.

    Args:
        market: The market.
        task: The task.
        connect: Reaches servers, for transcripts.
        recovered: What the buyer wrote down of the rounds that it recovered.
    """
    found = await read_task(market, task, connect, market.task(task).opened_rounds)
    gas = _gas(market, task)
    known = {each["round"]: each for each in recovered}
    rounds = [
        {
            **each,
            "gas": gas.get(each["round"], {}),
            "lying_servers": known.get(each["round"], {}).get("lying_servers"),
        }
        for each in found["rounds_shown"]
    ]
    return {
        "task": task,
        "rounds": rounds,
        "payouts": await _payouts(market, task, connect),
        "left_wei": found["left_wei"],
    }


def print_result(found: dict[str, Any]) -> None:
    """Print a summary for people."""
    typer.echo(f"weights    {found['weights']}, after round {found['after_round']}")
    for each in found["rounds"]:
        liars = ", ".join(map(str, each["lying_servers"] or ()))
        typer.echo(
            f"round {each['round']:<4} {each['state']}, {each['accepted_count'] or 0} accepted, "
            f"{sum(each['gas'].values()):,} gas" + (f", servers lied: {liars}" if liars else "")
        )
    for owner, amount in (found["payouts"] or {}).items():
        typer.echo(f"earned     {owner} {show_wei(int(amount))}")
    if found["payouts"] is None:
        typer.echo("earned     no server gave the transcript")


def _gas(market: MarketReader, task: TaskId) -> dict[int, dict[str, int]]:
    """Return the gas of each round's opening, seal and settlement, whoever paid it."""
    found: dict[int, dict[str, int]] = {}
    for event in market.events(task):
        if not isinstance(event, RoundOpened | RoundSealed | RoundSettled):
            continue
        receipt = market.chain.receipt(event.position.transaction_hash)
        if receipt is not None:
            found.setdefault(event.round, {})[_STEPS[type(event)]] = receipt.gas_used
    return found


async def _payouts(market: MarketReader, task: TaskId, connect: Connect) -> dict[str, str] | None:
    settled = market.settled_rounds(task)
    if not settled:
        return {}
    endpoints = [profile.endpoint for profile in market.profiles(task)]
    try:
        transcript = await fetch_transcript("audit", settled[-1], endpoints, connect)
    except OmniLyticsError:
        return None
    return {show_address(each.owner): str(each.cumulative_wei) for each in transcript.payouts}
