from __future__ import annotations

import pytest

from omnilytics.algebra import extension
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS
from omnilytics.foundation.errors import MalformedError
from omnilytics.validity.word import Word, batch_word

WORD = Word(ExtensionElement(1, MODULUS - 1), ExtensionElement(2**40, 7))


def test_bytes_are_big_endian_in_order() -> None:
    data = WORD.to_bytes()
    assert data.hex() == "0000000000000001ffffffff0000000000000100000000000000000000000007"
    assert Word.from_bytes(data) == WORD


def test_foreign_bytes_are_checked() -> None:
    for size in (0, 31, 33):
        with pytest.raises(MalformedError, match="size"):
            Word.from_bytes(bytes(size))
    for limb in range(4):
        data = bytearray(32)
        data[8 * limb : 8 * limb + 8] = MODULUS.to_bytes(8, "big")
        with pytest.raises(MalformedError, match="below p"):
            Word.from_bytes(bytes(data))


def test_batch_word_is_the_weighted_sum() -> None:
    kappa, other = ExtensionElement(3, 4), ExtensionElement(MODULUS - 1, 0)
    batch = batch_word([(kappa, WORD), (other, WORD)])
    factor = extension.add(kappa, other)
    assert batch.c == extension.multiply(factor, WORD.c)
    assert batch.d == extension.multiply(factor, WORD.d)
    assert batch_word([]) == Word(extension.ZERO, extension.ZERO)
