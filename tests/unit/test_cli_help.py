"""The command line as a whole: what it imports before it is asked for anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "numba", "web3", "eth_account", "sqlalchemy", "fastapi", "numpy"}


@pytest.mark.parametrize("arguments", [["--help"], ["task", "--help"], ["data", "join", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from omnilytics.cli.main import application\n"
        f"try: application({arguments!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"loaded = {HEAVY!r} & sys.modules.keys()\n"
        "sys.exit(', '.join(sorted(loaded)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
