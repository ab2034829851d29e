"""Operations between tokens: attention, and positions by rotation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation.operations.base import Elementwise, Operation, Shape, want_rank


def _check_heads(shape: Shape, heads: int) -> None:
    if shape[1] % heads:
        raise ModelError("heads do not divide the features", got=heads, want=shape[1])


@dataclass(frozen=True)
class Attention(Operation):
    """`softmax(Q K^T / sqrt(d)) V` for every head; inputs: queries, keys, values.

    Head h has features `h * d .. (h + 1) * d - 1` of each. Causal: no token sees a later one.
    """

    name = "attention"
    input_counts = (3, 3)

    heads: int
    causal: bool

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(tokens of the queries, features of the values)`."""
        for shape in inputs:
            want_rank(shape, 2)
            _check_heads(shape, self.heads)
        queries, keys, values = inputs
        if queries[1] != keys[1] or keys[0] != values[0]:
            raise ModelError("queries, keys and values do not fit", got=inputs)
        return (queries[0], values[1])

    def multiply_adds(
        self, inputs: Sequence[Shape], tensors: Sequence[Shape], output: Shape
    ) -> int:
        """Return the work of both products."""
        return prod(inputs[0]) * inputs[1][0] + inputs[0][0] * prod(inputs[2])

    def workspace(self, inputs: Sequence[Shape], tensors: Sequence[Shape], output: Shape) -> int:
        """Return the attention weights of all heads, twice."""
        return 2 * self.heads * inputs[0][0] * inputs[1][0]


@dataclass(frozen=True)
class Rotary(Elementwise):
    """Rotate features i and i + d/2 of every head by `t * base^(-2i/d)` at token t.

    Rotary positions (Su et al., arXiv 2104.09864), the form that rotates halves.
    """

    name = "rotary"

    heads: int
    base: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base < 1:
            raise ModelError("attribute base is out of range", got=self.base, want=">= 1")

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        want_rank(inputs[0], 2)
        _check_heads(inputs[0], self.heads)
        if inputs[0][1] // self.heads % 2:
            raise ModelError("a head has an odd number of features", got=inputs[0][1] // self.heads)
        return inputs[0]
