"""Training one network through protected rounds, some of whose owners are malicious."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from experiment_attacks import (
    Attack,
    ForgingBuilder,
    Mode,
    encode,
    poisoned_batch,
    poisoned_vector,
)
from experiment_round import ProtectedRound, task_parameters
from experiment_settings import OWNERS, Run, Training, enlarged

from omnilytics.foundation.errors import ModelError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Address
from omnilytics.learning.calibration import calibrate
from omnilytics.learning.datasets import MarketData, load_market_data, owner_batch
from omnilytics.learning.encoding import Layout
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.models import build_model, layout_for
from omnilytics.learning.training import OptimiserSettings, Trainer
from omnilytics.perturbation.artefact import Artefact
from omnilytics.perturbation.gauge import analyse
from omnilytics.perturbation.losses import Loss
from omnilytics.perturbation.profiles import GAUGE
from omnilytics.perturbation.round_secret import sample_round_secret
from omnilytics.protocol.package_builder import PackageBuilder
from omnilytics.wire.signatures import SigningKey


@dataclass(frozen=True)
class Subject:
    """What all runs of one network and seed start from.

    Attributes:
        data: Split among `OWNERS` owners.
        trainer: With the initial weights; runs take copies.
        layout: With scales calibrated on the model owner's sample.
    """

    data: MarketData
    trainer: Trainer
    layout: Layout


@dataclass
class Outcome:
    """What a run gave.

    Attributes:
        accuracies: On the test set after each round, 0 to 1.
        accepted: Counts over all rounds: honest and malicious submissions accepted and rejected.
        reasons: Why submissions were rejected, with counts.
        seconds: Processor time of the run.
    """

    accuracies: list[float] = field(default_factory=list)
    accepted: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def row(self, run: Run, dimension: int) -> dict[str, Any]:
        """Return the run as JSON values."""
        return {
            "dataset": run.dataset,
            "model": run.model,
            "dimension": dimension,
            "attack": run.attack.value,
            "percentage": run.percentage,
            "mode": run.mode.value,
            "seed": run.seed,
            "rounds": run.rounds,
            "accuracies": [round(accuracy, 4) for accuracy in self.accuracies],
            "verdicts": dict(self.accepted),
            "reasons": dict(self.reasons),
            "seconds": round(self.seconds, 1),
        }


@lru_cache(maxsize=4)
def subject(
    dataset: str, model: str, training: Training, seed: int, folder: Path | None = None
) -> Subject:
    """Return data, network and scales of a training, the same for the same arguments."""
    data = load_market_data(
        dataset, owners=OWNERS, seed=seed, layout=layout_for(model), folder=folder
    )
    data = enlarged(data, training.enlarge)
    module = build_model(model, input_shape=data.input_shape, outputs=data.classes, seed=seed)
    trainer = Trainer(
        module,
        input_shape=data.input_shape,
        loss=Loss.CROSS_ENTROPY,
        optimiser=OptimiserSettings("adam", training.learning_rate),
    )
    calibration = calibrate(
        trainer,
        data.sample,
        owners=OWNERS,
        batch_size=training.batch_size,
        rounds=training.rounds,
        seed=seed,
    )
    return Subject(data, trainer, Layout.of(trainer.graph, calibration.scales))


def train(run: Run, folder: Path | None = None) -> dict[str, Any]:
    """Train a network as a run says and return its row.

    Args:
        run: What to run.
        folder: Where the files of MNIST or CIFAR-10 are.
    """
    start = time.process_time()
    state = _Training(run, subject(run.dataset, run.model, run.training, run.seed, folder))
    for number in range(1, run.rounds + 1):
        state.round(number)
    state.outcome.seconds = time.process_time() - start
    return state.outcome.row(run, state.layout.length)


class _Training:
    def __init__(self, run: Run, start: Subject) -> None:
        self.run = run
        self.data, self.layout = start.data, start.layout
        self.trainer = start.trainer.fresh_copy()
        self.outcome = Outcome()
        self._structure = analyse(self.trainer.graph)
        self._parameters = task_parameters([self.layout.length], OWNERS)
        self._keys = [SigningKey.generate(SystemRandomness()) for _ in range(OWNERS)]
        self._noise = np.random.default_rng([run.seed, 7])

    def round(self, number: int) -> None:
        """Publish a perturbed model, take, judge and sum submissions, step, evaluate."""
        secret = sample_round_secret(self.trainer.graph, self._structure, GAUGE, SystemRandomness())
        artefact = self.trainer.artefact(secret)
        protected = ProtectedRound.open(self._parameters, number)
        for owner in range(OWNERS):
            self._contribute(protected, owner, number, artefact)
        accepted = self._accepted(protected)
        if len(accepted) >= self._parameters.min_owners:
            mean = self.layout.mean_of_sum(
                protected.recover(accepted),
                fraction_bits=self._parameters.statement.fractional_bits,
                accepted=len(accepted),
            )
            recovered = secret.recover(mean)
            self.trainer.step(recovered.gradients | recovered.differences)
        self.outcome.accuracies.append(self.trainer.evaluate(self.data.test).accuracy)

    def _contribute(
        self, protected: ProtectedRound, owner: int, number: int, artefact: Artefact
    ) -> None:
        run, statement = self.run, self._parameters.statement
        malicious = self._malicious(owner)
        attack = run.attack if malicious else Attack.NONE
        mode = run.mode if malicious else Mode.WITHIN
        batch = owner_batch(
            self.data.shards[owner],
            owner=owner,
            round_number=number,
            size=run.training.batch_size,
            seed=run.seed,
        )
        batch = poisoned_batch(attack, batch, self.data.classes)
        try:
            gradients = compute_gradients(artefact, batch, self.trainer.loss)
        except ModelError:  # a model that was driven to infinity has no gradient any more
            self.outcome.accepted["no gradient"] += 1
            return
        vector = poisoned_vector(attack, self.layout.flatten(gradients), self._noise)
        values = encode(vector, statement, mode, SystemRandomness())
        builder = PackageBuilder if mode is Mode.WITHIN else ForgingBuilder
        protected.submit(self._keys[owner], values, builder)

    def _accepted(self, protected: ProtectedRound) -> tuple[Address, ...]:
        """Return whose vectors are summed: without validation, everyone's."""
        if self.run.mode is Mode.UNVALIDATED:
            return tuple(protected.packages)
        resolution = protected.judge()
        for owner, key in enumerate(self._keys):
            if key.address in protected.packages:
                who = "malicious" if self._malicious(owner) else "honest"
                verdict = "accepted" if key.address in resolution.accepted else "rejected"
                self.outcome.accepted[f"{who} {verdict}"] += 1
        self.outcome.reasons.update(resolution.rejected.values())
        return resolution.accepted

    def _malicious(self, owner: int) -> bool:
        return owner >= OWNERS - self.run.malicious
