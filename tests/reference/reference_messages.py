"""Signed messages: EIP-712 digests, signatures and signers, from docs/wire.md alone."""

from __future__ import annotations

from collections.abc import Mapping

import coincurve
from reference_field import RefusedError
from reference_hashes import keccak

GROUP_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
MESSAGE_TYPES = {
    text.partition("(")[0]: text
    for text in (
        "Submission(uint256 task,uint256 round,bytes32 commitment)",
        "Receipt(uint256 task,uint256 round,address owner,bytes32 commitment)",
        "Held(uint256 task,uint256 round,address owner,bytes32 commitment,address for_server,"
        "bytes32 package_hash)",
        "Complaint(uint256 task,uint256 round,address owner,bytes32 commitment)",
        "SealVote(uint256 task,uint256 round,bytes32 submissions_root,uint256 count)",
        "Seed(uint256 task,uint256 round,bytes32 submissions_root,bytes32 seed)",
        "Word(uint256 task,uint256 round,bytes32 submissions_root,bytes32 seed,address owner,"
        "bytes32 commitment,bytes32 word)",
        "Settlement(uint256 task,uint256 round,bytes32 submissions_root,bytes32 seed,"
        "bytes32 accepted_root,uint256 accepted_count,uint256 v_bitmap,"
        "bytes32 previous_payouts_root,bytes32 payouts_root,bytes32 transcript_hash,bytes32 word)",
        "Final(uint256 task,uint256 round,bytes32 accepted_root)",
        "Fault(uint256 task,uint256 round,address party,uint256 kind,bytes32 evidence_hash)",
        "Request(uint256 task,uint256 round,string method,string path,bytes32 body_hash,"
        "uint256 time,bytes32 nonce)",
        "Consent(address model_owner,bytes32 terms_hash,uint256 expires)",
    )
}
# A consent is of no round and travels in no envelope.
ROUND_MESSAGES = [kind for kind in MESSAGE_TYPES if kind != "Consent"]
Value = int | bytes | str


def members_of(kind: str) -> list[tuple[str, str]]:
    """(Solidity type, name) of every member, in order."""
    inside = MESSAGE_TYPES[kind].partition("(")[2].rstrip(")")
    pairs = [member.split(" ") for member in inside.split(",")]
    return [(pair[0], pair[1]) for pair in pairs]


def encoded_member(solidity_type: str, value: Value) -> bytes:
    if solidity_type == "uint256" and type(value) is int and 0 <= value < 2**256:
        return value.to_bytes(32, "big")
    if solidity_type == "bytes32" and isinstance(value, bytes) and len(value) == 32:
        return value
    if solidity_type == "address" and isinstance(value, bytes) and len(value) == 20:
        return bytes(12) + value
    if solidity_type == "string" and isinstance(value, str) and len(value) <= 1024:
        return keccak(value.encode())
    raise RefusedError(f"no {solidity_type}")


def domain_separator(chain_id: int, contract: bytes) -> bytes:
    return keccak(
        keccak(DOMAIN_TYPE.encode())
        + keccak(b"OmniLytics")
        + keccak(b"1")
        + encoded_member("uint256", chain_id)
        + encoded_member("address", contract)
    )


def hash_struct(kind: str, fields: Mapping[str, Value]) -> bytes:
    members = members_of(kind)
    if set(fields) != {name for _, name in members}:
        raise RefusedError("other fields")
    words = [encoded_member(solidity_type, fields[name]) for solidity_type, name in members]
    return keccak(keccak(MESSAGE_TYPES[kind].encode()) + b"".join(words))


def digest_of(chain_id: int, contract: bytes, kind: str, fields: Mapping[str, Value]) -> bytes:
    separator = domain_separator(chain_id, contract)
    return keccak(b"\x19\x01" + separator + hash_struct(kind, fields))


def address_of_key(private_key: bytes) -> bytes:
    point = coincurve.PrivateKey(private_key).public_key.format(compressed=False)
    return keccak(point[1:])[12:]


def sign_digest(private_key: bytes, digest: bytes) -> bytes:
    """R | s | v with v 27 or 28; the library gives the lower s."""
    raw = coincurve.PrivateKey(private_key).sign_recoverable(digest, hasher=None)
    return bytes(raw[:64]) + bytes([27 + raw[64]])


def signer_of_digest(signature: bytes, digest: bytes) -> bytes:
    """The address that signed; refuses other lengths, v and high s."""
    if len(signature) != 65 or signature[64] not in (27, 28):
        raise RefusedError("form of the signature")
    if int.from_bytes(signature[32:64], "big") > GROUP_ORDER // 2:
        raise RefusedError("s is above half the group order")
    raw = signature[:64] + bytes([signature[64] - 27])
    try:
        key = coincurve.PublicKey.from_signature_and_message(raw, digest, hasher=None)
    except Exception as error:
        raise RefusedError("no signature") from error
    return keccak(key.format(compressed=False)[1:])[12:]


def compact_signature(signature: bytes) -> tuple[bytes, bytes]:
    """The EIP-2098 form (r, s with v - 27 in its top bit)."""
    s = int.from_bytes(signature[32:64], "big") | (signature[64] - 27) << 255
    return signature[:32], s.to_bytes(32, "big")
