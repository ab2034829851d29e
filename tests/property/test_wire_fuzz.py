"""Any bytes: decoding either raises MalformedError or returns what encodes to the same bytes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnilytics.foundation.errors import MalformedError, VerificationError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.transport.authentication import check_request
from omnilytics.transport.hpke import HpkeKey, seal
from omnilytics.wire import cbor
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.envelope import decode_signed, sign_message
from omnilytics.wire.hashing import tagged_hash
from omnilytics.wire.messages import Request
from omnilytics.wire.package import Opening, PackageHeader, SealedPackage
from omnilytics.wire.record import Record
from omnilytics.wire.signatures import SigningKey, recover_address
from omnilytics.wire.task_specification import (
    Admission,
    Component,
    TaskSpecification,
    TensorSlot,
    Windows,
)
from omnilytics.wire.transcript import Certificate, Manifest, ReceiptSignature, Transcript

LIMIT = 1 << 16
KEY = SigningKey(b"\x07" * 32)
DOMAIN = Domain(1, Address(bytes(20)))
REQUEST = Request(
    task=TaskId(1),
    round=Round(2),
    method="PUT",
    path="/v1/tasks/1",
    body_hash=Hash32(bytes(32)),
    time=1_000,
    nonce=Hash32(b"\x01" * 32),
)
HEADER = PackageHeader(
    task=TaskId(1),
    round=Round(2),
    owner=Address(b"\x02" * 20),
    server=1,
    commitment=Hash32(b"\x03" * 32),
    submission_signature=bytes(65),
    x_parts=(Hash32(b"\x04" * 32),) * 3,
    proof_parts=(Hash32(b"\x05" * 32),) * 3,
    content_bytes=0,
)
CERTIFICATE = Certificate(
    owner=Address(b"\x02" * 20),
    commitment=Hash32(b"\x03" * 32),
    submission_signature=bytes(65),
    receipts=(ReceiptSignature(server=1, signature=bytes(65)),),
)
TRANSCRIPT = Transcript(
    manifest=Manifest(task=TaskId(1), round=Round(2), certificates=(CERTIFICATE,)),
    seed=Hash32(bytes(32)),
    words=(),
    openings=(),
    convictions=(),
    accepted=(Address(b"\x02" * 20),),
    v_bitmap=7,
    previous_payouts_root=Hash32(bytes(32)),
    payouts=(),
)
SPECIFICATION = TaskSpecification(
    title="t",
    description="",
    model_licence="l",
    contact="c",
    servers=3,
    committee=(),
    committee_mode="drawn",
    min_stake_wei=1,
    privacy=1,
    errors=0,
    tests=128,
    fractional_bits=16,
    components=(Component(name="c", tensors=(TensorSlot(name="w", shape=(2,), scale=0.5),)),),
    profile="gauge",
    input_shape=(2,),
    preprocessing="",
    loss="mse",
    rounds=1,
    max_rounds=2,
    min_owners=1,
    max_owners=2,
    reward_wei=1,
    fee_wei=1,
    opening_fee_wei=0,
    token=Address(bytes(20)),
    admission=Admission(
        mode="listed", owners=(Address(bytes(20)), Address(b"\x01" * 20)), min_bond_wei=0
    ),
    windows=Windows(
        submission_seconds=10,
        forced_seconds=1,
        complaint_seconds=1,
        seal_seconds=10,
        rotation_seconds=2,
        delta_blocks=1,
        confirmations=0,
        words_blocks=5,
        openings_blocks=10,
        settlement_blocks=100,
    ),
    model_owner=Address(bytes(20)),
    model_owner_hpke_key=Hash32(bytes(32)),
)
RECORDS: tuple[Record, ...] = (
    SPECIFICATION,
    HEADER,
    Opening(header=HEADER, blind=bytes(32), seed=bytes(32)),
    SealedPackage(header=HEADER, chunks=(bytes(48),)),
    CERTIFICATE,
    TRANSCRIPT,
)
KINDS: tuple[type[Record], ...] = tuple(type(record) for record in RECORDS)
MESSAGES = (*(record.encode() for record in RECORDS), sign_message(REQUEST, KEY, DOMAIN).encode())

# No NaN: it equals nothing. Keys are text, as in every message.
plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**64), 2**256 - 1),
        st.floats(allow_nan=False),
        st.binary(max_size=40),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abcé", max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid message with a few bytes flipped, cut out, repeated or put in."""
    data = bytearray(draw(st.sampled_from(MESSAGES)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 8)))
        data[start:end] = draw(
            st.one_of(
                st.binary(max_size=8),
                st.just(bytes(data[start:end]) * 2),
                # Heads with large counts and lengths.
                st.sampled_from([b"\x9b", b"\xbb", b"\x5b", b"\x7b", b"\xc2\x5b"]).map(
                    lambda head: head + b"\x00\x00\x00\x01\x00\x00\x00\x00"
                ),
            )
        )
    return bytes(data)


def depth(value: Any) -> int:
    """Levels of nesting, 1 for a value that holds no other."""
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (list, dict)):
        return 1
    return 1 + max(map(depth, inner), default=1)


def decode_or_refuse(data: bytes) -> None:
    try:
        value = cbor.decode(data, max_bytes=LIMIT)
    except MalformedError:
        return
    assert cbor.encode(value) == data


@given(plain)
@settings(max_examples=150, deadline=None)
def test_plain_values_come_back(value: Any) -> None:
    data = cbor.encode(value)
    if depth(value) > cbor.MAX_DEPTH:
        with pytest.raises(MalformedError, match="nested too deeply"):
            cbor.decode(data, max_bytes=LIMIT)
        return
    decoded = cbor.decode(data, max_bytes=LIMIT)
    assert decoded == value
    assert cbor.encode(decoded) == data


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused_or_canonical(data: bytes) -> None:
    decode_or_refuse(data)


@given(mutated())
@settings(max_examples=200, deadline=None)
def test_mutated_messages_are_refused_or_canonical(data: bytes) -> None:
    decode_or_refuse(data)
    for kind in KINDS:
        try:
            record: Record = kind.decode(data, max_bytes=LIMIT)
        except MalformedError:
            continue
        assert record.encode() == data
    try:
        signed = decode_signed(data)
    except MalformedError:
        return
    assert signed.encode() == data


@given(st.sampled_from(RECORDS), st.data())
@settings(max_examples=200, deadline=None)
def test_other_values_in_a_field_are_refused_or_canonical(record: Record, data: Any) -> None:
    fields = cbor.decode(record.encode(), max_bytes=LIMIT)
    name = data.draw(st.sampled_from(sorted(fields)))
    encoded = cbor.encode({**fields, name: data.draw(plain)})
    try:
        again = type(record).decode(encoded, max_bytes=LIMIT)
    except MalformedError:
        return
    assert again.encode() == encoded


@given(
    st.sampled_from(
        [b"\x9b", b"\xbb", b"\x5b", b"\x7b", b"\xc2\x5b", b"\x82\x9b", b"\xa1\x60\xbb"]
    ),
    st.integers(2**24, 2**64 - 1),
    st.binary(max_size=100),
)
@settings(max_examples=60, deadline=None)
def test_claimed_sizes_are_never_allocated(head: bytes, claim: int, rest: bytes) -> None:
    data = head + claim.to_bytes(8, "big") + rest
    tracemalloc.start()
    try:
        with pytest.raises(MalformedError):
            cbor.decode(data, max_bytes=LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 10


@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_lists_of_parts_have_their_own_hashes(first: list[bytes], second: list[bytes]) -> None:
    assert (tagged_hash("t", *first) == tagged_hash("t", *second)) == (first == second)


@given(st.binary(min_size=32, max_size=32), st.one_of(st.binary(max_size=80), st.just(bytes(65))))
@settings(max_examples=100, deadline=None)
def test_any_signature_is_recovered_or_refused(digest: bytes, signature: bytes) -> None:
    try:
        address = recover_address(digest, signature)
    except MalformedError:
        return
    assert len(address) == 20
    assert len(signature) == 65


@given(st.integers(0, 64), st.integers(0, 255), st.binary(min_size=32, max_size=32))
@settings(max_examples=100, deadline=None)
def test_an_altered_signature_is_not_the_signers(place: int, value: int, digest: bytes) -> None:
    signature = KEY.sign_digest(digest)
    altered = signature[:place] + bytes([value]) + signature[place + 1 :]
    try:
        signer = recover_address(digest, altered)
    except MalformedError:
        return
    assert (signer == KEY.address) == (altered == signature)


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_authentication_header_is_refused(header: str) -> None:
    with pytest.raises(VerificationError):
        check_request(
            header,
            method="GET",
            path="/",
            body=b"",
            now=0,
            signer=KEY.address,
            domain=DOMAIN,
        )


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_sealed_bytes_are_refused(sealed: bytes) -> None:
    with pytest.raises(VerificationError):
        HpkeKey(b"\x01" * 32).open(sealed, b"info")


@given(st.binary(max_size=60), st.binary(max_size=20), st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_sealed_bytes_open_unless_altered(
    plaintext: bytes, info: bytes, place: int, change: int
) -> None:
    key = HpkeKey(b"\x01" * 32)
    sealed = bytearray(seal(key.public, plaintext, info))
    assert key.open(bytes(sealed), info) == plaintext
    # The top bit of the encapsulated key is ignored by X25519 (RFC 7748) but bound by the KEM.
    sealed[place % len(sealed)] ^= change
    with pytest.raises(VerificationError):
        key.open(bytes(sealed), info)
