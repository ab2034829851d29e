"""Second opinion on the contracts: opcode census, compiler warnings, vyper-guard and Mythril.

Run as `python analyse.py CONTRACTS OUT` by a Python that has vyper and cbor2; run.sh sets `MYTH`
and `GUARD`, which name the tools. Exits 1 on a finding that ACCEPTED does not list, or on a tool
that broke down.

Mythril 0.24.8 knows the EVM up to Shanghai (no TLOAD, TSTORE, MCOPY) and cannot follow the jump
tables of optimised Vyper, so it is given the same sources compiled without optimisation for
Shanghai. That checks the source's logic, not the deployed bytes; the census is of the deployed
bytes. It starts in an arbitrary storage, so findings may need a state that no call can reach.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2
from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle
from vyper.compiler.settings import OptimizationLevel, Settings

SECONDS = int(os.environ.get("SECONDS_PER_FUNCTION", "12"))
MYTH = os.environ.get("MYTH", "myth")
GUARD = os.environ.get("GUARD", "vyper-guard")
ACCEPTED = Path(os.environ.get("ACCEPTED", "accepted.txt"))
_NETWORKLESS = ["unshare", "-rn"] if os.environ.get("NETWORKLESS") else []
# An immutable's stand-in: no precompile's address, and a plausible amount. Mythril lets nobody call
# but a few accounts, so that one of them must be it: else what only the market may call is not run.
_IMMUTABLE_WORD = (0x10000001).to_bytes(32, "big")
_MYTH_OPTIONS = [
    "-v", "4", "analyze", "--bin-runtime", "-t", "1", "--unconstrained-storage",
    "--no-onchain-data",
    "--strategy", "dfs", "--disable-dependency-pruning", "--pruning-factor", "1",
    "--execution-timeout", str(SECONDS), "--solver-timeout", "5000", "-o", "json",
    "--creator-address", "0x" + _IMMUTABLE_WORD[12:].hex(),
]  # fmt: skip
_NOTABLE = {
    0x31: "BALANCE", 0x32: "ORIGIN", 0x3A: "GASPRICE", 0x3B: "EXTCODESIZE", 0x3C: "EXTCODECOPY",
    0x3F: "EXTCODEHASH", 0x40: "BLOCKHASH", 0x41: "COINBASE", 0x42: "TIMESTAMP", 0x43: "NUMBER",
    0x44: "PREVRANDAO", 0x46: "CHAINID", 0x47: "SELFBALANCE", 0x54: "SLOAD", 0x55: "SSTORE",
    0x5C: "TLOAD", 0x5D: "TSTORE", 0xF0: "CREATE", 0xF1: "CALL", 0xF2: "CALLCODE",
    0xF4: "DELEGATECALL", 0xF5: "CREATE2", 0xFA: "STATICCALL", 0xFF: "SELFDESTRUCT",
}  # fmt: skip
_FORBIDDEN = {
    "ORIGIN", "COINBASE", "PREVRANDAO", "CREATE", "CREATE2", "CALLCODE", "DELEGATECALL",
    "SELFDESTRUCT",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What a tool says; `key` is what ACCEPTED lists, without line numbers."""

    tool: str
    rule: str
    place: str
    line: str
    severity: str

    @property
    def key(self) -> str:
        """The finding without its line."""
        return f"{self.tool} | {self.rule} | {self.place}"


@dataclass
class Outcome:
    """Everything found, and everything that kept a tool from looking."""

    findings: list[Finding] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def build(source: Path, evm_version: str, optimize: OptimizationLevel) -> dict[str, Any]:
    """Return the compiler's outputs for one contract."""
    bundle = FilesystemInputBundle([source.parent])
    output: dict[str, Any] = compile_from_file_input(
        bundle.load_file(source.name),
        bundle,
        settings=Settings(evm_version=evm_version, optimize=optimize),
        output_formats=[
            "abi",
            "bytecode",
            "bytecode_runtime",
            "method_identifiers",
            "source_map_runtime",
            "annotated_ast_dict",
        ],
    )
    return output


def modules(contracts: Path) -> set[str]:
    """Return the names that some contract imports: they are compiled into it, not deployed."""
    pattern = re.compile(r"^(?:import|from \. import) (\w+)", re.MULTILINE)
    return {name for path in contracts.glob("*.vy") for name in pattern.findall(path.read_text())}


def sizes(output: dict[str, Any]) -> tuple[int, int, int]:
    """Return (runtime bytes, of them data, bytes of immutables) from Vyper's trailer."""
    creation = bytes.fromhex(output["bytecode"][2:])
    trailer = cbor2.loads(creation[-int.from_bytes(creation[-2:], "big") : -2])
    return trailer[1], sum(trailer[2]), trailer[3]


def census(name: str, output: dict[str, Any], outcome: Outcome) -> None:
    """Count the notable opcodes of the deployed code."""
    runtime = bytes.fromhex(output["bytecode_runtime"][2:])
    size, data, immutables = sizes(output)
    found: Counter[str] = Counter()
    position = 0
    while position < size - data:
        opcode = runtime[position]
        if opcode in _NOTABLE:
            found[_NOTABLE[opcode]] += 1
        position += 1 + (opcode - 0x5F if 0x60 <= opcode <= 0x7F else 0)
    counts = ", ".join(f"{key} {count}" for key, count in sorted(found.items()))
    print(f"  {name}: {size + immutables} of 24576 bytes; {counts}")
    for opcode_name in sorted(_FORBIDDEN & set(found)):
        outcome.findings.append(Finding("census", opcode_name, name, "-", "High"))


def guard(source: Path, out: Path, outcome: Outcome) -> None:
    """Run vyper-guard over one source file."""
    report = out / f"{source.stem}.guard.json"
    report.unlink(missing_ok=True)
    command = [*_NETWORKLESS, GUARD, "analyze", source.name, "--semantic-mode", "compiler"]
    done = subprocess.run(  # noqa: S603 - the tools that run.sh installed
        [*command, "-f", "json", "-o", str(report)],
        cwd=source.parent, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if not report.exists():
        outcome.broken.append(
            f"vyper-guard on {source.name}: {done.stdout[-300:]}{done.stderr[-300:]}"
        )
        return
    fields = json.loads(report.read_text())
    if fields["analysis_context"].get("semantic_engine", "").startswith("compiler") is False:
        outcome.broken.append(f"vyper-guard on {source.name}: {fields['analysis_context']}")
    for item in fields["findings"]:
        place = item["title"].rsplit(" on ", 1)[-1].rsplit(" in ", 1)[-1]
        outcome.findings.append(
            Finding("guard", item["detector"], f"{source.stem}.{place}",
                    f"{source.name}:{item['line_number']}", item["severity"])
        )  # fmt: skip


def lines_of(output: dict[str, Any]) -> tuple[list[int], dict[int, str]]:
    """Return the mapped program counters in order, and the source line of each."""
    ast = output["annotated_ast_dict"]
    files = {module["source_id"]: module["path"] for module in [ast["ast"], *ast.get("imports", [])]
             if "source_id" in module and "path" in module}  # fmt: skip
    mapped = output["source_map_runtime"]
    lines = {
        pc: f"{Path(files.get(mapped['pc_ast_map'][pc][0], '?')).name}:{position[0]}"
        for pc, position in mapped["pc_pos_map"].items()
        if position and pc in mapped["pc_ast_map"]
    }
    return sorted(lines), lines


def mythril(source: Path, out: Path, outcome: Outcome) -> None:
    """Run Mythril over every state-changing function of one contract."""
    output = build(source, "shanghai", OptimizationLevel.NONE)
    runtime = bytes.fromhex(output["bytecode_runtime"][2:])
    runtime += _IMMUTABLE_WORD * -(-sizes(output)[2] // 32)
    code = out / f"{source.stem}.hex"
    code.write_text(runtime.hex())
    counters, lines = lines_of(output)
    changing = {
        entry["name"]
        for entry in output["abi"]
        if entry["type"] == "function" and entry["stateMutability"] in ("nonpayable", "payable")
    }
    for signature, selector in output["method_identifiers"].items():
        name = signature.split("(")[0]
        if name not in changing:
            continue
        started = time.monotonic()
        log = out / f"{source.stem}.{name}.log"
        try:
            done = subprocess.run(  # noqa: S603 - the tools that run.sh installed
                [
                    MYTH,
                    *_MYTH_OPTIONS,
                    "-f",
                    str(code),
                    "--transaction-sequences",
                    f"[[{selector}]]",
                ],
                capture_output=True,
                text=True,
                timeout=4 * SECONDS + 120,
                check=False,
            )
        except subprocess.TimeoutExpired:
            outcome.broken.append(f"mythril on {name}: it did not stop")
            continue
        took = time.monotonic() - started
        log.write_text(done.stdout + done.stderr)
        covered = [line.split("Achieved ")[1].split("%")[0] for line in done.stderr.splitlines()
                   if "Achieved " in line]  # fmt: skip
        percent = covered[-1] if covered else "?"
        end = "all paths" if took < SECONDS else "stopped at its time"
        print(
            f"  {source.stem}.{name}: {took:.0f} s, {end}, {percent} % of the code",
            flush=True,
        )
        if "Traceback" in done.stderr or not done.stdout.startswith("{"):
            outcome.broken.append(f"mythril on {name}: see {log}")
            continue
        for item in json.loads(done.stdout)["issues"]:
            near = [pc for pc in counters if pc <= item["address"]]
            line = lines[near[-1]] if near else "?"
            outcome.findings.append(
                Finding("mythril", item["title"], f"{source.stem}.{name}", line, item["severity"])
            )


def main() -> int:
    """Run everything; return the exit status."""
    contracts, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    outcome = Outcome()
    deployable = []
    print("compiler and opcodes of the deployed code:")
    inner = modules(contracts)
    for source in sorted(contracts.glob("*.vy")):
        guard(source, out, outcome)
        if source.stem in inner:
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            output = build(source, "prague", OptimizationLevel.GAS)
        for warning in caught:
            rule = type(warning.message).__name__
            outcome.findings.append(Finding("vyper", rule, source.stem, "-", "Warning"))
            print(f"  {source.name}: {warning.message}")
        deployable.append(source)
        census(source.stem, output, outcome)
    print(f"mythril, at most {SECONDS} s a function:", flush=True)
    warnings.simplefilter("ignore")  # code size: this build is never deployed
    for source in deployable:
        mythril(source, out, outcome)
    accepted = {}
    if ACCEPTED.exists():
        for text in ACCEPTED.read_text().splitlines():
            if text.strip() and not text.startswith("#"):
                key, _, reason = text.partition(" => ")
                accepted[key.strip()] = reason.strip()
    grouped: dict[str, list[Finding]] = {}
    for finding in outcome.findings:
        grouped.setdefault(finding.key, []).append(finding)
    print("findings:")
    for key in sorted(grouped, key=lambda key: (key in accepted, key)):
        group = grouped[key]
        where = ", ".join(sorted({finding.line for finding in group}))
        print(f"  {'known' if key in accepted else 'NEW  '} {group[0].severity:8} {key} ({where})"
              + (f": {accepted[key]}" if key in accepted else ""))  # fmt: skip
    for key in sorted(set(accepted) - set(grouped)):
        print(f"  gone  {key}")
    for text in outcome.broken:
        print(f"  BROKEN {text}")
    new = [key for key in grouped if key not in accepted]
    print(f"{len(grouped)} findings, {len(new)} not judged, {len(outcome.broken)} tools broken")
    return int(bool(new or outcome.broken))


if __name__ == "__main__":
    sys.exit(main())
