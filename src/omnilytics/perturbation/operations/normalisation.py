"""Normalisations: over the batch, groups of channels, one token's or sample's channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation.operations.base import (
    Elementwise,
    Shape,
    channels_of,
    want_rank,
    want_shape,
)

MIN_EPSILON, MAX_EPSILON = 1e-12, 1.0


def _check_affine(channels: int, tensors: Sequence[Shape]) -> None:
    for tensor in tensors:
        want_shape(tensor, (channels,), "a tensor of the normalisation")


@dataclass(frozen=True)
class _Normalisation(Elementwise):
    epsilon: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not MIN_EPSILON <= self.epsilon <= MAX_EPSILON:
            raise ModelError(
                "attribute epsilon is out of range",
                got=self.epsilon,
                want=f"{MIN_EPSILON:g} to {MAX_EPSILON:g}",
            )

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        _check_affine(channels_of(inputs[0]), tensors)
        return inputs[0]


@dataclass(frozen=True)
class BatchNorm(_Normalisation):
    """By mean and variance of the batch at hand, as in training.

    Tensors: optionally weight and bias (channels,), then running mean and running variance
    (channels,), which take no part: a data owner sends how its batch differs from them.
    """

    name = "batch_norm"
    tensor_counts = (2, 4)
    statistics = 2

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        want_rank(inputs[0], 1, 3)
        return super().output_shape(inputs, tensors)


@dataclass(frozen=True)
class GroupNorm(_Normalisation):
    """Within groups of an image's channels; tensors: optionally weight and bias (channels,)."""

    name = "group_norm"
    tensor_counts = (0, 2)

    groups: int

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        want_rank(inputs[0], 1, 3)
        if channels_of(inputs[0]) % self.groups:
            raise ModelError(
                "groups do not divide the channels", got=self.groups, want=channels_of(inputs[0])
            )
        return super().output_shape(inputs, tensors)


@dataclass(frozen=True)
class LayerNorm(_Normalisation):
    """Over a vector's or each token's channels; tensors: optionally weight, and bias."""

    name = "layer_norm"
    tensor_counts = (0, 1, 2)

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        want_rank(inputs[0], 1, 2)
        return super().output_shape(inputs, tensors)


@dataclass(frozen=True)
class RmsNorm(_Normalisation):
    """By the root of the mean square over channels (arXiv 1910.07467); tensors: weight or none."""

    name = "rms_norm"
    tensor_counts = (0, 1)

    def output_shape(self, inputs: Sequence[Shape], tensors: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        want_rank(inputs[0], 1, 2)
        return super().output_shape(inputs, tensors)
