"""The end of the demo: everybody is paid, stakes and bonds go back, and the books are checked.

What a party earned is added up from the contracts' events; its balance is asked of the chain. The
two must differ by its gas alone, to the wei.
"""

from __future__ import annotations

from collections import defaultdict

from omnilytics.chain.bindings.market import (
    FeesClaimed,
    RewardClaimed,
    TaskCreated,
    TaskRefunded,
)
from omnilytics.chain.bindings.registry import DrawPinned, Slashed
from omnilytics.demo.market import DemoMarket
from omnilytics.demo.result import Balance, DemoResult
from omnilytics.foundation.units import Address, TaskId
from omnilytics.roles.task_view import TaskView


async def pay_out(market: DemoMarket, view: TaskView) -> None:
    """Claim rewards and fees, close the task, and take stakes and bonds back.

    They are free after two weeks: the development chain jumps there.
    """
    for owner in market.owners:
        await owner.claim(view.task)
    for index, server in enumerate(market.servers):
        if market.reader.fees_due(view.task, index):
            server.node.writer.claim_fees(view.task, view.parameters.members, index)
    market.model_owner.close_task()
    servers = market.servers + market.spares
    for server in servers:
        server.node.writer.leave()
    bonded = [owner for owner in market.owners if market.reader.bond(owner.address).amount_wei]
    for owner in bonded:
        owner.writer.leave_bond()
    free_at = [market.reader.server(server.node.address).free_at for server in servers]
    free_at += [market.reader.bond(owner.address).free_at for owner in bonded]
    market.chain.wait_for_time(max(free_at))
    for server in servers:
        server.node.writer.withdraw_stake()
    for owner in bonded:
        owner.writer.withdraw_bond()


def close_books(market: DemoMarket, task: TaskId, result: DemoResult) -> None:
    """Fill in every party's balance, and what the contracts keep."""
    earned = earnings(market, task)
    result.balances = [
        Balance(
            party=party.name,
            note=party.note,
            before_wei=party.start_wei,
            earned_wei=earned[party.address],
            gas_wei=party.writer.sender.gas_cost_wei,
            after_wei=market.chain.balance(party.address),
        )
        for party in market.parties
    ]
    chain, reader = market.chain, market.reader
    result.contract_wei = chain.balance(reader.address) - market.contract_start_wei
    result.burnt_wei = chain.balance(reader.registry) - market.registry_start_wei


def earnings(market: DemoMarket, task: TaskId) -> dict[Address, int]:
    """Return what a task's events gave each party, less what they took, without gas."""
    earned: dict[Address, int] = defaultdict(int)
    model_owner = market.model_owner.key.address
    for event in market.reader.events():
        if getattr(event, "task", None) != task:
            continue
        if isinstance(event, RewardClaimed):
            earned[event.owner] += event.amount_wei
        elif isinstance(event, FeesClaimed):
            earned[event.server] += event.amount_wei
        elif isinstance(event, TaskCreated):
            earned[model_owner] -= event.escrow_wei
        elif isinstance(event, DrawPinned):
            earned[model_owner] -= event.fee_wei
        elif isinstance(event, TaskRefunded):
            earned[model_owner] += event.amount_wei
        elif isinstance(event, Slashed):
            earned[event.party] -= event.amount_wei
            earned[event.reporter] += event.share_wei
    return earned
