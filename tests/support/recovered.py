"""Checks of exact recovery on any module: same function, same gradients, same statistics."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from omnilytics.learning.carried import CarriedModel
from omnilytics.learning.tracing import probe_inputs
from omnilytics.perturbation.gauge import GaugeStructure, analyse
from omnilytics.perturbation.graph import Dtype, InputKind
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.secret import sample_secret


class SeededRandomness:
    """Seeded bytes, for tests alone."""

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        """Return `count` bytes."""
        return self._draw.bytes(count)


@dataclass(frozen=True)
class Recovery:
    """How a network came back: relative errors, worst tensor, in float64."""

    model: CarriedModel
    structure: GaugeStructure
    outputs: float
    """Of the perturbed network against the plain one."""
    gradients: float
    """Recovered, by the module's parameters, against those of the plain network."""
    module: float
    """The plain network's against the module's own, as PyTorch computes them."""
    norms: float
    """Largest relative change of a published tensor's gradient norm."""
    changed: int
    """How many published tensors the secret changed."""


def recover(
    module: nn.Module,
    input_shape: tuple[int, ...],
    *,
    kind: InputKind = InputKind.NUMBERS,
    seed: int = 0,
    magnitude_bits: int = 0,
    samples: int = 5,
) -> Recovery:
    """Perturb a module, differentiate the perturbed one, recover, and compare with the module."""
    model = CarriedModel(module, input_shape=input_shape, input_kind=kind)
    structure = analyse(model.graph)
    secret = sample_secret(structure, SeededRandomness(seed), magnitude_bits=magnitude_bits)
    weights = model.weights(Dtype.FLOAT64)
    published = secret.perturb(weights)
    inputs = probe_inputs(model.graph, samples)
    inputs = inputs if kind is InputKind.TOKENS else inputs.double()
    plain = copy.deepcopy(module).double().train()
    torch.manual_seed(7)
    want = plain(inputs.clone())
    cotangent = torch.randn(want.shape, generator=torch.Generator().manual_seed(1)).double()
    trained = {name: each for name, each in plain.named_parameters() if each.requires_grad}
    wanted = dict(
        zip(
            trained,
            torch.autograd.grad((want * cotangent).sum(), list(trained.values())),
            strict=True,
        )
    )

    def gradients(values: dict[str, np.ndarray]) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
        names = [tensor.name for tensor in model.graph.trained]
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(value)).requires_grad_(name in names)
            for name, value in values.items()
        }
        torch.manual_seed(7)
        outputs = run_graph(model.graph, tensors, inputs)
        found = torch.autograd.grad((outputs * cotangent).sum(), [tensors[name] for name in names])
        return outputs.detach(), dict(zip(names, (each.numpy() for each in found), strict=True))

    outputs, perturbed = gradients(published)
    same, original = gradients(weights)
    zeros = {tensor.name: np.zeros(tensor.shape) for tensor in model.graph.statistics}
    found = secret.recover(perturbed | zeros)
    got = model.parameter_gradients({name: found[name] for name in perturbed})
    plain_gradients = model.parameter_gradients(original)
    arrays = {name: each.numpy() for name, each in wanted.items()}
    whole = float(np.sqrt(sum(np.linalg.norm(each) ** 2 for each in arrays.values())))
    return Recovery(
        model=model,
        structure=structure,
        outputs=float((outputs - same).abs().max() / same.abs().max()),
        gradients=max(_relative(got[name], plain_gradients[name], whole) for name in got),
        module=max(_relative(got[name], each, whole) for name, each in arrays.items()),
        norms=max(
            abs(float(np.linalg.norm(perturbed[name]) - np.linalg.norm(original[name])))
            / max(float(np.linalg.norm(original[name])), _NOTHING * whole)
            for name in perturbed
        ),
        changed=sum(not np.array_equal(published[name], weights[name]) for name in weights),
    )


_NOTHING = 1e-6
"""A gradient below this share of the whole is rounding alone (of a bias before batch norm)."""


def _relative(got: np.ndarray, want: np.ndarray, whole: float) -> float:
    return float(np.linalg.norm(got - want) / max(float(np.linalg.norm(want)), _NOTHING * whole))
