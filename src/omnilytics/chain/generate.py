"""Generate the typed bindings of the contracts from their ABI and NatSpec.

Run by `python -m omnilytics.chain.compile --bindings`; the result, `bindings/`, is in git so that
it is read, typed and reviewed like other code. A test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_PLAIN = {
    "address": "Address",
    "bool": "bool",
    "bytes": "bytes",
    "bytes32": "Hash32",
    "string": "str",
    "uint256": "int",
}
_STRUCT = re.compile(r"^struct (\w+):\n((?:    \w+: .*\n)+)", re.MULTILINE)
_MEMBER = re.compile(r"^    (\w+):", re.MULTILINE)
_FUNCTION = re.compile(r'def (\w+)\([^"]*?"""\s+@notice (.*?)\n\s*(?:@|""")', re.DOTALL)
_IDS = {"task": "TaskId", "round": "Round"}
_LINE = 96
_SHARED = ("Signature",)
"""Structs that several contracts have, defined once beside the codec."""

Structs = Mapping[tuple[str, ...], str]


def struct_names(contracts: Path) -> dict[tuple[str, ...], str]:
    """Return the names of all structs in the sources, by the names of their members."""
    found: dict[tuple[str, ...], str] = {}
    for source in sorted(contracts.glob("*.vy")):
        for name, body in _STRUCT.findall(source.read_text()):
            found[tuple(_MEMBER.findall(body))] = name
    return found


def bindings_source(
    contract: str, abi: Sequence[Mapping[str, Any]], source: str, structs: Structs
) -> str:
    """Return the module of bindings of one contract.

    Args:
        contract: Name of the contract, as of its source file.
        abi: Its ABI.
        source: Its Vyper source, for the notices.
        structs: Names of structs by their members.
    """
    notices = {name: " ".join(text.split()) for name, text in _FUNCTION.findall(source)}
    used: dict[str, str] = {}
    functions = [e for e in abi if e["type"] == "function"]
    events = [e for e in abi if e["type"] == "event"]
    bodies = [_function(entry, notices, structs, used) for entry in functions]
    classes = [_event(entry, structs) for entry in events]
    text = "\n\n\n".join([*used.values(), *classes, *bodies])
    units = [
        kind for kind in ("Address", "Hash32", "Round", "TaskId") if re.search(rf"\b{kind}\b", text)
    ]
    bases = [
        kind
        for kind in ("MarketEvent", "RoundEvent", "TaskEvent")
        if re.search(rf"\({kind}\)", text)
    ]
    return (
        f'"""Typed bindings of {contract}.vy, made by `compile --bindings`; do not edit."""\n\n'
        "from __future__ import annotations\n\n"
        "from collections.abc import Sequence\n"
        "from dataclasses import dataclass\n\n"
        "from omnilytics.chain.abi import Call, Codec, Signature, codec_of\n"
        f"from omnilytics.chain.happenings import {', '.join(bases)}\n"
        f"from omnilytics.foundation.units import {', '.join(units)}\n\n\n"
        f"{text}\n\n\n"
        f"STRUCTS = (Signature, {''.join(f'{name}, ' for name in used)})\n"
        f"EVENTS = ({''.join(entry['name'] + ', ' for entry in events)})\n\n\n"
        "def codec() -> Codec:\n"
        '    """Return the encoder and decoder of this contract."""\n'
        f'    return codec_of("{contract}", STRUCTS, EVENTS)\n'
    )


def _function(
    entry: Mapping[str, Any], notices: Mapping[str, str], structs: Structs, used: dict[str, str]
) -> str:
    name = entry["name"]
    inputs = [(m["name"], m) for m in entry["inputs"]]
    parameters = ", ".join(f"{n}: {_type(m, structs, used, n)}" for n, m in inputs)
    results = [_type(m, structs, used, returns=True) for m in entry["outputs"]]
    result = {0: "None", 1: results[0] if results else ""}.get(
        len(results), f"tuple[{', '.join(results)}]"
    )
    names = "".join(f", {n}" for n, _ in inputs)
    notice = notices.get(name, f"Read `{name}`.").split(". ")[0].rstrip(".") + "."
    return (
        f"def {name}({parameters}) -> Call[{result}]:\n"
        f"{_docstring(notice, '    ')}\n"
        f'    return codec().call("{name}"{names})'
    )


def _event(entry: Mapping[str, Any], structs: Structs) -> str:
    fields = dict(_flat(entry["inputs"]))
    base = "MarketEvent"
    if "task" in fields and "round" in fields:
        base = "RoundEvent"
    elif "task" in fields:
        base = "TaskEvent"
    inherited = {"RoundEvent": ("task", "round"), "TaskEvent": ("task",)}.get(base, ())
    lines = [
        f"    {name}: {_IDS.get(name) or _type(member, structs, {})}"
        for name, member in fields.items()
        if name not in inherited
    ]
    body = "\n".join(lines) or "    pass"
    return (
        f"@dataclass(frozen=True, kw_only=True)\nclass {entry['name']}({base}):\n"
        f'    """Event of the contract."""\n\n{body}'
    )


def _flat(members: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield members with those of structs in the structs' places."""
    for member in members:
        if member["type"] == "tuple":
            yield from _flat(member["components"])
        else:
            yield member["name"], member


def _type(
    member: Mapping[str, Any],
    structs: Structs,
    used: dict[str, str],
    name: str = "",
    *,
    returns: bool = False,
) -> str:
    kind = str(member["type"])
    array = re.search(r"\[\d*\]$", kind)
    if array:
        inner = _type({**member, "type": kind[: array.start()]}, structs, used, returns=returns)
        return f"tuple[{inner}, ...]" if returns or not name else f"Sequence[{inner}]"
    if kind != "tuple":
        return _PLAIN[kind]
    members = tuple(component["name"] for component in member["components"])
    struct = structs[members]
    if struct in _SHARED:
        return struct
    if struct not in used:
        lines = [
            f"    {m['name']}: {_type(m, structs, used, returns=True)}"
            for m in member["components"]
        ]
        used[struct] = (
            f"@dataclass(frozen=True, kw_only=True)\nclass {struct}:\n"
            f'    """Struct of the contract."""\n\n' + "\n".join(lines)
        )
    return struct


def _docstring(text: str, indent: str) -> str:
    lines, line = [], f'{indent}"""'
    for word in text.split():
        if len(line) + len(word) + 1 > _LINE - 3:
            lines.append(line)
            line = indent + word
        else:
            line += word if line.endswith('"""') else " " + word
    lines.append(line)
    if len(lines) == 1:
        return lines[0] + '"""'
    return "\n".join([*lines, f'{indent}"""'])
