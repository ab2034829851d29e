"""The closed list of operations: attributes, shape rules and cost (perturbation.md section 1).

A graph may use these and nothing else. Each operation is a frozen dataclass; its fields are its
attributes in the JSON form. Shapes are those of one sample, without the batch dimension: `(F,)` or
`(C, H, W)`, so that channels are always the first axis. To add an operation: a class here and in
`OPERATIONS`, a case in `interpreter`, a rule in `gauge`, a reader in `learning.tracing`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import prod
from typing import ClassVar

from omnilytics.foundation.errors import ModelError

Shape = tuple[int, ...]
Pair = tuple[int, int]

MAX_ATTRIBUTE = 1 << 12
"""No stride, padding, dilation, kernel or pooled size is larger."""


_MINIMA = {"padding": 0}
"""Smallest value of an attribute, where it is not 1."""


@dataclass(frozen=True)
class Operation(ABC):
    """One operation with its attributes; `ModelError` if an attribute is out of range."""

    name: ClassVar[str]
    input_count: ClassVar[int] = 1
    tensor_counts: ClassVar[tuple[int, ...]] = (0,)

    def __post_init__(self) -> None:
        for attribute in fields(self):
            _check_pair(attribute.name, getattr(self, attribute.name))

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


def _check_pair(name: str, value: object) -> None:
    minimum = _MINIMA.get(name, 1)
    is_pair = (
        isinstance(value, tuple)
        and len(value) == 2
        and all(type(item) is int and minimum <= item <= MAX_ATTRIBUTE for item in value)
    )
    if not is_pair:
        raise ModelError(
            f"attribute {name} is out of range",
            got=repr(value)[:80],
            want=f"two integers between {minimum} and {MAX_ATTRIBUTE}",
        )


def _want_rank(shape: Shape, rank: int) -> None:
    if len(shape) != rank:
        raise ModelError(
            "input has the wrong number of dimensions",
            got=shape,
            want="(features,)" if rank == 1 else "(channels, height, width)",
        )


def _check_bias(weight: Shape, tensors: Sequence[Shape]) -> None:
    if len(tensors) == 2 and tensors[1] != weight[:1]:
        raise ModelError("bias does not fit the weight", got=tensors[1], want=weight[:1])


@dataclass(frozen=True)
class Linear(Operation):
    """`y = W x + b`; tensors: weight (out, in) and, optionally, bias (out,)."""

    name = "linear"
    tensor_counts = (1, 2)

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(out,)`."""
        _want_rank(inputs[0], 1)
        weight = tensors[0]
        if len(weight) != 2 or weight[1] != inputs[0][0]:
            raise ModelError(
                "weight does not fit the input", got=weight, want=f"(out, {inputs[0][0]})"
            )
        _check_bias(weight, tensors)
        return weight[:1]

    def multiply_adds(
        self, inputs: Sequence[Shape], tensors: Sequence[Shape], output: Shape
    ) -> int:
        """Return out * in."""
        return prod(tensors[0])


def _slid(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    reach = size + 2 * padding - dilation * (kernel - 1) - 1
    if reach < 0:
        raise ModelError("kernel is larger than the padded input", got=kernel, want=f"<= {size}")
    return reach // stride + 1


@dataclass(frozen=True)
class Conv2d(Operation):
    """2-D convolution, one group; tensors: weight (out, in, kh, kw), optionally bias (out,)."""

    name = "conv2d"
    tensor_counts = (1, 2)

    stride: Pair
    padding: Pair
    dilation: Pair

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(out, height, width)`."""
        _want_rank(inputs[0], 3)
        channels, height, width = inputs[0]
        weight = tensors[0]
        if len(weight) != 4 or weight[1] != channels:
            raise ModelError(
                "weight does not fit the input",
                got=weight,
                want=f"(out, {channels}, kernel height, kernel width)",
            )
        _check_bias(weight, tensors)
        (sh, sw), (ph, pw), (dh, dw) = self.stride, self.padding, self.dilation
        return (
            weight[0],
            _slid(height, weight[2], sh, ph, dh),
            _slid(width, weight[3], sw, pw, dw),
        )

    def multiply_adds(
        self, inputs: Sequence[Shape], tensors: Sequence[Shape], output: Shape
    ) -> int:
        """Return the output's elements times in * kh * kw, plus the padded input."""
        _, height, width = inputs[0]
        padded = inputs[0][0] * (height + 2 * self.padding[0]) * (width + 2 * self.padding[1])
        return prod(output) * prod(tensors[0][1:]) + padded

    def workspace(self, inputs: Sequence[Shape], tensors: Sequence[Shape], output: Shape) -> int:
        """Return the unfolded input, one kernel window per output position."""
        return prod(tensors[0][1:]) * prod(output[1:])


@dataclass(frozen=True)
class Relu(Operation):
    """`max(x, 0)`, any shape."""

    name = "relu"

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        return inputs[0]


@dataclass(frozen=True)
class _Pool2d(Operation):
    """What max and average pooling share: windows, floor mode, padding at most half a window."""

    kernel: Pair
    stride: Pair
    padding: Pair

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(channels, height, width)`."""
        _want_rank(inputs[0], 3)
        if any(2 * pad > size for pad, size in zip(self.padding, self.kernel, strict=True)):
            raise ModelError(
                "padding is more than half of the kernel", got=self.padding, want=self.kernel
            )
        channels, height, width = inputs[0]
        dilation_h, dilation_w = self._dilation()
        return (
            channels,
            _slid(height, self.kernel[0], self.stride[0], self.padding[0], dilation_h),
            _slid(width, self.kernel[1], self.stride[1], self.padding[1], dilation_w),
        )

    def _dilation(self) -> Pair:
        return (1, 1)

    def multiply_adds(
        self, inputs: Sequence[Shape], tensors: Sequence[Shape], output: Shape
    ) -> int:
        """Return the output's elements times the window, plus the input."""
        return prod(output) * prod(self.kernel) + prod(inputs[0])


@dataclass(frozen=True)
class MaxPool2d(_Pool2d):
    """Maximum over windows; padding counts as minus infinity."""

    name = "max_pool2d"

    dilation: Pair

    def _dilation(self) -> Pair:
        return self.dilation


@dataclass(frozen=True)
class AvgPool2d(_Pool2d):
    """Mean over windows; padding counts as zeros."""

    name = "avg_pool2d"


@dataclass(frozen=True)
class AdaptiveAvgPool2d(Operation):
    """Mean over windows chosen so that the output is `(channels, *output_size)`."""

    name = "adaptive_avg_pool2d"

    output_size: Pair

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(channels, *output_size)`."""
        _want_rank(inputs[0], 3)
        return (inputs[0][0], *self.output_size)


@dataclass(frozen=True)
class Flatten(Operation):
    """All elements of a sample in one vector, channel by channel."""

    name = "flatten"

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(features,)`."""
        return (prod(inputs[0]),)


@dataclass(frozen=True)
class Add(Operation):
    """Sum of two values of the same shape (a residual connection)."""

    name = "add"
    input_count = 2

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the common shape."""
        if inputs[0] != inputs[1]:
            raise ModelError("summands differ in shape", got=inputs[1], want=inputs[0])
        return inputs[0]


OPERATIONS: dict[str, type[Operation]] = {
    operation.name: operation
    for operation in (
        Linear,
        Conv2d,
        Relu,
        MaxPool2d,
        AvgPool2d,
        AdaptiveAvgPool2d,
        Flatten,
        Add,
    )
}
