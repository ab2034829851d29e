"""secp256k1 signatures over 32-byte digests, as the contract's ecrecover reads them.

A signature is r | s | v, 65 bytes, v in {27, 28}, s in the lower half of the group order (EIP-2),
so that a signature has exactly one accepted form.
"""

from __future__ import annotations

from functools import lru_cache

from coincurve import PrivateKey, PublicKey
from eth_hash.auto import keccak

from omnilytics.foundation.errors import KeyMaterialError, MalformedError, VerificationError
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Address, show_address
from omnilytics.wire.eip712 import Domain, TypedMessage

SIGNATURE_BYTES = 65
_KEPT_SIGNERS = 1 << 15
"""Signers of signatures that are kept, about 400 bytes each. A round of 1,000 owners has 6,000
signatures in its certificates and 5,000 on its words, and a server checks all of them a few times.
"""
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class SigningKey:
    """A secp256k1 private key and the address it controls. Its repr shows the address alone."""

    def __init__(self, secret: bytes) -> None:
        """Take 32 bytes; raises KeyMaterialError unless 0 < key < group order."""
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < _ORDER:
            raise KeyMaterialError("not a secp256k1 private key", want="32 bytes in range")
        self._key = PrivateKey(secret)
        self.secret = secret
        self.address = _address_of(self._key.public_key)

    @classmethod
    def generate(cls, randomness: Randomness) -> SigningKey:
        """Draw a uniformly random key."""
        while True:
            secret = randomness.bytes(32)
            if 0 < int.from_bytes(secret, "big") < _ORDER:
                return cls(secret)

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the 65-byte signature of a 32-byte digest (RFC 6979 nonce, low s)."""
        signature: bytes = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([27 + signature[64]])

    def sign(self, message: TypedMessage, domain: Domain) -> bytes:
        """Return the 65-byte EIP-712 signature of `message`."""
        return self.sign_digest(message.digest(domain))

    def __repr__(self) -> str:
        return f"SigningKey({show_address(self.address)})"


def sign_digest(private_key: bytes, digest: bytes) -> bytes:
    """Return the 65-byte signature of a 32-byte digest."""
    return SigningKey(private_key).sign_digest(digest)


@lru_cache(maxsize=_KEPT_SIGNERS)
def recover_address(digest: bytes, signature: bytes) -> Address:
    """Return the address that signed `digest`; raises MalformedError for an unusable signature.

    What a digest and a signature give never changes, so the latest results are kept; a refusal is
    not.
    """
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        raise MalformedError("not a signature", want="65 bytes r|s|v, v 27 or 28")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise MalformedError("malleable signature", want="s in the lower half (EIP-2)")
    try:
        recoverable = signature[:64] + bytes([signature[64] - 27])
        public_key = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    except Exception:  # coincurve raises a bare Exception when no point matches
        raise MalformedError("signature belongs to no key") from None
    return _address_of(public_key)


def verify(message: TypedMessage, signature: bytes, signer: Address, domain: Domain) -> None:
    """Raise VerificationError unless `signer` signed `message` for `domain`."""
    recovered = recover_address(message.digest(domain), signature)
    if recovered != signer:
        raise VerificationError(
            f"{type(message).__name__} was signed by another key",
            got=show_address(recovered),
            want=show_address(signer),
        )


def _address_of(public_key: PublicKey) -> Address:
    return Address(keccak(public_key.format(compressed=False)[1:])[12:])
