"""Deterministic CBOR: what is refused, and that the bounds come before the work."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cbor2
import pytest

from omnilytics.foundation.errors import MalformedError
from omnilytics.wire import cbor

LIMIT = 1 << 20

VALUES: list[Any] = [
    0,
    23,
    24,
    255,
    65_536,
    2**64 - 1,
    2**64,
    2**256 - 1,
    -1,
    -(2**64),
    b"",
    b"\x00" * 300,
    "",
    "é\U0001f600",
    [],
    {},
    True,
    False,
    None,
    0.5,
    -0.0,
    1e300,
    float("inf"),
    [1, [b"a", {"k": [None, "v"]}]],
    {"a": 1, "b": {"c": b"d"}},
]


def decode_hex(text: str) -> Any:
    return cbor.decode(bytes.fromhex(text), max_bytes=LIMIT)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_round_trip(value: Any) -> None:
    decoded = cbor.decode(cbor.encode(value), max_bytes=LIMIT)
    assert decoded == value
    assert type(decoded) is type(value)
    assert repr(decoded) == repr(value)  # tells -0.0 from 0.0


def test_known_bytes() -> None:
    # RFC 8949 appendix A.
    assert cbor.encode(1_000_000).hex() == "1a000f4240"
    assert cbor.encode(18446744073709551616).hex() == "c249010000000000000000"
    assert cbor.encode(1.5).hex() == "f93e00"
    assert cbor.encode({"a": 1, "b": [2, 3]}).hex() == "a26161016162820203"


def test_order_of_keys_does_not_matter() -> None:
    expected = "a3616202616301626161" + "00"
    assert cbor.encode({"aa": 0, "c": 1, "b": 2}).hex() == expected
    assert cbor.encode({"b": 2, "aa": 0, "c": 1}).hex() == expected


def test_size_is_bounded_exactly() -> None:
    data = cbor.encode(bytes(100))
    assert cbor.decode(data, max_bytes=len(data)) == bytes(100)
    with pytest.raises(MalformedError, match="too large"):
        cbor.decode(data, max_bytes=len(data) - 1)


def test_depth_is_bounded_exactly() -> None:
    deepest = "81" * (cbor.MAX_DEPTH - 1)
    assert decode_hex(deepest + "00") is not None
    with pytest.raises(MalformedError, match="nested too deeply"):
        decode_hex("81" + deepest + "00")
    with pytest.raises(MalformedError, match="nested too deeply"):
        cbor.decode(b"\x81" * 100_000 + b"\x00", max_bytes=LIMIT)
    with pytest.raises(MalformedError, match="nested too deeply"):
        decode_hex("a16161" * cbor.MAX_DEPTH + "00")


def test_items_are_bounded_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cbor, "MAX_ITEMS", 10)
    assert cbor.decode(cbor.encode([0] * 9), max_bytes=LIMIT) == [0] * 9
    with pytest.raises(MalformedError, match="too many items"):
        cbor.decode(cbor.encode([0] * 10), max_bytes=LIMIT)
    with pytest.raises(MalformedError, match="too many items"):
        cbor.decode(cbor.encode({str(key): key for key in range(5)}), max_bytes=LIMIT)


@pytest.mark.parametrize("value", [1, b"abc", ["a", {"b": 300}], 2**70, 1.5])
def test_every_prefix_and_every_extension_is_refused(value: Any) -> None:
    data = cbor.encode(value)
    for length in range(len(data)):
        with pytest.raises(MalformedError):
            cbor.decode(data[:length], max_bytes=LIMIT)
    for more in (b"\x00", b"\xf6", data):
        with pytest.raises(MalformedError, match="bytes after the message"):
            cbor.decode(data + more, max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cut short"),
        ("9f00ff", "indefinite"),
        ("bf616100ff", "indefinite"),
        ("5f4100ff", "indefinite"),
        ("7f6161ff", "indefinite"),
        ("1c", "reserved"),
        ("5d", "reserved"),
        ("ff", "simple value"),
        ("f7", "simple value"),
        ("f0", "simple value"),
        ("f8ff", "simple value"),
        ("c11a00000000", "tag"),
        ("c000", "tag"),
        ("d9d9f700", "tag"),
        ("c349010000000000000000", "tag"),
        ("d81c80", "tag"),
        ("c25821" + "01" * 33, "integer too large"),
        ("c2c24101", "integer too large"),
        ("c25f4101ff", "indefinite"),
        ("9bffffffffffffffff", "count exceeds"),
        ("bb8000000000000000", "count exceeds"),
        ("8300", "count exceeds"),
        ("82830000", "count exceeds"),
        ("5bffffffffffffffff", "cut short"),
        ("62c3", "cut short"),
        ("61ff", "not CBOR"),
        ("62c328", "not CBOR"),
    ],
)
def test_what_the_market_does_not_use_is_refused(text: str, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        decode_hex(text)


@pytest.mark.parametrize(
    "text",
    [
        "1817",  # 23 in two bytes
        "190001",
        "1a0000ffff",
        "1b00000000ffffffff",
        "3800",  # -1 in two bytes
        "580161",  # a length in two bytes
        "9800",
        "b800",
        "c240",  # 0, 1 and 2^64 - 1 as big integers
        "c24101",
        "c248ffffffffffffffff",
        "c24a00010000000000000000",  # leading zero
        "a2616200616100",  # keys out of order
        "a262616100616200",
        "a2616100616100",  # a key twice
        "a2616101616102",
        "a201000100",
        "a2f5000100",  # True and 1 are one key in Python
        "fa3f800000",  # 1.0 in single and double precision
        "fb3ff0000000000000",
        "fb7ff8000000000000",  # NaN
        "f97e01",
        "f97c01",
        "fa7fc00000",
    ],
)
def test_only_one_form_of_each_value_is_taken(text: str) -> None:
    with pytest.raises(MalformedError, match="deterministic form"):
        decode_hex(text)


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("9b0000000080000000"),
        bytes.fromhex("bb0000000040000000"),
        bytes.fromhex("5b0000000080000000"),
        bytes.fromhex("7b0000000080000000"),
        bytes.fromhex("c25b0000000080000000"),
        b"\x9a\x00\x00\xff\xff" * 11 + b"\x00" * 70_000,
    ],
)
def test_a_claimed_length_is_never_allocated(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(MalformedError):
            cbor.decode(data, max_bytes=LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000  # the counts claim 2^30 and more


def test_errors_do_not_show_the_content() -> None:
    secret = b"\xfe\xed" * 16
    for data in (cbor2.dumps([secret, float("nan")]) + b"\x00", b"\x58\x21" + secret):
        with pytest.raises(MalformedError) as caught:
            cbor.decode(data, max_bytes=LIMIT)
        assert secret.hex() not in str(caught.value)
        assert repr(secret)[2:-1] not in repr(caught.value.as_dict())
