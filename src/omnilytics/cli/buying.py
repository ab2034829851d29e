"""The Python API as a buyer's and an owner's commands use it, and what it will send."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from omnilytics.chain.records import Phase
from omnilytics.chain.writer import GAS_LIMITS
from omnilytics.cli.plans import Plan, plan_call
from omnilytics.client.buyer import Draft, ModelOwner
from omnilytics.client.connection import open_connection
from omnilytics.client.seller import DataOwner
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Hash32, TaskId, Wei
from omnilytics.roles.task_view import chain_terms

if TYPE_CHECKING:
    from omnilytics.cli.options import Asking
    from omnilytics.cli.party import Party
    from omnilytics.client.events import OnEvent
    from omnilytics.client.settings import ClientSettings

_NO_CONSENT = bytes(64) + b"\x1b"
"""Stands for a server's agreement, which is asked for only when the plan is confirmed."""


def open_buyer(party: Party[ClientSettings], on_event: OnEvent) -> ModelOwner:
    """Return the Python API's model owner for a command's account."""
    connection = open_connection(party.settings, key=party.key)
    return ModelOwner(connection=connection, on_event=on_event)


def open_seller(party: Party[ClientSettings], on_event: OnEvent, fewest_owners: int) -> DataOwner:
    """Return the Python API's data owner for a command's account."""
    connection = open_connection(party.settings, key=party.key)
    return DataOwner(connection=connection, on_event=on_event, fewest_owners=fewest_owners)


def refuse_unsigned(asking: Asking) -> None:
    """Raise UsageError: such a command signs messages to servers too, so it needs the key."""
    if asking.unsigned:
        raise UsageError(
            "this command signs messages to servers, not only transactions",
            hint="give the account's keystore; --unsigned is for commands that only send",
        )


def plans_of_draft(party: Party[ClientSettings], draft: Draft) -> list[Plan]:
    """Return what publishing will send; nothing where the task is there with its servers."""
    if draft.task is not None:
        return plans_of_drawing(party, draft.task)
    specification = draft.specification
    terms, members = chain_terms(specification), specification.members
    back = "what no settled round uses, by `omnilytics task close TASK` between rounds"
    if specification.committee_mode == "named":
        named = plan_call(
            party.market,
            party.payer,
            lambda writer: writer.create_task(
                terms, members, expires=0, consents=[_NO_CONSENT] * len(members)
            ),
            action="Create the task and lock its escrow, once every named server agrees",
            comes_back=back,
        )
        return [named]
    drawn = plan_call(
        party.market,
        party.payer,
        lambda writer: writer.create_drawn_task(terms),
        action="Create the task, lock its escrow and pay for the draw",
        comes_back=back + "; the draw's fee is burnt",
    )
    gas = GAS_LIMITS["reveal_draw"] + GAS_LIMITS["draw_committee"]
    return [drawn, _more_calls(drawn, gas, "Show the draw's block, and draw the servers")]


def plans_of_drawing(party: Party[ClientSettings], task: TaskId) -> list[Plan]:
    """Return what a task still needs whose servers are not drawn yet; else nothing."""
    if party.market.round_state(task).phase is not Phase.DRAWING:
        return []
    again = plan_call(
        party.market,
        party.payer,
        lambda writer: writer.redraw(task),
        action="Ask for another draw if the one asked for was missed, for its fee",
        comes_back="the draw's fee is burnt",
    )
    gas = GAS_LIMITS["reveal_draw"] + GAS_LIMITS["draw_committee"]
    return [again, _more_calls(again, gas, "Show the draw's block, and draw the servers")]


def plan_rounds(party: Party[ClientSettings], task: TaskId) -> Plan | None:
    """Return what playing a task's remaining rounds may send; None where none remains."""
    record, phase = party.market.task(task), party.market.round_state(task).phase
    left = record.terms.rounds - record.opened_rounds
    under_way = phase in (Phase.OPEN, Phase.SEALED)
    if record.closed or (left <= 0 and not under_way):
        return None
    one = plan_call(
        party.market,
        party.payer,
        lambda writer: writer.open_round(task, Hash32(bytes(32))),
        action="",
        comes_back="",
    )
    gas = left * GAS_LIMITS["open_round"] + (left + under_way) * GAS_LIMITS["void_round"]
    return _more_calls(
        one, gas, f"Open {left} rounds, one after another, and void those that miss a deadline"
    )


def plan_forcing(party: Party[ClientSettings], task: TaskId, rounds: int) -> Plan:
    """Return what submitting may send: it sends nothing unless servers hide a submission."""
    one = plan_call(
        party.market,
        party.payer,
        lambda writer: writer.force_submission(task, b""),
        action="",
        comes_back="",
    )
    gas = rounds * GAS_LIMITS["force_submission"]
    return _more_calls(
        one, gas, "Submit to servers; only if they hide a submission, put its certificate on chain"
    )


def _more_calls(first: Plan, gas: int, action: str) -> Plan:
    """Return the plan of calls that send no ether, to the same contract."""
    per_gas_wei = first.gas_cost_wei // first.gas_limit
    return replace(
        first,
        action=action,
        comes_back="nothing is locked; only gas is spent",
        value_wei=Wei(0),
        gas_limit=gas,
        gas_cost_wei=Wei(gas * per_gas_wei),
    )
