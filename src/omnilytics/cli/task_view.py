"""What `omnilytics task list` and `task show` know: the chain, and what servers publish."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import typer

from omnilytics.chain.bindings.market import RoundOpened
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import Phase, RoundRecord, TaskRecord
from omnilytics.foundation.amounts import show_wei
from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.units import Round, TaskId, show_address
from omnilytics.roles.task_view import Connect, fetch_task, fetch_transcript
from omnilytics.wire.task_specification import ETHER_TOKEN, TaskSpecification


def read_summary(market: MarketReader, task: TaskId) -> dict[str, Any]:
    """Return what the chain says of a task, as plain JSON values; wei as text."""
    record, state = market.task(task), market.round_state(task)
    terms = record.terms
    return {
        "task": task,
        "model_owner": show_address(record.model_owner),
        "closed": record.closed,
        "servers": terms.n,
        "privacy": terms.t,
        "errors": terms.e,
        "min_owners": terms.min_owners,
        "max_owners": terms.max_owners,
        "reward_wei": str(terms.reward_wei),
        "fee_wei": str(terms.fee_wei),
        "opening_fee_wei": str(terms.opening_fee_wei),
        "min_bond_wei": str(terms.min_bond_wei),
        "min_stake_wei": str(terms.min_stake_wei),
        "token": None if terms.token == ETHER_TOKEN else show_address(terms.token),
        "rounds": terms.rounds,
        "max_rounds": terms.max_rounds,
        "opened_rounds": record.opened_rounds,
        "settled_rounds": record.settled_rounds,
        "round": state.round,
        "phase": state.phase.name.lower(),
        "escrow_wei": str(terms.escrow_wei),
        "credited_wei": str(record.credited_wei),
        "left_wei": str(record.unspent_wei),
    }


async def read_task(
    market: MarketReader, task: TaskId, connect: Connect | None, last: int
) -> dict[str, Any]:
    """Return everything public of a task.

    Args:
        market: The market.
        task: The task.
        connect: Reaches servers, for the specification and transcripts; None asks the chain alone.
        last: How many of the latest rounds to show.
    """
    record = market.task(task)
    committee = [
        {"server": show_address(address), "endpoint": profile.endpoint}
        for address, profile in zip(record.committee, market.profiles(task), strict=True)
    ]
    return {
        **read_summary(market, task),
        "committee": committee,
        "specification": await _specification(market, record, connect),
        "rounds_shown": await _rounds(market, record, connect, last),
    }


def describe(specification: TaskSpecification) -> dict[str, Any]:
    """Return what people want to know of a specification, beyond the terms on chain."""
    admission = specification.admission
    return {
        "title": specification.title,
        "description": specification.description,
        "model_licence": specification.model_licence,
        "contact": specification.contact,
        "parameters": specification.dimension,
        "input_shape": list(specification.input_shape),
        "preprocessing": specification.preprocessing,
        "loss": specification.loss,
        "committee_mode": specification.committee_mode,
        "admission": admission.mode,
        "admitted": [show_address(owner) for owner in admission.owners],
    }


def print_summary(found: dict[str, Any]) -> None:
    """Print one line of a task."""
    state = "closed" if found["closed"] else found["phase"]
    typer.echo(
        f"task {found['task']:<5} {state:<8} round {found['round']}/{found['rounds']}, "
        f"{found['settled_rounds']} settled, reward {_amount(found, 'reward_wei')}, "
        f"(n, t, e) = ({found['servers']}, {found['privacy']}, {found['errors']}), "
        f"left {_amount(found, 'left_wei')}"
    )


def print_task(found: dict[str, Any]) -> None:
    """Print a task for people."""
    specification = found["specification"]
    if specification:
        typer.echo(f"title      {specification['title']}")
        typer.echo(f"what       {specification['description']}")
        typer.echo(f"model      {specification['parameters']:,} parameters, ", nl=False)
        typer.echo(f"input {tuple(specification['input_shape'])}, loss {specification['loss']}")
    print_summary(found)
    typer.echo(f"owner      {found['model_owner']}")
    typer.echo(
        f"pays       {_amount(found, 'reward_wei')} to each of "
        f"{found['min_owners']} to {found['max_owners']} accepted owners a round"
    )
    typer.echo(
        f"fees       {_amount(found, 'fee_wei')} a server and settled round, "
        f"{_amount(found, 'opening_fee_wei')} for an opened one"
    )
    typer.echo(
        f"at risk    {show_wei(int(found['min_bond_wei']))} of an owner's bond, "
        f"{show_wei(int(found['min_stake_wei']))} of a server's stake"
    )
    typer.echo(
        f"escrow     {_amount(found, 'escrow_wei')}, of which "
        f"{_amount(found, 'credited_wei')} went to owners and {_amount(found, 'left_wei')} is left"
    )
    for place, member in enumerate(found["committee"], start=1):
        typer.echo(f"server {place:<3} {member['server']} {member['endpoint']}")
    for each in found["rounds_shown"]:
        _print_round(each)


def _print_round(found: dict[str, Any]) -> None:
    line = f"round {found['round']:<4} {found['state']}"
    if found["state"] == "settled":
        line += f", {found['accepted_count']} accepted"
        line += "" if found["accepted"] is not None else " (no server gave the transcript)"
    elif found["submissions_until"]:
        moment = datetime.fromtimestamp(found["submissions_until"], UTC)
        line += f", submissions until {moment:%Y-%m-%d %H:%M:%S} UTC"
    typer.echo(line)
    for owner in found["accepted"] or ():
        typer.echo(f"           {owner}")


async def _specification(
    market: MarketReader, record: TaskRecord, connect: Connect | None
) -> dict[str, Any] | None:
    if connect is None or not record.committee:
        return None
    try:
        return describe((await fetch_task(market, record.task, connect)).specification)
    except OmniLyticsError:
        return None


async def _rounds(
    market: MarketReader, record: TaskRecord, connect: Connect | None, last: int
) -> list[dict[str, Any]]:
    state = market.round_state(record.task)
    opened = [event for event in market.events(record.task) if isinstance(event, RoundOpened)]
    shown = opened[-last:] if last else []
    return [await _round(market, event, state, connect) for event in shown]


async def _round(
    market: MarketReader, opened: RoundOpened, latest: RoundRecord, connect: Connect | None
) -> dict[str, Any]:
    task, number = opened.task, opened.round
    settled = market.round_settled(task, number)
    active = latest.round == number and latest.phase in (Phase.OPEN, Phase.SEALED)
    state = latest.phase.name.lower() if active else "settled" if settled else "voided"
    return {
        "round": number,
        "state": state,
        "submissions_until": latest.submission_deadline if state == "open" else None,
        "accepted_count": settled.accepted_count if settled else None,
        "accepted": await _accepted(market, task, number, connect) if settled else None,
    }


async def _accepted(
    market: MarketReader, task: TaskId, number: Round, connect: Connect | None
) -> list[str] | None:
    """Return who was accepted, by the transcript that the chain names; None where none gives it."""
    settled = market.round_settled(task, number)
    if connect is None or settled is None:
        return None
    endpoints = [profile.endpoint for profile in market.profiles(task)]
    try:
        transcript = await fetch_transcript("audit", settled, endpoints, connect)
    except OmniLyticsError:
        return None
    return [show_address(owner) for owner in transcript.accepted]


def _amount(found: dict[str, Any], key: str) -> str:
    """Return an amount of what the task pays in."""
    if found["token"] is None:
        return show_wei(int(found[key]))
    return f"{int(found[key]):,} of token {found['token']}"
