"""Deterministic CBOR (RFC 8949 section 4.2) with every bound checked before anything is built.

`decode` first walks the heads of the items without building them, so that counts, lengths and depth
are known to be honest; only then does the library decode; finally the value is encoded again and
must give the same bytes, so that each value has one encoding and a hash of it means something.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import isnan
from typing import Any

import cbor2

from omnilytics.foundation.errors import MalformedError

MAX_DEPTH = 12
MAX_ITEMS = 2_000_000

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _TRUE, _NULL = 20, 21, 22
_POSITIVE_BIGNUM_TAG = 2
_MAX_BIGNUM_BYTES = 32
_ARGUMENT_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}


def encode(value: Any) -> bytes:
    """Return the deterministic encoding of plain values (int, bytes, str, list, dict, ...)."""
    return cbor2.dumps(_with_exact_floats(value), canonical=True, default=_write_float)


def byte_string_at(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Return where the content of a byte string at `position` begins and ends.

    Raises:
        MalformedError: No byte string is there, its head is not the shortest, or it is cut short.
    """
    length, start = _argument_at(data, position, _BYTES)
    if length > len(data) - start:
        raise MalformedError("message is cut short")
    return start, start + length


def byte_strings_at(data: memoryview, position: int, count: int) -> tuple[list[memoryview], int]:
    """Return `count` byte strings that follow one another, as parts of `data`, and their end.

    Args:
        data: Any message.
        position: Where the first one is.
        count: How many; bounded by the caller.

    Raises:
        MalformedError: As `byte_string_at`.
    """
    found = []
    for _ in range(count):
        start, position = byte_string_at(data, position)
        found.append(data[start:position])
    return found, position


def array_at(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Return the count of an array at `position`, and where its first item is; see above."""
    return _argument_at(data, position, _ARRAY)


def item_end(data: bytes | memoryview, position: int) -> int:
    """Return where the item at `position` ends; raises MalformedError where it is no item."""
    return position + _check_heads(data[position:])


def _argument_at(data: bytes | memoryview, position: int, wanted: int) -> tuple[int, int]:
    major, argument, end = _read_head(data, position)
    if major != wanted or data[position:end] != _head(major, argument):
        raise MalformedError("not in deterministic form", want="RFC 8949 section 4.2")
    return argument, end


def byte_string_head(length: int) -> bytes:
    """Return what comes before `length` bytes of a byte string, for content that is streamed."""
    return _head(_BYTES, length)


def array_head(count: int) -> bytes:
    """Return what comes before the `count` items of an array that is streamed."""
    return _head(_ARRAY, count)


def map_head(count: int) -> bytes:
    """Return what comes before the `count` keys with their values of a map that is streamed."""
    return _head(_MAP, count)


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    info, size = next(entry for entry in _ARGUMENT_BYTES.items() if argument < 1 << 8 * entry[1])
    return bytes([major << 5 | info]) + argument.to_bytes(size, "big")


@dataclass(frozen=True)
class _Float:
    """A float that is encoded here: the library writes half-precision values from 2^15 on too long.

    A hash of the bytes must not depend on how the library was built.
    """

    value: float


def _with_exact_floats(value: Any) -> Any:
    if isinstance(value, float):
        return _Float(value)
    if isinstance(value, dict):
        return {key: _with_exact_floats(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_exact_floats(entry) for entry in value]
    return value


def _write_float(encoder: cbor2.CBOREncoder, value: Any) -> None:
    """Write the shortest of the three forms that keeps the value (RFC 8949 section 4.2.2)."""
    if not isinstance(value, _Float):
        raise cbor2.CBOREncodeTypeError(f"cannot encode {type(value).__name__}")
    if isnan(value.value):
        encoder.write(b"\xf9\x7e\x00")
        return
    for head, form in ((0xF9, ">e"), (0xFA, ">f"), (0xFB, ">d")):
        try:
            encoded = struct.pack(form, value.value)
        except OverflowError:
            continue
        if struct.unpack(form, encoded)[0] == value.value or form == ">d":
            encoder.write(bytes([head]) + encoded)
            return


def decode(data: bytes, *, max_bytes: int) -> Any:
    """Decode `data`, which must be one deterministically encoded item.

    Raises:
        MalformedError: Larger than `max_bytes`, deeper or longer than allowed, truncated, followed
            by more bytes, of a type the market does not use, or not in its deterministic form.
    """
    if len(data) > max_bytes:
        raise MalformedError("message too large", got=f"{len(data)} bytes", want=f"<= {max_bytes}")
    end = _check_heads(data)
    if end != len(data):
        raise MalformedError("bytes after the message", got=len(data) - end, want=0)
    try:
        value = cbor2.loads(data)
        canonical = encode(value)
    except (cbor2.CBORError, ValueError, OverflowError, TypeError) as error:
        raise MalformedError("not CBOR", got=type(error).__name__) from None
    if canonical != data:
        raise MalformedError("not in deterministic form", want="RFC 8949 section 4.2")
    return value


def _check_heads(data: bytes | memoryview) -> int:
    """Walk the item at the start of `data`; return where it ends."""
    position, items = 0, 0
    open_counts = [1]  # items still to come at each depth
    while open_counts:
        if open_counts[-1] == 0:
            open_counts.pop()
            continue
        open_counts[-1] -= 1
        items += 1
        if items > MAX_ITEMS:
            raise MalformedError("too many items", want=f"<= {MAX_ITEMS}")
        major, argument, position = _read_head(data, position)
        if major in (_BYTES, _TEXT):
            position += argument
        elif major in (_ARRAY, _MAP):
            children = argument * (2 if major == _MAP else 1)
            if children > len(data) - position:
                raise MalformedError("count exceeds the message", got=argument)
            open_counts.append(children)
        elif major == _TAG:
            position = _skip_bignum(data, position, argument)
        if position > len(data):
            raise MalformedError("message is cut short")
        if len(open_counts) > MAX_DEPTH:
            raise MalformedError("nested too deeply", want=f"<= {MAX_DEPTH}")
    return position


def _read_head(data: bytes | memoryview, position: int) -> tuple[int, int, int]:
    if position >= len(data):
        raise MalformedError("message is cut short")
    major, info = data[position] >> 5, data[position] & 31
    position += 1
    if major == _SIMPLE:
        return _SIMPLE, 0, position + _simple_size(info)
    if info < 24:
        return major, info, position
    size = _ARGUMENT_BYTES.get(info)
    if size is None:
        raise MalformedError("indefinite length or reserved head", got=info)
    argument = int.from_bytes(data[position : position + size], "big")
    return major, argument, position + size


def _simple_size(info: int) -> int:
    if info in (_FALSE, _TRUE, _NULL):
        return 0
    if info in (25, 26, 27):  # half, single and double floats
        return _ARGUMENT_BYTES[info]
    raise MalformedError("simple value the market does not use", got=info)


def _skip_bignum(data: bytes | memoryview, position: int, tag: int) -> int:
    if tag != _POSITIVE_BIGNUM_TAG:
        raise MalformedError("tag the market does not use", got=tag)
    major, length, position = _read_head(data, position)
    if major != _BYTES or length > _MAX_BIGNUM_BYTES:
        raise MalformedError("integer too large", want=f"<= {_MAX_BIGNUM_BYTES} bytes")
    return position + length
