"""A server's share of the sum over the accepted owners (protocol.md section 6.8).

The sum is made block by block: a block of the sum stays in the processor's cache while all shares
are added to it, and neither memory nor open files grow with the number of owners.

Not guaranteed: that the shares are those of the accepted set; that is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from omnilytics.algebra import kernels
from omnilytics.algebra.field import FieldVector
from omnilytics.algebra.streams import BLOCK_ELEMENTS
from omnilytics.validity.evaluate import ElementReader
from omnilytics.wire.package import CHUNK_ELEMENTS


def sum_blocks(
    shares: Sequence[ElementReader], dimension: int, block_elements: int = CHUNK_ELEMENTS
) -> Iterator[FieldVector]:
    """Yield the sum of the first `dimension` elements of all shares, block by block.

    Args:
        shares: At least as long as `dimension`; read in order, a block at a time.
        dimension: D: x alone is summed, not the proof.
        block_elements: Elements of a block, by default a sealed chunk's; the last may have fewer.
    """
    for start in range(0, dimension, block_elements):
        block = np.zeros(min(block_elements, dimension - start), dtype=np.uint64)
        for share in shares:
            for first in range(0, len(block), BLOCK_ELEMENTS):
                part = block[first : first + BLOCK_ELEMENTS]
                kernels.current().add(part, share.elements(start + first, len(part)), part)
        yield block


def sum_shares(shares: Sequence[ElementReader], dimension: int) -> FieldVector:
    """Return the sum of the first `dimension` elements of all shares, shape (dimension,)."""
    return np.concatenate(list(sum_blocks(shares, dimension)))
