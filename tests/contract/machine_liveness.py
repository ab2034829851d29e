"""From any state whatever, allowed calls of interested parties free all money: nothing is stuck.

In two passes. While hostile accounts still refuse what they are sent, strangers end every round and
task, and everybody else gets its money. Then the hostile ones take theirs. What remains is credit
that no payouts root covers, dust of no task, and what was burnt.
"""

from __future__ import annotations

from machine_actions import Parties
from machine_choices import KEY_OF
from machine_registry import DRAW_BLOCKS
from machine_state import DAYS_14, NOBODY, Phase
from machine_world import KEYS, MARKET, REGISTRY, World

from omnilytics.foundation.units import Address, Hash32


def free_everything(parties: Parties) -> None:
    """End the example: close all tasks, pay everybody, empty the registry."""
    world = parties.world
    world.trace.append("    the end")
    world.advance(1, DAYS_14 + 31 * 86_400)  # past every submission and seal deadline
    world.advance(8_001, 8_001)  # past every settlement and draw
    _end_tasks(world)
    _pay_everybody(parties)
    _empty_registry(world)
    _check_friends(world)
    for party in KEY_OF:
        world.behave(party, "take")
        for token in world.state.tokens:
            world.block_token(token, party, False)
    _end_tasks(world)
    _pay_everybody(parties)
    _empty_registry(world)
    _check_empty(parties)


def _end_tasks(world: World) -> None:
    stranger = KEYS["X"].address
    for number, task in world.state.tasks.items():
        if task.phase in (Phase.OPEN, Phase.SEALED):
            assert world.call(stranger, "void_round", number) is None
    world.advance(1, DAYS_14 + 1)
    for number in world.state.tasks:
        committee = list(world.state.tasks[number].committee or ())
        # Looked up each time: a receiver that calls back may have closed it meanwhile.
        if not world.state.tasks[number].closed:
            assert world.call(stranger, "close_task", number, committee) is None
        if not world.state.tasks[number].refunded:
            world.call(stranger, "close_task", number, committee)


def _pay_everybody(parties: Parties) -> None:
    world, stranger = parties.world, KEYS["X"].address
    for number in world.state.tasks:
        task = world.state.tasks[number]
        for index in range(task.n if task.committee else 0):
            if task.fees(index) > task.fees_paid.get(index, 0):
                committee = list(task.committee or ())
                world.call(stranger, "claim_fees", number, committee, index)
        for root in (task.root, task.previous_root):
            for owner, amount in parties.payouts.amounts.get(root, {}).items():
                due = amount - world.state.tasks[number].claimed.get(owner, 0)
                proof = list(parties.payouts.proofs[root][owner])
                if 0 < due <= task.credited:
                    world.call(stranger, "claim", number, owner, amount, proof)


def _empty_registry(world: World) -> None:
    for party in world.state.servers:
        world.call(party, "leave")
    for party in world.state.bonds:
        world.call(party, "leave_bond")
    world.advance(DRAW_BLOCKS + 1, DAYS_14)
    for party in list(world.state.servers):
        world.call(party, "withdraw_stake")
    for party in list(world.state.bonds):
        world.call(party, "withdraw_bond")
    for party in list(world.state.pool):
        world.call(KEYS["X"].address, "sweep", party)


def _hostile(world: World) -> set[Address]:
    return world.state.refusing | set(world.state.calling_back)


def _check_friends(world: World) -> None:
    """Nobody who takes money is held up by those who do not."""
    hostile = _hostile(world)
    for task in world.state.tasks.values():
        assert task.closed
        assert task.refunded or task.owner in hostile or task.terms.token != NOBODY
    assert not set(world.state.servers) - hostile
    assert not {party for party, bond in world.state.bonds.items() if bond.amount} - hostile


def _check_empty(parties: Parties) -> None:
    state, chain = parties.world.state, parties.world.chain
    assert not state.servers
    assert not state.pool
    assert not any(bond.amount for bond in state.bonds.values())
    assert chain.balance(REGISTRY) == state.burnt
    credit_left = 0
    for task in state.tasks.values():
        assert task.closed
        assert task.refunded
        assert all(task.fees_paid.get(i, 0) == task.fees(i) for i in range(task.n))
        left = task.credited - task.total_claimed
        assert task.held == left
        credit_left += left if task.terms.token == NOBODY else 0
        _check_only_uncovered(parties, task.root, task.claimed, left)
    assert chain.balance(MARKET) == credit_left


def _check_only_uncovered(
    parties: Parties, root: Hash32, claimed: dict[Address, int], left: int
) -> None:
    """What is left is less than any leaf of the current root still asks for."""
    for owner, amount in parties.payouts.amounts.get(root, {}).items():
        due = amount - claimed.get(owner, 0)
        assert due <= 0 or due > left or owner == MARKET
