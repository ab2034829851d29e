"""The secret of one round: orders, scales and rotations of groups, applied and removed exactly.

Symbols of perturbation.md section 2: W' = (R o W)[perm_out][:, perm_in], R_ij = r_out_i / r_in_j;
a bias has R_i = r_out_i; where a group is rotated, W' = Q_out W Q_in^T. Since W' is linear in W,
the gradient of the original is G = R o unperm(G'), or Q_out^T G' Q_in, for one owner's gradient and
for a sum alike. Permutations, signs and powers of two are bit-exact both ways; rotations are
rounded to the artefact's type. Norms change by no more than rounding unless magnitudes
are asked for. It hides the coordinates of hidden units, not the function: see docs/perturbation.md.
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
from omnilytics.perturbation.draws import (
    Order,
    Reals,
    orthogonal_by_frequency,
    orthogonal_keeping_ones,
    uniform_orthogonal,
    uniform_permutation,
    uniform_powers,
    uniform_signs,
)
from omnilytics.perturbation.gauge import (
    AxisGauge,
    GaugeStructure,
    OrderGroup,
    Placed,
    RotationGroup,
    ScaleGroup,
    TensorGauge,
)

FloatArray = NDArray[np.floating[Any]]
Record = dict[str, list[bytes]]

MAX_MAGNITUDE_BITS = 8
_ORTHOGONAL_TOLERANCE = 1e-9


@dataclass(frozen=True, repr=False)
class _AxisSecret:
    """What happens along one axis: take `order`, then turn each slice by its matrix."""

    order: Order
    turns: tuple[tuple[slice, Reals], ...]


class GaugeSecret:
    """One round's secret. Its repr shows nothing."""

    def __init__(
        self,
        structure: GaugeStructure,
        orders: Sequence[Order],
        scales: Sequence[Reals],
        rotations: Sequence[Reals],
    ) -> None:
        self._tensors = {tensor.name: tensor for tensor in structure.tensors}
        self._orders = orders
        self._scales = scales
        self._rotations = rotations

    def __repr__(self) -> str:
        return f"GaugeSecret({len(self._tensors)} tensors)"

    def record(self) -> Record:
        """Return what must be kept until the round is recovered; see `restore_secret`."""
        return {
            "orders": [part.astype("<i8").tobytes() for part in self._orders],
            "scales": [part.astype("<f8").tobytes() for part in self._scales],
            "rotations": [part.astype("<f8").tobytes() for part in self._rotations],
        }

    def perturb(self, weights: Mapping[str, FloatArray]) -> Tensors:
        """Return the weights to publish: same names, shapes and types; frozen ones as they are.

        Raises:
            ModelError: If names or shapes are not those of the graph.
        """
        self._check({name: weights[name] for name in weights if name in self._tensors})
        return {
            name: self._perturb_one(self._tensors[name], tensor)
            if name in self._tensors
            else np.asarray(tensor)
            for name, tensor in weights.items()
        }

    def recover(self, gradients: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return the true model's gradient from one (or a mean) of the perturbed model's.

        Args:
            gradients: By tensor name, of trained tensors and, as differences, of statistics; any
                floating type, which is kept.

        Raises:
            ModelError: If names or shapes are not those of the graph.
        """
        self._check(gradients)
        return {
            name: self._recover_one(self._tensors[name], tensor)
            for name, tensor in gradients.items()
        }

    def _perturb_one(self, tensor: TensorGauge, value: FloatArray) -> FloatArray:
        found: FloatArray = value * self._ratio(tensor, value.dtype)
        for axis in tensor.axes:
            along = self._along(axis)
            found = found.take(along.order, axis=axis.axis)
            for where, matrix in along.turns:
                found = _turn(found, axis.axis, where, matrix)
        return found

    def _recover_one(self, tensor: TensorGauge, value: FloatArray) -> FloatArray:
        for axis in tensor.axes:
            along = self._along(axis)
            for where, matrix in along.turns:
                value = _turn(value, axis.axis, where, matrix.T)
            value = value.take(np.argsort(along.order), axis=axis.axis)
        return value * self._ratio(tensor, value.dtype)

    def _ratio(self, tensor: TensorGauge, dtype: np.dtype[Any]) -> FloatArray:
        """Return R, shaped to broadcast over the tensor."""
        ratio = np.ones((1,) * len(tensor.shape))
        for axis in tensor.axes:
            shape = [1] * len(tensor.shape)
            shape[axis.axis] = tensor.shape[axis.axis]
            for segments, power in axis.scales:
                scales = self._scales_along(segments).reshape(shape)
                ratio = ratio * scales if power > 0 else ratio / scales
        found: FloatArray = ratio.astype(dtype)
        return found

    def _scales_along(self, segments: tuple[Placed, ...]) -> Reals:
        return np.concatenate([self._scales[each.scale].repeat(each.block) for each in segments])

    def _along(self, axis: AxisGauge) -> _AxisSecret:
        orders: list[Order] = []
        turns: list[tuple[slice, Reals]] = []
        start = 0
        for each in axis.segments:
            size = each.channels * each.block
            if each.rotation is None:
                within = np.arange(each.block, dtype=np.int64)
                channels = self._orders[each.order]
                order = (channels[:, None] * each.block + within[None, :]).reshape(-1)
            else:
                order = np.arange(size, dtype=np.int64)
                turns.append((slice(start, start + size), self._rotations[each.rotation]))
            orders.append(order + start)
            start += size
        return _AxisSecret(np.concatenate(orders), tuple(turns))

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


def _turn(value: FloatArray, axis: int, where: slice, matrix: Reals) -> FloatArray:
    """Return `value` with the channels of one slice along an axis mixed by a matrix."""
    moved = np.moveaxis(value, axis, 0).astype(np.float64)
    part = moved[where]
    blocks = part.reshape(len(matrix), -1)  # each channel with all that stands behind it
    moved[where] = (matrix @ blocks).reshape(part.shape)
    turned: FloatArray = np.moveaxis(moved, 0, axis).astype(value.dtype)
    return turned


def restore_secret(structure: GaugeStructure, record: Mapping[str, Sequence[bytes]]) -> GaugeSecret:
    """Return the secret of a record; raises MalformedError unless it is one of `structure`."""
    try:
        orders = [np.frombuffer(part, dtype="<i8").astype(np.int64) for part in record["orders"]]
        scales = [np.frombuffer(part, dtype="<f8").astype(np.float64) for part in record["scales"]]
        flat = [np.frombuffer(part, dtype="<f8").astype(np.float64) for part in record["rotations"]]
        rotations = [
            part.reshape(group.channels, group.channels)
            for part, group in zip(flat, structure.rotation_groups, strict=True)
        ]
        well_formed = (
            all(
                _is_order(part, group)
                for part, group in zip(orders, structure.order_groups, strict=True)
            )
            and all(
                _are_scales(part, group)
                for part, group in zip(scales, structure.scale_groups, strict=True)
            )
            and all(
                _is_rotation(part, group)
                for part, group in zip(rotations, structure.rotation_groups, strict=True)
            )
        )
    except (KeyError, TypeError, ValueError):
        well_formed = False
    if not well_formed:
        raise MalformedError("the round's secret is not of this model")
    return GaugeSecret(structure, orders, scales, rotations)


def _is_order(order: Order, group: OrderGroup) -> bool:
    found = order if group.pinned else np.sort(order)
    return np.array_equal(found, np.arange(group.channels))


def _is_rotation(matrix: Reals, group: RotationGroup) -> bool:
    half = group.channels // 2
    errors = [matrix @ matrix.T - np.eye(group.channels)]
    if group.keeps_ones:
        errors.append(matrix.sum(axis=1) - 1)
    if group.by_frequency:
        frequency = np.arange(group.channels) % half
        errors.append(matrix[frequency[:, None] != frequency])
        errors.append(matrix[:half, :half] - matrix[half:, half:])
    return all(bool((np.abs(error) < _ORTHOGONAL_TOLERANCE).all()) for error in errors)


def _are_scales(scales: Reals, group: ScaleGroup) -> bool:
    mantissas, _ = np.frexp(np.abs(scales))
    return bool(
        scales.shape == (group.channels,)
        and (mantissas == 0.5).all()
        and (group.signed or (scales > 0).all())
        and (group.stretched or (np.abs(scales) == 1).all())
        and (np.abs(np.log2(np.abs(scales))) <= MAX_MAGNITUDE_BITS).all()
    )


def sample_secret(
    structure: GaugeStructure, randomness: Randomness, *, magnitude_bits: int = 0
) -> GaugeSecret:
    """Return a fresh secret, uniform among all of its profile.

    Args:
        structure: From `gauge.analyse`.
        randomness: Cryptographic; a secret used for two rounds would let them be compared.
        magnitude_bits: Scales are 2^u, u uniform in -magnitude_bits .. magnitude_bits, where a
            group allows it; 0 (signs alone) preserves norms; at most `MAX_MAGNITUDE_BITS`.
    """
    orders = [
        np.arange(group.channels, dtype=np.int64)
        if group.pinned
        else uniform_permutation(group.channels, randomness)
        for group in structure.order_groups
    ]
    scales = []
    for group in structure.scale_groups:
        found = np.ones(group.channels)
        if group.signed:
            found = found * uniform_signs(group.channels, randomness)
        if group.stretched and magnitude_bits:
            found = found * uniform_powers(group.channels, magnitude_bits, randomness)
        scales.append(found)
    rotations = [_sample_rotation(group, randomness) for group in structure.rotation_groups]
    return GaugeSecret(structure, orders, scales, rotations)


def _sample_rotation(group: RotationGroup, randomness: Randomness) -> Reals:
    if group.by_frequency:
        return orthogonal_by_frequency(group.channels, randomness)
    if group.keeps_ones:
        return orthogonal_keeping_ones(group.channels, randomness)
    return uniform_orthogonal(group.channels, randomness)
