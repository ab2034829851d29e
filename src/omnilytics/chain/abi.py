"""Contract ABI: calls, results, logs and revert reasons as bytes.

Structs travel as tuples in the order of their members; addresses as 20 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_abi.grammar import parse
from eth_hash.auto import keccak

from omnilytics.chain.artefact import load_artefact
from omnilytics.foundation.errors import ChainError

MAX_REASON_CHARACTERS = 200
_ERROR_STRING = keccak(b"Error(string)")[:4]


class Codec:
    """Encoder and decoder for one ABI."""

    def __init__(self, abi: Sequence[Mapping[str, Any]]) -> None:
        functions = [entry for entry in abi if entry["type"] == "function"]
        events = [entry for entry in abi if entry["type"] == "event"]
        self._inputs = {entry["name"]: _types(entry["inputs"]) for entry in functions}
        self._outputs = {entry["name"]: _types(entry["outputs"]) for entry in functions}
        self._selectors = {name: _hash(name, kinds)[:4] for name, kinds in self._inputs.items()}
        self._structs = {
            entry["name"]: [member["name"] for member in entry["outputs"][0]["components"]]
            for entry in functions
            if entry["outputs"] and entry["outputs"][0]["type"] == "tuple"
        }
        self._events = {
            _hash(entry["name"], _types(entry["inputs"])): (entry["name"], entry["inputs"])
            for entry in events
        }

    def call(self, name: str, *arguments: object) -> bytes:
        """Return the calldata of function `name`."""
        return self._selectors[name] + encode(self._inputs[name], list(map(_plain, arguments)))

    def arguments(self, name: str, data: bytes) -> tuple[Any, ...]:
        """Return the arguments in calldata; raises ChainError if it calls something else."""
        if data[:4] != self._selectors[name]:
            raise ChainError(f"the transaction does not call {name}", got=data[:4].hex())
        return _decode(self._inputs[name], data[4:])

    def result(self, name: str, data: bytes) -> tuple[Any, ...]:
        """Return what function `name` returned; raises ChainError when `data` is something else."""
        return _decode(self._outputs[name], data)

    def named(self, name: str, values: Sequence[Any]) -> dict[str, Any]:
        """Return the struct that function `name` returned as a mapping from its members' names."""
        return dict(zip(self._structs[name], values, strict=True))

    def log(self, topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]] | None:
        """Return name and members of a log, or None when the ABI does not have it."""
        known = self._events.get(topics[0]) if topics else None
        if known is None:
            return None
        name, members = known
        indexed = [member for member in members if member["indexed"]]
        others = [member for member in members if not member["indexed"]]
        if len(indexed) != len(topics) - 1:
            raise ChainError(f"log of {name} with {len(topics)} topics", want=len(indexed) + 1)
        values = {
            member["name"]: _decode((_type(member),), topic)[0]
            for member, topic in zip(indexed, topics[1:], strict=True)
        }
        plain = _decode(_types(others), data)
        values.update((member["name"], value) for member, value in zip(others, plain, strict=True))
        return name, values


@cache
def market_codec() -> Codec:
    """Return the codec of the market contract."""
    return Codec(load_artefact().abi)


def constructor_arguments(*values: int) -> bytes:
    """Return unsigned integers as a contract's constructor reads them."""
    return encode(["uint256"] * len(values), list(values))


def revert_reason(data: bytes) -> str:
    """Return the reason in revert data, or a text that says there is none."""
    if data[:4] == _ERROR_STRING:
        try:
            return str(_decode(["string"], data[4:])[0])[:MAX_REASON_CHARACTERS]
        except ChainError:
            pass
    return "reverted without a reason"


def bytes_of_address(text: str) -> bytes:
    """Return the 20 bytes of a hexadecimal address."""
    return bytes.fromhex(text.removeprefix("0x"))


def _decode(kinds: Sequence[str], data: bytes) -> tuple[Any, ...]:
    try:
        return tuple(map(_native, kinds, decode(list(kinds), data)))
    except (DecodingError, ValueError, OverflowError) as error:
        raise ChainError("the contract answered something else", got=type(error).__name__) from None


def _native(kind: str, value: Any) -> Any:
    """Return a decoded value with every address as 20 bytes (eth_abi gives text)."""
    if kind == "address":
        return bytes_of_address(value)
    if kind.endswith("[]"):
        return tuple(_native(kind[:-2], item) for item in value)
    if kind.startswith("("):
        return tuple(
            _native(part.to_type_str(), item)
            for part, item in zip(parse(kind).components, value, strict=True)
        )
    return value


def _plain(value: Any) -> Any:
    return "0x" + value.hex() if isinstance(value, bytes) and len(value) == 20 else _each(value)


def _each(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _hash(name: str, kinds: Sequence[str]) -> bytes:
    return keccak(f"{name}({','.join(kinds)})".encode())


def _types(members: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(map(_type, members))


def _type(member: Mapping[str, Any]) -> str:
    kind = str(member["type"])
    if kind.startswith("tuple"):
        return f"({','.join(_types(member['components']))}){kind.removeprefix('tuple')}"
    return kind
