"""The secret of one round: a permutation and scales per group, applied and removed exactly.

Symbols of perturbation.md section 2: W' = (R o W)[perm_out][:, perm_in], R_ij = r_out_i / r_in_j;
a bias has R_i = r_out_i. Since W' is linear in W, the gradient of the original is
G = R o unperm(G'), for one owner's gradient and for a sum alike. In the `gauge` profile every r
is +1 or -1, so both directions are bit-exact and norms do not change. It hides the coordinates of
hidden units, not the function: see docs/perturbation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnilytics.foundation.errors import MalformedError, ModelError
from omnilytics.foundation.randomness import Randomness
from omnilytics.perturbation.artefact import Tensors
from omnilytics.perturbation.gauge import Axis, GaugeStructure, ScaleKind, TensorGauge

FloatArray = NDArray[np.floating[Any]]
Order = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class _AxisSecret:
    """What happens along one axis: scale by `scales` (original order), then take `order`."""

    order: Order
    scales: NDArray[np.float64]


class GaugeSecret:
    """One round's secret. Its repr shows nothing."""

    def __init__(
        self,
        structure: GaugeStructure,
        permutations: list[Order],
        scales: list[NDArray[np.float64]],
    ) -> None:
        self._tensors = {tensor.name: tensor for tensor in structure.tensors}
        self._permutations = permutations
        self._scales = scales

    def __repr__(self) -> str:
        return f"GaugeSecret({len(self._tensors)} tensors)"

    @property
    def parts(self) -> tuple[list[Order], list[NDArray[np.float64]]]:
        """Permutations and scales by group: what must be kept until the round is recovered."""
        return self._permutations, self._scales

    def perturb(self, weights: Tensors) -> Tensors:
        """Return the weights to publish: same names, shapes and dtypes, bit-exact entries.

        Raises:
            ModelError: If names or shapes are not those of the graph.
        """
        self._check(weights)
        return {name: self._perturb_one(name, tensor) for name, tensor in weights.items()}

    def recover(self, gradients: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return the true model's gradient from one (or a mean) of the perturbed model's.

        Args:
            gradients: By tensor name, any floating dtype, which is kept.

        Raises:
            ModelError: If names or shapes are not those of the graph.
        """
        self._check(gradients)
        return {name: self._recover_one(name, tensor) for name, tensor in gradients.items()}

    def _perturb_one(self, name: str, tensor: FloatArray) -> Any:
        ratio, orders = self._action(self._tensors[name], tensor.dtype)
        scaled = tensor * ratio
        for axis, order in enumerate(orders):
            scaled = scaled.take(order, axis=axis)
        return scaled

    def _recover_one(self, name: str, tensor: FloatArray) -> FloatArray:
        ratio, orders = self._action(self._tensors[name], tensor.dtype)
        for axis, order in enumerate(orders):
            tensor = tensor.take(np.argsort(order), axis=axis)
        return tensor * ratio

    def _action(self, tensor: TensorGauge, dtype: np.dtype[Any]) -> tuple[FloatArray, list[Order]]:
        """Return R, shaped to broadcast over the tensor, and the order of each permuted axis."""
        outputs = self._along(tensor.outputs)
        if tensor.inputs is None:
            return outputs.scales.astype(dtype), [outputs.order]
        inputs = self._along(tensor.inputs)
        ratio = (outputs.scales[:, None] / inputs.scales[None, :]).astype(dtype)
        trailing = (1,) * (len(tensor.shape) - 2)
        return ratio.reshape(*ratio.shape, *trailing), [outputs.order, inputs.order]

    def _along(self, axis: Axis) -> _AxisSecret:
        within = np.arange(axis.block, dtype=np.int64)
        channels = self._permutations[axis.permutation_group]
        order = (channels[:, None] * axis.block + within[None, :]).reshape(-1)
        return _AxisSecret(order, self._scales[axis.scale_group].repeat(axis.block))

    def _check(self, tensors: Mapping[str, FloatArray]) -> None:
        for name in tensors.keys() ^ self._tensors.keys():
            raise ModelError("tensors are not those of the graph", tensor=str(name)[:80])
        for name, tensor in tensors.items():
            if tensor.shape != self._tensors[name].shape:
                raise ModelError(
                    "a tensor has another shape",
                    got=tensor.shape,
                    want=self._tensors[name].shape,
                    tensor=name,
                )


def restore_secret(
    structure: GaugeStructure, permutations: Sequence[Order], scales: Sequence[NDArray[np.float64]]
) -> GaugeSecret:
    """Return the secret with these parts; raises MalformedError unless they are of `structure`."""
    groups = structure.permutation_groups, structure.scale_groups
    well_formed = (len(permutations), len(scales)) == tuple(map(len, groups)) and (
        all(
            np.array_equal(np.sort(order), np.arange(group.channels))
            for order, group in zip(permutations, groups[0], strict=True)
        )
        and all(
            part.shape == (group.channels,) and bool((np.abs(part) == 1).all())
            for part, group in zip(scales, groups[1], strict=True)
        )
    )
    if not well_formed:
        raise MalformedError("the round's secret is not of this model")
    return GaugeSecret(structure, list(permutations), list(scales))


def sample_secret(structure: GaugeStructure, randomness: Randomness) -> GaugeSecret:
    """Return a fresh secret of the `gauge` profile, uniform among all of them.

    Args:
        structure: From `gauge.analyse`.
        randomness: Cryptographic; a secret used for two rounds would let them be compared.
    """
    permutations = [
        np.arange(group.channels, dtype=np.int64)
        if group.pinned
        else uniform_permutation(group.channels, randomness)
        for group in structure.permutation_groups
    ]
    scales = [
        uniform_signs(group.channels, randomness)
        if group.kind is ScaleKind.FREE
        else np.ones(group.channels)
        for group in structure.scale_groups
    ]
    return GaugeSecret(structure, permutations, scales)


def uniform_permutation(size: int, randomness: Randomness) -> Order:
    """Return a uniform permutation of 0..size-1, shape (size,).

    Sorting distinct uniform keys favours no order; on a tie (below size^2 / 2^65) all keys are
    drawn again, so there is no bias.
    """
    while True:
        keys = np.frombuffer(randomness.bytes(8 * size), dtype="<u8")
        if len(np.unique(keys)) == size:
            return np.argsort(keys).astype(np.int64)


def uniform_signs(size: int, randomness: Randomness) -> NDArray[np.float64]:
    """Return `size` independent uniform signs, +1.0 or -1.0."""
    packed = np.frombuffer(randomness.bytes((size + 7) // 8), dtype=np.uint8)
    return 1.0 - 2.0 * np.unpackbits(packed, count=size).astype(np.float64)
