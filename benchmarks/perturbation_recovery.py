"""How exactly gradients come back, before fixed-point encoding: for every network and profile."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.carried import CarriedModel
from omnilytics.learning.datasets import Batch
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.models import MODELS, Takes, build_model
from omnilytics.learning.public_randomness import PublicRandomness
from omnilytics.perturbation.artefact import Artefact
from omnilytics.perturbation.gauge import GaugeStructure, analyse
from omnilytics.perturbation.graph import Dtype, InputKind
from omnilytics.perturbation.losses import Loss, loss_value
from omnilytics.perturbation.profiles import Profile, ProfileName, messages
from omnilytics.perturbation.round_secret import sample_round_secret
from omnilytics.perturbation.secret import sample_secret

Gradients = Mapping[str, NDArray[np.floating[Any]]]

SHAPES: dict[str, tuple[int, ...]] = {
    "mlp": (64,),
    "cnn": (1, 8, 8),
    "lenet": (1, 28, 28),
    "vit": (3, 16, 16),
}
SHAPES_BY_KIND = {Takes.IMAGES: (3, 32, 32), Takes.SEQUENCES: (16, 8), Takes.TOKENS: (16,)}
CLASSES = 10
MAGNITUDE_BITS = 4
NOISE_SCALE = 0.5
_ROUNDING = 1e-6
"""A tensor whose gradient is below this share of the whole has none but rounding (a bias before a
normalisation): its error is divided by this share of the whole."""


@dataclass(frozen=True)
class Subject:
    """A network as it is measured.

    Attributes:
        name: Of `MODELS`.
        model: Traced.
        structure: What its secrets may change.
        loss: Cross-entropy; noise is measured with MSE.
    """

    name: str
    model: CarriedModel
    structure: GaugeStructure

    @classmethod
    def of(cls, name: str) -> Subject:
        """Return a network with the weights of seed 0."""
        tokens = MODELS[name].takes is Takes.TOKENS
        model = CarriedModel(
            _build(name, 0),
            input_shape=shape_of(name),
            input_kind=InputKind.TOKENS if tokens else InputKind.NUMBERS,
        )
        return cls(name, model, analyse(model.graph))

    @property
    def profiles(self) -> tuple[ProfileName, ...]:
        """The profiles that the network can have: noise wants a trained linear layer at the end."""
        return tuple(name for name in ProfileName if self._can_have(profile_of(name)))

    def _can_have(self, profile: Profile) -> bool:
        try:
            messages(self.model.graph, profile)
        except ModelError:
            return False
        return True

    def reseed(self, seed: int) -> None:
        """Give the network the weights of another seed."""
        state = _build(self.name, seed).state_dict()
        self.model.load_state({name: state[name].numpy() for name in self.model.state()})


def shape_of(name: str) -> tuple[int, ...]:
    """Return the shape of a sample that a network is measured with."""
    return SHAPES.get(name) or SHAPES_BY_KIND[MODELS[name].takes]


def profile_of(name: ProfileName) -> Profile:
    """Return the public values that a profile is measured with."""
    if name is ProfileName.SCALES:
        return Profile(name, magnitude_bits=MAGNITUDE_BITS)
    if name is ProfileName.NOISE:
        factors = tuple(np.linspace(0.5, 1.5, CLASSES).tolist())
        return Profile(name, noise_groups=1, noise_factors=factors, noise_scale=NOISE_SCALE)
    return Profile()


def made_up_batch(name: str, count: int, seed: int) -> Batch:
    """Return normal inputs, or uniform tokens, and uniform classes."""
    draw, shape = np.random.default_rng([seed, 5]), shape_of(name)
    if MODELS[name].takes is Takes.TOKENS:
        tokens, following = draw.integers(0, CLASSES, size=(2, count, *shape))
        return Batch(tokens, following)
    inputs = draw.normal(size=(count, *shape)).astype(np.float32)
    return Batch(inputs, draw.integers(0, CLASSES, size=count))


def measure_recovery(name: str, *, seeds: int, samples: int) -> list[dict[str, Any]]:
    """Return a row for every profile of a network: errors of the worst tensor over seeds."""
    subject = Subject.of(name)
    rows = []
    for profile in subject.profiles:
        keys = ("float64", "float32", "yardstick", "kernels")
        errors: dict[str, list[float]] = {key: [] for key in keys}
        for seed in range(seeds):
            subject.reseed(seed)
            batch = made_up_batch(name, samples, seed)
            loss = Loss.MSE if profile is ProfileName.NOISE else Loss.CROSS_ENTROPY
            one = _one_seed(subject, profile_of(profile), batch, loss, seed)
            for key, value in one.items():
                errors[key].append(value)
        rows.append(
            {
                "network": name,
                "parameters": subject.model.graph.parameter_count,
                "profile": profile.value,
                "seeds": seeds,
                "largest": {key: max(found) for key, found in errors.items() if found},
                "median": {key: median(found) for key, found in errors.items() if found},
            }
        )
    return rows


def _one_seed(
    subject: Subject, profile: Profile, batch: Batch, loss: Loss, seed: int
) -> dict[str, float]:
    found = {}
    dtypes = [Dtype.FLOAT64] if profile.name is ProfileName.NOISE else list(Dtype)
    for dtype in dtypes:
        artefact = subject.model.artefact(dtype=dtype)
        plain = _by_parameters(subject, compute_gradients(artefact, batch, loss))
        got = _by_parameters(subject, _recovered(subject, artefact, profile, batch, loss, seed))
        found[dtype.value] = worst_error(got, plain)
    order = np.random.default_rng([seed, 6]).permutation(len(batch))
    one, other = (
        _of_module(subject.model.module, each, loss) for each in (batch, batch.take(order))
    )
    torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
    try:
        kernels = _of_module(subject.model.module, batch, loss)
    finally:
        torch.backends.mkldnn.set_flags(True)  # type: ignore[no-untyped-call]
    return found | {"yardstick": worst_error(other, one), "kernels": worst_error(kernels, one)}


def _recovered(
    subject: Subject, plain: Artefact, profile: Profile, batch: Batch, loss: Loss, seed: int
) -> Gradients:
    """Return the graph's gradients as they come back from a perturbed artefact of that type."""
    model, randomness = subject.model, PublicRandomness(seed, 4)
    if profile.name is ProfileName.NOISE:
        noisy = sample_round_secret(model.graph, subject.structure, profile, randomness)
        sent = compute_gradients(model.artefact(noisy), batch, loss, profile)
        return noisy.recover(sent).gradients
    secret = sample_secret(subject.structure, randomness, magnitude_bits=profile.magnitude_bits)
    artefact = replace(plain, weights=secret.perturb(plain.weights))
    return secret.recover(compute_gradients(artefact, batch, loss))


def _by_parameters(subject: Subject, gradients: Gradients) -> Gradients:
    trained = {tensor.name for tensor in subject.model.graph.trained}
    return subject.model.parameter_gradients(
        {name: each for name, each in gradients.items() if name in trained}
    )


def _of_module(module: nn.Module, batch: Batch, loss: Loss) -> Gradients:
    """Return the gradients that PyTorch computes of the module itself, in float32."""
    twin = copy.deepcopy(module).train()
    outputs = twin(torch.from_numpy(batch.inputs))
    value = loss_value(loss, outputs, torch.from_numpy(batch.labels))
    trained = {name: each for name, each in twin.named_parameters() if each.requires_grad}
    found = torch.autograd.grad(value, list(trained.values()))
    return dict(zip(trained, (each.numpy() for each in found), strict=True))


def worst_error(got: Gradients, want: Gradients) -> float:
    """Return the largest ||got - want|| / ||want|| of a tensor."""
    whole = sqrt(sum(float(np.linalg.norm(each)) ** 2 for each in want.values()))
    return max(
        float(np.linalg.norm(got[name] - each))
        / max(float(np.linalg.norm(each)), _ROUNDING * whole)
        for name, each in want.items()
    )


def _build(name: str, seed: int) -> nn.Module:
    return build_model(name, input_shape=shape_of(name), outputs=CLASSES, seed=seed)
