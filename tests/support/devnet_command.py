"""The command `omnilytics devnet` for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-c", "from omnilytics.cli.main import main; main()")


def omnilytics(*arguments: str, code: int = 0, **environment: str) -> str:
    """Run a command; return what it printed on stdout, or else on stderr."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout or done.stderr


def devnet(command: str, folder: Path, *options: str, code: int = 0) -> dict[str, Any]:
    """Run a command on a network; return its JSON."""
    text = omnilytics("devnet", command, "--folder", str(folder), "--json", *options, code=code)
    found: dict[str, Any] = json.loads(text)
    return found
