"""EIP-712 hashing of the market's signed messages.

A signed message is a frozen dataclass derived from `SignedMessage`; its EIP-712 type is read off
its fields, so the type string and the fields cannot drift apart. Every member type used is static
or a string, which keeps the encoding to one 32-byte word a field (EIP-712, encodeData).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, get_type_hints

from eth_hash.auto import keccak

from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId

DOMAIN_NAME = "OmniLytics"
DOMAIN_VERSION = "1"
MAX_STRING_CHARACTERS = 1_024

_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_SOLIDITY_TYPES: dict[Any, str] = {
    TaskId: "uint256",
    Round: "uint256",
    int: "uint256",
    Hash32: "bytes32",
    Address: "address",
    str: "string",
}


@dataclass(frozen=True)
class Domain:
    """The EIP-712 domain of one market contract on one chain."""

    chain_id: int
    contract: Address

    def separator(self) -> bytes:
        """Return the 32-byte domain separator."""
        return _separator(self.chain_id, self.contract)


@lru_cache(maxsize=16)
def _separator(chain_id: int, contract: Address) -> bytes:
    return keccak(
        keccak(_DOMAIN_TYPE)
        + keccak(DOMAIN_NAME.encode())
        + keccak(DOMAIN_VERSION.encode())
        + _encode_member("uint256", chain_id)
        + _encode_member("address", contract)
    )


@dataclass(frozen=True, kw_only=True)
class TypedMessage:
    """Base of everything that is signed as EIP-712 typed data."""

    @classmethod
    def type_string(cls) -> str:
        """Return the EIP-712 type, for example `Final(uint256 task,uint256 round,...)`."""
        return _struct_type(cls).string

    def struct_hash(self) -> bytes:
        """Return hashStruct(message)."""
        struct = _struct_type(type(self))
        words = [_encode_member(kind, getattr(self, name)) for name, kind in struct.members]
        return keccak(struct.type_hash + b"".join(words))

    def digest(self, domain: Domain) -> bytes:
        """Return the 32 bytes that are signed for `domain`."""
        return keccak(b"\x19\x01" + domain.separator() + self.struct_hash())


@dataclass(frozen=True, kw_only=True)
class SignedMessage(TypedMessage):
    """Base of the messages of a round: every one names its task and round (wire.md)."""

    task: TaskId
    round: Round


class _StructType:
    """Name and type of each member, the type string and its hash."""

    def __init__(self, message: type[TypedMessage]) -> None:
        hints = get_type_hints(message)
        self.members = [
            (field.name, _SOLIDITY_TYPES[hints[field.name]]) for field in fields(message)
        ]
        members = ",".join(f"{kind} {name}" for name, kind in self.members)
        self.string = f"{message.__name__}({members})"
        self.type_hash = keccak(self.string.encode())


_struct_types: dict[type[TypedMessage], _StructType] = {}


def _struct_type(message: type[TypedMessage]) -> _StructType:
    if message not in _struct_types:
        _struct_types[message] = _StructType(message)
    return _struct_types[message]


def _encode_member(kind: str, value: Any) -> bytes:
    if kind == "uint256":
        if isinstance(value, bool) or not (isinstance(value, int) and 0 <= value < 1 << 256):
            raise MalformedError("integer outside uint256", got=value)
        return value.to_bytes(32, "big")
    if kind == "string":
        if not (isinstance(value, str) and len(value) <= MAX_STRING_CHARACTERS):
            raise MalformedError("not a short string", want=f"<= {MAX_STRING_CHARACTERS}")
        return keccak(_utf8(value))
    size = 32 if kind == "bytes32" else 20
    if not (isinstance(value, bytes) and len(value) == size):
        got = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
        raise MalformedError(f"not a {kind}", got=got, want=f"{size} bytes")
    return value.rjust(32, b"\x00")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        raise MalformedError("not a string of Unicode characters") from None
