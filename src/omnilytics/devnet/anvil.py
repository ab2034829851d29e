"""Finding anvil, the development chain, and the options it runs with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from omnilytics.foundation.errors import ConfigError

VERSION = "1.7.1"
VARIABLE = "OMNILYTICS_ANVIL"
CHAIN_ID = 31_337
STATE_SECONDS = 2
"""How often anvil writes its state: a crash of it loses that much."""
_STATES_IN_MEMORY = 64
"""States of past blocks that anvil keeps; more would go to files that a crash leaves behind."""
_CHECKOUT = Path(__file__).resolve().parents[3]


def anvil_binary() -> Path | None:
    """Return anvil's binary, or None where there is none.

    OMNILYTICS_ANVIL comes first, then `.devnet` of the checkout and of the current folder, then
    PATH. npm puts a script on PATH, which would leave anvil behind when it is stopped: for that the
    binary in the package beside it is taken.

    Raises:
        ConfigError: OMNILYTICS_ANVIL names no file.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise ConfigError("there is no such file", got=named, want=VARIABLE)
        return Path(named)
    for folder in (_CHECKOUT, Path.cwd()):
        found = _in_packages(folder / ".devnet" / "node_modules" / "@foundry-rs")
        if found is not None:
            return found
    on_path = shutil.which("anvil")
    return None if on_path is None else _behind_wrapper(Path(on_path).resolve())


def require_anvil() -> Path:
    """Return anvil's binary; raises ConfigError that says how to have it."""
    binary = anvil_binary()
    if binary is not None:
        return binary
    node = (
        "" if shutil.which("npm") else "install Node.js with npm (Debian: apt install npm), then "
    )
    in_checkout = (_CHECKOUT / "Makefile").is_file()
    raise ConfigError(
        "anvil, the development chain, is not installed",
        want=f"anvil {VERSION}",
        hint=node
        + (
            "make devnet-tools"
            if in_checkout
            else f"npm install --prefix .devnet @foundry-rs/anvil@{VERSION}; from another folder "
            f"name the program in it: {VARIABLE}=DIR/node_modules/@foundry-rs/anvil-*/bin/anvil"
        ),
    )


def anvil_command(binary: Path, port: int, state: Path, block_seconds: int) -> list[str]:
    """Return the command: Prague rules, state in a file, a block at a pace and per transaction."""
    return [
        str(binary),
        *("--hardfork", "prague"),
        *("--chain-id", str(CHAIN_ID)),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--state", str(state)),
        *("--state-interval", str(STATE_SECONDS)),
        *("--block-time", str(block_seconds)),
        "--mixed-mining",
        *("--prune-history", str(_STATES_IN_MEMORY)),
        "--silent",
    ]


def _in_packages(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("anvil-*/bin/anvil"))), None)


def _behind_wrapper(program: Path) -> Path | None:
    """Return the program, or the binary that belongs to it where it is npm's script."""
    with program.open("rb") as file:
        if file.read(2) != b"#!":
            return program
    packages = (parent for parent in program.parents if parent.name == "@foundry-rs")
    return next((found for folder in packages if (found := _in_packages(folder))), None)
