"""What `omnilytics data` tells an owner: a task's terms in words, and what came of taking part."""

from __future__ import annotations

from typing import Any

import typer

from omnilytics.chain.reader import MarketReader
from omnilytics.foundation.amounts import show_wei
from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.units import Address, TaskId, show_address
from omnilytics.roles.claims import Credit, find_credit
from omnilytics.roles.task_view import Connect, TaskView, fetch_transcript
from omnilytics.wire.task_specification import ETHER_TOKEN


def terms_in_words(view: TaskView) -> list[str]:
    """Return what taking part means, in sentences: pay, risk, privacy, servers, duties."""
    task = view.specification
    paid = (
        show_wei(task.reward_wei)
        if task.token == ETHER_TOKEN
        else f"{task.reward_wei:,} units of the token {show_address(Address(task.token))}"
    )
    servers = ", ".join(
        f"{show_address(Address(member.address))} ({member.endpoint})" for member in task.committee
    )
    need = task.servers - task.errors
    return [
        f'Task {view.task}, "{task.title}", of {show_address(view.model_owner)}: '
        f"{task.dimension:,} parameters, {task.rounds} rounds.",
        task.description,
        f"Reward: {paid} for every round in which you are accepted; once settled it is yours.",
        f"Your risk: {show_wei(task.admission.min_bond_wei)} of your bond. It is lost if any "
        f"{need} of the {task.servers} servers sign that you cheated; of the rest nothing.",
        f"Privacy: each server gets a share of your gradient. {_harmless(task.privacy)} of it; "
        f"any {task.privacy + 1} that collude can read it.",
        f"What the buyer learns: the sum over at least {task.min_owners} accepted owners, "
        "never yours alone; if all the others collude with the buyer, the sum shows yours.",
        f"Servers: {servers}. {task.errors} of them may lie or be down.",
        f"Inputs: shape {tuple(task.input_shape)}, loss {task.loss}; {task.preprocessing}.",
    ]


def _harmless(privacy: int) -> str:
    return "One server learns nothing" if privacy == 1 else f"Any {privacy} learn nothing"


async def read_status(
    market: MarketReader, owner: Address, tasks: list[TaskId], connect: Connect, *, rounds: bool
) -> dict[str, Any]:
    """Return an owner's bond and what tasks credited to it, as plain JSON values; wei as text.

    Args:
        market: The market.
        owner: The owner.
        tasks: Which tasks; those that never accepted the owner are left out unless `rounds`.
        connect: Reaches servers.
        rounds: Tell for every settled round whether the owner was accepted.
    """
    bond = market.bond(owner)
    found = []
    for task in tasks:
        entry = await _task_status(market, owner, task, connect)
        if rounds:
            entry["rounds"] = await _accepted_rounds(market, owner, task, connect)
        if rounds or entry["credited_wei"] != "0" or entry["problem"]:
            found.append(entry)
    return {
        "owner": show_address(owner),
        "balance_wei": str(market.chain.balance(owner)),
        "bond_wei": str(bond.amount_wei),
        "bond_free_at": bond.free_at or None,
        "tasks": found,
    }


async def find_credits(
    market: MarketReader, owner: Address, tasks: list[TaskId], connect: Connect
) -> tuple[list[Credit], dict[TaskId, str]]:
    """Return the credits that are not claimed yet, and why a task could not be asked about."""
    found, problems = [], {}
    for task in tasks:
        try:
            credit = await find_credit(market, task, owner, connect)
        except OmniLyticsError as error:
            problems[task] = str(error)
            continue
        if credit is not None and credit.due_wei:
            found.append(credit)
    return found, problems


def show_due(market: MarketReader, credits_: list[Credit]) -> str:
    """Return what claiming these pays, by what it is paid in."""
    due: dict[Address, int] = {}
    for credit in credits_:
        token = market.task(credit.task).terms.token
        due[token] = due.get(token, 0) + credit.due_wei
    return " and ".join(
        show_wei(amount)
        if token == ETHER_TOKEN
        else f"{amount:,} units of token {show_address(token)}"
        for token, amount in due.items()
    )


def print_status(found: dict[str, Any]) -> None:
    """Print an owner's status for people."""
    typer.echo(f"owner      {found['owner']}, holds {show_wei(int(found['balance_wei']))}")
    leaving = f", asked back, free at {found['bond_free_at']}" if found["bond_free_at"] else ""
    typer.echo(f"bond       {show_wei(int(found['bond_wei']))}{leaving}")
    for each in found["tasks"]:
        if each["problem"]:
            typer.echo(f"task {each['task']:<5} {each['problem']}")
            continue
        typer.echo(
            f"task {each['task']:<5} credited {_amount(each, 'credited_wei')}, "
            f"claimed {_amount(each, 'claimed_wei')}, due {_amount(each, 'due_wei')}"
        )
        for entry in each.get("rounds", []):
            accepted = {True: "accepted", False: "not accepted", None: "no transcript to be had"}
            typer.echo(f"  round {entry['round']:<4} {accepted[entry['accepted']]}")


async def _task_status(
    market: MarketReader, owner: Address, task: TaskId, connect: Connect
) -> dict[str, Any]:
    credit, problem = None, None
    try:
        credit = await find_credit(market, task, owner, connect)
    except OmniLyticsError as error:
        problem = str(error)
    token = market.task(task).terms.token
    return {
        "task": task,
        "credited_wei": str(credit.cumulative_wei if credit else 0),
        "claimed_wei": str(credit.claimed_wei if credit else market.claimed(task, owner)),
        "due_wei": str(credit.due_wei if credit else 0),
        "token": None if token == ETHER_TOKEN else show_address(token),
        "problem": problem,
    }


async def _accepted_rounds(
    market: MarketReader, owner: Address, task: TaskId, connect: Connect
) -> list[dict[str, Any]]:
    endpoints = [profile.endpoint for profile in market.profiles(task)]
    found = []
    for settled in market.settled_rounds(task):
        try:
            transcript = await fetch_transcript("audit", settled, endpoints, connect)
            accepted = owner in transcript.accepted
        except OmniLyticsError:
            accepted = None
        found.append({"round": settled.round, "accepted": accepted})
    return found


def _amount(found: dict[str, Any], key: str) -> str:
    if found["token"] is None:
        return show_wei(int(found[key]))
    return f"{int(found[key]):,} of token {found['token']}"
