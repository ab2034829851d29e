"""Recovery of a released sum by the model owner (protocol.md section 6.8).

The owner of the model gets each server's share of a sum of vectors. It draws a private projection,
checks that the projected shares lie on a polynomial of degree t, names those that do not, and
interpolates the others at 0. Servers cannot see the projection, so a wrong vector passes with
probability at most D / p^2.

Not guaranteed: that the sum is over the owners that were accepted; that rests on the quorum's
`Final` signatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Protocol

import numpy as np

from omnilytics.algebra import extension
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import FieldVector, require_canonical
from omnilytics.algebra.power_weights import PowerWeights
from omnilytics.algebra.streams import LABEL_PROJECTION, Stream
from omnilytics.foundation.errors import MalformedError, VerificationError
from omnilytics.foundation.randomness import Randomness
from omnilytics.sharing.codewords import is_extension_codeword
from omnilytics.sharing.committee import Committee
from omnilytics.sharing.interpolation import interpolate_vectors_at_zero

_BLOCK: Final = 1 << 16
"""Elements read at a time: a chunk of a released share."""


class VectorReader(Protocol):
    """A server's share of a sum that can be read in pieces."""

    @property
    def length(self) -> int:
        """Elements it has."""
        ...

    def elements(self, start: int, count: int) -> FieldVector:
        """Return canonical elements start, start+1, ..., up to 65,536 from a multiple of that."""
        ...


@dataclass(frozen=True, eq=False)
class RecoveredSum:
    """A sum, and who lied about it.

    Attributes:
        values: uint64, shape (D,): the sum in the field.
        liars: Points of servers whose vectors are off the others' polynomials or hold what is no
            vector.
    """

    values: FieldVector
    liars: tuple[int, ...]


def recover_sum(
    shares: Mapping[int, VectorReader], committee: Committee, randomness: Randomness
) -> RecoveredSum:
    """Check the servers' shares of a sum and interpolate it, block by block.

    Args:
        shares: Point -> share, equal length; from at least t + 1 + e servers of the set V.
        committee: Names t and e.
        randomness: Gives the 32 secret bytes of the projection.

    Returns:
        The sum, and the servers that are off: up to e of them if 2e more than t + 1 answered.

    Raises:
        VerificationError: If too few vectors came, their lengths differ, or too many are wrong.
    """
    t = committee.privacy
    if not set(shares) <= set(committee.points):
        raise VerificationError("shares of servers outside the committee", got=sorted(shares))
    if len({share.length for share in shares.values()}) > 1:
        raise VerificationError("shares of the sum differ in length")
    projected = project(shares, randomness)
    # With m vectors and at most e lies, a set of m - k that fits holds t + 1 true ones if
    # m - k - e >= t + 1; so its polynomial is the true one.
    spare = len(projected) - (t + 1 + committee.errors)
    if spare < 0:
        raise VerificationError(
            "too few servers released the sum", got=len(projected), want=t + 1 + committee.errors
        )
    truthful = _largest_codeword(projected, t, min(committee.errors, spare))
    if truthful is None:
        raise VerificationError("the shares of the sum lie on no polynomial", want=f"degree {t}")
    liars = tuple(point for point in sorted(shares) if point not in truthful)
    return RecoveredSum(_interpolate({point: shares[point] for point in truthful[: t + 1]}), liars)


def project(
    shares: Mapping[int, VectorReader], randomness: Randomness
) -> dict[int, ExtensionElement]:
    """Return sum_i r^i share_i in E for each server whose share can be read, for one secret r."""
    base = Stream(LABEL_PROJECTION, randomness.bytes(32)).extension_element(0)
    weights = PowerWeights(base)
    found = {}
    for point, share in shares.items():
        try:
            found[point] = extension.total(
                [
                    weights.inner_product(require_canonical(share.elements(start, count)), start)
                    for start, count in _blocks(share.length)
                ]
            )
        except (MalformedError, VerificationError):
            continue  # no vector: its server is named like one that lies
    return found


def _interpolate(shares: Mapping[int, VectorReader]) -> FieldVector:
    length = next(iter(shares.values())).length
    values = np.empty(length, dtype=np.uint64)
    for start, count in _blocks(length):
        parts = {point: share.elements(start, count) for point, share in shares.items()}
        values[start : start + count] = interpolate_vectors_at_zero(parts)
    return values


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, _BLOCK):
        yield start, min(_BLOCK, length - start)


def _largest_codeword(
    values: Mapping[int, ExtensionElement], degree: int, droppable: int
) -> tuple[int, ...] | None:
    points = tuple(sorted(values))
    for size in range(len(points), len(points) - droppable - 1, -1):
        for subset in combinations(points, size):
            if is_extension_codeword(subset, [values[point] for point in subset], degree):
                return subset
    return None
