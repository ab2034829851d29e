"""The compiled market contract, as `compile` wrote it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omnilytics.foundation.errors import ConfigError

ARTEFACT_PATH = Path(__file__).parent / "artefacts" / "Market.json"
BUILD_COMMAND = "python -m omnilytics.chain.compile"


@dataclass(frozen=True)
class Artefact:
    """ABI and bytecode of Market.vy.

    `runtime_bytecode` is what the chain stores but for the immutables, which the constructor
    appends to it.
    """

    abi: tuple[dict[str, Any], ...]
    bytecode: bytes
    runtime_bytecode: bytes
    source_sha256: str


@cache
def load_artefact() -> Artefact:
    """Return the compiled contract; raises ConfigError if it was never built."""
    try:
        fields = json.loads(ARTEFACT_PATH.read_text())
    except FileNotFoundError:
        raise ConfigError("the contract was not compiled", hint=BUILD_COMMAND) from None
    return Artefact(
        abi=tuple(fields["abi"]),
        bytecode=bytes.fromhex(fields["bytecode"][2:]),
        runtime_bytecode=bytes.fromhex(fields["runtime_bytecode"][2:]),
        source_sha256=fields["source_sha256"],
    )
