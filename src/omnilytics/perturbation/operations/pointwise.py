"""Operations on single entries: activations, dropout, sums and products of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation.operations.base import (
    Elementwise,
    Operation,
    Shape,
    channels_of,
)


@dataclass(frozen=True)
class Relu(Elementwise):
    """`max(x, 0)`."""

    name = "relu"


@dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """`x` where positive, `slope * x` elsewhere."""

    name = "leaky_relu"

    slope: float


@dataclass(frozen=True)
class Prelu(Elementwise):
    """Leaky ReLU with a learned slope; tensors: (channels,) or (1,)."""

    name = "prelu"
    tensor_counts = (1,)

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        if len(inputs[0]) == 2 and tensors[0] != (1,):
            raise ModelError("slopes of sequences must be one", got=tensors[0], want=(1,))
        if tensors[0] not in {(1,), (channels_of(inputs[0]),)}:
            raise ModelError(
                "slopes do not fit", got=tensors[0], want=f"(1,) or ({channels_of(inputs[0])},)"
            )
        return inputs[0]


@dataclass(frozen=True)
class Gelu(Elementwise):
    """`x * Phi(x)` (Hendrycks and Gimpel, arXiv 1606.08415), or its form with tanh."""

    name = "gelu"

    tanh: bool


@dataclass(frozen=True)
class Silu(Elementwise):
    """`x * sigmoid(x)`."""

    name = "silu"


@dataclass(frozen=True)
class Sigmoid(Elementwise):
    """`1 / (1 + exp(-x))`."""

    name = "sigmoid"


@dataclass(frozen=True)
class Tanh(Elementwise):
    """Hyperbolic tangent."""

    name = "tanh"


@dataclass(frozen=True)
class Hardtanh(Elementwise):
    """Clamped to `low .. high`; ReLU6 is 0 .. 6."""

    name = "hardtanh"

    low: float
    high: float


@dataclass(frozen=True)
class Hardswish(Elementwise):
    """`x * clamp(x + 3, 0, 6) / 6`."""

    name = "hardswish"


@dataclass(frozen=True)
class Hardsigmoid(Elementwise):
    """`clamp(x + 3, 0, 6) / 6`."""

    name = "hardsigmoid"


@dataclass(frozen=True)
class Dropout(Elementwise):
    """Entries dropped with this probability by the data owner's own randomness, others scaled."""

    name = "dropout"

    probability: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.probability < 1:
            raise ModelError(
                "attribute probability is out of range", got=self.probability, want="0 to below 1"
            )


@dataclass(frozen=True)
class Scale(Elementwise):
    """The value times a constant."""

    name = "scale"

    factor: float


@dataclass(frozen=True)
class _Pairwise(Operation):
    """An operation on two values of the same shape."""

    input_counts = (2, 2)

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the common shape."""
        if inputs[0] != inputs[1]:
            raise ModelError("the two values differ in shape", got=inputs[1], want=inputs[0])
        return inputs[0]


@dataclass(frozen=True)
class Add(_Pairwise):
    """Sum of two values (a residual connection)."""

    name = "add"


@dataclass(frozen=True)
class Multiply(_Pairwise):
    """Product of two values (a gate)."""

    name = "multiply"
