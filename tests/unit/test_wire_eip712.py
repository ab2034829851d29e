"""EIP-712: type strings, vectors, an independent implementation, values outside their types."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak
from wire_samples import DOMAIN, KEY, OTHER_DOMAIN, address, consent, digest

from omnilytics.foundation.errors import MalformedError, VerificationError
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.wire import messages
from omnilytics.wire.eip712 import MAX_STRING_CHARACTERS, Domain, SignedMessage, TypedMessage
from omnilytics.wire.signatures import verify

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "wire_messages.json").read_text("utf-8")
)

ROUND_KINDS = tuple(SignedMessage.__subclasses__())
KINDS: dict[str, type[TypedMessage]] = {
    "Consent": messages.Consent,
    **{kind.__name__: kind for kind in ROUND_KINDS},
}

TYPE_STRINGS = (
    "Complaint(uint256 task,uint256 round,address owner,bytes32 commitment)",
    "Consent(address model_owner,bytes32 terms_hash,uint256 expires)",
    "Fault(uint256 task,uint256 round,address party,uint256 kind,bytes32 evidence_hash)",
    "Final(uint256 task,uint256 round,bytes32 accepted_root)",
    "Held(uint256 task,uint256 round,address owner,bytes32 commitment,address for_server,"
    "bytes32 package_hash)",
    "Receipt(uint256 task,uint256 round,address owner,bytes32 commitment)",
    "Request(uint256 task,uint256 round,string method,string path,bytes32 body_hash,uint256 time,"
    "bytes32 nonce)",
    "SealVote(uint256 task,uint256 round,bytes32 submissions_root,uint256 count)",
    "Seed(uint256 task,uint256 round,bytes32 submissions_root,bytes32 seed)",
    "Settlement(uint256 task,uint256 round,bytes32 submissions_root,bytes32 seed,"
    "bytes32 accepted_root,uint256 accepted_count,uint256 v_bitmap,"
    "bytes32 previous_payouts_root,bytes32 payouts_root,bytes32 transcript_hash,bytes32 word)",
    "Submission(uint256 task,uint256 round,bytes32 commitment)",
    "Word(uint256 task,uint256 round,bytes32 submissions_root,bytes32 seed,address owner,"
    "bytes32 commitment,bytes32 word)",
)


def value_of(text: str) -> Any:
    """Read a vector's field: bytes as hex, integers as decimal text, else a string."""
    if text.startswith("0x"):
        return bytes.fromhex(text[2:])
    return int(text) if text.lstrip("-").isdecimal() else text


def message_of(vector: dict[str, Any]) -> TypedMessage:
    values = {name: value_of(text) for name, text in vector["fields"].items()}
    return KINDS[vector["kind"]](**values)


def domain_of(vector: dict[str, Any]) -> Domain:
    domain = vector["domain"]
    return Domain(int(domain["chain_id"]), Address(bytes.fromhex(domain["contract"][2:])))


def typed_data(message: TypedMessage, domain: Domain) -> dict[str, Any]:
    """The message as eth_account wants it, with member types read off the type string."""
    name, _, members = message.type_string().rstrip(")").partition("(")
    pairs = [member.split(" ") for member in members.split(",")]
    domain_types = {
        "name": "string",
        "version": "string",
        "chainId": "uint256",
        "verifyingContract": "address",
    }
    return {
        "types": {
            "EIP712Domain": [{"name": key, "type": kind} for key, kind in domain_types.items()],
            name: [{"name": key, "type": kind} for kind, key in pairs],
        },
        "primaryType": name,
        "domain": {
            "name": "OmniLytics",
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": "0x" + domain.contract.hex(),
        },
        "message": {
            key: "0x" + getattr(message, key).hex() if kind == "address" else getattr(message, key)
            for kind, key in pairs
        },
    }


def digest_by_eth_account(message: TypedMessage, domain: Domain) -> bytes:
    signable = encode_typed_data(full_message=typed_data(message, domain))
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


def settlement() -> messages.Settlement:
    return messages.Settlement(
        task=TaskId(1),
        round=Round(2),
        submissions_root=digest("root"),
        seed=digest("seed"),
        accepted_root=digest("accepted"),
        accepted_count=3,
        v_bitmap=31,
        previous_payouts_root=digest("previous"),
        payouts_root=digest("payouts"),
        transcript_hash=digest("transcript"),
        word=digest("word"),
    )


def request(**changes: Any) -> messages.Request:
    values: dict[str, Any] = {
        "task": 1,
        "round": 2,
        "method": "GET",
        "path": "/",
        "body_hash": digest("body"),
        "time": 5,
        "nonce": digest("nonce"),
    }
    return messages.Request(**{**values, **changes})


def test_type_strings_are_those_of_the_contract() -> None:
    assert tuple(sorted(kind.type_string() for kind in KINDS.values())) == TYPE_STRINGS


def test_every_message_of_a_round_names_its_task_and_round() -> None:
    assert len(ROUND_KINDS) == len(TYPE_STRINGS) - 1
    for kind in ROUND_KINDS:
        name = kind.__name__
        assert kind.type_string().startswith(f"{name}(uint256 task,uint256 round,")
    assert set(TypedMessage.__subclasses__()) == {SignedMessage, messages.Consent}


def test_every_message_has_vectors() -> None:
    for part in ("good", "bad"):
        assert {vector["kind"] for vector in VECTORS[part]} == set(KINDS)


@pytest.mark.parametrize(
    "vector", VECTORS["good"], ids=lambda v: f"{v['kind']}-{v['domain']['chain_id'][:5]}"
)
def test_digests_are_eth_accounts(vector: dict[str, Any]) -> None:
    message, domain = message_of(vector), domain_of(vector)
    assert message.type_string() == vector["type"]
    assert message.digest(domain).hex() == vector["digest"][2:]
    assert digest_by_eth_account(message, domain).hex() == vector["digest"][2:]


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda v: f"{v['kind']}: {v['why']}")
def test_values_outside_their_types_are_refused(vector: dict[str, Any]) -> None:
    message = message_of(vector)
    with pytest.raises(MalformedError):
        message.digest(DOMAIN)


@pytest.mark.parametrize("message", [settlement(), consent()], ids=lambda m: type(m).__name__)
def test_eth_account_signs_the_same(message: TypedMessage) -> None:
    signed = Account.sign_typed_data(KEY.secret, full_message=typed_data(message, DOMAIN))
    assert KEY.sign(message, DOMAIN) == bytes(signed.signature)


@pytest.mark.parametrize("message", [settlement(), consent()], ids=lambda m: type(m).__name__)
def test_every_field_and_the_domain_enter_the_digest(message: TypedMessage) -> None:
    seen = {message.digest(DOMAIN), message.digest(OTHER_DOMAIN)}
    seen.add(message.digest(Domain(DOMAIN.chain_id, address("another contract"))))
    for field in fields(message):
        value = getattr(message, field.name)
        other: Any = value + 1 if isinstance(value, int) else bytes(len(value))
        seen.add(replace(message, **{field.name: other}).digest(DOMAIN))
    assert len(seen) == 3 + len(fields(message))


def test_messages_with_the_same_fields_have_different_digests() -> None:
    common: dict[str, Any] = {"task": 1, "round": 1}
    receipt = messages.Receipt(**common, owner=address("o"), commitment=digest("c"))
    complaint = messages.Complaint(**common, owner=address("o"), commitment=digest("c"))
    assert receipt.digest(DOMAIN) != complaint.digest(DOMAIN)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_owner": digest("padded to 32 bytes")},
        {"model_owner": "0x" + "11" * 20},
        {"terms_hash": b""},
        {"terms_hash": 0},
        {"expires": -1},
        {"expires": 1 << 256},
        {"expires": True},
        {"expires": 2_000.0},
    ],
    ids=str,
)
def test_a_consent_outside_its_types_is_refused(changes: dict[str, Any]) -> None:
    assert len(consent().digest(DOMAIN)) == 32
    with pytest.raises(MalformedError):
        consent(**changes).digest(DOMAIN)


def test_a_consent_is_for_one_owner_one_set_of_terms_and_one_time() -> None:
    signature, one = KEY.sign(consent(), DOMAIN), consent()
    verify(one, signature, KEY.address, DOMAIN)
    for other in (
        consent(model_owner=address("another model owner")),
        consent(terms_hash=digest("other terms")),
        consent(expires=one.expires + 1),
    ):
        with pytest.raises(VerificationError):
            verify(other, signature, KEY.address, DOMAIN)
    with pytest.raises(VerificationError):
        verify(one, signature, KEY.address, OTHER_DOMAIN)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": True},
        {"task": 1.0},
        {"task": "1"},
        {"task": None},
        {"method": b"GET"},
        {"method": "x" * (MAX_STRING_CHARACTERS + 1)},
        {"path": "\ud800"},
        {"body_hash": "x" * 32},
        {"body_hash": bytearray(32)},
        {"body_hash": 0},
    ],
    ids=lambda changes: ascii(changes)[:40],
)
def test_values_of_another_python_type_are_refused(changes: dict[str, Any]) -> None:
    assert len(request().digest(DOMAIN)) == 32
    with pytest.raises(MalformedError):
        request(**changes).digest(DOMAIN)


def test_longest_string_is_taken() -> None:
    long = request(path="é" * MAX_STRING_CHARACTERS)
    assert long.digest(DOMAIN) == digest_by_eth_account(long, DOMAIN)


@pytest.mark.parametrize(
    ("chain_id", "contract"), [(-1, bytes(20)), (1 << 256, bytes(20)), (1, b""), (1, bytes(21))]
)
def test_a_domain_outside_its_types_is_refused(chain_id: int, contract: bytes) -> None:
    with pytest.raises(MalformedError):
        Domain(chain_id, Address(contract)).separator()


def test_errors_show_no_field_bytes() -> None:
    value = b"SECRETSECRETSECRET"
    with pytest.raises(MalformedError) as caught:
        request(nonce=value).digest(DOMAIN)
    assert "SECRET" not in str(caught.value) + repr(caught.value.as_dict())
    assert "18 bytes" in str(caught.value)
