"""Mutation of valid bytes: on the bytes themselves, and on the values that they encode.

Most changed bytes fail at the first check of a format that has one encoding for each value.
Changing a decoded value and encoding it again gets past that check, to the fields behind it.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from omnilytics.wire import cbor

MAX_BYTES = 1 << 16
_ARTEFACT = struct.Struct("<8sQQ32s")

_HEADS = [
    *(head + b"\x00\x00\x00\x01\x00\x00\x00\x00" for head in (b"\x9b", b"\xbb", b"\x5b", b"\x7b")),
    b"\xc2\x58\x21",
    b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xff" * 8,
    b"\x00" * 32,
    b"\x9f\xff",
    b"\xd8\x1c",
    b"[" * 20,
]
_INTERESTING: list[Any] = [
    *(0, 1, -1, 2, 3, 13, 14, 255, 256, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 2**128),
    *(2**256 - 1, 2**256, -(2**63)),
    *(True, False, None, 0.0, 0.5, -1.5, 1e308, float("inf"), float("nan"), 5e-324),
    *(bytes(size) for size in (0, 1, 20, 31, 32, 33, 48, 65, 300)),
    *("", "0", "0x", "ether", "listed", "x" * 300, "\x00", "\u202e", "é"),
    *([], {}, [[]], {"": None}, [[[[[[[[[[[[[1]]]]]]]]]]]]]),
]


@dataclass(frozen=True)
class Format:
    """How bytes of a target become plain values and back."""

    unpack: Callable[[bytes], Any]
    pack: Callable[[Any], bytes]


def _unpack_cbor(data: bytes) -> Any:
    return cbor.decode(data, max_bytes=MAX_BYTES)


def _pack_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr).encode()


def _pack_artefact(value: Any) -> bytes:
    graph, weights, frozen_hash = _pack_json(value[0]), value[1], value[2]
    if not isinstance(weights, bytes):  # bytes(2**31) would be two gigabytes
        raise TypeError
    return _ARTEFACT.pack(b"OMNIART2", len(graph), len(weights), frozen_hash) + graph + weights


def _unpack_artefact(data: bytes) -> Any:
    _, length, _, frozen_hash = _ARTEFACT.unpack_from(data)
    body = data[_ARTEFACT.size :]
    return [json.loads(body[:length]), body[length:], frozen_hash]


CBOR = Format(_unpack_cbor, cbor.encode)
JSON = Format(json.loads, _pack_json)
ARTEFACT = Format(_unpack_artefact, _pack_artefact)
BASE64_CBOR = Format(
    lambda data: _unpack_cbor(base64.b64decode(data)),
    lambda value: base64.b64encode(cbor.encode(value)),
)


def mutate(data: bytes, others: tuple[bytes, ...], form: Format | None, random: Random) -> bytes:
    """Return changed bytes, at most MAX_BYTES of them.

    Args:
        data: What to change.
        others: Samples to splice with.
        form: Used half of the time, where `data` can be unpacked.
        random: Decides everything.
    """
    for _ in range(1 + random.randrange(3)):
        if form is not None and random.random() < 0.5:
            data = _mutate_packed(data, form, random)
        else:
            data = _mutate_bytes(data, others, random)
    return data[:MAX_BYTES]


def _mutate_packed(data: bytes, form: Format, random: Random) -> bytes:
    try:
        return form.pack(_mutate_value(form.unpack(data), random))
    except Exception:  # what cannot be unpacked or packed is mutated as bytes another time
        return data


def _mutate_bytes(data: bytes, others: tuple[bytes, ...], random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    end = min(len(data), start + random.choice([0, 1, 1, 2, 4, 8, 32, 200]))
    piece = data[start:end]
    kind = random.randrange(6)
    if kind == 0 and piece:
        flipped = bytearray(piece)
        flipped[random.randrange(len(piece))] ^= 1 << random.randrange(8)
        piece = bytes(flipped)
    elif kind == 1:
        piece = random.randbytes(random.choice([1, 2, 8, 32]))
    elif kind == 2:
        piece = b""
    elif kind == 3:
        piece *= 2
    elif kind == 4:
        piece = random.choice(_HEADS)
    else:
        other = random.choice(others)
        cut = random.randrange(len(other) + 1)
        piece = other[cut : cut + random.choice([1, 8, 32, 200])]
    return data[:start] + piece + data[end:]


def _mutate_value(value: Any, random: Random) -> Any:
    """Return the value with one place changed, somewhere inside."""
    inside = isinstance(value, (list, dict)) and len(value) > 0
    if not inside or random.random() < 0.1:
        return _replaced(value, random)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = random.choice(keys)
    changed = dict(value) if isinstance(value, dict) else list(value)
    choice = random.random()
    if choice < 0.8:
        changed[key] = _mutate_value(value[key], random)
    elif choice < 0.87:
        del changed[key]
    elif isinstance(changed, list):
        changed.insert(random.randrange(len(changed) + 1), value[key])
    elif choice < 0.93:
        changed[random.choice(["", "x", str(key) + "s", "version"])] = value[key]
    else:
        changed[key] = value[random.choice(keys)]
    return changed


def _replaced(value: Any, random: Random) -> Any:
    whole: Any = value
    if type(value) is int and random.random() < 0.5:
        return value + random.choice([-1, 1, 256, -(2**32), 2**32])
    if isinstance(value, (bytes, str)) and value and random.random() < 0.5:
        place = random.randrange(len(value))
        shorter, rest = whole[:place], whole[place + 1 :]
        return random.choice([shorter, shorter + rest, whole + whole[:1]])
    if isinstance(value, bytes) and value and random.random() < 0.5:
        changed = bytearray(value)
        changed[random.randrange(len(value))] ^= 1 << random.randrange(8)
        return bytes(changed)
    return random.choice(_INTERESTING)
