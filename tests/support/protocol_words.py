"""Words made straight from polynomials, for tests of verdicts that need no shares.

The arithmetic is its own, so that it can also check what the project's code makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS
from omnilytics.sharing.committee import Committee
from omnilytics.validity.word import Word


def random_element(random: Random) -> ExtensionElement:
    return ExtensionElement(random.randrange(MODULUS), random.randrange(MODULUS))


def polynomial(
    random: Random, degree: int, at_zero: ExtensionElement | None = None
) -> list[ExtensionElement]:
    """Return random coefficients, low to high; the lowest is the value at 0."""
    lowest = random_element(random) if at_zero is None else at_zero
    return [lowest, *(random_element(random) for _ in range(degree))]


def value(coefficients: Sequence[ExtensionElement], point: int) -> ExtensionElement:
    low, high = (
        sum(entry[limb] * point**power for power, entry in enumerate(coefficients)) % MODULUS
        for limb in (0, 1)
    )
    return ExtensionElement(low, high)


def honest_words(committee: Committee, random: Random) -> dict[int, Word]:
    """Return words as honest servers give them for a valid owner."""
    c = polynomial(random, 2 * committee.privacy, ExtensionElement(0, 0))
    d = polynomial(random, committee.privacy)
    return {point: Word(value(c, point), value(d, point)) for point in committee.points}


def random_word(random: Random) -> Word:
    return Word(random_element(random), random_element(random))


def product(left: ExtensionElement, right: ExtensionElement) -> ExtensionElement:
    """Multiply in F_p[X]/(X^2 - 7)."""
    return ExtensionElement(
        (left[0] * right[0] + 7 * left[1] * right[1]) % MODULUS,
        (left[0] * right[1] + left[1] * right[0]) % MODULUS,
    )


def lies_on_polynomial(values: Mapping[int, ExtensionElement], degree: int) -> bool:
    """Tell by Lagrange interpolation from the first points whether the others fit."""
    points = sorted(values)
    base = points[: degree + 1]
    return all(
        sum(values[x][limb] * _lagrange(base, x, point) for x in base) % MODULUS
        == values[point][limb]
        for point in points[degree + 1 :]
        for limb in (0, 1)
    )


def _lagrange(base: Sequence[int], at: int, point: int) -> int:
    top = bottom = 1
    for other in base:
        if other != at:
            top = top * (point - other) % MODULUS
            bottom = bottom * (at - other) % MODULUS
    return top * pow(bottom, MODULUS - 2, MODULUS) % MODULUS
