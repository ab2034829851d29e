"""`omnilytics devnet`: up, a transaction, a server killed, up again, down, back from its state."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from devnet import anvil_binary
from devnet_command import devnet, omnilytics
from server_process import wait_for

from omnilytics.chain.account_files import open_signing_key
from omnilytics.chain.market import connect_market
from omnilytics.chain.settings import AccountSection, ChainSection, Place
from omnilytics.devnet.processes import started_at
from omnilytics.foundation.settings import Section, Settings, load_settings

pytestmark = [
    pytest.mark.long,
    pytest.mark.processes,
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
]

SERVERS, OWNERS = 2, 1


class ClientSection(Section):
    """Where a client keeps its data."""

    data: Place = Path()


class ClientFile(Settings):
    """The file that owners and buyers use."""

    chain: ChainSection = ChainSection()
    keys: AccountSection = AccountSection()
    client: ClientSection = ClientSection()


def pids(found: dict[str, Any]) -> dict[str, int | None]:
    return {process["name"]: process["pid"] for process in found["processes"]}


def runs(pid: int | None) -> bool:
    return pid is not None and started_at(pid) is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("devnet") / "network"
    options = ["--servers", str(SERVERS), "--owners", str(OWNERS)]
    try:
        devnet("up", place, *options)
        yield place
    finally:
        if place.exists():
            devnet("down", place, "--delete")


def test_all_of_it_is_there_and_ready(folder: Path) -> None:
    found = devnet("status", folder)
    assert found["well"]
    assert found["tasks"] == []
    assert found["head"] > 0
    assert [process["name"] for process in found["processes"]] == ["anvil", "server-1", "server-2"]
    assert all(process["ready"] and process["pid"] for process in found["processes"])
    told = json.loads((folder / "network.json").read_text())
    assert (told["market"], told["chain_id"]) == (found["market"], 31_337)
    assert [account["name"] for account in told["accounts"]] == ["buyer", "owner-1"]
    for server in told["servers"]:
        config = str(folder / server["config"])
        status = json.loads(omnilytics("server", "status", "--config", config, "--json"))
        assert status["server"] == server["address"]
        assert status["endpoint"] == server["endpoint"]
        assert status["offer"]["min_fee_wei"] == "500000000000000"


def test_accounts_open_and_have_ether(folder: Path) -> None:
    told = json.loads((folder / "network.json").read_text())
    for account in told["accounts"]:
        place = (folder / account["config"]).parent
        settings = load_settings(ClientFile, file=folder / account["config"], flags={}).settings
        key = open_signing_key(settings.keys)
        assert "0x" + key.address.hex() == account["address"]
        chain, market = connect_market(settings.chain)
        assert chain.balance(key.address) >= 10**19
        assert [server.stake_wei for server in market.servers()] == [10**18] * SERVERS
        chain.close()
        for name in ("account", "password"):
            assert stat.S_IMODE((place / name).stat().st_mode) == 0o600
    passwords = [file.read_text() for file in folder.glob("*/*/password")]
    assert len(set(passwords)) == SERVERS + OWNERS + 1
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_chain_that_makes_blocks_by_itself(folder: Path) -> None:
    before = devnet("status", folder)["head"]
    wait_for(lambda: devnet("status", folder)["head"] > before, "a block by itself")


def test_up_again_changes_nothing(folder: Path) -> None:
    before = devnet("status", folder)
    again = devnet("up", folder)
    assert pids(again) == pids(before)
    assert again["market"] == before["market"]
    text = omnilytics("devnet", "up", "--folder", str(folder), "--servers", "3", code=2)
    assert "--servers" in text


def test_a_killed_server_is_told_and_started_again(folder: Path) -> None:
    before = pids(devnet("status", folder))
    victim = before["server-2"]
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: started_at(victim) is None, "the end of a killed server")
    found = devnet("status", folder, code=7)
    assert not found["well"]
    problems = [process["problem"] for process in found["processes"]]
    assert problems == [None, None, "not running"]
    after = pids(devnet("up", folder))
    assert after["server-2"] not in (None, victim)
    assert {**after, "server-2": victim} == before
    assert devnet("status", folder)["well"]


def test_it_comes_back_from_its_state(folder: Path) -> None:
    before = devnet("status", folder)
    config = str(folder / "servers" / "server-1" / "server.toml")
    omnilytics("server", "add-stake", "0.25 ether", "--config", config, "--yes")
    assert devnet("down", folder)["killed"] == []
    assert (folder / "anvil.json").stat().st_size > 1_000
    assert not any(map(runs, pids(before).values()))
    gone = devnet("status", folder, code=7)
    assert gone["head"] is None
    assert set(pids(gone).values()) == {None}
    devnet("down", folder)  # once more: nothing to do is no error
    after = devnet("up", folder)
    assert after["well"]
    assert after["market"] == before["market"]
    assert after["head"] >= before["head"]
    status = json.loads(omnilytics("server", "status", "--config", config, "--json"))
    assert status["stake_wei"] == "1250000000000000000"


def test_anvil_killed_comes_back_with_what_it_saved(folder: Path) -> None:
    before = devnet("status", folder)
    wait_for(lambda: devnet("status", folder)["head"] > before["head"] + 5, "a state saved")
    victim = pids(before)["anvil"]
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: started_at(victim) is None, "the end of anvil")
    assert not devnet("status", folder, code=7)["well"]
    after = devnet("up", folder)
    assert after["well"]
    assert after["market"] == before["market"]
    assert after["head"] > before["head"]


def test_a_taken_port_is_named(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "other"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = devnet("up", place, "--port-base", str(port), code=3)
    assert found["error"]["got"] == f"127.0.0.1:{port}"
    assert "--port-base" in found["error"]["hint"]
    assert not place.exists()
    server = json.loads((folder / "network.json").read_text())["servers"][0]
    base = int(server["endpoint"].rpartition(":")[2]) - 10 * 2
    assert "in use" in devnet("up", place, "--port-base", str(base), code=3)["error"]["message"]


def test_two_networks_live_side_by_side(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "second"
    try:
        found = devnet("up", place, "--servers", "1", "--owners", "0", "--block-seconds", "2")
        assert found["url"] != devnet("status", folder)["url"]
        assert [account["name"] for account in found["accounts"]] == ["buyer"]
    finally:
        devnet("down", place, "--delete")
    assert not place.exists()
    assert devnet("status", folder)["well"]


def test_without_anvil_nothing_is_made(tmp_path: Path) -> None:
    place = tmp_path / "none"
    text = omnilytics(
        "devnet", "up", "--folder", str(place), code=3, OMNILYTICS_ANVIL=str(tmp_path / "anvil")
    )
    assert "OMNILYTICS_ANVIL" in text
    assert not place.exists()


def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    fake = tmp_path / "anvil"
    fake.write_text("#!/bin/sh\necho 'out of gas' >&2\nexit 3\n")
    fake.chmod(0o755)
    place = tmp_path / "failed"
    options = ("devnet", "up", "--folder", str(place))
    text = omnilytics(*options, code=6, OMNILYTICS_ANVIL=str(fake))
    assert "out of gas" in text
    assert not list((place / "processes").iterdir())
    assert "unfinished" in devnet("status", place, code=3)["error"]["message"]
    omnilytics(*options, code=6, OMNILYTICS_ANVIL=str(fake))  # made anew, fails again
    devnet("down", place, "--delete")
    assert not place.exists()


def test_only_its_own_folders_are_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    devnet("down", tmp_path, "--delete", code=3)
    assert "other files" in devnet("up", tmp_path, code=3)["error"]["message"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["precious"]


def test_the_last_word(folder: Path) -> None:
    found = pids(devnet("status", folder))
    devnet("down", folder, "--delete")
    assert not folder.exists()
    assert not any(map(runs, found.values()))
