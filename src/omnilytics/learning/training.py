"""The model owner's side of learning: weights out, mean gradient in, optimiser step, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from omnilytics.foundation.errors import ConfigError
from omnilytics.learning.carried import CarriedModel, fill_statistics
from omnilytics.learning.datasets import Batch, MarketData, owner_batch
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.labels import fitting_labels
from omnilytics.perturbation.graph import InputKind
from omnilytics.perturbation.losses import Loss, loss_value

FloatArray = NDArray[np.floating[Any]]

_OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class OptimiserSettings:
    """Which optimiser the model owner uses: "adam" or "sgd", and its learning rate."""

    name: str = "adam"
    learning_rate: float = 1e-2


@dataclass(frozen=True)
class Evaluation:
    """Share of correct predictions (0 to 1; NaN where targets are numbers) and mean loss."""

    accuracy: float
    loss: float


class Trainer(CarriedModel):
    """A module, its graph and its optimiser.

    Args:
        module: The user's network; it is trained in place.
        input_shape: Shape of one sample.
        loss: The task's loss.
        optimiser: Name and learning rate.
        input_kind: Whether samples are numbers or tokens.

    Raises:
        ModelError: If the module cannot be carried by the market (see `tracing`).
        ConfigError: If the optimiser is unknown.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        input_shape: tuple[int, ...],
        loss: Loss,
        optimiser: OptimiserSettings,
        input_kind: InputKind = InputKind.NUMBERS,
    ) -> None:
        super().__init__(module, input_shape=input_shape, input_kind=input_kind)
        self.loss = loss
        self.settings = optimiser
        self._optimiser = make_optimiser(module, optimiser)

    def fresh_copy(self) -> Self:
        """Return a trainer of a copy of the module as it is now, with a fresh optimiser."""
        twin = super().fresh_copy()
        twin._optimiser = make_optimiser(twin.module, self.settings)
        return twin

    def step(self, means: Mapping[str, FloatArray]) -> None:
        """Take one optimiser step, and one of running statistics.

        Args:
            means: Of the true model, by the graph's tensors: gradients of trained ones, and
                differences of statistics.
        """
        statistics = {tensor.name for tensor in self.graph.statistics}
        after = self.statistics_after({name: means[name] for name in statistics & means.keys()})
        self.fill_gradients({name: means[name] for name in means if name not in statistics})
        self._optimiser.step()
        fill_statistics(self.module, after)

    def evaluate(self, batch: Batch) -> Evaluation:
        """Return accuracy and loss on `batch`, as in use: running statistics, no dropout."""
        labels = torch.from_numpy(fitting_labels(self.graph, batch, self.loss))
        modes = [(part, part.training) for part in self.module.modules()]
        self.module.eval()
        with torch.no_grad():
            outputs = self.module(torch.from_numpy(batch.inputs))
            value = float(loss_value(self.loss, outputs, labels))
        for part, training in modes:
            part.training = training
        return Evaluation(accuracy=_accuracy(outputs, labels, self.loss), loss=value)


def _accuracy(outputs: torch.Tensor, labels: torch.Tensor, loss: Loss) -> float:
    if labels.dtype == torch.int64:
        return float((outputs.argmax(dim=-1) == labels).float().mean())
    if loss is Loss.BINARY_CROSS_ENTROPY:
        return float(((outputs > 0) == (labels > 0.5)).float().mean())
    return nan


def make_optimiser(module: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Return a fresh optimiser over the module's parameters."""
    if settings.name not in _OPTIMISERS:
        raise ConfigError("unknown optimiser", got=settings.name, want=" or ".join(_OPTIMISERS))
    return _OPTIMISERS[settings.name](module.parameters(), lr=settings.learning_rate)


def mean_gradients(gradients: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
    """Return the mean over owners, float64 by tensor name."""
    return {
        name: np.mean([gradient[name].astype(np.float64) for gradient in gradients], axis=0)
        for name in gradients[0]
    }


def train_plain(
    trainer: Trainer,
    data: MarketData,
    *,
    rounds: int,
    batch_size: int,
    seed: int,
    owners: Sequence[int] | None = None,
) -> list[Evaluation]:
    """Train on the owners' shards in the clear: what a market run is compared with.

    Every round uses the batches that a market run with this seed uses, and the float mean of the
    owners' gradients, neither perturbed nor clipped nor rounded.

    Args:
        trainer: The model, trained in place.
        data: The split data set.
        rounds: Rounds to train.
        batch_size: Samples per owner and round.
        seed: Public seed of the batches.
        owners: Indices of the owners that take part; all by default.

    Returns:
        The evaluation on the test set after each round, numbered from 1.
    """
    evaluations = []
    for number in range(1, rounds + 1):
        artefact = trainer.artefact()
        gradients = []
        for owner in range(len(data.shards)) if owners is None else owners:
            shard = data.shards[owner]
            batch = owner_batch(shard, owner=owner, round_number=number, size=batch_size, seed=seed)
            gradients.append(compute_gradients(artefact, batch, trainer.loss))
        trainer.step(mean_gradients(gradients))
        evaluations.append(trainer.evaluate(data.test))
    return evaluations
