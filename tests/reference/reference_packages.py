"""HPKE, packages, openings and released sums, from docs/wire.md and RFC 9180 alone."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from reference_field import RefusedError, bytes_of_elements, elements_of_bytes
from reference_hashes import (
    RoundContext,
    commitment_of_parts,
    proof_part_of_seed,
    proof_part_of_share,
    tagged_hash,
    x_part_of_seed,
    x_part_of_share,
)
from reference_messages import digest_of, signer_of_digest
from reference_statement import Terms
from reference_streams import stream_elements

PIECE = 524_288
KEM_SUITE = b"KEM" + bytes.fromhex("0020")
HPKE_SUITE = b"HPKE" + bytes.fromhex("0020 0001 0001")


def labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, hashlib.sha256)


def labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    full = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, full + b"\x01", hashlib.sha256)[:length]  # length <= 32: one block


def public_key(private_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def diffie_hellman(private_key: bytes, other: bytes) -> bytes:
    try:
        return X25519PrivateKey.from_private_bytes(private_key).exchange(
            X25519PublicKey.from_public_bytes(other)
        )
    except ValueError as error:
        raise RefusedError("no X25519 key") from error


def key_and_nonce(shared: bytes, enc: bytes, receiver: bytes, info: bytes) -> tuple[bytes, bytes]:
    """The key schedule of base mode for one message."""
    eae = labeled_extract(KEM_SUITE, b"", b"eae_prk", shared)
    secret = labeled_expand(KEM_SUITE, eae, b"shared_secret", enc + receiver, 32)
    psk_id_hash = labeled_extract(HPKE_SUITE, b"", b"psk_id_hash", b"")
    info_hash = labeled_extract(HPKE_SUITE, b"", b"info_hash", info)
    context = b"\x00" + psk_id_hash + info_hash
    prk = labeled_extract(HPKE_SUITE, secret, b"secret", b"")
    key = labeled_expand(HPKE_SUITE, prk, b"key", context, 16)
    return key, labeled_expand(HPKE_SUITE, prk, b"base_nonce", context, 12)


def hpke_seal(receiver: bytes, info: bytes, message: bytes, ephemeral: bytes) -> bytes:
    """Enc | ciphertext | tag, with a given ephemeral private key."""
    enc = public_key(ephemeral)
    key, nonce = key_and_nonce(diffie_hellman(ephemeral, receiver), enc, receiver, info)
    return enc + AESGCM(key).encrypt(nonce, message, b"")


def hpke_open(private_key: bytes, info: bytes, sealed: bytes) -> bytes:
    enc = sealed[:32]
    shared = diffie_hellman(private_key, enc)
    key, nonce = key_and_nonce(shared, enc, public_key(private_key), info)
    try:
        return AESGCM(key).decrypt(nonce, sealed[32:], b"")
    except InvalidTag as error:
        raise RefusedError("a chunk does not open") from error


def pieces_of(content: bytes) -> list[bytes]:
    return [content[place : place + PIECE] for place in range(0, len(content), PIECE)]


def chunk_info(binding: bytes, index: int, count: int) -> bytes:
    return binding + index.to_bytes(4, "big") + count.to_bytes(4, "big")


def seal_chunks(
    receiver: bytes, binding: bytes, chunks: Sequence[bytes], ephemerals: Sequence[bytes]
) -> list[bytes]:
    return [
        hpke_seal(receiver, chunk_info(binding, i, len(chunks)), chunk, ephemeral)
        for i, (chunk, ephemeral) in enumerate(zip(chunks, ephemerals, strict=True))
    ]


def open_chunks(private_key: bytes, binding: bytes, sealed: Sequence[bytes]) -> list[bytes]:
    return [
        hpke_open(private_key, chunk_info(binding, i, len(sealed)), chunk)
        for i, chunk in enumerate(sealed)
    ]


def package_binding(ctx: bytes, commitment: bytes, server: int) -> bytes:
    return tagged_hash("sealed package", ctx, commitment, bytes([server]))


def aggregate_binding(context: RoundContext, accepted_root: bytes, server: int) -> bytes:
    ctx = context.of_owner(bytes(20))
    return tagged_hash("sealed aggregate", ctx, accepted_root, bytes([server]))


def package_bound(terms: Terms) -> int:
    """Most bytes of an encoded package, sealed or open."""
    content = 8 * terms.share_length
    chunks = max(1, -(-content // PIECE))
    return content + 256 * chunks + 16_384


def expected_content_bytes(terms: Terms, server: int) -> int:
    return 0 if server <= terms.privacy else 8 * terms.share_length


def parts_of(
    terms: Terms, ctx: bytes, server: int, blind: bytes, secret: bytes
) -> tuple[bytes, bytes]:
    """(x_part, proof_part) of a server from its blind and its seed (server <= t) or its share."""
    if server <= terms.privacy:
        return x_part_of_seed(ctx, server, blind, secret), proof_part_of_seed(ctx, server, blind)
    cut = 8 * terms.dimension
    return (
        x_part_of_share(ctx, server, blind, secret[:cut]),
        proof_part_of_share(ctx, server, blind, secret[cut:]),
    )


def check_header(terms: Terms, context: RoundContext, header: Any) -> None:
    """What a receiver checks before it opens anything, except who asked for it."""
    n, server = terms.servers, header["server"]
    if (header["task"], header["round"]) != (context.task, context.round):
        raise RefusedError("another task or round")
    if server > n or len(header["x_parts"]) != n or len(header["proof_parts"]) != n:
        raise RefusedError("committee")
    if header["content_bytes"] != expected_content_bytes(terms, server):
        raise RefusedError("content_bytes")
    ctx = context.of_owner(header["owner"])
    if header["commitment"] != commitment_of_parts(ctx, header["x_parts"], header["proof_parts"]):
        raise RefusedError("C is not that of the parts")
    fields = {name: header[name] for name in ("task", "round", "commitment")}
    digest = digest_of(context.chain_id, context.contract, "Submission", fields)
    if signer_of_digest(header["submission_signature"], digest) != header["owner"]:
        raise RefusedError("not signed by the owner")


def check_opening(terms: Terms, context: RoundContext, opening: Any) -> list[int]:
    """Everything about a package in clear; gives the share."""
    header, server = opening["header"], opening["header"]["server"]
    check_header(terms, context, header)
    if (opening["seed"] is not None) != (server <= terms.privacy):
        raise RefusedError("seed")
    if len(opening["content"]) != header["content_bytes"]:
        raise RefusedError("length of the content")
    elements = elements_of_bytes(opening["content"])
    ctx = context.of_owner(header["owner"])
    secret = opening["content"] if opening["seed"] is None else opening["seed"]
    parts = parts_of(terms, ctx, server, opening["blind"], secret)
    if parts != (header["x_parts"][server - 1], header["proof_parts"][server - 1]):
        raise RefusedError("its own parts")
    if opening["seed"] is not None:
        return stream_elements("share", opening["seed"], terms.share_length)
    return elements


def open_package(
    terms: Terms, context: RoundContext, sealed: Any, private_key: bytes
) -> tuple[Any, list[int]]:
    """(opening, share) of a sealed package that all checks admit."""
    header, server = sealed["header"], sealed["header"]["server"]
    check_header(terms, context, header)
    if len(sealed["chunks"]) != max(1, -(-header["content_bytes"] // PIECE)):
        raise RefusedError("number of chunks")
    ctx = context.of_owner(header["owner"])
    binding = package_binding(ctx, header["commitment"], server)
    chunks = open_chunks(private_key, binding, sealed["chunks"])
    seeded = server <= terms.privacy
    plain = b"".join(chunks)
    if len(chunks[0]) < 32 or len(plain) != 32 + (32 if seeded else header["content_bytes"]):
        raise RefusedError("length of the share")
    opening = {
        "header": header,
        "blind": plain[:32],
        "seed": plain[32:] if seeded else None,
        "content": b"" if seeded else plain[32:],
    }
    return opening, check_opening(terms, context, opening)


def seal_opening(
    context: RoundContext, opening: Any, receiver: bytes, ephemerals: Sequence[bytes]
) -> Any:
    """A SealedPackage of an opening."""
    header = opening["header"]
    ctx = context.of_owner(header["owner"])
    binding = package_binding(ctx, header["commitment"], header["server"])
    first, *others = pieces_of(opening["content"]) or [b""]
    chunks = [opening["blind"] + (opening["seed"] or b"") + first, *others]
    return {"header": header, "chunks": seal_chunks(receiver, binding, chunks, ephemerals)}


def openings_of_dealing(
    terms: Terms,
    context: RoundContext,
    owner: bytes,
    shares: dict[int, list[int]],
    seeds: Sequence[bytes],
    blinds: Sequence[bytes],
) -> tuple[bytes, list[dict[str, Any]]]:
    """(C, everything but the signature of every server's package in clear)."""
    ctx = context.of_owner(owner)
    secrets = {j: bytes_of_elements(shares[j]) for j in shares}
    secrets |= dict(enumerate(seeds, start=1))
    parts = {j: parts_of(terms, ctx, j, blinds[j - 1], secrets[j]) for j in sorted(secrets)}
    x_parts, proof_parts = ([parts[j][side] for j in sorted(parts)] for side in (0, 1))
    commitment = commitment_of_parts(ctx, x_parts, proof_parts)
    openings = []
    for j in sorted(parts):
        seeded = j <= terms.privacy
        header = {
            "version": 1,
            "task": context.task,
            "round": context.round,
            "owner": owner,
            "server": j,
            "commitment": commitment,
            "x_parts": x_parts,
            "proof_parts": proof_parts,
            "content_bytes": expected_content_bytes(terms, j),
        }
        openings.append(
            {
                "header": header,
                "blind": blinds[j - 1],
                "seed": secrets[j] if seeded else None,
                "content": b"" if seeded else secrets[j],
            }
        )
    return commitment, openings
