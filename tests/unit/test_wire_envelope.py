"""Envelopes: every kind travels, nothing else does, and a message has one encoding."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from wire_samples import DOMAIN, KEY, OTHER_DOMAIN, address, digest

from omnilytics.foundation.errors import MalformedError
from omnilytics.wire import cbor
from omnilytics.wire.eip712 import SignedMessage
from omnilytics.wire.envelope import MAX_ENVELOPE_BYTES, Signed, decode_signed, sign_message
from omnilytics.wire.messages import Final, Receipt, Request

KINDS = SignedMessage.__subclasses__()


def sample(kind: type[SignedMessage]) -> SignedMessage:
    values: dict[str, Any] = {}
    words = {part.split(" ")[1].rstrip(")"): part for part in members(kind)}
    for field in fields(kind):
        solidity = words[field.name].split(" ")[0]
        values[field.name] = {
            "uint256": (1 << 256) - 1,
            "bytes32": digest(field.name),
            "address": address(field.name),
            "string": "GET",
        }[solidity]
    return kind(**values)


def members(kind: type[SignedMessage]) -> list[str]:
    return kind.type_string().partition("(")[2].split(",")


def plain_of(signed: Signed) -> dict[str, Any]:
    plain: dict[str, Any] = cbor.decode(signed.encode(), max_bytes=MAX_ENVELOPE_BYTES)
    return plain


SIGNED = sign_message(sample(Final), KEY, DOMAIN)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_travels(kind: type[SignedMessage]) -> None:
    signed = sign_message(sample(kind), KEY, DOMAIN)
    data = signed.encode()
    again = decode_signed(data)
    assert again == signed
    assert type(again.message) is kind
    assert again.encode() == data
    assert again.signer(DOMAIN) == KEY.address
    assert again.signer(OTHER_DOMAIN) != KEY.address


@pytest.mark.parametrize("kind", ["", "Nothing", "final", "SignedMessage", "Domain", "F" * 257, 7])
def test_unknown_kinds_are_refused(kind: object) -> None:
    with pytest.raises(MalformedError):
        decode_signed(cbor.encode({**plain_of(SIGNED), "kind": kind}))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "Receipt"},
        {"fields": {}},
        {"fields": {"task": 1, "round": 2}},
        {"fields": {"task": 1, "round": 2, "accepted_root": bytes(32), "more": 0}},
        {"fields": {"task": 1, "round": 2, "accepted_root": bytes(31)}},
        {"fields": {"task": 1, "round": 2, "accepted_root": "0" * 32}},
        {"fields": {"task": 1, "round": 2, "accepted_root": None}},
        {"fields": {"task": 1, "round": 2, "accepted_root": [bytes(32)]}},
        {"fields": {"task": -1, "round": 2, "accepted_root": bytes(32)}},
        {"fields": {"task": "1", "round": 2, "accepted_root": bytes(32)}},
        {"fields": {"task": True, "round": 2, "accepted_root": bytes(32)}},
        {"fields": {"task": 1.0, "round": 2, "accepted_root": bytes(32)}},
        {"fields": {1: 1, "round": 2, "accepted_root": bytes(32)}},
        {"fields": {f"field {index}": 0 for index in range(17)}},
        {"fields": {"": 0}},
        {"fields": [1, 2, bytes(32)]},
        {"signature": bytes(64)},
        {"signature": bytes(66)},
        {"signature": "s" * 65},
        {"signer": bytes(20)},
    ],
    ids=lambda changes: str(changes)[:50],
)
def test_wrong_fields_are_refused(changes: dict[str, Any]) -> None:
    assert decode_signed(cbor.encode(plain_of(SIGNED))) == SIGNED
    with pytest.raises(MalformedError):
        decode_signed(cbor.encode({**plain_of(SIGNED), **changes}))


@pytest.mark.parametrize("name", ["kind", "fields", "signature"])
def test_missing_parts_are_named(name: str) -> None:
    plain = {key: value for key, value in plain_of(SIGNED).items() if key != name}
    with pytest.raises(MalformedError, match=name):
        decode_signed(cbor.encode(plain))


def test_size_is_bounded() -> None:
    values = {"task": 1, "round": 1, "body_hash": bytes(32), "time": 0, "nonce": bytes(32)}
    request: Any = Request(**values, method="GET", path="é" * 1_024)  # type: ignore[arg-type]
    assert decode_signed(sign_message(request, KEY, DOMAIN).encode()).message == request
    with pytest.raises(MalformedError, match="too large"):
        decode_signed(bytes(MAX_ENVELOPE_BYTES + 1))


def test_an_altered_message_has_another_signer() -> None:
    plain = plain_of(SIGNED)
    plain["fields"]["round"] -= 1
    assert decode_signed(cbor.encode(plain)).signer(DOMAIN) != KEY.address


def test_the_signature_of_one_kind_is_none_of_another() -> None:
    receipt = sample(Receipt)
    plain = plain_of(sign_message(receipt, KEY, DOMAIN))
    plain["kind"] = "Complaint"  # the same fields
    assert decode_signed(cbor.encode(plain)).signer(DOMAIN) != KEY.address


def test_an_unusable_signature_has_no_signer() -> None:
    with pytest.raises(MalformedError):
        Signed(SIGNED.message, bytes(65)).signer(DOMAIN)
