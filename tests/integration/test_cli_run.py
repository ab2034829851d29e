"""A task by command line from its publication to the last claim, in one process.

Buyer and owners run in threads, each by the command that they would type; servers and chain move
when all of them wait (client_world). The same by real processes: tests/e2e/test_commands.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_world import AccountFiles, CommandWorld, command_world, fails
from client_world import Conductor, client_world, in_threads
from safetensors.numpy import load_file

from omnilytics.cli.main import application
from omnilytics.cli.training import TrainingFolder
from omnilytics.client.connection import Connection
from omnilytics.client.settings import ClientSettings
from omnilytics.foundation.units import TaskId, show_address
from omnilytics.wire.signatures import SigningKey

ROUNDS = 2
REWARD = 10**15
NETWORK = """
import torch

def make():
    return torch.nn.Sequential(torch.nn.Linear(30, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
"""


class KilledError(Exception):
    """Stands for the end of the process."""


def typed(account: AccountFiles, *arguments: str) -> Callable[[], None]:
    """Return what runs a command without capturing what it prints: in any thread."""

    def run() -> None:
        code = application([*arguments, "--config", str(account.config)], standalone_mode=False)
        assert not code, arguments

    return run


def interrupted_once(train: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Train; end like a killed process after the first step and before it is written down."""
    save = TrainingFolder.save

    def killed(folder: TrainingFolder, number: int, model: Any, optimiser: Any) -> None:
        monkeypatch.setattr(TrainingFolder, "save", save)
        raise KilledError

    monkeypatch.setattr(TrainingFolder, "save", killed)
    with pytest.raises(KilledError):
        train()
    train()


def connect_commands(world: Conductor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give commands connections that the conductor waits for, whoever is killed."""
    market = world.market
    names = {market.model_owner.key.address: "buyer"}
    names |= {owner.address: f"owner-{n}" for n, owner in enumerate(market.owners, start=1)}

    def open_connection(settings: ClientSettings, *, key: SigningKey) -> Connection:
        name = names[key.address]
        connection = world.connection(name, settings.client.data)
        return replace(connection, release=lambda: None) if name == "buyer" else connection

    monkeypatch.setattr("omnilytics.cli.buying.open_connection", open_connection)


def write_data(commands: CommandWorld, world: Conductor) -> tuple[AccountFiles, list[AccountFiles]]:
    market = world.market
    buyer = commands.account("buyer", ether=0, key=market.model_owner.key)
    owners = [
        commands.account(f"owner-{number + 1}", ether=0, key=market.owners[number].key)
        for number in range(2)
    ]
    parts = [market.data.sample, *market.data.shards]
    for account, part in zip([buyer, *owners], parts, strict=False):
        np.savez(account.folder / "mine.npz", inputs=part.inputs, labels=part.labels)
    return buyer, owners


@pytest.mark.slow
def test_a_task_by_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_of_a_test.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with client_world(tmp_path / "servers") as world:
        market = world.market
        with command_world(
            market.chain, market.reader, tmp_path, market.network.connect
        ) as commands:
            connect_commands(world, monkeypatch)
            buyer, owners = write_data(commands, world)
            publish_it(commands, world, buyer)
            world.expect("buyer", "owner-1", "owner-2")
            train = typed(buyer, "task", "train", "1", "--yes")
            submits = [
                typed(
                    owner,
                    *("data", "submit", "1", "--yes", "--follow", "--batch-size", "16"),
                    *("--npz", str(owner.folder / "mine.npz")),
                )
                for owner in owners
            ]
            in_threads(lambda: interrupted_once(train, monkeypatch), *submits)
            check_result(commands, buyer, owners)


def publish_it(commands: CommandWorld, world: Conductor, buyer: AccountFiles) -> None:
    servers = [show_address(server.node.address) for server in world.market.servers]
    named = [part for server in servers for part in ("--server", server)]
    publish = (
        *("task", "publish", "--model", "nets_of_a_test:make", "--name", "first", *named),
        *("--npz", str(buyer.folder / "mine.npz"), "--rounds", str(ROUNDS), "--max-owners", "3"),
        *("--reward", "0.001 ether", "--fee", "0.0005 ether", "--opening-fee", "0.001 ether"),
        *("--stake", "0.1 ether", "--bond", "0.02 ether"),
    )
    reader = world.market.reader
    fails(commands.run(buyer, *publish), 2, "nobody to ask", f"in all {ROUNDS} rounds")
    looked = commands.data(buyer, *publish, "--dry-run")
    assert reader.task_count() == 0
    done = commands.data(buyer, *publish, "--yes")
    assert (done["task"], reader.task_count()) == (1, 1)
    escrow = reader.task(TaskId(1)).terms.escrow_wei
    assert looked["plan"]["value_wei"] == done["escrow_wei"] == str(escrow)
    assert commands.data(buyer, *publish, "--yes")["task"] == 1  # nothing is paid twice
    assert reader.task_count() == 1
    other = commands.run(buyer, *publish, "--rounds", "3", "--yes")
    fails(other, 2, "published with other terms", "another name")


def check_result(commands: CommandWorld, buyer: AccountFiles, owners: list[AccountFiles]) -> None:
    weights = buyer.folder / "net.safetensors"
    found = commands.data(buyer, "task", "result", "1", "--output", str(weights))
    addresses = {show_address(owner.key.address) for owner in owners}
    assert found["after_round"] == ROUNDS
    assert found["payouts"] == dict.fromkeys(addresses, str(ROUNDS * REWARD))
    assert [set(each["accepted"]) for each in found["rounds"]] == [addresses] * ROUNDS
    assert [each["lying_servers"] for each in found["rounds"]] == [[]] * ROUNDS
    first = buyer.folder / "data" / "training"
    begun = next(iter(first.glob("*/checkpoint-0.safetensors")))
    before = load_file(begun)
    after = load_file(weights)
    assert all(not np.array_equal(before["model." + name], after[name]) for name in after)
    # Nothing is left to do, and that is no error.
    trained = commands.data(buyer, "task", "train", "1", "--yes")
    assert [each["accepted"] for each in trained["rounds"]] == [2] * ROUNDS
    for owner in owners:
        assert commands.data(owner, "data", "claim", "--yes")["sent"]
        (entry,) = commands.data(owner, "data", "status", "1")["tasks"]
        assert (entry["claimed_wei"], entry["due_wei"]) == (str(ROUNDS * REWARD), "0")
    assert commands.data(buyer, "task", "close", "1", "--yes")["sent"]
