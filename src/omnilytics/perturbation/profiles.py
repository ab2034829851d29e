"""The profiles of a task: what its secrets are, and which messages a data owner sends for them.

A task publishes its profile. `gauge` (the default) preserves norms; `scales` adds magnitudes that
are powers of two; `noise` adds noise to the last layer, for which owners send additional sums
(perturbation.md sections 2 and 3). A message is an array with a name; messages are grouped in
components, each with a norm bound of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation.graph import Dtype, Graph, TensorSpec
from omnilytics.perturbation.operations import Linear, Shape
from omnilytics.perturbation.secret import MAX_MAGNITUDE_BITS

MAX_NOISE_GROUPS = 4
"""With them a submission has at most 8 components."""


class ProfileName(StrEnum):
    """Name of a profile in a task specification."""

    GAUGE = "gauge"
    SCALES = "scales"
    NOISE = "noise"


@dataclass(frozen=True)
class Profile:
    """A profile and its public values.

    Attributes:
        name: Which one.
        magnitude_bits: Scales are 2^u, u in -magnitude_bits .. magnitude_bits; 0 but for `scales`.
        noise_groups: m, into how many groups the outputs are shared out; 0 but for `noise`.
        noise_factors: ra, one public factor for each output; none but for `noise`.
        noise_scale: How large the secret factors gamma are; 0 but for `noise`.

    Raises:
        ModelError: Values that the profile does not have.
    """

    name: ProfileName = ProfileName.GAUGE
    magnitude_bits: int = 0
    noise_groups: int = 0
    noise_factors: tuple[float, ...] = ()
    noise_scale: float = 0.0

    def __post_init__(self) -> None:
        scaled, noisy = self.name is ProfileName.SCALES, self.name is ProfileName.NOISE
        if scaled != (1 <= self.magnitude_bits <= MAX_MAGNITUDE_BITS) or (
            not scaled and self.magnitude_bits
        ):
            raise ModelError(
                "magnitudes are for the profile scales",
                got=self.magnitude_bits,
                want=f"1 to {MAX_MAGNITUDE_BITS} with scales, else 0",
            )
        fits = 1 <= self.noise_groups <= min(MAX_NOISE_GROUPS, len(self.noise_factors))
        if noisy and not (fits and self.noise_scale > 0):
            raise ModelError(
                "noise needs groups, a factor for each output, and a scale",
                got=(self.noise_groups, len(self.noise_factors), self.noise_scale),
                want=f"1 to {MAX_NOISE_GROUPS} groups, no more than outputs",
            )
        if not noisy and (self.noise_groups or self.noise_factors or self.noise_scale):
            raise ModelError("noise is for the profile noise")

    @property
    def dtype(self) -> Dtype:
        """The type that artefacts are computed in."""
        return Dtype.FLOAT64 if self.name is ProfileName.NOISE else Dtype.FLOAT32


GAUGE = Profile()


@dataclass(frozen=True)
class LastLayer:
    """The last layer of a graph with noise: its tensors, and where its input comes from."""

    weight: str
    bias: str | None
    inputs: str
    features: int


def last_layer(graph: Graph) -> LastLayer:
    """Return what the profile `noise` hides; `ModelError` if the graph has no such layer."""
    node = graph.nodes[-1]
    trained = {tensor.name for tensor in graph.trained}
    is_last = isinstance(node.operation, Linear) and set(node.tensors) <= trained
    if not is_last or len(graph.output_shape) != 1:
        raise ModelError(
            "noise needs a linear layer of one vector at the end",
            hint="profile gauge takes any network",
            node=node.name,
            operation=node.operation.name,
        )
    if not trained - set(node.tensors):
        raise ModelError("noise hides what stands before the last layer, and there is nothing")
    weight, bias = (*node.tensors, None)[:2]
    return LastLayer(str(weight), bias, node.inputs[0], graph.shapes[node.inputs[0]][0])


def messages(graph: Graph, profile: Profile) -> Mapping[str, Mapping[str, Shape]]:
    """Return what an owner sends: components in order, each with its messages' names and shapes.

    Raises:
        ModelError: The graph cannot have the profile.
    """
    found = {"gradient": _shapes(graph.trained)}
    if profile.name is ProfileName.NOISE:
        if len(profile.noise_factors) != graph.output_shape[0]:
            raise ModelError(
                "noise needs a factor for each output",
                got=len(profile.noise_factors),
                want=graph.output_shape[0],
            )
        last = last_layer(graph)
        hidden = [each for each in graph.trained if each.name not in {last.weight, last.bias}]
        groups = range(1, profile.noise_groups + 1)
        for name in (*(f"sigma{group}" for group in groups), "beta"):
            found[name] = _shapes(hidden, f"{name}/")
        found["sums"] = {"sums/alpha_h": (last.features,), "sums/alpha": (1,)}
        found["sums"] |= {"sums/alpha_squared": (1,), "sums/loss": (1,)}
        found["sums"] |= {f"sums/alpha_d{group}": (1,) for group in groups}
    if graph.statistics:
        found["statistics"] = _shapes(graph.statistics)
    return found


def _shapes(tensors: Sequence[TensorSpec], prefix: str = "") -> dict[str, Shape]:
    return {prefix + tensor.name: tensor.shape for tensor in tensors}
