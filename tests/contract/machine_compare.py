"""What the contracts answer, compared with what the model keeps, through the package's readers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from machine_state import DAYS_14, NOBODY, Bond, Draw, Phase

from omnilytics.chain import records
from omnilytics.chain.abi import Call
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.packing import unpack_round, unpack_task, unpack_terms
from omnilytics.foundation.units import Address, TaskId

if TYPE_CHECKING:
    from machine_world import World

MOVES = {
    Phase.DRAWING: {Phase.DRAWING, Phase.IDLE},
    Phase.IDLE: {Phase.IDLE, Phase.OPEN},
    Phase.OPEN: {Phase.OPEN, Phase.SEALED, Phase.IDLE},
    Phase.SEALED: {Phase.SEALED, Phase.IDLE},
}
"""From a phase to what may follow it in one call that does not call others."""


def ask(world: World, contract: Address, call: Call[Any]) -> Any:
    """Return what a view returns."""
    return call.result(world.chain.view(contract, call.data))


def compare_task(world: World, number: int) -> None:
    """Compare a task, its round and its claims."""
    task = world.state.tasks[number]
    stored = ask(world, world.state.market, market.task(TaskId(number)))
    record = unpack_task(TaskId(number), stored, task.committee or ())
    where = f"task {number}"
    _same(where, vars(record) | {"terms": None}, _record_of(world, number) | {"terms": None})
    terms = vars(unpack_terms(stored))
    windows = vars(terms.pop("windows"))
    _same(where, terms | windows, vars(task.terms) | {"n": task.n, "rounds": task.paid_rounds})
    state = unpack_round(TaskId(number), stored)
    sealed = task.phase is Phase.SEALED
    wanted = {
        "round": task.opened,
        "phase": records.Phase[task.phase.name],
        "opened_block": task.opened_block,
        "submission_deadline": task.idle_since,
        "sealed_block": task.sealed_block if sealed else 0,
        "count": task.sealed_count if sealed else 0,
        "submissions_root": task.submissions_root if sealed else bytes(32),
    }
    _same(where, {name: getattr(state, name) for name in wanted}, wanted)
    for owner, paid in task.claimed.items():
        assert ask(world, world.state.market, market.claimed(TaskId(number), owner)) == paid
    for index in range(task.n):
        found = ask(world, world.state.market, market.fees_paid(TaskId(number), index))
        assert found == task.fees_paid.get(index, 0)
    _check_move(world, number)


def _record_of(world: World, number: int) -> dict[str, Any]:
    task = world.state.tasks[number]
    return {
        "task": number,
        "model_owner": task.owner,
        "committee": task.committee or (),
        "profiles": task.profiles,
        "created_block": task.created_block,
        "opened_rounds": task.opened,
        "settled_rounds": task.settled,
        "attested_rounds": tuple(task.attested),
        "closed": task.closed,
        "refunded": task.refunded,
        "credited_wei": task.credited,
        "claimed_wei": task.total_claimed,
        "payouts_root": task.root,
        "previous_payouts_root": task.previous_root,
    }


def _check_move(world: World, number: int) -> None:
    """States move only along idle, open, sealed, drawing, closed, refunded."""
    task = world.state.tasks[number]
    before = world.stages.get(number)
    world.stages[number] = task.phase, task.closed, task.refunded
    assert task.closed or not task.refunded
    assert not task.closed or task.phase in (Phase.IDLE, Phase.DRAWING)
    if before is None:
        return
    phase, closed, refunded = before
    assert task.phase in MOVES[phase], f"task {number}: {phase} to {task.phase}"
    assert task.closed >= closed
    assert task.refunded >= refunded
    assert not closed or task.phase is phase, "a closed task moves on"


def compare_with_registry(world: World, parties: Iterable[Address]) -> None:
    """Compare some parties' standings, and what the registry counts."""
    state = world.state
    for party in parties:
        _compare_server(world, party)
        bond = state.bonds.get(party, Bond())
        found = ask(world, state.registry, registry.bond(party))
        free_at = 0 if bond.left_time is None else bond.left_time + DAYS_14
        assert (found.amount_wei, found.free_at) == (bond.amount, free_at)
    assert ask(world, state.registry, registry.burnt_wei()) == state.burnt


def _compare_server(world: World, party: Address) -> None:
    state = world.state
    found = ask(world, state.registry, registry.server(party))
    server = state.servers.get(party)
    profiles = state.profiles.get(party, [])
    key, endpoint = profiles[-1] if profiles else (bytes(32), "")
    profile = {"profile": len(profiles), "hpke_key": key, "endpoint": endpoint}
    standing = dict.fromkeys(
        ("stake_wei", "active_tasks", "since_block", "leaving_block", "free_at"), 0
    )
    if server is not None:
        standing["stake_wei"] = server.stake
        standing["active_tasks"] = server.tasks
        standing["since_block"] = server.since_block
        standing["leaving_block"] = server.left_block or 0
        standing["free_at"] = 0 if server.left_time is None else server.left_time + DAYS_14
    _same("server", vars(found), {**standing, **profile})


def compare_everything(world: World) -> None:
    """Compare all tasks, parties, offers, profiles, the pool and the draws."""
    state = world.state
    assert ask(world, state.market, market.task_count()) == len(state.tasks)
    for number in state.tasks:
        compare_task(world, number)
        draw = ask(world, state.registry, registry.draws(TaskId(number)))
        assert Draw(**vars(draw)) == state.draws.get(number, Draw(0, 0, 0))
    compare_with_registry(world, state.ether)
    for number, task in state.tasks.items():
        found = ask(world, state.registry, registry.released_at(TaskId(number)))
        assert found == (task.released_at or 0)
    for party in state.ether:
        for token in (NOBODY, *state.tokens):
            offer = state.offers.get((party, token))
            found = ask(world, state.registry, registry.offer(party, token))
            assert found == ((True, offer.min_fee, offer.max_stake) if offer else (False, 0, 0))
    for party, profiles in state.profiles.items():
        for number, profile in enumerate(profiles, 1):
            assert ask(world, state.registry, registry.profile(party, number)) == profile
    assert ask(world, state.registry, registry.pool_size()) == len(state.pool)
    for place, party in enumerate([*state.pool, NOBODY]):
        assert ask(world, state.registry, registry.pool(place)) == party
    assert ask(world, state.registry, registry.draws_until()) == state.draws_until


def _same(where: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    if found != wanted:
        names = [name for name in found if found[name] != wanted.get(name, "nothing")]
        shown = {name: (found[name], wanted.get(name)) for name in names}
        raise AssertionError(f"{where}: found and wanted {shown}")
