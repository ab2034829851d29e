"""Between gradients by tensor name and the one vector that is shared (protocol.md section 2).

A task publishes one positive scale per message; dividing by them makes each component of an
honest vector have L2 norm at most 1. The default profile is norm-preserving, so the bound on what
is shared is a bound on the true gradient. Rounding to integers is `algebra.fixed_point`'s; here all
is float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnilytics.foundation.errors import MalformedError, ModelError, VerificationError
from omnilytics.perturbation.graph import Graph
from omnilytics.perturbation.profiles import GAUGE, Profile, messages

FloatArray = NDArray[np.floating[Any]]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Where each tensor lies in the vector, and by what it is divided.

    Attributes:
        names: Names of messages (tensors), component by component.
        shapes: Their shapes.
        scales: Their published scales, positive and finite.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.shapes) == len(self.scales) == len(set(self.names)):
            raise MalformedError("a layout needs one shape and one scale for every distinct name")
        for name, scale in zip(self.names, self.scales, strict=True):
            if not (isfinite(scale) and scale > 0):
                raise MalformedError("a scale is not a positive number", got=scale, tensor=name)

    @classmethod
    def of(cls, graph: Graph, scales: Mapping[str, float], profile: Profile = GAUGE) -> Layout:
        """Return the layout of what an owner sends, with the given scale for each message.

        Raises:
            ModelError: A message has no scale, or the graph cannot have the profile.
        """
        shapes = _shapes(graph, profile)
        for name in shapes:
            if name not in scales:
                raise ModelError("a tensor has no scale", tensor=name)
        return cls(
            names=tuple(shapes),
            shapes=tuple(shapes.values()),
            scales=tuple(float(scales[name]) for name in shapes),
        )

    @property
    def length(self) -> int:
        """D, the number of entries of the vector."""
        return sum(prod(shape) for shape in self.shapes)

    def matches(self, graph: Graph, profile: Profile = GAUGE) -> None:
        """Raise `VerificationError` unless this is a layout of exactly what owners send."""
        if list(_shapes(graph, profile).items()) != list(zip(self.names, self.shapes, strict=True)):
            raise VerificationError("the artefact's tensors are not those of the task")

    def flatten(self, gradients: Mapping[str, FloatArray]) -> Vector:
        """Return the scaled vector (D,); its norm is not limited here.

        Args:
            gradients: An array of its shape for every name, nothing else.

        Raises:
            ModelError: If a tensor is missing, unknown, of another shape, NaN or infinite.
        """
        for name in gradients.keys() ^ set(self.names):
            raise ModelError("gradients are not those of the layout", tensor=str(name)[:80])
        vector = np.empty(self.length, dtype=np.float64)
        start = 0
        for name, shape, scale in zip(self.names, self.shapes, self.scales, strict=True):
            gradient = np.asarray(gradients[name])
            if gradient.shape != shape:
                raise ModelError(
                    "a tensor has another shape", got=gradient.shape, want=shape, tensor=name
                )
            if not np.isfinite(gradient).all():
                raise ModelError("the gradient is NaN or infinite", tensor=name)
            part = vector[start : start + gradient.size]
            np.divide(gradient.reshape(-1), scale, out=part, dtype=np.float64)
            start += gradient.size
        return vector

    def unflatten(self, vector: Vector) -> dict[str, Vector]:
        """Return the gradients whose scaled vector is `vector` (D,), float64 by tensor name."""
        if vector.shape != (self.length,):
            raise ModelError("the vector has another length", got=vector.shape, want=self.length)
        gradients: dict[str, Vector] = {}
        start = 0
        for name, shape, scale in zip(self.names, self.shapes, self.scales, strict=True):
            end = start + prod(shape)
            gradients[name] = vector[start:end].reshape(shape) * scale
            start = end
        return gradients

    def mean_of_sum(
        self, total: NDArray[np.int64], *, fraction_bits: int, accepted: int
    ) -> dict[str, Vector]:
        """Return the mean gradient of a decoded sum.

        Args:
            total: Shape (D,), signed sums of fixed-point entries, |entry| <= accepted * 2^f
                (exact in float64 below 2^53).
            fraction_bits: f.
            accepted: Number of owners in the sum, at least 1.
        """
        if accepted < 1:
            raise ModelError("a sum over no owners has no mean", got=accepted)
        return self.unflatten(total.astype(np.float64) / (accepted * 2.0**fraction_bits))


def _shapes(graph: Graph, profile: Profile) -> dict[str, tuple[int, ...]]:
    return {
        name: shape for part in messages(graph, profile).values() for name, shape in part.items()
    }
