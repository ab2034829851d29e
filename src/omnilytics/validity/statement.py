"""What a submission must satisfy, as numbers derived from the task (protocol.md section 3, PINE).

Symbols: x in F^D is the concatenation of the components; S bounds a component's squared norm; V is
a component's squared norm, given as 2f bits; Y_k = <Z_k, x> is a wraparound test's projection;
v_k = Y_k + W - 1 its value, given as b1 = bitlen(2W - 1) bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Final

from omnilytics.algebra.field import MODULUS
from omnilytics.algebra.fixed_point import check_parameters, squared_norm_bound
from omnilytics.foundation.errors import UsageError
from omnilytics.sharing.shamir import MASK_ELEMENTS

TESTS: Final = 128
"""Wraparound tests of the protocol; only attack tests take fewer."""
TESTS_PER_BYTE: Final = 4


@dataclass(frozen=True)
class Statement:
    """The norm statement of a task.

    Attributes:
        components: Lengths of the components, in order.
        fractional_bits: f.
        tests: r, the wraparound tests; a multiple of 4.

    Raises:
        UsageError: If the parameters are unsound: D > S/16, 81 W^2 > p, f outside 4..24.
    """

    components: tuple[int, ...]
    fractional_bits: int = 16
    tests: int = TESTS

    def __post_init__(self) -> None:
        if not self.components or min(self.components) < 1:
            raise UsageError("a component is empty", got=self.components)
        if not (1 <= self.tests <= TESTS and self.tests % TESTS_PER_BYTE == 0):
            raise UsageError("wraparound tests", got=self.tests, want="4, 8, ..., 128")
        check_parameters(dimension=self.dimension, fractional_bits=self.fractional_bits)
        if 81 * self.wraparound_bound**2 > MODULUS:
            raise UsageError(
                "a norm could wrap around the field unseen",
                got=f"81 W^2 for W = {self.wraparound_bound}",
                want=f"at most p = {MODULUS}",
                hint="use fewer fractional bits or fewer components",
            )

    @property
    def dimension(self) -> int:
        """D, entries of all components."""
        return sum(self.components)

    @property
    def norm_bound(self) -> int:
        """S = 2^(2f) - 1."""
        return squared_norm_bound(self.fractional_bits)

    @property
    def norm_bits(self) -> int:
        """2f, bits of each component's V."""
        return 2 * self.fractional_bits

    @property
    def wraparound_bound(self) -> int:
        """W = next power of two from ceil(8.7 sqrt(c) 2^f) + 1 on."""
        # m = ceil(sqrt(q / 100)) with q = 8.7^2 * 100 * c * 2^(2f), in integers: the least m with
        # 100 m^2 >= q.
        q = 7569 * len(self.components) << (2 * self.fractional_bits)
        root = isqrt((q + 99) // 100 - 1) + 1
        return 1 << root.bit_length()  # > root, hence >= root + 1, and the least such power

    @property
    def test_bits(self) -> int:
        """b1 = bitlen(2W - 1), bits of each v_k."""
        return (2 * self.wraparound_bound - 1).bit_length()

    @property
    def bit_count(self) -> int:
        """Bits of the proof: V's of every component, then v_k's of every test."""
        return self.norm_bits * len(self.components) + self.test_bits * self.tests

    @property
    def constraint_count(self) -> int:
        """Bits, norms, and one sum of the wraparound tests."""
        return self.bit_count + len(self.components) + 1

    @property
    def share_length(self) -> int:
        """Elements of a share: x, bits, M0, M1."""
        return self.dimension + self.bit_count + MASK_ELEMENTS

    @property
    def test_bytes(self) -> int:
        """Bytes of the stream Z for one entry of x: four tests a byte."""
        return self.tests // TESTS_PER_BYTE

    def component_slices(self) -> list[slice]:
        """Return where each component lies in x."""
        slices, start = [], 0
        for length in self.components:
            slices.append(slice(start, start + length))
            start += length
        return slices
