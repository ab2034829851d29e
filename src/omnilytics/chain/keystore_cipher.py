"""The cipher of keystore V3: a key derived from the password, AES-128-CTR, a keccak-256 check.

The format is the Web3 Secret Storage definition, version 3, as Foundry and geth write it. What a
file may ask for is bounded by `keystore`, which reads it.
"""

from __future__ import annotations

import hmac
import uuid
from dataclasses import dataclass
from hashlib import pbkdf2_hmac, scrypt
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from eth_hash.auto import keccak

from omnilytics.foundation.randomness import SystemRandomness

_DERIVED_BYTES = 32
_SALT_BYTES = 16
_IV_BYTES = 16


@dataclass(frozen=True)
class ScryptCost:
    """What one guess at a password costs: about 128 * n * r bytes, and time by n * r * p."""

    n: int
    r: int
    p: int

    @property
    def memory_bytes(self) -> int:
        """Memory for one derivation."""
        return 128 * self.r * (self.n + self.p + 2)


STANDARD_COST = ScryptCost(n=1 << 18, r=8, p=1)
"""Half a second and 256 MiB: for passwords that people choose."""
LIGHT_COST = ScryptCost(n=1 << 12, r=8, p=6)
"""Milliseconds: only for passwords that nobody can guess, 128 random bits or more."""


def encrypt(secret: bytes, password: str, address: bytes, cost: ScryptCost) -> dict[str, Any]:
    """Return the fields of a keystore V3 with a secret of 32 bytes."""
    randomness = SystemRandomness()
    salt, iv = randomness.bytes(_SALT_BYTES), randomness.bytes(_IV_BYTES)
    derived = _scrypt(password, salt, cost)
    ciphertext = _aes_ctr(derived[:16], iv, secret)
    return {
        "address": address.hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": {
                "dklen": _DERIVED_BYTES,
                "n": cost.n,
                "p": cost.p,
                "r": cost.r,
                "salt": salt.hex(),
            },
            "mac": keccak(derived[16:] + ciphertext).hex(),
        },
        "id": str(uuid.UUID(bytes=randomness.bytes(16), version=4)),
        "version": 3,
    }


def decrypt(crypto: dict[str, Any], password: str) -> bytes:
    """Return the secret of a keystore's `crypto` fields; raises ValueError, KeyError, TypeError."""
    if crypto["cipher"] != "aes-128-ctr":
        raise ValueError("unknown cipher")
    derived = _derive(str(crypto["kdf"]), crypto["kdfparams"], password)
    ciphertext = _bytes(crypto["ciphertext"])
    if not hmac.compare_digest(keccak(derived[16:] + ciphertext), _bytes(crypto["mac"])):
        raise ValueError("wrong password or damaged")
    return _aes_ctr(derived[:16], _bytes(crypto["cipherparams"]["iv"]), ciphertext)


def _derive(function: str, parameters: dict[str, Any], password: str) -> bytes:
    salt = _bytes(parameters["salt"])
    if int(parameters["dklen"]) != _DERIVED_BYTES:
        raise ValueError("another length of the derived key")
    if function == "scrypt":
        n, r, p = (int(parameters[name]) for name in "nrp")
        return _scrypt(password, salt, ScryptCost(n, r, p))
    if parameters["prf"] != "hmac-sha256":
        raise ValueError("unknown function")
    return pbkdf2_hmac("sha256", password.encode(), salt, int(parameters["c"]), _DERIVED_BYTES)


def _scrypt(password: str, salt: bytes, cost: ScryptCost) -> bytes:
    return scrypt(
        password.encode(),
        salt=salt,
        n=cost.n,
        r=cost.r,
        p=cost.p,
        maxmem=cost.memory_bytes,
        dklen=_DERIVED_BYTES,
    )


def _aes_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CTR(iv.rjust(_IV_BYTES, b"\0"))).encryptor()
    return cipher.update(data) + cipher.finalize()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
