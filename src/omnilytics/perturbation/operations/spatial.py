"""Pooling of images, and operations that only move entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation.operations.base import (
    Operation,
    Pair,
    Shape,
    channel_axis,
    channels_of,
    want_rank,
)
from omnilytics.perturbation.operations.layers import slid


@dataclass(frozen=True)
class _Pool2d(Operation):
    """What max and average pooling share: windows, floor mode, padding at most half a window."""

    kernel: Pair
    stride: Pair
    padding: Pair

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(channels, height, width)`."""
        want_rank(inputs[0], 3)
        if any(2 * pad > size for pad, size in zip(self.padding, self.kernel, strict=True)):
            raise ModelError(
                "padding is more than half of the kernel", got=self.padding, want=self.kernel
            )
        channels, height, width = inputs[0]
        dilation_h, dilation_w = self._dilation()
        return (
            channels,
            slid(height, self.kernel[0], self.stride[0], self.padding[0], dilation_h),
            slid(width, self.kernel[1], self.stride[1], self.padding[1], dilation_w),
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
        want_rank(inputs[0], 3)
        return (inputs[0][0], *self.output_size)


@dataclass(frozen=True)
class Flatten(Operation):
    """All entries of a sample in one vector: channel by channel, or token by token."""

    name = "flatten"

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(features,)`."""
        return (prod(inputs[0]),)


@dataclass(frozen=True)
class Concatenate(Operation):
    """Values one after another along their channels."""

    name = "concatenate"
    input_counts = (2, 64)

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the inputs' shape with the sum of their channels."""
        axis = channel_axis(inputs[0])
        rest = [shape[:axis] + shape[axis + 1 :] for shape in inputs]
        if len({len(shape) for shape in inputs}) > 1 or len(set(rest)) > 1:
            raise ModelError(
                "values differ in more than their channels", got=inputs[-1], want=inputs[0]
            )
        total = sum(shape[axis] for shape in inputs)
        return (*inputs[0][:axis], total, *inputs[0][axis + 1 :])


@dataclass(frozen=True)
class SliceChannels(Operation):
    """Channels `start .. stop - 1`."""

    name = "slice_channels"

    start: int
    stop: int

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the input's shape with `stop - start` channels."""
        axis = channel_axis(inputs[0])
        if not self.start < self.stop <= channels_of(inputs[0]):
            raise ModelError(
                "slice is not within the channels",
                got=f"{self.start} to {self.stop}",
                want=f"within 0 to {channels_of(inputs[0])}",
            )
        return (*inputs[0][:axis], self.stop - self.start, *inputs[0][axis + 1 :])


@dataclass(frozen=True)
class SlicePixels(Operation):
    """Every `step`-th row and column from `start` (row, column) to before `stop`."""

    name = "slice_pixels"

    start: Pair
    stop: Pair
    step: Pair

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(channels, height, width)`."""
        want_rank(inputs[0], 3)
        sizes = []
        for size, start, stop, step in zip(
            inputs[0][1:], self.start, self.stop, self.step, strict=True
        ):
            if not start < stop <= size:
                raise ModelError(
                    "slice is not within the image", got=f"{start} to {stop}", want=f"<= {size}"
                )
            sizes.append(len(range(start, stop, step)))
        return (inputs[0][0], *sizes)


@dataclass(frozen=True)
class Pad2d(Operation):
    """Zeros around an image, and zero channels: so many before and after."""

    name = "pad2d"

    channels: Pair
    height: Pair
    width: Pair

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(channels, height, width)`."""
        want_rank(inputs[0], 3)
        pads = (self.channels, self.height, self.width)
        return tuple(size + sum(pad) for size, pad in zip(inputs[0], pads, strict=True))


@dataclass(frozen=True)
class PixelsToTokens(Operation):
    """An image's pixels as tokens, row by row, with its channels as their features."""

    name = "pixels_to_tokens"

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(height * width, channels)`."""
        want_rank(inputs[0], 3)
        return (prod(inputs[0][1:]), inputs[0][0])


@dataclass(frozen=True)
class MeanTokens(Operation):
    """Mean over the tokens of a sequence."""

    name = "mean_tokens"

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(features,)`."""
        want_rank(inputs[0], 2)
        return inputs[0][1:]


@dataclass(frozen=True)
class SelectToken(Operation):
    """One token of a sequence."""

    name = "select_token"

    index: int

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return `(features,)`."""
        want_rank(inputs[0], 2)
        if self.index >= inputs[0][0]:
            raise ModelError("no such token", got=self.index, want=f"below {inputs[0][0]}")
        return inputs[0][1:]
