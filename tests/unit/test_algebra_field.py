from __future__ import annotations

import numpy as np
import pytest

from omnilytics.algebra import extension, field
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS
from omnilytics.foundation.errors import MalformedError, UsageError


def test_modulus_is_prime_with_seven_a_generator() -> None:
    assert MODULUS == 0xFFFFFFFF00000001
    order_factors = (2, 3, 5, 17, 257, 65537)
    assert pow(7, MODULUS - 1, MODULUS) == 1  # with the next line: Lucas's proof of primality
    assert all(pow(7, (MODULUS - 1) // q, MODULUS) != 1 for q in order_factors)
    product = 2**32
    for q in order_factors[1:]:
        product *= q
    assert product == MODULUS - 1


def test_inverse() -> None:
    for value in (1, 2, MODULUS - 1, 2**32, 123456789):
        assert value * field.inverse(value) % MODULUS == 1
    with pytest.raises(UsageError):
        field.inverse(MODULUS)


def test_bytes_round_trip_and_reject_what_is_not_canonical() -> None:
    vector = np.array([0, 1, MODULUS - 1], dtype=np.uint64)
    data = field.to_bytes(vector)
    assert data[8:16] == b"\x01" + bytes(7)
    assert (field.from_bytes(data) == vector).all()
    with pytest.raises(MalformedError, match="not canonical"):
        field.from_bytes(data + MODULUS.to_bytes(8, "little"))
    with pytest.raises(MalformedError, match="cut short"):
        field.from_bytes(data[:-1])


def test_require_canonical_rejects_other_types() -> None:
    with pytest.raises(MalformedError, match="uint64"):
        field.require_canonical(np.zeros(2, dtype=np.int64))


def test_extension_is_a_field() -> None:
    element = ExtensionElement(123, MODULUS - 5)
    assert extension.multiply(element, extension.inverse(element)) == extension.ONE
    x = ExtensionElement(0, 1)
    assert extension.multiply(x, x) == ExtensionElement(7, 0)
    assert pow(7, (MODULUS - 1) // 2, MODULUS) == MODULUS - 1  # 7 is no square
    assert extension.power(element, MODULUS**2 - 1) == extension.ONE
    assert extension.power(element, -2) == extension.inverse(extension.multiply(element, element))
    with pytest.raises(UsageError):
        extension.inverse(extension.ZERO)


def test_extension_arithmetic() -> None:
    a, b = ExtensionElement(MODULUS - 1, 3), ExtensionElement(5, MODULUS - 2)
    assert extension.add(a, b) == ExtensionElement(4, 1)
    assert extension.subtract(extension.add(a, b), b) == a
    assert extension.scale(a, -1) == extension.subtract(extension.ZERO, a)
    assert extension.total([a, b, b]) == extension.add(a, extension.add(b, b))
    assert extension.powers(a, 2, 3) == [extension.power(a, k) for k in (2, 3, 4)]
