"""`omnilytics doctor` with a server's settings, beside the server's process and without it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from devnet import anvil_binary, running_anvil
from server_process import ServerFiles, prepare_server, running_server

from omnilytics.chain.connection import connect
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Wei
from omnilytics.transport.hpke import HpkeKey
from omnilytics.wire.signatures import SigningKey

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(anvil_binary() is None, reason="needs anvil: make devnet-tools"),
]

ETHER = 10**18
COMMAND = (sys.executable, "-c", "from omnilytics.cli.main import main; main()", "doctor")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFiles]:
    """A registered server, not running."""
    with running_anvil() as url:
        chain = connect(url)
        key = SigningKey.generate(SystemRandomness())
        hpke_key = HpkeKey.generate(SystemRandomness())
        chain.fund(key.address, Wei(100 * ETHER))
        market = MarketReader(chain, deploy_market(Sender(chain, key.secret)))
        folder = tmp_path_factory.mktemp("doctor") / "server"
        files = prepare_server(folder, url, market.address, key, hpke_key)
        writer = MarketWriter(market, Sender(chain, key.secret))
        writer.register_server(files.endpoint, hpke_key.public, Wei(ETHER))
        yield files
        chain.close()


def examined(files: ServerFiles) -> tuple[int, dict[str, Any]]:
    command = [*COMMAND, "--config", str(files.config), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = json.loads(done.stdout)["findings"]
    assert not any(secret in done.stdout + done.stderr for secret in files.secrets())
    return done.returncode, {each["check"]: each for each in found}


def test_a_server_before_and_while_it_runs(files: ServerFiles, tmp_path: Path) -> None:
    code, found = examined(files)
    assert code == 0, found
    assert "empty" in found["database"]["said"]
    assert "is free" in found["port"]["said"]
    assert "stake of 1 ether" in found["registration"]["said"]
    with running_server(files) as server:
        server.wait_ready()
        code, found = examined(files)
        assert code == 0, found
        assert "own server answers" in found["port"]["said"]
        assert found["database"]["said"].startswith("schema ")
        assert server.stop() == 0
    with socket.create_server(("127.0.0.1", files.port)):
        code, found = examined(files)
        assert (code, found["port"]["state"]) == (3, "problem")
        assert "ss -ltnp" in found["port"]["fix"]


def test_another_key_than_the_registered_one(files: ServerFiles) -> None:
    right = (files.folder / "hpke").read_text()
    (files.folder / "hpke").write_text("11" * 32)
    code, found = examined(files)
    (files.folder / "hpke").write_text(right)
    assert (code, found["registration"]["state"]) == (6, "problem")
    assert "set-profile" in found["registration"]["fix"]
