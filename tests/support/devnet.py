"""Anvil for tests, where `make devnet-tools` has installed it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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


class Anvil:
    """One anvil on a given port; its end saves to `state` what the next start goes on from."""

    def __init__(self, port: int, state: Path | None, *options: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = [str(anvil_binary()), "--hardfork", "prague", "--port", str(port)]
        self._command += ["--silent", *options]
        self._command += ["--state", str(state)] if state is not None else []
        self.process = self._started()

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

    def restart(self) -> None:
        """Let it end in order, and start it again."""
        self.stop()
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        try:
            _wait(self.url, process)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        return process


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
    """Run anvil on a given port."""
    anvil = Anvil(port, state, *options)
    try:
        yield anvil
    finally:
        anvil.stop()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None, "anvil ended"
        try:
            connect(url).close()
        except ChainError:
            continue
        return
