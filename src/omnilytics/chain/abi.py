"""Contract ABI: calls, results, logs and revert reasons as bytes.

Structs and events travel as the dataclasses of `bindings`; addresses as 20 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

from omnilytics.chain.artefact import load_artefact
from omnilytics.chain.happenings import MarketEvent, Position
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Hash32

MAX_REASON_CHARACTERS = 200
_ERROR_STRING = keccak(b"Error(string)")[:4]

Result_co = TypeVar("Result_co", covariant=True)
Member = Mapping[str, Any]


@dataclass(frozen=True)
class Call(Generic[Result_co]):
    """A call of a contract: its calldata, and how to read what it returns."""

    name: str
    data: bytes
    result: Callable[[bytes], Result_co]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A signature in the compact form of EIP-2098, as all contracts take it."""

    r: Hash32
    vs: int


class Codec:
    """Encoder and decoder for one contract's ABI.

    Args:
        abi: The ABI.
        structs: Dataclass of each struct, recognised by its members' names.
        events: Dataclass of each event, by its name; structs in events are flattened.
    """

    def __init__(
        self,
        abi: Sequence[Member],
        structs: Sequence[type] = (),
        events: Sequence[type[MarketEvent]] = (),
    ) -> None:
        functions = [entry for entry in abi if entry["type"] == "function"]
        self._functions: dict[str, Member] = {entry["name"]: entry for entry in functions}
        self._selectors = {
            entry["name"]: _hash(entry["name"], _types(entry["inputs"]))[:4] for entry in functions
        }
        self._structs = {tuple(f.name for f in fields(kind)): kind for kind in structs}
        self._kinds = {kind.__name__: kind for kind in events}
        self._events = {
            _hash(entry["name"], _types(entry["inputs"])): entry
            for entry in abi
            if entry["type"] == "event"
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all functions."""
        return tuple(self._functions)

    def call(self, name: str, *arguments: object) -> Call[Any]:
        """Return a call of function `name`."""
        return Call(name, self.calldata(name, *arguments), lambda data: self.result(name, data))

    def encoded_inputs(self, name: str, *first: object) -> bytes:
        """Return the ABI encoding of the first arguments of function `name`."""
        kinds = _types(self._functions[name]["inputs"])[: len(first)]
        return encode(kinds, list(map(_plain, first)))

    def calldata(self, name: str, *arguments: object) -> bytes:
        """Return the calldata of function `name`."""
        kinds = _types(self._functions[name]["inputs"])
        return self._selectors[name] + encode(kinds, list(map(_plain, arguments)))

    def arguments(self, name: str, data: bytes) -> tuple[Any, ...]:
        """Return the arguments in calldata; raises ChainError if it calls something else."""
        if data[:4] != self._selectors[name]:
            raise ChainError(f"the transaction does not call {name}", got=data[:4].hex())
        return self._decode(self._functions[name]["inputs"], data[4:])

    def result(self, name: str, data: bytes) -> Any:
        """Return what function `name` returned, a tuple only where it returns several things.

        Raises:
            ChainError: `data` is something else.
        """
        values = self._decode(self._functions[name]["outputs"], data)
        if not values:
            return None
        return values[0] if len(values) == 1 else values

    def log(self, topics: Sequence[bytes], data: bytes, position: Position) -> MarketEvent | None:
        """Return the event in a log, or None when the ABI does not have it."""
        entry = self._events.get(topics[0]) if topics else None
        if entry is None:
            return None
        indexed = [member for member in entry["inputs"] if member["indexed"]]
        others = [member for member in entry["inputs"] if not member["indexed"]]
        if len(indexed) != len(topics) - 1:
            name, want = entry["name"], len(indexed) + 1
            raise ChainError(f"log of {name} with {len(topics)} topics", want=want)
        values: dict[str, Any] = {}
        for member, topic in zip(indexed, topics[1:], strict=True):
            values[member["name"]] = self._decode([member], topic)[0]
        for member, value in zip(others, self._decode(others, data), strict=True):
            if is_dataclass(value):
                values.update((f.name, getattr(value, f.name)) for f in fields(value))
            else:
                values[member["name"]] = value
        return self._kinds[entry["name"]](position=position, **values)

    def _decode(self, members: Sequence[Member], data: bytes) -> tuple[Any, ...]:
        # Contracts take any bytes as text. Were one that is no UTF-8 refused, whoever registers it
        # would stop every reader of the logs. Text and bytes are encoded alike.
        kinds = [kind.replace("string", "bytes") for kind in _types(members)]
        try:
            values = decode(kinds, data)
            return tuple(map(self._native, members, values))
        except (DecodingError, ValueError, OverflowError) as error:
            got = type(error).__name__
            raise ChainError("the contract answered something else", got=got) from None

    def _native(self, member: Member, value: Any) -> Any:
        """Return a decoded value: addresses as 20 bytes (eth_abi gives text), structs as such."""
        kind = str(member["type"])
        if kind.endswith("]"):
            item = {**member, "type": kind[: kind.rindex("[")]}
            return tuple(self._native(item, each) for each in value)
        if kind == "address":
            return bytes_of_address(value)
        if kind == "string":
            return value.decode(errors="replace")
        if kind != "tuple":
            return value
        names = tuple(component["name"] for component in member["components"])
        parts = map(self._native, member["components"], value)
        struct = self._structs.get(names)
        return tuple(parts) if struct is None else struct(**dict(zip(names, parts, strict=True)))


@cache
def codec_of(
    contract: str, structs: tuple[type, ...] = (), events: tuple[type[MarketEvent], ...] = ()
) -> Codec:
    """Return the codec of a compiled contract."""
    return Codec(load_artefact(contract).abi, structs, events)


def constructor_arguments(contract: str, *values: object) -> bytes:
    """Return arguments as a contract's constructor reads them."""
    inputs = next(e["inputs"] for e in load_artefact(contract).abi if e["type"] == "constructor")
    return encode(_types(inputs), list(map(_plain, values)))


def revert_reason(data: bytes) -> str:
    """Return the reason in revert data, or a text that says there is none."""
    if data[:4] == _ERROR_STRING:
        try:
            return str(decode(["string"], data[4:])[0])[:MAX_REASON_CHARACTERS]
        except (DecodingError, ValueError, OverflowError):
            pass
    return "reverted without a reason"


def bytes_of_address(text: str) -> bytes:
    """Return the 20 bytes of a hexadecimal address."""
    return bytes.fromhex(text.removeprefix("0x"))


def _plain(value: Any) -> Any:
    """Return a value as eth_abi takes it."""
    if isinstance(value, bytes) and len(value) == 20:
        return "0x" + value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(_plain(getattr(value, field.name)) for field in fields(value))
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _hash(name: str, kinds: Sequence[str]) -> bytes:
    return keccak(f"{name}({','.join(kinds)})".encode())


def _types(members: Sequence[Member]) -> tuple[str, ...]:
    return tuple(map(_type, members))


def _type(member: Member) -> str:
    kind = str(member["type"])
    if kind.startswith("tuple"):
        return f"({','.join(_types(member['components']))}){kind.removeprefix('tuple')}"
    return kind
