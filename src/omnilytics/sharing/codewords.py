"""Which servers' words lie jointly on a codeword (protocol.md section 6.6).

A word is a pair (c, d) of elements of E. Honest words: c on a polynomial of degree <= 2t with
c(0) = 0, d on one of degree <= t. The two are never decoded apart: one set of servers must fit
both. Two fitting sets of n - e servers share n - 2e >= 2t + 1, hence lie on the same codeword,
so the largest fitting set is unique.

Words are checked by the dual code: for weights u_j = 1 / prod_{k != j} (x_j - x_k), values lie on
a polynomial of degree <= d exactly if sum_j u_j x_j^m value_j = 0 for m = 0 .. points - d - 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import TypeAlias

from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import MODULUS, inverse
from omnilytics.sharing.committee import Committee

WordPair: TypeAlias = tuple[ExtensionElement, ExtensionElement]


@lru_cache(maxsize=4096)
def parity_rows(
    points: tuple[int, ...], degree: int, zero_at_origin: bool = False
) -> tuple[tuple[int, ...], ...]:
    """Return rows whose inner products with the values vanish exactly on codewords.

    Args:
        points: Distinct, non-zero.
        degree: Highest degree allowed.
        zero_at_origin: Whether the polynomial must also be 0 at 0.

    Returns:
        points - degree - 1 rows, one more with `zero_at_origin`; none if any values fit.
    """
    known = (0, *points) if zero_at_origin else points  # the value at 0 is 0: its column drops out
    weights = []
    for point in points:
        product = 1
        for other in known:
            if other != point:
                product = product * (point - other) % MODULUS
        weights.append(inverse(product))
    return tuple(
        tuple(u * pow(x, m, MODULUS) % MODULUS for u, x in zip(weights, points, strict=True))
        for m in range(len(known) - degree - 1)
    )


def is_codeword(
    points: tuple[int, ...],
    values: Sequence[int],
    degree: int,
    *,
    zero_at_origin: bool = False,
) -> bool:
    """Return whether field elements at `points` lie on a polynomial of that degree."""
    rows = parity_rows(points, degree, zero_at_origin)
    return not any(
        sum(a * value for a, value in zip(row, values, strict=True)) % MODULUS for row in rows
    )


def is_extension_codeword(
    points: tuple[int, ...],
    values: Sequence[ExtensionElement],
    degree: int,
    *,
    zero_at_origin: bool = False,
) -> bool:
    """Return whether elements of E at `points` lie on a polynomial over E, limb by limb."""
    return all(
        is_codeword(
            points, [value[limb] for value in values], degree, zero_at_origin=zero_at_origin
        )
        for limb in range(2)
    )


def is_joint_codeword(words: Mapping[int, WordPair], committee: Committee) -> bool:
    """Return whether all words lie jointly on a codeword with c(0) = 0 (point -> (c, d))."""
    points = tuple(sorted(words))
    c_values = [words[point][0] for point in points]
    d_values = [words[point][1] for point in points]
    t = committee.privacy
    return is_extension_codeword(
        points, c_values, 2 * t, zero_at_origin=True
    ) and is_extension_codeword(points, d_values, t)


def decode_joint(words: Mapping[int, WordPair], committee: Committee) -> tuple[int, ...] | None:
    """Return the largest set of at least n - e servers whose words fit jointly, or None.

    Args:
        words: Point -> (c, d), for the servers that sent one; points must be the committee's.
        committee: Its n - e holds however many words arrived.

    Returns:
        The points in order, or None if there is no such set. Servers left out are accused, not at
        fault (section 6.6).
    """
    points = tuple(sorted(words))
    if not set(points) <= set(committee.points):
        return None
    for size in range(len(points), committee.quorum - 1, -1):
        for subset in combinations(points, size):
            if is_joint_codeword({point: words[point] for point in subset}, committee):
                return subset
    return None
