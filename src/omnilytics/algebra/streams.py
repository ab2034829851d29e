"""Seekable pseudo-random streams: XOF(label, input) (wire.md, "Streams").

AES-128 in counter mode. Key and initial counter are the halves of
SHA-256("omnilytics/1" | label | input); counters are 128-bit, big-endian, and wrap. Bytes are the
key stream from the initial counter on. Field elements come in blocks of 8,192: block b starts
8,192 * b counters after the initial one, takes 8 bytes little-endian an element and skips draws
that are not below p; it has twice the counters it needs, so any block is made alone.

Labels are all here. None is a prefix of another, so no two streams share a hash input.

Not guaranteed: that an instance may be read as bytes and as elements; both come from the same key
stream, so use one of the two per label. Generation is not constant-time in the number of skips.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from omnilytics.algebra import kernels
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS, FieldVector
from omnilytics.foundation.errors import UsageError

DOMAIN: Final = b"omnilytics/1"

LABEL_SHARE: Final = b"share"
"""A server's share from its seed, as elements: x, bits, M0, M1 (protocol.md section 4)."""
LABEL_TESTS: Final = b"tests"
"""The wraparound tests Z from the joint randomness J, as bytes (section 3)."""
LABEL_CHALLENGE: Final = b"challenge"
"""rho, then chi, from the round's seed, as elements (section 6.4)."""
LABEL_WRAPAROUND_WEIGHTS: Final = b"wraparound-weights"
"""a_k and b_k from the round's seed, as bytes: 7 for a_0, 7 for b_0, ... (section 6.5)."""
LABEL_BATCH: Final = b"batch"
"""kappa_o from seed | accepted_root | owner, as elements (section 6.4)."""
LABEL_ROUNDING: Final = b"rounding"
"""An owner's private stochastic rounding from fresh randomness, as bytes (section 2)."""
LABEL_PROJECTION: Final = b"projection"
"""A model owner's private projection of released sums from fresh randomness (section 6.8)."""

LABELS: Final = (
    LABEL_SHARE,
    LABEL_TESTS,
    LABEL_CHALLENGE,
    LABEL_WRAPAROUND_WEIGHTS,
    LABEL_BATCH,
    LABEL_ROUNDING,
    LABEL_PROJECTION,
)

BLOCK_ELEMENTS: Final = 8192
"""Elements of a block, and the counters it owns."""

_CIPHER_BYTES = 16
_BLOCK_BYTES = BLOCK_ELEMENTS * _CIPHER_BYTES
_ZEROS = bytes(BLOCK_ELEMENTS * 8)  # to encrypt: what a block needs if nothing is skipped


class Stream:
    """One stream, by label and input; reading needs no order.

    Not to be read by two threads at once: they would share one cipher.

    Args:
        label: One of the constants of this module.
        data: The input: a seed, a digest or a concatenation of fields of fixed length.
    """

    __slots__ = ("_cipher", "_counter")

    def __init__(self, label: bytes, data: bytes) -> None:
        if label not in LABELS:
            raise UsageError("unknown stream label", got=label.decode(errors="replace"))
        digest = hashlib.sha256(DOMAIN + label + data).digest()
        self._counter = int.from_bytes(digest[16:], "big")
        self._cipher = Cipher(algorithms.AES128(digest[:16]), modes.CTR(digest[16:])).encryptor()

    def __repr__(self) -> str:
        return "Stream(<hidden>)"

    def read(self, byte_offset: int, count: int) -> bytes:
        """Return `count` bytes of the key stream from `byte_offset` on."""
        counter, skip = divmod(byte_offset, _CIPHER_BYTES)
        return self._encryptor(counter).update(bytes(skip + count))[skip:]

    def read_into(self, byte_offset: int, out: npt.NDArray[np.uint8]) -> None:
        """Write the bytes from `byte_offset` on over the contiguous vector `out`."""
        counter, skip = divmod(byte_offset, _CIPHER_BYTES)
        encryptor = self._encryptor(counter)
        encryptor.update(bytes(skip))
        for start in range(0, len(out), len(_ZEROS)):
            part = out[start : start + len(_ZEROS)]
            encryptor.update_into(memoryview(_ZEROS)[: len(part)], part.data)

    def elements(self, start: int, count: int) -> FieldVector:
        """Return field elements start, start+1, ..., `count` of them, as a fresh vector."""
        out = np.empty(count, dtype=np.uint64)
        self.elements_into(start, out)
        return out

    def elements_into(self, start: int, out: FieldVector) -> None:
        """Write field elements start, start+1, ... over the contiguous vector `out`."""
        done = 0
        while done < len(out):
            block, skip = divmod(start + done, BLOCK_ELEMENTS)
            take = min(BLOCK_ELEMENTS - skip, len(out) - done)
            part = out[done : done + take]
            if skip or not self._fill(block, part):
                part[:] = self._block(block, skip + take)[skip:]
            done += take

    def extension_element(self, index: int) -> ExtensionElement:
        """Return the index-th element of E: two consecutive field elements."""
        low, high = self.elements(2 * index, 2)
        return ExtensionElement(int(low), int(high))

    def _fill(self, block: int, out: FieldVector) -> bool:
        """Write the first draws of a block to `out`; return whether none is to be skipped."""
        size = 8 * len(out)
        self._encryptor(block * BLOCK_ELEMENTS).update_into(
            memoryview(_ZEROS)[:size], out.view(np.uint8).data
        )
        if sys.byteorder == "big":  # pragma: no cover
            out.byteswap(inplace=True)
        return kernels.current().all_canonical(out)

    def _block(self, block: int, count: int) -> FieldVector:
        """Return the first `count` elements of a block, skipping draws >= p."""
        out = np.empty(count, dtype=np.uint64)
        if self._fill(block, out):
            return out
        draws = np.frombuffer(self.read(block * _BLOCK_BYTES, _BLOCK_BYTES), dtype="<u8")
        kept = draws[draws < MODULUS][:count]
        assert len(kept) == count, "more than half of 16,384 draws skipped: odds below 2^-200000"
        return kept.astype(np.uint64)

    def _encryptor(self, counter: int) -> CipherContext:
        self._cipher.reset_nonce(((self._counter + counter) % 2**128).to_bytes(16, "big"))
        return self._cipher
