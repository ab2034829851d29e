"""What every listed operation is: attributes, a shape rule, a cost.

Shapes are those of one sample, without the batch dimension: `(F,)` for a vector, `(C, H, W)` for
images, `(T, F)` for sequences, `(T,)` for tokens (integers, which only an embedding reads). The
channel axis is the first one, but the last one of a sequence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isfinite, prod
from typing import ClassVar

from omnilytics.foundation.errors import ModelError

Shape = tuple[int, ...]
Pair = tuple[int, int]

MAX_WINDOW = 1 << 12
"""No stride, padding, dilation, kernel or other pair is larger."""
MAX_INTEGER = 1 << 24
"""No other integer attribute is larger."""
MAX_NUMBER = 1e9
"""No real attribute is larger."""

SAMPLE_SHAPES = {1: "(features,)", 2: "(tokens, features)", 3: "(channels, height, width)"}

_FROM_ZERO = {"padding", "start", "channels", "height", "width", "index"}
"""Attributes whose smallest value is 0; it is 1 for all others."""


@dataclass(frozen=True)
class Operation(ABC):
    """One operation with its attributes; `ModelError` if an attribute is out of range."""

    name: ClassVar[str]
    input_counts: ClassVar[tuple[int, int]] = (1, 1)
    """Least and most inputs."""
    tensor_counts: ClassVar[tuple[int, ...]] = (0,)
    statistics: ClassVar[int] = 0
    """So many of its tensors, the last ones, are running statistics."""

    def __post_init__(self) -> None:
        for attribute in fields(self):
            _CHECKS[str(attribute.type)](attribute.name, getattr(self, attribute.name))

    @abstractmethod
    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the shape of one output sample; `ModelError` if the inputs do not fit."""

    def multiply_adds(
        self, inputs: Sequence[Shape], tensors: Sequence[Shape], output: Shape
    ) -> int:
        """Return the work for one sample, at least the elements read and written."""
        return prod(output) + sum(prod(shape) for shape in inputs)

    def workspace(self, inputs: Sequence[Shape], tensors: Sequence[Shape], output: Shape) -> int:
        """Return how many elements may be needed for a moment besides inputs and output."""
        return 0


class Elementwise(Operation):
    """An operation on each entry alone, of any shape."""

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        return inputs[0]


def channel_axis(shape: Shape) -> int:
    """Return which axis of one sample counts channels: the first, but the last of a sequence."""
    return 1 if len(shape) == 2 else 0


def channels_of(shape: Shape) -> int:
    """Return how many channels a sample has."""
    return shape[channel_axis(shape)]


def want_rank(shape: Shape, *ranks: int) -> None:
    """Raise `ModelError` unless a sample has one of these numbers of dimensions."""
    if len(shape) not in ranks:
        raise ModelError(
            "input has the wrong number of dimensions",
            got=shape,
            want=" or ".join(SAMPLE_SHAPES[rank] for rank in ranks),
        )


def want_shape(tensor: Shape, wanted: Shape, what: str) -> None:
    """Raise `ModelError` unless a tensor has this shape."""
    if tensor != wanted:
        raise ModelError(f"{what} does not fit", got=tensor, want=wanted)


def _check_pair(name: str, value: object) -> None:
    least = minimum(name)
    is_pair = (
        isinstance(value, tuple)
        and len(value) == 2
        and all(type(item) is int and least <= item <= MAX_WINDOW for item in value)
    )
    if not is_pair:
        _refuse(name, value, f"two integers between {least} and {MAX_WINDOW}")


def _check_integer(name: str, value: object) -> None:
    least = minimum(name)
    if not (type(value) is int and least <= value <= MAX_INTEGER):
        _refuse(name, value, f"an integer between {least} and {MAX_INTEGER}")


def _check_number(name: str, value: object) -> None:
    if not (type(value) is float and isfinite(value) and abs(value) <= MAX_NUMBER):
        _refuse(name, value, f"a number within {MAX_NUMBER:g}")


def _check_flag(name: str, value: object) -> None:
    if type(value) is not bool:
        _refuse(name, value, "true or false")


def minimum(name: str) -> int:
    """Return the smallest value of an integer attribute."""
    return 0 if name in _FROM_ZERO else 1


def _refuse(name: str, value: object, want: str) -> None:
    raise ModelError(f"attribute {name} is out of range", got=repr(value)[:80], want=want)


_CHECKS = {
    "Pair": _check_pair,
    "int": _check_integer,
    "float": _check_number,
    "bool": _check_flag,
}
