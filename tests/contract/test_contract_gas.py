"""Gas of a round from a task's second one on, and the size of the code (targets.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from contract_world import World, payouts_tree

from omnilytics.chain.artefact import load_artefact
from omnilytics.chain.writer import GAS_LIMITS
from omnilytics.foundation.units import Hash32, TaskId, Wei

BOUNDS = {"open_round": 45_000, "seal": 65_000, "settle": 125_000, "claim": 65_000}


class Seeded(World):
    """A world whose hashes have no zero bytes, which would make calldata cheaper by chance."""

    def hash(self) -> Hash32:
        return Hash32(bytes(self.random.randrange(1, 256) for _ in range(32)))


def round_gas(world: World, task: TaskId, owners: int) -> dict[str, int]:
    """Run two rounds and return the gas of the second one's calls."""
    for _ in range(2):
        world.owner_writer.gas.calls.clear()
        world.sealed(task, count=owners)
        world.settle(task, accepted_count=owners, payouts_root=world.hash())
    return dict(world.owner_writer.gas.calls)


def test_rounds_cost_the_same_whatever_the_number_of_owners() -> None:
    world = Seeded()
    few = round_gas(world, world.task(), 10)
    many = round_gas(world, world.task(), 1_000)
    for name in ("open_round", "seal", "settle"):
        assert few[name] <= BOUNDS[name]
        assert many[name] <= BOUNDS[name]
    assert abs(sum(many.values()) - sum(few.values())) <= 0.005 * sum(few.values())


def test_the_first_round_costs_no_more_than_the_bounds() -> None:
    world = Seeded()
    world.round(world.task())
    used = dict(world.owner_writer.gas.calls)
    assert all(used[name] <= BOUNDS[name] for name in ("open_round", "seal", "settle"))


@pytest.mark.parametrize("owners", [4, 5, 8])
def test_a_first_claim(owners: int) -> None:
    world = Seeded()
    task = world.task()
    accounts = [world.account() for _ in range(owners)]
    root, proofs = payouts_tree({account.address: 1_000 for account in accounts})
    world.round(task, accepted_count=owners, payouts_root=root)
    for account in accounts:
        writer = world.writer(account)
        writer.claim(task, account.address, Wei(1_000), proofs[account.address])
        assert writer.gas.summary()["claim"][3] <= BOUNDS["claim"]


def test_the_largest_committee_fits_its_limits() -> None:
    world = Seeded(13)
    task = world.task(t=4, e=1)
    world.round(task)
    world.writer(world.servers[0]).claim_fees(task, world.committee, 12)
    world.owner_writer.refund(task)
    world.writer(world.account()).register_server("e" * 256, b"k" * 32, Wei(10**17))
    for name, (_, _, _, most) in world.owner_writer.gas.summary().items():
        assert most <= GAS_LIMITS[name] // 1.1


def test_snapshot() -> None:
    """Gas per call and the code's size, as last accepted; edit the file when a change is meant."""
    snapshot = json.loads((Path(__file__).parent / "gas_snapshot.json").read_text())
    world = Seeded()
    writer = world.owner_writer
    task = world.task()
    owners = [world.account() for _ in range(4)]
    root, proofs = payouts_tree({owner.address: 1_000 for owner in owners})
    world.round(task)
    world.round(task, payouts_root=root)
    claimer = world.writer(owners[0])
    claimer.claim(task, owners[0].address, Wei(1_000), proofs[owners[0].address])
    server = world.writer(world.servers[0])
    server.claim_fees(task, world.committee, 0)
    world.open(task)
    world.chain.wait_for_time(world.reader.round_state(task).seal_deadline)
    writer.void_round(task)
    writer.refund(task)
    server.unregister_server()
    server.register_server("http://server", world.hash(), Wei(10**17))
    measured = dict(writer.gas.calls + claimer.gas.calls + server.gas.calls)  # the latest of each
    measured["code_bytes"] = len(load_artefact().runtime_bytecode)
    assert measured.keys() == snapshot.keys()
    off = {n: g for n, g in measured.items() if abs(g - snapshot[n]) > 0.005 * snapshot[n]}
    assert not off


def test_code_size() -> None:
    assert len(load_artefact().runtime_bytecode) <= 22_000
