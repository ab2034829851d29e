"""Compile contracts/*.vy into src/omnilytics/chain/artefacts, and write their typed bindings.

Run as `python -m omnilytics.chain.compile` from a source tree; wheels carry the artefact. The
artefact records the hash of every source file, so that a stale one is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

from omnilytics.chain.artefact import ARTEFACTS, DEPLOYED, load_artefact
from omnilytics.chain.generate import bindings_source, struct_names
from omnilytics.foundation.errors import ConfigError

CONTRACTS = Path(__file__).resolve().parents[3] / "contracts"
BINDINGS = Path(__file__).parent / "bindings"
EVM_VERSION = "prague"
_FORMATS = ["abi", "bytecode", "bytecode_runtime"]


def source_sha256(contracts: Path = CONTRACTS) -> str:
    """Return the hex hash over the names and texts of all contract sources.

    Raises:
        ConfigError: There is no source tree.
    """
    sources = sorted(contracts.glob("*.vy"))
    if not sources:
        raise ConfigError("no contract sources", got=contracts, hint="run from a source tree")
    total = hashlib.sha256()
    for source in sources:
        text = source.read_bytes()
        total.update(f"{source.name} {len(text)}\n".encode() + text)
    return total.hexdigest()


def compile_contract(name: str, contracts: Path = CONTRACTS) -> dict[str, object]:
    """Return the artefact of a contract as JSON values (Vyper 0.4.3, Prague, gas-optimised).

    Raises:
        ConfigError: Vyper is not installed, or there is no source tree.
    """
    digest = source_sha256(contracts)
    try:
        from vyper.compiler import compile_from_file_input
        from vyper.compiler.input_bundle import FilesystemInputBundle
        from vyper.compiler.settings import OptimizationLevel, Settings
    except ImportError:
        raise ConfigError("Vyper is not installed", hint='pip install -e ".[dev]"') from None
    bundle = FilesystemInputBundle([contracts])
    settings = Settings(evm_version=EVM_VERSION, optimize=OptimizationLevel.GAS)
    output = compile_from_file_input(
        bundle.load_file(f"{name}.vy"), bundle, settings=settings, output_formats=_FORMATS
    )
    return {
        "abi": output["abi"],
        "bytecode": output["bytecode"],
        "runtime_bytecode": output["bytecode_runtime"],
        "source_sha256": digest,
    }


def build(folder: Path = ARTEFACTS) -> bool:
    """Write the artefacts that are not there for these sources; return whether any was written."""
    written = [_build(name, folder / f"{name}.json") for name in DEPLOYED]
    return any(written)


def _build(name: str, path: Path) -> bool:
    if path.exists() and json.loads(path.read_text())["source_sha256"] == source_sha256():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}.new")
    scratch.write_text(json.dumps(compile_contract(name), indent=1) + "\n")
    scratch.replace(path)  # atomic: parallel test processes build it at the same time
    return True


def bindings(name: str, contracts: Path = CONTRACTS) -> str:
    """Return the Python bindings of a built contract."""
    source = (contracts / f"{name}.vy").read_text()
    return bindings_source(name, load_artefact(name).abi, source, struct_names(contracts))


if __name__ == "__main__":
    build()
    if "--bindings" in sys.argv[1:]:
        for deployed in DEPLOYED:
            (BINDINGS / f"{deployed.lower()}.py").write_text(bindings(deployed))
