"""How many fractional bits a task needs: rounding against the noise that gradients have anyway.

Owners round every scaled entry to f fractional bits, up or down at random and without bias
(`algebra.fixed_point`), so rounding adds noise to the mean and nothing else. An entry whose scaled
value lies p of a step above a multiple has the variance p (1 - p) of a squared step; of n owners'
mean it is an n-th. The mean is noisy without that: owners draw their samples. The fewest bits whose
rounding adds at most `SHARE` of that noise are proposed; less buys nothing, and every bit costs
proofs and packages.

Both are measured on held-out samples at several moments of a simulated training, since gradients
shrink against their scales while a model learns; the worst moment counts. It is a forecast from a
small sample, as the scales are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod, sqrt

import numpy as np

from omnilytics.algebra.fixed_point import (
    MAX_FRACTIONAL_BITS,
    MIN_FRACTIONAL_BITS,
    check_parameters,
)
from omnilytics.foundation.errors import UsageError
from omnilytics.learning.calibration import MOST_OWNERS, check_sample
from omnilytics.learning.datasets import Batch, owner_batch
from omnilytics.learning.encoding import FloatArray, Vector
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.training import Trainer, mean_gradients
from omnilytics.perturbation.profiles import GAUGE, messages
from omnilytics.validity.statement import Statement

SHARE = 0.1
"""Of the sampling noise; independent noises add in squares, so the mean becomes 0.5% noisier."""
FINEST = 1e-4
"""Relative error that is small enough whatever the sampling noise."""
MOMENTS = 5
"""Moments of a training at which gradients are measured."""

Gradients = Mapping[str, FloatArray]
BITS = range(MIN_FRACTIONAL_BITS, MAX_FRACTIONAL_BITS + 1)


@dataclass(frozen=True)
class Precision:
    """What a number of fractional bits would mean.

    Attributes:
        fractional_bits: f.
        rounding_error: Of the mean over the expected owners, by its norm: root mean square, at the
            worst moment.
        of_noise: The same by the sampling noise of that mean; infinite without noise.
        refusal: Why a task cannot have that many; None if it can.
    """

    fractional_bits: int
    rounding_error: float
    of_noise: float
    refusal: str | None

    @property
    def enough(self) -> bool:
        """Whether rounding is lost in the sampling noise, or negligible by itself."""
        return self.of_noise <= SHARE or self.rounding_error <= FINEST


@dataclass(frozen=True)
class Forecast:
    """Every possible number of bits, and the sampling noise that rounding is measured against.

    Attributes:
        sampling_noise: Of the mean over the expected owners, by its norm: root mean square, median
            over the moments.
        precisions: For f of 4 to 24.
    """

    sampling_noise: float
    precisions: tuple[Precision, ...]

    def proposed(self) -> Precision:
        """Return the fewest bits that are enough and possible; else the most that are possible.

        Raises:
            UsageError: A task of this size can have no number of bits.
        """
        possible = [each for each in self.precisions if each.refusal is None]
        if not possible:
            raise UsageError(
                "no number of fractional bits fits the task", got=self.precisions[-1].refusal
            )
        return next((each for each in possible if each.enough), possible[-1])


def forecast_precision(
    trainer: Trainer,
    sample: Batch,
    scales: Mapping[str, float],
    *,
    owners: int,
    most_owners: int,
    batch_size: int,
    rounds: int,
    seed: int,
) -> Forecast:
    """Return what each number of fractional bits means for a task; the trainer is left untouched.

    Args:
        trainer: With the weights from which the task starts.
        sample: The model owner's own data; at least 4 samples. Half of it is trained on.
        scales: Published scale of every tensor that is shared.
        owners: Data owners expected in a round (at most 16 are simulated).
        most_owners: Most that a sum may be over.
        batch_size: Samples per owner and round.
        rounds: Rounds of the simulated training.
        seed: Public seed of the batches.

    Raises:
        ConfigError: If the sample is too small.
    """
    check_sample(sample)
    simulated = max(2, min(owners, MOST_OWNERS))
    moments = [
        _Moment.of(gradients, scales, owners)
        for gradients in _gradients(trainer, sample, simulated, batch_size, rounds, seed)
    ]
    parts = messages(trainer.graph, GAUGE).values()
    sizes = tuple(sum(map(prod, part.values())) for part in parts)
    return Forecast(
        sampling_noise=float(np.median([moment.noise for moment in moments])),
        precisions=tuple(_precision(bits, moments, sizes, most_owners) for bits in BITS),
    )


@dataclass(frozen=True)
class _Moment:
    """Owners' gradients at one moment, scaled, and the sizes that errors are measured by."""

    vectors: tuple[Vector, ...]
    steps: Vector
    """What one unit of a scaled entry stands for."""
    norm: float
    noise: float
    """Of the mean over the expected owners, relative to its norm."""
    owners: int

    @classmethod
    def of(
        cls, gradients: Sequence[Gradients], scales: Mapping[str, float], owners: int
    ) -> _Moment:
        flat = np.array([_flat(each) for each in gradients])
        steps = np.concatenate(
            [np.full(value.size, scales[name]) for name, value in gradients[0].items()]
        )
        mean = flat.mean(axis=0)
        norm = float(np.linalg.norm(mean))
        spread = float(((flat - mean) ** 2).sum()) / (len(flat) - 1)
        scaled = flat / steps
        shortened = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1.0)
        noise = sqrt(spread / owners) / norm if norm else 0.0
        return cls(tuple(shortened), steps, norm, noise, owners)

    def rounding_error(self, bits: int) -> float:
        """Return the root mean square error of the mean, relative to its norm."""
        if not self.norm:
            return 0.0
        variances = [self._variance(vector, bits) for vector in self.vectors]
        return sqrt(float(np.mean(variances)) / self.owners) / self.norm

    def _variance(self, vector: Vector, bits: int) -> float:
        above = vector * 2.0**bits
        above -= np.floor(above)
        return float((above * (1 - above) * (self.steps * 2.0**-bits) ** 2).sum())


def _trained(trainer: Trainer, sent: Gradients) -> Gradients:
    """Return what is a gradient of what owners send: without running statistics."""
    return {tensor.name: sent[tensor.name] for tensor in trainer.graph.trained}


def _flat(gradients: Gradients) -> Vector:
    return np.concatenate([value.reshape(-1).astype(np.float64) for value in gradients.values()])


def _precision(
    bits: int, moments: Sequence[_Moment], sizes: tuple[int, ...], most_owners: int
) -> Precision:
    errors = [moment.rounding_error(bits) for moment in moments]
    ratios = [
        error / moment.noise if moment.noise else inf
        for error, moment in zip(errors, moments, strict=True)
    ]
    try:
        Statement(sizes, bits)
        check_parameters(dimension=sum(sizes), fractional_bits=bits, max_owners=most_owners)
        refusal = None
    except UsageError as error:
        refusal = str(error)
    return Precision(bits, max(errors), max(ratios), refusal)


def _gradients(
    trainer: Trainer, sample: Batch, owners: int, batch_size: int, rounds: int, seed: int
) -> list[list[Gradients]]:
    """Return owners' gradients on held-out samples, up to the moment of the lowest loss on them."""
    copied, order = trainer.fresh_copy(), np.random.default_rng([seed, 3]).permutation(len(sample))
    seen, unseen = sample.take(order[::2]), sample.take(order[1::2])
    measured = {int(number) for number in np.linspace(1, rounds, min(MOMENTS, rounds)).round()}

    def drawn(data: Batch, number: int) -> list[Gradients]:
        artefact = copied.artefact()
        batches = (
            owner_batch(data, owner=owner, round_number=number, size=batch_size, seed=seed)
            for owner in range(owners)
        )
        return [compute_gradients(artefact, batch, copied.loss) for batch in batches]

    found: list[list[Gradients]] = []
    losses: list[float] = []
    for number in range(1, rounds + 1):
        if number in measured:
            found.append([_trained(copied, each) for each in drawn(unseen, number)])
            losses.append(copied.evaluate(unseen).loss)
        copied.step(mean_gradients(drawn(seen, number)))
    return found[: int(np.argmin(losses)) + 1]
