"""Anvil for tests, where `make devnet-tools` has installed it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from omnilytics.chain.connection import connect
from omnilytics.devnet.anvil import anvil_binary
from omnilytics.foundation.errors import ChainError

__all__ = ["anvil_binary", "running_anvil"]


@contextmanager
def running_anvil(*options: str) -> Iterator[str]:
    """Run anvil under Prague rules on a free port; yield its URL once it answers."""
    binary = anvil_binary()
    assert binary is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(binary), "--hardfork", "prague", "--port", str(port), "--silent", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None, "anvil ended"
        try:
            connect(url).close()
        except ChainError:
            continue
        return
