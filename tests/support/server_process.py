"""Servers as real processes for tests: their files, their settings, their start and end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from omnilytics.chain.keystore import save_account
from omnilytics.foundation.units import Address, show_address
from omnilytics.transport.hpke import HpkeKey
from omnilytics.wire.signatures import SigningKey

PASSWORD = "correct horse battery"  # noqa: S105 - of keys made for one test
COMMAND = (sys.executable, "-c", "from omnilytics.cli.server import application; application()")
LIAR = (sys.executable, str(Path(__file__).with_name("lying_server.py")))
PATIENCE_SECONDS = 60.0


def free_ports(count: int) -> list[int]:
    """Return ports that were free just now, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@dataclass
class ServerFiles:
    """A server's folder with its keys and settings."""

    folder: Path
    key: SigningKey
    hpke_key: HpkeKey
    port: int
    operations_port: int
    settings: dict[str, dict[str, object]] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def operations(self) -> str:
        return f"http://127.0.0.1:{self.operations_port}"

    @property
    def config(self) -> Path:
        return self.folder / "server.toml"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def write(self) -> None:
        lines = []
        for section, values in self.settings.items():
            lines.append(f"[{section}]")
            lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        self.config.write_text("\n".join(lines) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's lines that are JSON."""
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def secrets(self) -> list[str]:
        """Return what no log may show."""
        return [PASSWORD, self.key.secret.hex(), self.hpke_key.secret.hex()]


def prepare_server(
    folder: Path, chain_url: str, market: Address, key: SigningKey, hpke_key: HpkeKey
) -> ServerFiles:
    """Write a server's keys and settings into a folder."""
    folder.mkdir(parents=True)
    port, operations_port = free_ports(2)
    save_account(key, "account", PASSWORD, folder)
    (folder / "password").write_text(PASSWORD + "\n")
    hpke_path = folder / "hpke"
    hpke_path.touch(mode=0o600)
    hpke_path.write_text(hpke_key.secret.hex())
    files = ServerFiles(folder, key, hpke_key, port, operations_port)
    files.settings = {
        "server": {
            "data": "data",
            "listen": f"127.0.0.1:{port}",
            "endpoint": files.endpoint,
        },
        "keys": {"keystore": "account", "password_file": "password", "hpke_key": "hpke"},
        "chain": {"url": chain_url, "market": show_address(market), "poll_seconds": 0.1},
        "rounds": {"recheck_seconds": 0.3, "back_off_seconds": 0.1},
        "operations": {"listen": f"127.0.0.1:{operations_port}", "least_free_bytes": 0},
        "log": {"level": "debug"},
    }
    files.write()
    return files


class RunningServer:
    """One process."""

    def __init__(self, files: ServerFiles, command: tuple[str, ...] = COMMAND) -> None:
        """Start it; `command` may name another program with the same command line."""
        self.files = files
        self._log = files.log.open("ab")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("OMNILYTICS_")
        }
        self.process = subprocess.Popen(
            [*command, "run", "--config", str(files.config)],
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            env=environment,
        )

    def ready(self) -> dict[str, Any] | None:
        """Return the answer of the private /readyz, or None while nothing answers."""
        try:
            answer = httpx.get(self.files.operations + "/readyz", timeout=5)
        except httpx.TransportError:
            return None
        found: dict[str, Any] = answer.json()
        assert (answer.status_code == 200) == (found["status"] == "ready")
        return found

    def wait_ready(self) -> None:
        self.wait_for(lambda: (self.ready() or {}).get("status") == "ready", "ready")

    def wait_for(self, reached: Callable[[], bool], wanted: str) -> None:
        wait_for(reached, wanted, lambda: self.process.poll() is None, self.tail)

    def stop(self, *, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self, timeout_seconds: float = 30) -> int:
        code = self.process.wait(timeout_seconds)
        self._log.close()
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def tail(self) -> str:
        return self.files.log.read_text()[-3_000:]


@contextmanager
def running_server(files: ServerFiles) -> Iterator[RunningServer]:
    """Run a server; what is left of it at the end is killed."""
    server = RunningServer(files)
    try:
        yield server
    finally:
        server.kill()


def wait_for(
    reached: Callable[[], bool],
    wanted: str,
    going_on: Callable[[], bool] = lambda: True,
    tell: Callable[[], str] = lambda: "",
    patience_seconds: float = PATIENCE_SECONDS,
) -> None:
    """Return once something is so; fails when it cannot become so, or takes too long."""
    deadline = time.monotonic() + patience_seconds
    while not reached():
        assert going_on(), f"ended before {wanted}: {tell()}"
        assert time.monotonic() < deadline, f"not {wanted} in time: {tell()}"
        time.sleep(0.05)
