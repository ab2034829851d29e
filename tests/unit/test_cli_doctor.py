"""`omnilytics doctor` on a chain in this process: what it finds right, and each thing wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_world import AccountFiles, CommandWorld, command_world

from omnilytics.algebra import kernels
from omnilytics.algebra.field import FieldVector
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.embedded import embedded_chain
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.units import Wei, show_address


@pytest.fixture
def world(tmp_path: Path) -> Iterator[CommandWorld]:
    chain = embedded_chain()
    with command_world(chain, None, tmp_path) as world:
        deployer = world.account("deployer")
        address = deploy_market(Sender(chain, deployer.key.secret))
        world.market = MarketReader(chain, address)
        yield world
    chain.close()


def examined(world: CommandWorld, account: AccountFiles, *arguments: str) -> dict[str, Any]:
    """Return the findings by check, and the exit code as "code"."""
    done = world.run(account, "doctor", "--json", *arguments)
    found = json.loads(done.stdout)
    codes = [each["exit_code"] for each in found["findings"] if each["exit_code"]]
    assert done.exit_code == next(iter(codes), 0)
    assert found["ok"] == (done.exit_code == 0)
    for each in found["findings"]:
        assert each["state"] != "problem" or each["fix"], each  # each problem says what to do
    return {each["check"]: each for each in found["findings"]} | {"code": done.exit_code}


def test_all_is_well(world: CommandWorld) -> None:
    owner = world.account("owner")
    found = examined(world, owner)
    assert found["code"] == 0
    for check in ("python", "kernels", "contracts", "head", "clock", "market", "account", "funds"):
        assert found[check]["state"] == "ok", found[check]
    assert found["bond"]["state"] == "note"
    assert "chain.chain_id" in found["node"]["fix"]
    text = world.run(owner, "doctor").stdout
    assert show_address(owner.key.address) in text
    assert "problem" not in text


def test_a_bond_is_told(world: CommandWorld) -> None:
    owner = world.account("owner")
    assert world.market is not None
    writer = MarketWriter(world.market, Sender(world.chain, owner.key.secret))
    writer.add_bond(Wei(10**17))
    assert examined(world, owner)["bond"]["said"] == "0.1 ether"
    writer.leave_bond()
    found = examined(world, owner)["bond"]
    assert (found["state"], "withdraw-bond" in found["fix"]) == ("note", True)


@pytest.mark.parametrize(
    ("setting", "check", "code", "phrase"),
    [
        ("chain.chain_id=1", "node", 6, "another chain"),
        ("chain.market=0x" + "11" * 20, "market", 6, "no contract"),
        ("keys.keystore=/none", "account", 4, "cannot be read"),
        ("keys.password_file=/none", "account", 4, "cannot be read"),
        ("chain.pol_seconds=1", "settings", 3, "unknown setting"),
        ("client.data=/dev/null/a", "disk", 3, "cannot be written"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(
    world: CommandWorld, setting: str, check: str, code: int, phrase: str
) -> None:
    found = examined(world, world.account("owner"), "--set", setting)
    assert (found[check]["state"], found["code"]) == ("problem", code)
    assert phrase in found[check]["said"]
    assert found["kernels"]["state"] == "ok"  # the others are still made


def test_an_account_without_ether(world: CommandWorld) -> None:
    found = examined(world, world.account("poor", ether=0))
    assert (found["funds"]["state"], found["code"]) == ("problem", 5)


def test_an_old_head_and_a_slow_clock(world: CommandWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = world.account("owner")
    monkeypatch.setattr(world.chain, "is_development", False)
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 3_600)
    assert "node is behind" in examined(world, owner)["head"]["said"]
    monkeypatch.setattr("time.time", lambda: now - 3_600)
    found = examined(world, owner)
    assert (found["clock"]["state"], found["clock"]["fix"]) == (
        "problem",
        "timedatectl set-ntp true",
    )


def test_kernels_that_calculate_wrongly(
    world: CommandWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    numba = kernels.load("numba")
    right = numba.multiply

    def wrong(left: FieldVector, other: FieldVector, out: FieldVector) -> None:
        right(left, other, out)
        out[3] ^= np.uint64(1)

    monkeypatch.setattr(numba, "multiply", wrong)
    found = examined(world, world.account("owner"))
    assert (found["kernels"]["state"], found["code"]) == ("problem", 8)


def test_a_task_that_there_is_not(world: CommandWorld) -> None:
    found = examined(world, world.account("owner"), "--task", "9")
    assert "no such task" in found["servers"]["said"]
