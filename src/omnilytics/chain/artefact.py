"""The compiled contracts, as `compile` wrote them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omnilytics.foundation.errors import ConfigError

ARTEFACTS = Path(__file__).parent / "artefacts"
DEPLOYED = ("Market", "Registry")
BUILD_COMMAND = "python -m omnilytics.chain.compile"


@dataclass(frozen=True)
class Artefact:
    """ABI and bytecode of a contract.

    `runtime_bytecode` is what the chain stores but for the immutables, which the constructor
    appends to it.
    """

    abi: tuple[dict[str, Any], ...]
    bytecode: bytes
    runtime_bytecode: bytes
    source_sha256: str


@cache
def load_artefact(contract: str) -> Artefact:
    """Return a compiled contract; raises ConfigError if it was never built."""
    try:
        fields = json.loads((ARTEFACTS / f"{contract}.json").read_text())
    except FileNotFoundError:
        raise ConfigError("the contracts were not compiled", hint=BUILD_COMMAND) from None
    return Artefact(
        abi=tuple(fields["abi"]),
        bytecode=bytes.fromhex(fields["bytecode"][2:]),
        runtime_bytecode=bytes.fromhex(fields["runtime_bytecode"][2:]),
        source_sha256=fields["source_sha256"],
    )
