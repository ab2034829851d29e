"""Sealing of packages and sums to a registered key (RFC 9180: X25519, HKDF-SHA256, AES-128-GCM).

Every sealed chunk is bound through HPKE's info string to what it is, to the round's context, to the
submission and to its place, so that chunks cannot be swapped, replayed or cut off unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from omnilytics.algebra.field import ELEMENT_BYTES, FieldVector
from omnilytics.foundation.errors import KeyMaterialError, VerificationError
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package_builder import Packages
from omnilytics.wire import cbor
from omnilytics.wire.hashing import tagged_hash
from omnilytics.wire.package import (
    CHUNK_BYTES,
    CHUNK_ELEMENTS,
    Opening,
    OpeningHead,
    PackageHeader,
    SealedPackage,
    SealedView,
    chunk_count,
)

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_BLIND_BYTES = 32
_SEED_BYTES = 32


class HpkeKey:
    """An X25519 private key. Its repr shows nothing."""

    def __init__(self, secret: bytes) -> None:
        """Take the 32 raw bytes of the private key."""
        if len(secret) != 32:
            raise KeyMaterialError("not an X25519 private key", want="32 bytes")
        self._key = X25519PrivateKey.from_private_bytes(secret)
        self.secret = secret
        self.public = Hash32(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, randomness: Randomness) -> HpkeKey:
        """Draw a random key."""
        return cls(randomness.bytes(32))

    def open(self, sealed: bytes | memoryview, info: bytes) -> bytes:
        """Return the plaintext; raises VerificationError for another key, info or altered bytes."""
        try:
            return _SUITE.decrypt(sealed, self._key, info)
        except (InvalidTag, ValueError):
            raise VerificationError("sealed bytes do not open", want="sealed to this key") from None

    def __repr__(self) -> str:
        return "HpkeKey(...)"


def seal(public_key: bytes, plaintext: bytes | memoryview, info: bytes) -> bytes:
    """Seal `plaintext` to a raw 32-byte X25519 public key."""
    try:
        return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public_key), info)
    except ValueError:
        raise KeyMaterialError("not a usable X25519 public key", want="32 bytes") from None


def seal_chunks(public_key: bytes, chunks: Sequence[bytes], binding: bytes) -> tuple[bytes, ...]:
    """Seal each chunk with its index and the count in info."""
    count = len(chunks)
    return tuple(
        seal(public_key, chunk, _chunk_info(binding, index, count))
        for index, chunk in enumerate(chunks)
    )


def open_chunks(
    key: HpkeKey, sealed: Sequence[bytes | memoryview], binding: bytes
) -> Iterator[bytes]:
    """Yield the plaintext of each chunk in order."""
    for index, chunk in enumerate(sealed):
        yield open_chunk(key, chunk, binding, index, len(sealed))


def open_chunk(
    key: HpkeKey, sealed: bytes | memoryview, binding: bytes, index: int, count: int
) -> bytes:
    """Return the plaintext of one of `count` chunks; raises VerificationError."""
    return key.open(sealed, _chunk_info(binding, index, count))


def seal_package(opening: Opening, public_key: bytes, context: RoundContext) -> SealedPackage:
    """Seal one server's package to the key it registered."""
    content = memoryview(opening.content)
    slices = [
        bytes(content[start : start + CHUNK_BYTES]) for start in range(0, len(content), CHUNK_BYTES)
    ]
    first = opening.blind + (opening.seed or b"".join(slices[:1]))
    chunks = [first, *slices[1:]]
    binding = _package_binding(opening.header, context)
    return SealedPackage(header=opening.header, chunks=seal_chunks(public_key, chunks, binding))


def sealed_chunks(
    packages: Packages, public_keys: Sequence[bytes], context: RoundContext
) -> Iterator[tuple[int, bytes]]:
    """Yield (server, sealed chunk) for all packages, each server's chunks in order.

    The same chunks as `seal_package` makes (but for HPKE's fresh keys), while no share is held in
    memory whole: each part of all shares is made, and sealed for all servers, before the next.

    Args:
        packages: Of all servers.
        public_keys: Their X25519 keys, 32 bytes each.
        context: The open round.
    """
    dealer = packages.dealer
    bindings = [_package_binding(header, context) for header in packages.headers]
    counts = [chunk_count(header.content_bytes) for header in packages.headers]
    for place, seed in enumerate(dealer.seeds):
        info = _chunk_info(bindings[place], 0, counts[place])
        yield place + 1, seal(public_keys[place], packages.blinds[place] + seed, info)
    explicit = range(len(dealer.seeds), len(packages))
    most = min(CHUNK_ELEMENTS, dealer.length)
    memory = np.empty(len(explicit) * most, dtype=np.uint64)
    first = np.empty(_BLIND_BYTES + ELEMENT_BYTES * most, dtype=np.uint8)
    for index, start in enumerate(range(0, dealer.length, CHUNK_ELEMENTS)):
        count = min(CHUNK_ELEMENTS, dealer.length - start)
        rows = memory[: len(explicit) * count].reshape(len(explicit), count)
        dealer.rows_into(start, rows)
        for place, row in zip(explicit, rows.astype("<u8", copy=False), strict=True):
            info = _chunk_info(bindings[place], index, counts[place])
            content = row.view(np.uint8)
            if index == 0:
                first[:_BLIND_BYTES] = np.frombuffer(packages.blinds[place], dtype=np.uint8)
                first[_BLIND_BYTES:] = content
                content = first
            yield place + 1, seal(public_keys[place], content.data, info)


def open_package(
    sealed: SealedPackage | SealedView, key: HpkeKey, context: RoundContext
) -> Opening:
    """Return the package in clear; raises VerificationError where it does not open or fit."""
    head, pieces = open_in_turn(sealed, key, context)
    return Opening(header=head.header, blind=head.blind, seed=head.seed, content=b"".join(pieces))


def open_in_turn(
    sealed: SealedPackage | SealedView, key: HpkeKey, context: RoundContext
) -> tuple[OpeningHead, Iterator[bytes]]:
    """Return all of a package but its content, and the content piece by piece.

    Raises:
        VerificationError: It does not open or fit. Where that shows in a later chunk it is raised
            by the iterator, which must be read to its end before the content is trusted.
    """
    header = sealed.header
    if len(sealed.chunks) != chunk_count(header.content_bytes):
        raise VerificationError(
            "wrong number of chunks",
            got=len(sealed.chunks),
            want=chunk_count(header.content_bytes),
        )
    chunks = open_chunks(key, sealed.chunks, _package_binding(header, context))
    first = next(chunks)
    blind, rest = first[:_BLIND_BYTES], first[_BLIND_BYTES:]
    if len(blind) < _BLIND_BYTES or (not header.content_bytes and len(rest) != _SEED_BYTES):
        raise VerificationError("share has another length", got=len(rest), want=_SEED_BYTES)
    if not header.content_bytes:
        return OpeningHead(header, blind, rest), iter(())
    return OpeningHead(header, blind, None), _pieces(rest, chunks, header.content_bytes)


def _pieces(first: bytes, others: Iterator[bytes], want: int) -> Iterator[bytes]:
    got = len(first)
    yield first
    for piece in others:
        got += len(piece)
        yield piece
    if got != want:
        raise VerificationError("share has another length", got=got, want=want)


def _package_binding(header: PackageHeader, context: RoundContext) -> bytes:
    owner_context = context.owner_context(header.owner)
    server = header.server.to_bytes(1, "big")
    return tagged_hash("sealed package", owner_context, header.commitment, server)


def _chunk_info(binding: bytes, index: int, count: int) -> bytes:
    return binding + index.to_bytes(4, "big") + count.to_bytes(4, "big")


def seal_aggregate(
    blocks: Iterable[FieldVector],
    dimension: int,
    public_key: bytes,
    context: RoundContext,
    *,
    accepted_root: Hash32,
    server: int,
) -> Iterator[bytes]:
    """Yield the parts of a server's answer: its share of the sum, sealed to the model owner's key.

    Args:
        blocks: The sum, `CHUNK_ELEMENTS` at a time; the last block may have fewer.
        dimension: D, elements of all blocks.
        public_key: The model owner's X25519 key, 32 bytes.
        context: The round.
        accepted_root: Over which owners the sum is.
        server: Whose share it is.
    """
    count = chunk_count(ELEMENT_BYTES * dimension)
    binding = aggregate_binding(context, accepted_root, server)
    yield cbor.array_head(count)
    for index, block in enumerate(blocks):
        content = block.astype("<u8", copy=False).view(np.uint8).data
        chunk = seal(public_key, content, _chunk_info(binding, index, count))
        yield cbor.byte_string_head(len(chunk)) + chunk


def aggregate_binding(context: RoundContext, accepted_root: Hash32, server: int) -> bytes:
    """Return what the chunks of a server's answer are bound to."""
    return tagged_hash(
        "sealed aggregate",
        context.owner_context(Address(bytes(20))),
        accepted_root,
        server.to_bytes(1, "big"),
    )
