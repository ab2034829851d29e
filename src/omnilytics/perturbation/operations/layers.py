"""Layers with weights on vectors and images, and how they slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation.operations.base import Operation, Pair, Shape, want_rank, want_shape


def _check_bias(weight: Shape, tensors: Sequence[Shape]) -> None:
    if len(tensors) == 2:
        want_shape(tensors[1], weight[:1], "bias")


@dataclass(frozen=True)
class Linear(Operation):
    """`y = W x + b` on the channels of a vector or of every token.

    Tensors: weight (out, in) and, optionally, bias (out,).
    """

    name = "linear"
    tensor_counts = (1, 2)

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(out,)` or `(tokens, out)`."""
        want_rank(inputs[0], 1, 2)
        weight = tensors[0]
        if len(weight) != 2 or weight[1] != inputs[0][-1]:
            raise ModelError(
                "weight does not fit the input", got=weight, want=f"(out, {inputs[0][-1]})"
            )
        _check_bias(weight, tensors)
        return (*inputs[0][:-1], weight[0])

    def multiply_adds(
        self, inputs: Sequence[Shape], tensors: Sequence[Shape], output: Shape
    ) -> int:
        """Return out * in for every token."""
        return prod(tensors[0]) * prod(output[:-1])


def slid(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return how often a kernel fits along one side of an image."""
    reach = size + 2 * padding - dilation * (kernel - 1) - 1
    if reach < 0:
        raise ModelError("kernel is larger than the padded input", got=kernel, want=f"<= {size}")
    return reach // stride + 1


@dataclass(frozen=True)
class Conv2d(Operation):
    """2-D convolution; tensors: weight (out, in / groups, kh, kw), optionally bias (out,)."""

    name = "conv2d"
    tensor_counts = (1, 2)

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int = 1

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(out, height, width)`."""
        want_rank(inputs[0], 3)
        channels, height, width = inputs[0]
        weight = tensors[0]
        fits = len(weight) == 4 and weight[1] * self.groups == channels
        if not fits or weight[0] % self.groups:
            raise ModelError(
                "weight does not fit the input",
                got=weight,
                want=f"(out, {channels} / {self.groups}, kernel height, kernel width)",
            )
        _check_bias(weight, tensors)
        (sh, sw), (ph, pw), (dh, dw) = self.stride, self.padding, self.dilation
        return (
            weight[0],
            slid(height, weight[2], sh, ph, dh),
            slid(width, weight[3], sw, pw, dw),
        )

    def multiply_adds(
        self, inputs: Sequence[Shape], tensors: Sequence[Shape], output: Shape
    ) -> int:
        """Return the output's elements times in / groups * kh * kw, plus the padded input."""
        _, height, width = inputs[0]
        padded = inputs[0][0] * (height + 2 * self.padding[0]) * (width + 2 * self.padding[1])
        return prod(output) * prod(tensors[0][1:]) + padded

    def workspace(self, inputs: Sequence[Shape], tensors: Sequence[Shape], output: Shape) -> int:
        """Return the unfolded input, one kernel window per output position."""
        return self.groups * prod(tensors[0][1:]) * prod(output[1:])


@dataclass(frozen=True)
class Embedding(Operation):
    """A row of the table for each token; tensors: table (vocabulary, features)."""

    name = "embedding"
    tensor_counts = (1,)

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(tokens, features)`."""
        want_rank(inputs[0], 1)
        want_rank(tensors[0], 2)
        return (inputs[0][0], tensors[0][1])


@dataclass(frozen=True)
class AddPositions(Operation):
    """Add a learned vector to every token; tensors: (tokens, features) or (1, tokens, features)."""

    name = "add_positions"
    tensor_counts = (1,)

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        want_rank(inputs[0], 2)
        want_shape(tensors[0][-2:], inputs[0], "table of positions")
        if len(tensors[0]) not in {2, 3} or prod(tensors[0]) != prod(inputs[0]):
            raise ModelError("table of positions does not fit", got=tensors[0], want=inputs[0])
        return inputs[0]
