"""Words: a server's 32-byte answer about one owner, and their weighted sum (sections 6.5, 6.7).

On the wire a word is big-endian c0 | c1 | d0 | d1, 8 bytes each (wire.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from omnilytics.algebra import extension
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import ELEMENT_BYTES, is_canonical
from omnilytics.foundation.errors import MalformedError

WORD_BYTES: Final = 32


class Word(NamedTuple):
    """(c, d): a share of the constraints' weighted sum, and of the entries' weighted sum."""

    c: ExtensionElement
    d: ExtensionElement

    def to_bytes(self) -> bytes:
        """Return the 32 bytes c0 | c1 | d0 | d1."""
        return b"".join(limb.to_bytes(ELEMENT_BYTES, "big") for limb in (*self.c, *self.d))

    @classmethod
    def from_bytes(cls, data: bytes) -> Word:
        """Return the word that 32 bytes hold.

        Raises:
            MalformedError: If the size is wrong or a limb is >= p.
        """
        if len(data) != WORD_BYTES:
            raise MalformedError("word of wrong size", got=len(data), want=WORD_BYTES)
        limbs = [
            int.from_bytes(data[i : i + ELEMENT_BYTES], "big")
            for i in range(0, WORD_BYTES, ELEMENT_BYTES)
        ]
        if not all(is_canonical(limb) for limb in limbs):
            raise MalformedError("a limb of a word is not below p", got=data.hex())
        return cls(ExtensionElement(*limbs[:2]), ExtensionElement(*limbs[2:]))


def batch_word(weighted_words: Iterable[tuple[ExtensionElement, Word]]) -> Word:
    """Return a server's batch word, the sum of kappa_o * (c_o, d_o) over (kappa_o, word)."""
    pairs = list(weighted_words)
    return Word(
        extension.total(extension.multiply(kappa, word.c) for kappa, word in pairs),
        extension.total(extension.multiply(kappa, word.d) for kappa, word in pairs),
    )
