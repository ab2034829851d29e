"""What an auditor imports holds no signer of transactions."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["reader", "evidence", "events", "jsonrpc", "records"])
def test_reading_needs_no_signer(module: str) -> None:
    script = f"import sys, omnilytics.chain.{module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert f"omnilytics.chain.{module}" in loaded
    assert "omnilytics.chain.sender" not in loaded
    assert "omnilytics.chain.writer" not in loaded


def test_a_server_starts_without_what_it_never_uses() -> None:
    heavy = {"torch", "matplotlib", "sklearn", "web3", "eth_account", "py_ecc", "eth", "alembic"}
    script = f"import sys, omnilytics.service.process; print(*(sys.modules.keys() & {heavy}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
