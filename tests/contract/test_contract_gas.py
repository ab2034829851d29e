"""Gas of every call, and the size of the code (targets.md)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from contract_world import World
from devnet import anvil_binary, running_anvil

from omnilytics.benchmark.gas import gas
from omnilytics.chain.artefact import DEPLOYED, load_artefact
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.writer import GAS_LIMITS
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Wei

BOUNDS = {"open_round": 45_000, "seal": 65_000, "settle": 125_000}
ROUND_BOUND = 235_000
CLAIM_BOUND = 65_000
LARGE_SETTLE_BOUND = 230_000  # n = 11
TOLERANCE = 0.005
# How many places are tried, whether a pool shrank, what the chain's own header is.
BY_CHANCE = ("draw_committee", "redraw", "reveal_draw")


@cache
def measured(servers: int, owners: int, chain_url: str | None = None) -> dict[str, int]:
    """Return gas by call and round; round 0 for calls of no round."""
    rows = gas(servers=[servers], owners=[owners], chain_url=chain_url)
    assert {(row["n"], row["owners"]) for row in rows} == {(servers, owners)}
    return {f"{row['call']} {row['round']}": row["gas"] for row in rows}


def close(one: dict[str, int], other: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return what differs by more than the tolerance."""
    assert one.keys() == other.keys()
    return {
        name: (one[name], other[name])
        for name in one
        if name.split()[0] not in BY_CHANCE
        and abs(one[name] - other[name]) > TOLERANCE * other[name]
    }


@pytest.mark.parametrize("owners", [1, 10, 1_000])
@pytest.mark.parametrize("number", [1, 2])
def test_a_round_stays_within_its_bounds(owners: int, number: int) -> None:
    used = measured(5, owners)
    assert all(used[f"{call} {number}"] <= most for call, most in BOUNDS.items())
    assert sum(used[f"{call} {number}"] for call in BOUNDS) <= ROUND_BOUND


@pytest.mark.parametrize("owners", [1, 10, 1_000])
def test_claims_from_the_second_round_on(owners: int) -> None:
    assert measured(5, owners)["claim 2"] <= CLAIM_BOUND


def test_a_first_claim_grows_with_the_tree_alone() -> None:
    one, many = measured(5, 1)["claim 1"], measured(5, 1_000)["claim 1"]
    assert one <= CLAIM_BOUND
    assert many - one <= 10 * 850  # ten levels


def test_rounds_cost_the_same_whatever_the_number_of_owners() -> None:
    few, many = measured(5, 10), measured(5, 1_000)
    for number in (1, 2):
        names = [f"{call} {number}" for call in BOUNDS]
        assert not close({n: few[n] for n in names}, {n: many[n] for n in names})


def test_settling_with_eleven_servers() -> None:
    assert measured(11, 10)["settle 2"] <= LARGE_SETTLE_BOUND


def test_the_largest_committee_fits_its_limits() -> None:
    for name, used in measured(13, 1_000).items():
        assert used <= GAS_LIMITS[name.split()[0]] // 1.1, name
    world = World(13)
    newcomer = world.writer(world.account())
    newcomer.register_server("e" * 256, b"k" * 32, Wei(10**17))
    newcomer.set_profile("f" * 256, b"k" * 32)
    task = world.task(t=4, e=1)
    world.open(task)
    newcomer.force_submission(task, b"\xff" * 8_192)
    for name, used in newcomer.gas.calls:
        assert used <= GAS_LIMITS[name] // 1.1, name


def test_every_call_that_changes_something_is_measured() -> None:
    calls = {name.split()[0] for name in measured(5, 10)}
    for_the_market = {"enlist", "pin_draw", "draw", "release"}
    contracts = [load_artefact(name).abi for name in DEPLOYED]
    changing = {
        entry["name"]
        for abi in contracts
        for entry in abi
        if entry["type"] == "function" and entry["stateMutability"] in ("payable", "nonpayable")
    }
    assert calls == changing - for_the_market == GAS_LIMITS.keys()
    assert for_the_market < set(registry.codec().names) - set(market.codec().names)


def test_snapshot() -> None:
    """Gas per call and the code's size, as last accepted; edit the file when a change is meant."""
    snapshot = json.loads((Path(__file__).parent / "gas_snapshot.json").read_text())
    sizes = {f"{n} code_bytes": len(load_artefact(n).runtime_bytecode) for n in DEPLOYED}
    assert not close(measured(5, 10) | sizes, snapshot)


@pytest.mark.parametrize("contract", DEPLOYED)
def test_code_size(contract: str) -> None:
    assert len(load_artefact(contract).runtime_bytecode) <= 22_000


def test_committees_that_are_not_measured() -> None:
    with pytest.raises(UsageError, match="no such committee"):
        gas(servers=[4])
    with pytest.raises(UsageError, match="impossible number of owners"):
        gas(owners=[0])


@pytest.mark.slow
@pytest.mark.skipif(anvil_binary() is None, reason="no anvil: make devnet-tools")
@pytest.mark.parametrize("servers", [5, 11])
def test_gas_is_the_same_on_anvil(servers: int) -> None:
    with running_anvil() as url:
        assert not close(measured(servers, 10, url), measured(servers, 10))
