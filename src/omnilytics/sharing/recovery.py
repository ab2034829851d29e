"""Recovery of a released sum by the model owner (protocol.md section 6.8).

The owner of the model gets each server's share of a sum of vectors. It draws a private projection,
checks that the projected shares lie on a polynomial of degree t, names those that do not, and
interpolates the others at 0. Servers cannot see the projection, so a wrong vector passes with
probability at most D / p^2.

Not guaranteed: that the sum is over the owners that were accepted; that rests on the quorum's
`Final` signatures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import FieldVector, require_canonical
from omnilytics.algebra.power_weights import PowerWeights
from omnilytics.algebra.streams import LABEL_PROJECTION, Stream
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.randomness import Randomness
from omnilytics.sharing.codewords import is_extension_codeword
from omnilytics.sharing.committee import Committee
from omnilytics.sharing.interpolation import interpolate_vectors_at_zero


@dataclass(frozen=True, eq=False)
class RecoveredSum:
    """A sum, and who lied about it.

    Attributes:
        values: uint64, shape (D,): the sum in the field.
        liars: Points of servers whose vectors are off the others' polynomials.
    """

    values: FieldVector
    liars: tuple[int, ...]


def recover_sum(
    vectors: Mapping[int, FieldVector], committee: Committee, randomness: Randomness
) -> RecoveredSum:
    """Check the servers' shares of a sum and interpolate it.

    Args:
        vectors: Point -> share, equal length; from at least t + 1 + e servers of the set V.
        committee: Names t and e.
        randomness: Gives the 32 secret bytes of the projection.

    Returns:
        The sum, and the servers that are off: up to e of them if 2e more than t + 1 answered.

    Raises:
        MalformedError: If an element is not canonical.
        VerificationError: If too few vectors came, their lengths differ, or too many are wrong.
    """
    t = committee.privacy
    # With m vectors and at most e lies, a set of m - k that fits holds t + 1 true ones if
    # m - k - e >= t + 1; so its polynomial is the true one.
    spare = len(vectors) - (t + 1 + committee.errors)
    if spare < 0 or not set(vectors) <= set(committee.points):
        raise VerificationError(
            "too few servers released the sum", got=len(vectors), want=t + 1 + committee.errors
        )
    if len({vector.shape for vector in vectors.values()}) != 1:
        raise VerificationError("shares of the sum differ in length")
    for vector in vectors.values():
        require_canonical(vector)
    truthful = _largest_codeword(project(vectors, randomness), t, min(committee.errors, spare))
    if truthful is None:
        raise VerificationError("the shares of the sum lie on no polynomial", want=f"degree {t}")
    liars = tuple(point for point in sorted(vectors) if point not in truthful)
    chosen = {point: vectors[point] for point in truthful[: t + 1]}
    return RecoveredSum(interpolate_vectors_at_zero(chosen), liars)


def project(
    vectors: Mapping[int, FieldVector], randomness: Randomness
) -> dict[int, ExtensionElement]:
    """Return sum_i r^i vector_i in E for each server, for one secret random r."""
    base = Stream(LABEL_PROJECTION, randomness.bytes(32)).extension_element(0)
    weights = PowerWeights(base)
    return {point: weights.inner_product(vector) for point, vector in vectors.items()}


def _largest_codeword(
    values: Mapping[int, ExtensionElement], degree: int, droppable: int
) -> tuple[int, ...] | None:
    points = tuple(sorted(values))
    for size in range(len(points), len(points) - droppable - 1, -1):
        for subset in combinations(points, size):
            if is_extension_codeword(subset, [values[point] for point in subset], degree):
                return subset
    return None
