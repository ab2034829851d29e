"""Anvil for tests, where `make devnet-tools` has installed it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from omnilytics.chain.connection import connect
from omnilytics.foundation.errors import ChainError

_TOOLS = Path(__file__).resolve().parents[2] / ".devnet" / "node_modules" / "@foundry-rs"


def anvil_binary() -> Path | None:
    """Return the binary (OMNILYTICS_ANVIL names another one), or None where there is none."""
    named = os.environ.get("OMNILYTICS_ANVIL")
    if named:
        return Path(named)
    return next(iter(_TOOLS.glob("anvil-*/bin/anvil")), None)


@dataclass
class Anvil:
    """A running anvil."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, *parameters: object) -> Any:
        """Return what the node answers to one JSON-RPC request."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = httpx.post(self.url, json=request, timeout=60).json()
        assert "error" not in answer, answer
        return answer["result"]

    def stop(self) -> None:
        """Let it end in order, which saves its state."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait()


@contextmanager
def running_anvil(*options: str) -> Iterator[str]:
    """Run anvil under Prague rules on a free port; yield its URL once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with anvil_at(port, None, *options) as anvil:
        yield anvil.url


@contextmanager
def anvil_at(port: int, state: Path | None, *options: str) -> Iterator[Anvil]:
    """Run anvil on a given port; its end saves to `state` what the next start goes on from."""
    anvil = start_anvil(port, state, *options)
    try:
        yield anvil
    finally:
        anvil.stop()


def start_anvil(port: int, state: Path | None, *options: str) -> Anvil:
    """Start anvil and return once it answers; the caller stops it."""
    command = [str(anvil_binary()), "--hardfork", "prague", "--port", str(port), "--silent"]
    command += ["--state", str(state)] if state is not None else []
    anvil = Anvil(port, subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL))
    try:
        _wait(anvil)
    except BaseException:
        anvil.stop()
        raise
    return anvil


def _wait(anvil: Anvil) -> None:
    while True:
        assert anvil.process.poll() is None, "anvil ended"
        try:
            connect(anvil.url).close()
        except ChainError:
            continue
        return
