"""The parties of one round with one network, each phase ready to be run again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import clear_sgd
import numpy as np
import torch
from experiment_round import COMMITTEE, round_context, task_parameters

from omnilytics.algebra.field import FieldVector
from omnilytics.algebra.fixed_point import from_field, round_vector
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Hash32
from omnilytics.learning.datasets import Batch
from omnilytics.learning.encoding import Layout, Vector
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.models import MODELS, build_model
from omnilytics.learning.training import OptimiserSettings, Trainer
from omnilytics.perturbation.artefact import (
    Artefact,
    Tensors,
    decode_artefact,
    encode_artefact,
)
from omnilytics.perturbation.gauge import GaugeStructure, analyse
from omnilytics.perturbation.losses import Loss
from omnilytics.perturbation.profiles import GAUGE
from omnilytics.perturbation.round_secret import RoundSecret, sample_round_secret
from omnilytics.protocol.aggregate import sum_shares
from omnilytics.protocol.context import RoundContext
from omnilytics.protocol.package import check_package, compute_word
from omnilytics.protocol.package_builder import PackageBuilder, Packages
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.sharing.recovery import recover_sum
from omnilytics.sharing.shamir import Share
from omnilytics.transport.hpke import HpkeKey, open_package, seal_package, sealed_chunks
from omnilytics.validity.challenge import Challenge
from omnilytics.wire.package import SealedPackage
from omnilytics.wire.signatures import SigningKey
from perturbation_recovery import SHAPES, SHAPES_BY_KIND

LOSS = Loss.CROSS_ENTROPY
_CLASSES = 10
_SERVER = COMMITTEE.servers
"""The server whose work is measured: one with an explicit share."""
_SHARES = 4
"""Shares that are really summed; the time is divided by it."""


class Phase(NamedTuple):
    """Work that is done `times` times in one run."""

    run: Callable[[], object]
    times: int = 1


@dataclass
class Parties:
    """One network, a batch, and what parties hold before each phase.

    Attributes:
        name: Of the network.
        trainer: The model owner's model.
        layout: Of the vector, with scales that put the gradient at 0.5 bounds.
        batch: An owner's samples: normal noise, of classes drawn uniformly.
        parameters: Of the task.
    """

    name: str
    trainer: Trainer
    layout: Layout
    batch: Batch
    parameters: TaskParameters
    context: RoundContext = field(default_factory=lambda: round_context(1))
    key: SigningKey = field(default_factory=lambda: SigningKey.generate(SystemRandomness()))

    @classmethod
    def of(cls, name: str, *, samples: int, owners: int) -> Parties:
        """Return the parties of a network of `MODELS` on batches of so many samples."""
        shape = SHAPES.get(name) or SHAPES_BY_KIND[MODELS[name].takes]
        module = build_model(name, input_shape=shape, outputs=_CLASSES, seed=1)
        settings = OptimiserSettings("sgd", 1e-3)
        trainer = Trainer(module, input_shape=shape, loss=LOSS, optimiser=settings)
        batch = _made_up_batch(shape, samples)
        gradients = compute_gradients(trainer.artefact(), batch, LOSS)
        norm = float(np.sqrt(sum(float((each**2).sum()) for each in gradients.values())))
        layout = Layout.of(trainer.graph, dict.fromkeys(gradients, 2 * norm))
        return cls(name, trainer, layout, batch, task_parameters([layout.length], owners))

    def phases(self) -> dict[str, Phase]:
        """Return every phase of a round, in order: first federated SGD in the clear, then ours."""
        return self._clear_phases() | self._owner_phases() | self._other_phases()

    def _clear_phases(self) -> dict[str, Phase]:
        module = self.trainer.fresh_copy().module
        found = clear_sgd.gradient(module, self.batch, LOSS)
        optimiser = torch.optim.SGD(module.parameters(), lr=1e-3)
        return {
            "owner: gradient in the clear": Phase(
                lambda: clear_sgd.gradient(module, self.batch, LOSS)
            ),
            "server in the clear: add, an owner": Phase(
                lambda: clear_sgd.mean([found] * _SHARES), _SHARES
            ),
            "model owner: step in the clear": Phase(
                lambda: clear_sgd.step(module, optimiser, found)
            ),
        }

    def _owner_phases(self) -> dict[str, Phase]:
        content = encode_artefact(self._perturbed()[1])
        artefact = decode_artefact(content)
        gradients = compute_gradients(artefact, self.batch, LOSS)
        keys = [HpkeKey.generate(SystemRandomness()).public for _ in COMMITTEE.points]

        def protect() -> int:
            chunks = sealed_chunks(self._packages(gradients), keys, self.context)
            return sum(len(chunk) for _, chunk in chunks)

        return {
            "owner: decode the model": Phase(lambda: decode_artefact(content)),
            "owner: gradient of the published model": Phase(
                lambda: compute_gradients(artefact, self.batch, LOSS)
            ),
            "owner: protect, for five servers": Phase(protect),
        }

    def _other_phases(self) -> dict[str, Phase]:
        secret, artefact = self._perturbed()
        packages = self._packages(compute_gradients(artefact, self.batch, LOSS))
        key = HpkeKey.generate(SystemRandomness())
        sealed = seal_package(packages[_SERVER - 1], key.public, self.context)
        shares = [package.share(self.parameters.share_elements) for package in packages]
        totals = {
            server: Share(self.layout.length, explicit=self._sum([share]))
            for server, share in zip(COMMITTEE.points, shares, strict=True)
        }
        challenge = Challenge(self.parameters.statement, SystemRandomness().bytes(32))
        many = [shares[_SERVER - 1]] * _SHARES
        mean = self._mean(totals)
        recovered = secret.recover(mean)
        means = recovered.gradients | recovered.differences
        trainer = self.trainer.fresh_copy()
        return {
            "server: open, check, word, an owner": Phase(
                lambda: self._check(sealed, key, challenge)
            ),
            "server: aggregate, an owner": Phase(lambda: self._sum(many), _SHARES),
            "model owner: perturb and encode": Phase(lambda: encode_artefact(self._perturbed()[1])),
            "model owner: recover": Phase(lambda: secret.recover(self._mean(totals))),
            "model owner: step": Phase(lambda: trainer.step(means)),
        }

    def _perturbed(self) -> tuple[RoundSecret, Artefact]:
        secret = sample_round_secret(self.trainer.graph, self._structure, GAUGE, SystemRandomness())
        return secret, self.trainer.artefact(secret)

    @cached_property
    def _structure(self) -> GaugeStructure:
        return analyse(self.trainer.graph)

    def _packages(self, gradients: Tensors) -> Packages:
        rounded = round_vector(
            self.layout.flatten(gradients),
            components=self.parameters.statement.components,
            fractional_bits=self.parameters.statement.fractional_bits,
            randomness=SystemRandomness(),
        )
        builder = PackageBuilder(self.parameters, self.context, self.key, SystemRandomness())
        return builder.build(rounded.values)

    def _check(self, sealed: SealedPackage, key: HpkeKey, challenge: Challenge) -> Hash32:
        opening = open_package(sealed, key, self.context)
        check_package(opening, server=_SERVER, parameters=self.parameters, context=self.context)
        return compute_word(opening, self.parameters, self.context, challenge)

    def _sum(self, shares: list[Share]) -> FieldVector:
        return sum_shares(shares, self.layout.length)

    def _mean(self, totals: dict[int, Share]) -> dict[str, Vector]:
        values = recover_sum(totals, COMMITTEE, SystemRandomness()).values
        bits = self.parameters.statement.fractional_bits
        return self.layout.mean_of_sum(from_field(values), fraction_bits=bits, accepted=1)


def _made_up_batch(shape: tuple[int, ...], samples: int) -> Batch:
    generator = np.random.default_rng(1)
    inputs = generator.normal(size=(samples, *shape)).astype(np.float32)
    return Batch(inputs, generator.integers(0, _CLASSES, samples))
