"""The secret of one round in any profile: what is published, and what a sum becomes.

With noise (perturbation.md section 3; Yang et al., arXiv 2002.09843): the last weight becomes
W' = W + rho 1^T on top of the gauge, rho_i = gamma_s(i) ra_i. With h the last layer's input,
alpha = sum_j h_j, d the perturbed network's output less the target, and upsilon = sum rho_i^2,
owners send ghat (the gradient), sigma_s (of (ra_s . d) 1 + alpha W'^T ra_s at h), beta (of alpha 1
at h), and means of alpha h, alpha, ... Then, in the gauge's coordinates, hidden tensors have
ghat - sum_s gamma_s sigma_s + upsilon beta, the last weight ghat - rho (alpha h)^T, the last bias
ghat - rho alpha. All are linear in what owners send: means over owners come back as exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.randomness import Randomness
from omnilytics.perturbation.artefact import Tensors
from omnilytics.perturbation.draws import Reals, uniform, uniform_signs
from omnilytics.perturbation.gauge import GaugeStructure
from omnilytics.perturbation.graph import Graph
from omnilytics.perturbation.profiles import Profile, ProfileName, last_layer
from omnilytics.perturbation.secret import GaugeSecret, restore_secret, sample_secret

FloatArray = NDArray[np.floating[Any]]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Recovered:
    """What a mean of messages becomes.

    Attributes:
        gradients: Of the true network's trained tensors, by name.
        differences: Of its running statistics and the owners', by name.
        loss: Mean loss of the true network over the owners' samples; None but with noise.
    """

    gradients: dict[str, FloatArray]
    differences: dict[str, FloatArray]
    loss: float | None


class RoundSecret:
    """One round's secret. Its repr shows nothing."""

    def __init__(self, graph: Graph, profile: Profile, gauge: GaugeSecret, gammas: Reals) -> None:
        self._graph = graph
        self._profile = profile
        self._gauge = gauge
        self._gammas = gammas

    def __repr__(self) -> str:
        return f"RoundSecret({self._profile.name})"

    @property
    def published_graph(self) -> Graph:
        """The graph as it is published, in the profile's type."""
        return replace(self._graph, dtype=self._profile.dtype)

    def record(self) -> dict[str, Any]:
        """Return what must be kept until the round is recovered; see `restore_round_secret`."""
        return {"gauge": self._gauge.record(), "gammas": self._gammas.astype("<f8").tobytes()}

    def perturb(self, weights: Mapping[str, FloatArray]) -> Tensors:
        """Return the tensors to publish, in the profile's type.

        Raises:
            ModelError: If names or shapes are not those of the graph.
        """
        dtype = self._profile.dtype.value
        found = self._gauge.perturb({name: each.astype(dtype) for name, each in weights.items()})
        if self._profile.name is ProfileName.NOISE:
            weight = last_layer(self._graph).weight
            found[weight] = found[weight] + self._rho()[:, None]
        return found

    def recover(self, means: Mapping[str, FloatArray]) -> Recovered:
        """Return the true network's gradient from the mean of what owners sent, by name.

        Raises:
            ModelError: If names or shapes are not those of the profile's messages.
        """
        loss = None
        gauged = {tensor.name: means[tensor.name] for tensor in self._graph.trained}
        if self._profile.name is ProfileName.NOISE:
            gauged, loss = self._without_noise(means)
        statistics = {tensor.name for tensor in self._graph.statistics}
        found = self._gauge.recover(gauged | {name: means[name] for name in statistics})
        return Recovered(
            gradients={name: each for name, each in found.items() if name not in statistics},
            differences={name: each for name, each in found.items() if name in statistics},
            loss=loss,
        )

    def _rho(self) -> Reals:
        factors = np.array(self._profile.noise_factors, dtype=np.float64)
        rho: Reals = self._gammas[noise_groups(self._profile)] * factors
        return rho

    def _without_noise(
        self, means: Mapping[str, FloatArray]
    ) -> tuple[dict[str, FloatArray], float]:
        last, rho = last_layer(self._graph), self._rho()
        upsilon = float(rho @ rho)
        found: dict[str, FloatArray] = {}
        for tensor in self._graph.trained:
            name = tensor.name
            if name == last.weight:
                found[name] = means[name] - np.outer(rho, means["sums/alpha_h"])
            elif name == last.bias:
                found[name] = means[name] - rho * means["sums/alpha"]
            else:
                noise = sum(
                    gamma * means[f"sigma{group}/{name}"]
                    for group, gamma in enumerate(self._gammas, start=1)
                )
                found[name] = means[name] - noise + upsilon * means[f"beta/{name}"]
        products = sum(
            gamma * float(means[f"sums/alpha_d{group}"][0])
            for group, gamma in enumerate(self._gammas, start=1)
        )
        squared = float(means["sums/alpha_squared"][0])
        return found, float(means["sums/loss"][0]) - products + 0.5 * upsilon * squared


def noise_groups(profile: Profile) -> NDArray[np.int64]:
    """Return s(i), the group from 0 of every output: as equal shares as can be, in order."""
    outputs = len(profile.noise_factors)
    return np.arange(outputs, dtype=np.int64) * profile.noise_groups // max(outputs, 1)


def sample_round_secret(
    graph: Graph, structure: GaugeStructure, profile: Profile, randomness: Randomness
) -> RoundSecret:
    """Return a fresh secret of a profile.

    Args:
        graph: The traced graph.
        structure: From `gauge.analyse`, of that graph.
        profile: What the task publishes.
        randomness: Cryptographic; a secret used for two rounds would let them be compared.
    """
    gauge = sample_secret(structure, randomness, magnitude_bits=profile.magnitude_bits)
    size = profile.noise_groups
    # Bounded away from 0, where there would be no noise.
    sizes = profile.noise_scale * (0.5 + uniform(size, randomness))
    return RoundSecret(graph, profile, gauge, sizes * uniform_signs(size, randomness))


def restore_round_secret(
    graph: Graph, structure: GaugeStructure, profile: Profile, record: Record
) -> RoundSecret:
    """Return the secret of a record; raises MalformedError unless it is one of these."""
    try:
        gauge = restore_secret(structure, record["gauge"])
        gammas = np.frombuffer(record["gammas"], dtype="<f8").astype(np.float64)
    except (KeyError, TypeError, ValueError):
        raise MalformedError("the round's secret is damaged") from None
    if gammas.shape != (profile.noise_groups,) or not np.isfinite(gammas).all():
        raise MalformedError("the round's secret is not of this task")
    return RoundSecret(graph, profile, gauge, gammas)
