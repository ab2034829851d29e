"""Sums weighted with the powers of one element of E: sum_i g^i vector_i, i from 1.

Kept is one block of powers, g^1 .. g^8192; a later block is the same block times g^offset. So the
weights stay in the processor's cache and take no memory that grows with the vector, and all
owners of a round share them (protocol.md section 6.5).
"""

from __future__ import annotations

from typing import Final

from omnilytics.algebra import extension, kernels
from omnilytics.algebra.extension import ExtensionElement
from omnilytics.algebra.field import FieldVector

BLOCK_ENTRIES: Final = 8192
"""Powers that are kept."""


class PowerWeights:
    """The weights g^1, g^2, ... of an element g of E.

    Args:
        base: g.

    Attributes:
        block: g^1 .. g^8192, shape (2, 8192).
    """

    def __init__(self, base: ExtensionElement) -> None:
        self.base = base
        self.block = kernels.current().extension_powers(base, 1, BLOCK_ENTRIES)
        self._step = extension.power(base, BLOCK_ENTRIES)
        self._shifts = {0: extension.ONE}

    def inner_product(self, vector: FieldVector, offset: int = 0) -> ExtensionElement:
        """Return the sum over i = 0, 1, ... of g^(offset + i + 1) * vector_i.

        Args:
            vector: Any length, canonical.
            offset: Entries that come before this part of the vector.
        """
        value = kernels.current().power_sum(self.block, self._step, vector)
        return self.shifted(value, offset)

    def shifted(self, value: ExtensionElement, offset: int) -> ExtensionElement:
        """Return g^offset * value, for a value that was summed as if it began at the first power.

        Powers are remembered: the next owner's vector is cut at the same places.
        """
        if offset not in self._shifts:
            self._shifts[offset] = extension.power(self.base, offset)
        return extension.multiply(self._shifts[offset], value)
