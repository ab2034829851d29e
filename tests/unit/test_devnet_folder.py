"""A network's folder, its ports, and where anvil is looked for."""

from __future__ import annotations

import json
import socket
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from omnilytics.devnet import anvil, ports
from omnilytics.devnet.anvil import anvil_binary, anvil_command, require_anvil
from omnilytics.devnet.folder import Network, NetworkFolder, toml
from omnilytics.devnet.ports import Ports, choose_ports
from omnilytics.foundation.errors import ConfigError

NETWORK = Network.model_validate(
    {
        "url": "http://127.0.0.1:8600",
        "chain_id": 31_337,
        "market": "0x" + "ab" * 20,
        "first_block": 1,
        "block_seconds": 1,
        "servers": [],
        "accounts": [],
    }
)


@contextmanager
def listening(count: int = 1) -> Iterator[list[int]]:
    """Listen at ports; yield them."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
            each.listen()
        yield [each.getsockname()[1] for each in sockets]


def test_no_two_parties_share_a_port() -> None:
    found = Ports(8600, 32).all()
    assert len(found) == len(set(found)) == 65
    assert Ports(8600, 2).all() == [8600, 8610, 8611, 8620, 8621]


def test_a_taken_port_is_named_with_its_flag() -> None:
    with listening() as (taken,), pytest.raises(ConfigError, match=f"127.0.0.1:{taken}") as caught:
        choose_ports(taken - 11, 1)
    assert "--port-base" in str(caught.value.hint)


def test_the_default_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as (taken,):
        base = taken if taken < 60_000 else taken - 1_010
        monkeypatch.setattr(ports, "DEFAULT_BASE", base)
        chosen = choose_ports(None, 1)
    assert taken not in chosen.all()
    assert (chosen.base - base) % 1_000 == 0


@pytest.mark.parametrize(("base", "servers"), [(0, 1), (-1, 1), (65_536, 1), (65_500, 4)])
def test_ports_that_do_not_exist(base: int, servers: int) -> None:
    with pytest.raises(ConfigError, match="no such ports"):
        choose_ports(base, servers)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = NetworkFolder(tmp_path / "new" / "network")
    with folder.locked():
        folder.make()
        assert not folder.is_finished()
        with pytest.raises(ConfigError, match="unfinished"):
            folder.read()
        folder.write(NETWORK)
    assert folder.is_finished()
    assert folder.read() == NETWORK
    assert NETWORK.port == 8600


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://example.org:80"},
        {"market": "0x1"},
        {"more": 1},
        {"servers": [{"address": "0x" + "ab" * 20}]},
        {"chain_id": "x"},
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    folder = NetworkFolder(tmp_path / "network")
    folder.make()
    fields = {**NETWORK.model_dump(mode="json"), **change}
    for content in (json.dumps(fields).encode(), b"", b"\xff", b"["):
        folder.network_file.write_bytes(content)
        with pytest.raises(ConfigError, match="cannot be used"):
            folder.read()


def test_a_folder_is_held_by_one_and_left_as_it_was(tmp_path: Path) -> None:
    folder = NetworkFolder(tmp_path / "network")
    with folder.locked(), pytest.raises(ConfigError, match="another command"), folder.locked():
        pass
    assert not folder.path.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use"), NetworkFolder(tmp_path / "file").locked():
        pass


def test_folders_of_others_are_not_networks(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("my own")
    folder = NetworkFolder(tmp_path)
    with pytest.raises(ConfigError, match="other files"):
        folder.make()
    with pytest.raises(ConfigError, match="no development network"):
        folder.check()
    (tmp_path / "README").write_bytes(b"\xff")
    assert not folder.is_network()


def test_settings_files_are_toml() -> None:
    sections: dict[str, dict[str, object]] = {
        "a": {"text": 'quo"te\\', "number": 0.5, "truth": True},
        "b": {"n": 5},
    }
    assert tomllib.loads(toml(sections)) == sections


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without anvil; the current folder is the one returned."""
    monkeypatch.delenv(anvil.VARIABLE, raising=False)
    monkeypatch.setattr(anvil, "_CHECKOUT", tmp_path / "checkout")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(path: Path, content: bytes = b"\x7fELF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return path


PACKAGE = Path("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil")


def test_without_anvil_the_advice_fits_the_place(nowhere: Path) -> None:
    assert anvil_binary() is None
    with pytest.raises(ConfigError, match="not installed") as caught:
        require_anvil()
    hint = str(caught.value.hint)
    assert "npm install --prefix .devnet @foundry-rs/anvil@1.7.1" in hint
    assert "OMNILYTICS_ANVIL=" in hint
    assert "Node.js" in hint
    program(nowhere / "path" / "npm")
    program(nowhere / "checkout" / "Makefile")
    with pytest.raises(ConfigError) as caught:
        require_anvil()
    assert caught.value.hint == "make devnet-tools"


def test_the_order_in_which_anvil_is_found(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = program(nowhere / "path" / "anvil")
    assert anvil_binary() == on_path
    here = program(nowhere / ".devnet" / PACKAGE)
    assert anvil_binary() == here
    of_checkout = program(nowhere / "checkout" / ".devnet" / PACKAGE)
    assert anvil_binary() == of_checkout
    named = program(nowhere / "my-anvil")
    monkeypatch.setenv(anvil.VARIABLE, str(named))
    assert anvil_binary() == named
    monkeypatch.setenv(anvil.VARIABLE, str(nowhere / "none"))
    with pytest.raises(ConfigError, match="OMNILYTICS_ANVIL"):
        anvil_binary()


def test_the_script_of_npm_is_never_run(nowhere: Path) -> None:
    modules = nowhere / "lib" / "node_modules" / "@foundry-rs"
    script = program(modules / "anvil" / "bin.mjs", b"#!/usr/bin/env node\n")
    (nowhere / "path").mkdir()
    (nowhere / "path" / "anvil").symlink_to(script)
    assert anvil_binary() is None
    binary = program(modules / "anvil-linux-amd64" / "bin" / "anvil")
    assert anvil_binary() == binary


def test_the_command_keeps_state_and_stays_on_this_machine(tmp_path: Path) -> None:
    command = anvil_command(tmp_path / "anvil", 8600, tmp_path / "state", 3)
    for option, value in (
        ("--host", "127.0.0.1"),
        ("--hardfork", "prague"),
        ("--state", str(tmp_path / "state")),
        ("--block-time", "3"),
    ):
        assert command[command.index(option) + 1] == value
    assert "--mixed-mining" in command


def test_make_installs_the_version_that_is_advised() -> None:
    makefile = Path(__file__).resolve().parents[2] / "Makefile"
    assert f"\nANVIL := {anvil.VERSION}\n" in makefile.read_text()
