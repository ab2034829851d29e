"""The extension E = F_p[X]/(X^2 - 7), home of every random challenge (protocol.md section 2).

A scalar is an `ExtensionElement` (low, high) standing for low + high * X with both limbs in [0, p).
A vector of E is a uint64 array of shape (2, count): row 0 the low limbs, row 1 the high limbs.

Scalar code on Python ints: for the few hundred operations of a challenge or a word, not for bulk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from omnilytics.algebra.field import MODULUS
from omnilytics.algebra.field import inverse as field_inverse
from omnilytics.foundation.errors import UsageError

NON_RESIDUE = 7
"""X^2; 7 generates the multiplicative group of F_p, so it is no square and E is a field."""


class ExtensionElement(NamedTuple):
    """low + high * X, limbs in [0, p)."""

    low: int
    high: int


ZERO = ExtensionElement(0, 0)
ONE = ExtensionElement(1, 0)


def embed(value: int) -> ExtensionElement:
    """Return an integer, reduced modulo p, as an element of E."""
    return ExtensionElement(value % MODULUS, 0)


def add(left: ExtensionElement, right: ExtensionElement) -> ExtensionElement:
    """Return left + right."""
    return ExtensionElement((left[0] + right[0]) % MODULUS, (left[1] + right[1]) % MODULUS)


def subtract(left: ExtensionElement, right: ExtensionElement) -> ExtensionElement:
    """Return left - right."""
    return ExtensionElement((left[0] - right[0]) % MODULUS, (left[1] - right[1]) % MODULUS)


def multiply(left: ExtensionElement, right: ExtensionElement) -> ExtensionElement:
    """Return left * right."""
    low = left[0] * right[0] + NON_RESIDUE * left[1] * right[1]
    high = left[0] * right[1] + left[1] * right[0]
    return ExtensionElement(low % MODULUS, high % MODULUS)


def scale(element: ExtensionElement, factor: int) -> ExtensionElement:
    """Return element * factor for an integer factor."""
    return ExtensionElement(element[0] * factor % MODULUS, element[1] * factor % MODULUS)


def total(elements: Iterable[ExtensionElement]) -> ExtensionElement:
    """Return the sum of elements of E."""
    low = high = 0
    for element in elements:
        low += element[0]
        high += element[1]
    return ExtensionElement(low % MODULUS, high % MODULUS)


def inverse(element: ExtensionElement) -> ExtensionElement:
    """Return the multiplicative inverse, by the conjugate over the norm.

    Raises:
        UsageError: If the element is zero.
    """
    norm = (element[0] * element[0] - NON_RESIDUE * element[1] * element[1]) % MODULUS
    if norm == 0:  # only for zero, since 7 is no square
        raise UsageError("zero has no inverse")
    factor = field_inverse(norm)
    return ExtensionElement(element[0] * factor % MODULUS, -element[1] * factor % MODULUS)


def power(base: ExtensionElement, exponent: int) -> ExtensionElement:
    """Return base to an integer power; a negative power inverts first."""
    if exponent < 0:
        return power(inverse(base), -exponent)
    result = ONE
    while exponent:
        if exponent & 1:
            result = multiply(result, base)
        base = multiply(base, base)
        exponent >>= 1
    return result


def powers(base: ExtensionElement, first: int, count: int) -> list[ExtensionElement]:
    """Return base^first, base^(first+1), ..., `count` of them."""
    result = []
    element = power(base, first)
    for _ in range(count):
        result.append(element)
        element = multiply(element, base)
    return result
