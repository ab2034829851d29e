"""Anvil as a process whose requests are counted: it prints the method of each one that it gets."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devnet import anvil_binary
from server_process import free_ports, wait_for

from omnilytics.chain.connection import connect
from omnilytics.foundation.errors import ChainError

_METHOD = re.compile(r"^(?:eth|net|web3|evm|anvil)_\w+$", re.MULTILINE)


@dataclass
class Anvil:
    """One process and where it prints."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def requests(self) -> Counter[str]:
        """Return how many requests of each method it got so far."""
        return Counter(_METHOD.findall(self.log.read_text()))


@contextmanager
def counted_anvil(folder: Path) -> Iterator[Anvil]:
    """Run anvil under Prague rules on a free port; yield it once it answers."""
    (port,) = free_ports(1)
    log = folder / "anvil.log"
    command = [str(anvil_binary()), "--hardfork", "prague", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    anvil = Anvil(f"http://127.0.0.1:{port}", process, log)
    try:
        wait_for(lambda: _answers(anvil.url), "anvil up", lambda: process.poll() is None)
        yield anvil
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        connect(url).close()
    except ChainError:
        return False
    return True
