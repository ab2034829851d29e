"""Between gradients by tensor name and the one vector that is shared (protocol.md section 2).

A task publishes one positive scale per tensor; dividing by them makes honest vectors have L2 norm
at most 1. The default profile is norm-preserving, so this bound on what is shared is a bound on the
true gradient. Rounding to integers is `algebra.fixed_point`'s; here all is float64.
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

FloatArray = NDArray[np.floating[Any]]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Where each tensor lies in the vector, and by what it is divided.

    Attributes:
        names: Tensor names, in the graph's order.
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
    def of(cls, graph: Graph, scales: Mapping[str, float]) -> Layout:
        """Return the layout of `graph` with the given scale for each of its tensors."""
        for tensor in graph.tensors:
            if tensor.name not in scales:
                raise ModelError("a tensor has no scale", tensor=tensor.name)
        return cls(
            names=tuple(tensor.name for tensor in graph.tensors),
            shapes=tuple(tensor.shape for tensor in graph.tensors),
            scales=tuple(float(scales[tensor.name]) for tensor in graph.tensors),
        )

    @property
    def length(self) -> int:
        """D, the number of entries of the vector."""
        return sum(prod(shape) for shape in self.shapes)

    @property
    def component_lengths(self) -> tuple[int, ...]:
        """Lengths of the components: the gradient alone, in the norm-preserving profile."""
        return (self.length,)

    def matches(self, graph: Graph) -> None:
        """Raise `VerificationError` unless this is a layout of exactly `graph`'s tensors."""
        tensors = tuple((tensor.name, tensor.shape) for tensor in graph.tensors)
        if tensors != tuple(zip(self.names, self.shapes, strict=True)):
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
        parts = []
        for name, shape, scale in zip(self.names, self.shapes, self.scales, strict=True):
            gradient = np.asarray(gradients[name], dtype=np.float64)
            if gradient.shape != shape:
                raise ModelError(
                    "a tensor has another shape", got=gradient.shape, want=shape, tensor=name
                )
            if not np.isfinite(gradient).all():
                raise ModelError("the gradient is NaN or infinite", tensor=name)
            parts.append(gradient.reshape(-1) / scale)
        return np.concatenate(parts)

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

    def as_dict(self) -> dict[str, object]:
        """Return plain values for a task specification."""
        return {
            "names": list(self.names),
            "shapes": [list(shape) for shape in self.shapes],
            "scales": list(self.scales),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, object]) -> Layout:
        """Return the layout with these values; `MalformedError` if they are not a layout."""
        if fields.keys() != {"names", "shapes", "scales"}:
            raise MalformedError("a layout has other fields", got=sorted(map(str, fields))[:8])
        names, shapes, scales = (_read_list(fields, key) for key in ("names", "shapes", "scales"))
        well_typed = (
            all(isinstance(name, str) for name in names)
            and all(isinstance(shape, (list, tuple)) for shape in shapes)
            and all(type(size) is int and size > 0 for shape in shapes for size in shape)
            and all(type(scale) is float for scale in scales)
        )
        if not well_typed:
            raise MalformedError("a layout's names, shapes or scales have the wrong types")
        return cls(tuple(names), tuple(tuple(shape) for shape in shapes), tuple(scales))


def _read_list(fields: Mapping[str, object], key: str) -> list[Any]:
    value = fields[key]
    if not isinstance(value, (list, tuple)):
        raise MalformedError(f"a layout's {key} are not a list")
    return list(value)


def clip_to_unit(vector: Vector) -> tuple[Vector, float]:
    """Return the vector scaled down to norm 1 if it is longer, and its norm before.

    One factor for the whole vector keeps its direction. A clipped vector still counts, slightly
    shortened; a task's predicted rate is in `calibration`.
    """
    norm = float(np.linalg.norm(vector))
    return (vector / norm if norm > 1 else vector), norm
