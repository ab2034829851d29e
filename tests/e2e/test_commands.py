"""The whole market by command line alone: five server processes, a buyer, two owners, anvil."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devnet import anvil_binary, running_anvil
from safetensors.numpy import load_file
from server_process import PASSWORD, ServerFiles, prepare_server, running_server, wait_for

from omnilytics.chain.connection import Chain, connect
from omnilytics.chain.keystore import save_account
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address, Wei, show_address
from omnilytics.transport.hpke import HpkeKey
from omnilytics.wire.signatures import SigningKey

pytestmark = [
    pytest.mark.processes,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
]

ETHER = 10**18
REWARD = 10**15
ROUNDS = 2
FEATURES = 6
COMMAND = (sys.executable, "-c", "from omnilytics.cli.main import main; main()")
NETWORK = f"""
import torch

def make():
    return torch.nn.Sequential(
        torch.nn.Linear({FEATURES}, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
    )
"""


@dataclass
class User:
    """A folder with an account, settings, the user's own module and data."""

    folder: Path
    key: SigningKey

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("OMNILYTICS_")
        }
        return subprocess.Popen(
            [*COMMAND, *arguments, "--config", "client.toml"],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        return finished(self.start(*arguments))

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, (out, err)
    assert PASSWORD not in out + err
    assert "\x1b[" not in err  # no progress bar where there is no terminal
    return out


def new_user(folder: Path, chain: Chain, url: str, seed: int) -> User:
    folder.mkdir()
    key = SigningKey.generate(SystemRandomness())
    chain.fund(key.address, Wei(100 * ETHER))
    save_account(key, "account", PASSWORD, folder)
    (folder / "password").write_text(PASSWORD + "\n")
    lines = ["[chain]", f'url = "{url}"', "poll_seconds = 0.2"]
    lines += ["[keys]", 'keystore = "account"', 'password_file = "password"']
    lines += ["[client]", 'data = "data"']
    (folder / "client.toml").write_text("\n".join(lines) + "\n")
    (folder / "nets.py").write_text(NETWORK)
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(128, FEATURES)).astype(np.float32)
    np.savez(folder / "mine.npz", inputs=inputs, labels=(inputs[:, 0] > 0).astype(np.int64))
    return User(folder, key)


@dataclass
class Market:
    chain: Chain
    url: str
    address: str
    servers: list[ServerFiles]
    deployer: User

    def user(self, name: str, seed: int) -> User:
        folder = self.deployer.folder.parent / name
        user = new_user(folder, self.chain, self.url, seed)
        settings = (folder / "client.toml").read_text()
        replaced = settings.replace("[keys]", f'market = "{self.address}"\n[keys]')
        (folder / "client.toml").write_text(replaced)
        return user


def new_server(folder: Path, chain: Chain, url: str, market: str) -> ServerFiles:
    key = SigningKey.generate(SystemRandomness())
    hpke_key = HpkeKey.generate(SystemRandomness())
    chain.fund(key.address, Wei(10 * ETHER))
    address = Address(bytes.fromhex(market[2:]))
    files = prepare_server(folder, url, address, key, hpke_key)
    command = [*COMMAND, "server", "register", "--yes", "--stake", "1 ether"]
    subprocess.run([*command, "--config", str(files.config)], check=True, capture_output=True)
    return files


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    folder = tmp_path_factory.mktemp("commands")
    with running_anvil("--block-time", "1") as url, ExitStack() as stack:
        chain = connect(url, moves=True)
        deployer = new_user(folder / "deployer", chain, url, 0)
        address = deployer.json("market", "deploy", "--yes")["market"]
        servers = [
            new_server(folder / f"server-{number}", chain, url, address) for number in range(1, 6)
        ]
        for files in servers:  # one after another: a start takes a whole core
            stack.enter_context(running_server(files)).wait_ready()
        yield Market(chain, url, address, servers, deployer)
        chain.close()


def test_a_task_from_its_publication_to_the_last_claim(market: Market) -> None:
    buyer = market.user("buyer", 1)
    owners = [market.user(f"owner-{number}", 10 + number) for number in (1, 2)]
    named = [
        part for files in market.servers for part in ("--server", show_address(files.key.address))
    ]
    terms = ("--rounds", str(ROUNDS), "--reward", "0.001 ether", "--bond", "0.01 ether")
    more = ("--min-owners", "2", "--max-owners", "4", "--windows", "quick", "--name", "first")
    publish = (
        "task",
        "publish",
        "--model",
        "nets:make",
        "--npz",
        "mine.npz",
        *named,
        *terms,
        *more,
    )
    finished(buyer.start(*publish, "--dry-run"))
    assert buyer.json("task", "list")["tasks"] == []
    published = buyer.json(*publish, "--yes")
    assert published["task"] == 1
    assert int(published["escrow_wei"]) >= ROUNDS * 4 * REWARD
    assert buyer.json(*publish, "--yes")["task"] == 1  # again: nothing is paid twice
    assert len(buyer.json("task", "list")["tasks"]) == 1

    for owner in owners:
        owner.json("data", "join", "1", "--yes")
    submitting = [
        owner.start("data", "submit", "1", "--npz", "mine.npz", "--follow", "--yes", "--json")
        for owner in owners
    ]
    training = buyer.start("task", "train", "1", "--yes")
    kept = buyer.folder / "data" / "training"
    wait_for(
        lambda: bool(list(kept.glob("*/checkpoint-1.safetensors"))),
        "a first step",
        lambda: training.poll() is None,
        patience_seconds=400,  # a round takes its windows by the chain's own clock
    )
    training.kill()  # whatever it was doing
    training.communicate()
    trained = buyer.json("task", "train", "1", "--yes")
    assert [each["round"] for each in trained["rounds"]] == list(range(1, ROUNDS + 1))
    assert [each["accepted"] for each in trained["rounds"]] == [2] * ROUNDS
    for process in submitting:
        done = json.loads(finished(process))["submitted"]
        assert [each["round"] for each in done] == list(range(1, ROUNDS + 1))

    result = buyer.json("task", "result", "1", "--output", "net.safetensors")
    assert result["after_round"] == ROUNDS
    addresses = {show_address(owner.key.address) for owner in owners}
    assert result["payouts"] == dict.fromkeys(addresses, str(ROUNDS * REWARD))
    assert all(set(each["accepted"]) == addresses for each in result["rounds"])
    assert all(set(each["gas"]) == {"open", "seal", "settle"} for each in result["rounds"])
    weights = load_file(buyer.folder / "net.safetensors")
    assert weights["0.weight"].shape == (8, FEATURES)
    assert all(np.isfinite(values).all() for values in weights.values())

    for owner in owners:
        claimed = owner.json("data", "claim", "--yes")
        assert claimed["sent"]
        (entry,) = owner.json("data", "status", "1")["tasks"]
        assert (entry["claimed_wei"], entry["due_wei"]) == (str(ROUNDS * REWARD), "0")
        assert [each["accepted"] for each in entry["rounds"]] == [True] * ROUNDS
    left = int(buyer.json("task", "show", "1")["left_wei"])
    before = market.chain.balance(buyer.key.address)
    closed = buyer.json("task", "close", "1", "--yes")
    paid = int(closed["receipt"]["gas_cost_wei"])
    assert market.chain.balance(buyer.key.address) == before + left - paid
    healthy = buyer.json("doctor", "--task", "1")
    assert healthy["ok"], healthy
    assert sum("answers, ready" in each["said"] for each in healthy["findings"]) == 5
