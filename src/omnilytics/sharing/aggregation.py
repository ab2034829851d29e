"""A server's share of the sum that it releases (protocol.md section 6.8).

Shares of a sum are sums of shares. Only x is summed: bits and masks are never released, since a
sum of masks would open the words' polynomials.

The final lock, which allows one release per round, is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omnilytics.algebra import kernels
from omnilytics.algebra.field import FieldVector
from omnilytics.algebra.streams import BLOCK_ELEMENTS
from omnilytics.foundation.errors import UsageError
from omnilytics.sharing.shamir import Share


def sum_vectors(shares: Sequence[Share], dimension: int) -> FieldVector:
    """Return the sum of the shares' first `dimension` elements, one server's, over the owners.

    Args:
        shares: One server's shares of the accepted submissions, all of one length.
        dimension: D, entries of x.

    Returns:
        uint64, shape (D,), canonical.

    Raises:
        UsageError: If lengths differ or x does not fit.
    """
    if any(share.length != shares[0].length or share.length < dimension for share in shares):
        raise UsageError("shares of different tasks", got={share.length for share in shares})
    total = np.zeros(dimension, dtype=np.uint64)
    for start in range(0, dimension, BLOCK_ELEMENTS):
        part = total[start : start + BLOCK_ELEMENTS]
        for share in shares:
            kernels.current().add(part, share.elements(start, len(part)), part)
    return total
