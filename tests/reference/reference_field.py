"""The field, its extension and interpolation, written from docs/protocol.md section 2 alone.

Elements of F_p are integers 0 .. p - 1; elements of E = F_p[X]/(X^2 - 7) are pairs (low, high). All
of it is slow on purpose: one line per formula, so that it can be held against the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

P = 2**64 - 2**32 + 1
Pair = tuple[int, int]


class RefusedError(ValueError):
    """What the pages say must be refused."""


def pair_add(a: Pair, b: Pair) -> Pair:
    return ((a[0] + b[0]) % P, (a[1] + b[1]) % P)


def pair_multiply(a: Pair, b: Pair) -> Pair:
    return ((a[0] * b[0] + 7 * a[1] * b[1]) % P, (a[0] * b[1] + a[1] * b[0]) % P)


def pair_scale(a: Pair, factor: int) -> Pair:
    return (a[0] * factor % P, a[1] * factor % P)


def value_at(points: Mapping[int, int], at: int) -> int:
    """The polynomial through all given points (place: value), evaluated at `at`."""
    total = 0
    for place, value in points.items():
        top, bottom = 1, 1
        for other in points:
            if other != place:
                top = top * (at - other) % P
                bottom = bottom * (place - other) % P
        total += value * top * pow(bottom, -1, P)
    return total % P


def has_degree(points: Mapping[int, int], degree: int) -> bool:
    """True if one polynomial of at most this degree goes through all points."""
    places = sorted(points)
    first = {place: points[place] for place in places[: degree + 1]}
    return all(value_at(first, place) == points[place] for place in places[degree + 1 :])


def pairs_have_degree(points: Mapping[int, Pair], degree: int) -> bool:
    """The same for both limbs of elements of E: places are in F_p, so limbs are independent."""
    return all(
        has_degree({place: pair[limb] for place, pair in points.items()}, degree) for limb in (0, 1)
    )


def field_of_integer(value: int) -> int:
    """A signed integer as an element: a negative v becomes p - |v|."""
    if not -(P // 2) <= value <= P // 2:
        raise RefusedError("an entry is too large for the field")
    return value if value >= 0 else P - abs(value)


def integer_of_field(element: int) -> int:
    """An element as a signed integer: a value above p/2 is negative."""
    if not 0 <= element < P:
        raise RefusedError("an element is not below p")
    return element - P if 2 * element > P else element


def real_of_field(element: int, fractional_bits: int) -> Fraction:
    """An element of a sum as a number: the signed integer with f fractional bits."""
    return Fraction(integer_of_field(element), 2**fractional_bits)


def elements_of_bytes(content: bytes) -> list[int]:
    """Elements in le64; refuses other lengths and elements from p on."""
    if len(content) % 8:
        raise RefusedError("the length is no multiple of 8")
    elements = [
        int.from_bytes(content[place : place + 8], "little") for place in range(0, len(content), 8)
    ]
    if any(element >= P for element in elements):
        raise RefusedError("an element is not below p")
    return elements


def bytes_of_elements(elements: list[int]) -> bytes:
    return b"".join(element.to_bytes(8, "little") for element in elements)
