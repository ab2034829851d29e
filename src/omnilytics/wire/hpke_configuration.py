"""What a server says about its HPKE key (wire.md, HpkeConfiguration).

It is a convenience for diagnosis and for other software, in the form that DAP gives it. It is under
no signature: whoever seals a package believes the key that the chain noted for the task alone.
"""

from __future__ import annotations

from typing import Literal

from omnilytics.wire.record import Bytes20, Bytes32, Record

MAX_HPKE_CONFIGURATION_BYTES = 512


class HpkeConfiguration(Record):
    """A server's HPKE key with the algorithms of RFC 9180 that go with it."""

    server: Bytes20
    kem_id: Literal[0x0020] = 0x0020
    """DHKEM(X25519, HKDF-SHA256)."""
    kdf_id: Literal[0x0001] = 0x0001
    """HKDF-SHA256."""
    aead_id: Literal[0x0001] = 0x0001
    """AES-128-GCM."""
    public_key: Bytes32
