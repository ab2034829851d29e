"""A task on a development network: its accounts buy and sell in a few lines, its servers settle.

Nothing here moves the chain: its blocks come by themselves, as they do for whoever tries it out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from devnet import anvil_binary
from devnet_command import devnet
from torch import nn
from torch.utils.data import TensorDataset

import omnilytics
from omnilytics.devnet.folder import NetworkFolder
from omnilytics.foundation.units import Wei

pytestmark = [
    pytest.mark.processes,
    pytest.mark.long,
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
]

OWNERS = 2
REWARD_WEI = Wei(10**15)
ROUND_SECONDS = 200.0
"""Longest time for one round, on a machine that does much else."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkFolder]:
    place = tmp_path_factory.mktemp("devnet") / "network"
    try:
        devnet("up", place, "--owners", str(OWNERS))
        yield NetworkFolder(place)
    finally:
        if place.exists():
            devnet("down", place, "--delete")


def config(folder: NetworkFolder, name: str) -> Path:
    return folder.account(name) / "client.toml"


def samples(seed: int) -> TensorDataset:
    inputs = torch.randn(40, 6, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(inputs, inputs[:, :3].argmax(dim=1))


def buy(folder: NetworkFolder) -> list[tuple[int, float]]:
    """Buy one round; return how many owners were accepted and the length of the gradient."""
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    found = []
    with omnilytics.ModelOwner(config=config(folder, "buyer")) as buyer:
        task = buyer.publish(
            net,
            name="one-round",
            sample=samples(0),
            committee=[server.address for server in folder.read().servers],
            rounds=1,
            reward=REWARD_WEI,
            windows="quick",
        )
        for bought in task.rounds(timeout=ROUND_SECONDS):
            bought.fill_gradients(net)
            filled = [parameter.grad for parameter in net.parameters()]
            found.append((bought.owners, sum(float(x.norm()) for x in filled if x is not None)))
    return found


def sell(folder: NetworkFolder, number: int) -> Wei:
    """Sell to the first task that there is; return what was claimed."""
    with omnilytics.DataOwner(config=config(folder, f"owner-{number}")) as owner:
        task = owner.join(task=1)
        for offered in task.rounds(timeout=ROUND_SECONDS):
            assert offered.submit(samples(number)).receipts >= 4
        return task.claim()


def test_a_round_is_bought_sold_settled_and_paid(folder: NetworkFolder) -> None:
    with ThreadPoolExecutor() as pool:
        bought = pool.submit(buy, folder)
        while not devnet("status", folder.path)["tasks"]:
            assert not bought.done() or bought.result()
        sold = [pool.submit(sell, folder, number) for number in range(1, OWNERS + 1)]
        ((accepted, length),) = bought.result()
        assert accepted == OWNERS
        assert length > 0
        assert [each.result() for each in sold] == [REWARD_WEI] * OWNERS
    found = devnet("status", folder.path)
    assert found["well"]
    (task,) = found["tasks"]
    assert (task["task"], task["settled_rounds"], task["rounds"]) == (1, 1, 1)
    assert len(task["servers"]) == 5
    told = json.loads(folder.network_file.read_text())
    assert task["model_owner"] == told["accounts"][0]["address"]


def test_the_task_outlives_a_restart(folder: NetworkFolder) -> None:
    devnet("down", folder.path)
    assert Path(folder.state).is_file()
    found = devnet("up", folder.path)
    assert found["well"]
    assert [task["settled_rounds"] for task in found["tasks"]] == [1]
