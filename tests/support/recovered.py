"""Checks of exact recovery on any module: same function, same gradients, same statistics."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from omnilytics.learning.carried import CarriedModel
from omnilytics.learning.tracing import probe_inputs
from omnilytics.perturbation.gauge import GaugeStructure, Placed, analyse
from omnilytics.perturbation.graph import GRAPH_INPUT, Dtype, Graph, InputKind
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.secret import sample_secret

Arrays = dict[str, NDArray[np.floating[Any]]]


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
    statistics: float
    """Recovered differences of running statistics against those of the plain network."""
    module: float
    """The recovered gradients against the module's own, as PyTorch computes them."""
    norms: float
    """Largest relative change of a published tensor's gradient norm."""
    kept: frozenset[str]
    """Published tensors that the secret left as they are."""

    @property
    def changed(self) -> int:
        """How many published tensors the secret changed."""
        return len(self.model.graph.tensors) - len(self.kept)

    @property
    def worst(self) -> float:
        """The largest error of function, gradients and statistics; NaN counts as infinite."""
        errors = (self.outputs, self.gradients, self.statistics, self.module)
        return max(float(np.nan_to_num(each, nan=np.inf)) for each in errors)


@dataclass(frozen=True)
class Computed:
    """What a graph computes on the probe batch."""

    outputs: NDArray[np.float64]
    gradients: Arrays
    differences: Arrays


def compute(graph: Graph, weights: Arrays, inputs: Tensor) -> Computed:
    """Return outputs, gradients of a made-up linear loss, and differences of statistics."""
    names = [tensor.name for tensor in graph.trained]
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(value)).requires_grad_(name in names)
        for name, value in weights.items()
    }
    statistics: dict[str, Tensor] = {}
    torch.manual_seed(7)
    outputs = run_graph(graph, tensors, inputs, statistics=statistics)
    loss = (outputs * _cotangent(outputs)).sum()
    found = torch.autograd.grad(loss, [tensors[name] for name in names])
    return Computed(
        outputs.detach().numpy(),
        {name: each.numpy() for name, each in zip(names, found, strict=True)},
        {name: weights[name] - each.numpy() for name, each in statistics.items()},
    )


class Carried:
    """A module that the market carries, and what it computes unperturbed."""

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, ...],
        *,
        kind: InputKind = InputKind.NUMBERS,
        samples: int = 5,
    ) -> None:
        self.model = CarriedModel(module, input_shape=input_shape, input_kind=kind)
        self.structure = analyse(self.model.graph)
        self.weights = self.model.weights(Dtype.FLOAT64)
        inputs = probe_inputs(self.model.graph, samples)
        self.inputs = inputs if kind is InputKind.TOKENS else inputs.double()
        self.plain = compute(self.model.graph, self.weights, self.inputs)
        self.own = _own_gradients(module, self.inputs)

    def recover(
        self, seed: int = 0, magnitude_bits: int = 0, structure: GaugeStructure | None = None
    ) -> Recovery:
        """Perturb, differentiate the perturbed network, recover, and compare with the module."""
        structure = structure or self.structure
        secret = sample_secret(structure, SeededRandomness(seed), magnitude_bits=magnitude_bits)
        published = secret.perturb(self.weights)
        perturbed = compute(self.model.graph, published, self.inputs)
        found = secret.recover(perturbed.gradients | perturbed.differences)
        got = self.model.parameter_gradients({name: found[name] for name in perturbed.gradients})
        plain = self.model.parameter_gradients(self.plain.gradients)
        whole = _norm(list(self.own.values()))
        differences = self.plain.differences
        return Recovery(
            model=self.model,
            structure=structure,
            outputs=_relative(perturbed.outputs, self.plain.outputs, 0),
            gradients=max(_relative(got[name], plain[name], whole) for name in got),
            statistics=max(
                (_relative(found[name], want, 0) for name, want in differences.items()), default=0.0
            ),
            module=max(_relative(got[name], each, whole) for name, each in self.own.items()),
            norms=max(
                abs(_norm([perturbed.gradients[name]]) - _norm([each]))
                / max(_norm([each]), _NOTHING * whole)
                for name, each in self.plain.gradients.items()
            ),
            kept=frozenset(
                name for name, each in self.weights.items() if np.array_equal(published[name], each)
            ),
        )


def recover(
    module: nn.Module,
    input_shape: tuple[int, ...],
    *,
    kind: InputKind = InputKind.NUMBERS,
    seed: int = 0,
    magnitude_bits: int = 0,
    samples: int = 5,
) -> Recovery:
    """Perturb a module once and recover; see `Carried.recover`."""
    carried = Carried(module, input_shape, kind=kind, samples=samples)
    return carried.recover(seed, magnitude_bits)


def errors(
    graph: Graph, weights: Arrays, structure: GaugeStructure, seed: int, magnitude_bits: int
) -> float:
    """Return the largest relative error of outputs, gradients and statistics of a graph."""
    inputs = _inputs(graph)
    secret = sample_secret(structure, SeededRandomness(seed), magnitude_bits=magnitude_bits)
    got = compute(graph, secret.perturb(weights), inputs)
    found = secret.recover(got.gradients | got.differences)
    recovered = Computed(
        got.outputs,
        {name: found[name] for name in got.gradients},
        {name: found[name] for name in got.differences},
    )
    return _distance(recovered, compute(graph, weights, inputs))


def _inputs(graph: Graph) -> Tensor:
    inputs = probe_inputs(graph, 5)
    return inputs if graph.input_kind is InputKind.TOKENS else inputs.double()


def _distance(got: Computed, want: Computed) -> float:
    whole = _norm(list(want.gradients.values()))
    worst = [_relative(got.outputs, want.outputs, 0)]
    worst += [_relative(got.gradients[name], each, whole) for name, each in want.gradients.items()]
    # A running value less the batch's is exact to the rounding of either.
    worst += [_relative(got.differences[name], each, 1) for name, each in want.differences.items()]
    return float(np.nan_to_num(max(worst), nan=np.inf))


def freedom(structure: GaugeStructure, graph: Graph) -> list[str]:
    """Return what every group of hidden channels may do, one text each, sorted.

    `8 sign stretch order` is 8 channels of free signs, magnitudes and order; `8 rotation` may have
    `keeping ones` or `by frequency`; `8 pinned` stays. Groups of the input and output are left out.
    """
    ends = {
        segment
        for name in (GRAPH_INPUT, graph.nodes[-1].name)
        for segment in structure.values[name]
    }
    hidden = {
        (each.scale, each.order, each.rotation): each
        for value in structure.values.values()
        for each in value
        if each not in ends
    }
    return sorted(_freedom(structure, each) for each in hidden.values())


def _freedom(structure: GaugeStructure, placed: Placed) -> str:
    if placed.rotation is not None:
        rotation = structure.rotation_groups[placed.rotation]
        words = ["rotation"]
        words += ["keeping ones"] * rotation.keeps_ones + ["by frequency"] * rotation.by_frequency
    else:
        scale = structure.scale_groups[placed.scale]
        order = structure.order_groups[placed.order]
        words = ["sign"] * scale.signed + ["stretch"] * scale.stretched
        words += ["order"] * (not order.pinned)
    return " ".join([str(placed.channels), *(words or ["pinned"])])


def scrambled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return the module with all parameters and statistics moved, so that no two are equal."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape, generator=generator))
    return module


def _own_gradients(module: nn.Module, inputs: Tensor) -> Arrays:
    plain = copy.deepcopy(module).double().train()
    torch.manual_seed(7)
    outputs = plain(inputs.clone())
    trained = {name: each for name, each in plain.named_parameters() if each.requires_grad}
    loss = (outputs * _cotangent(outputs)).sum()
    found = torch.autograd.grad(loss, list(trained.values()))
    return {name: each.numpy() for name, each in zip(trained, found, strict=True)}


def _cotangent(outputs: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(outputs.shape, generator=generator, dtype=torch.float64)


_NOTHING = 1e-4
"""A gradient below this share of the whole is rounding alone (of a bias before batch norm)."""


def _norm(arrays: list[NDArray[np.floating[Any]]]) -> float:
    return float(np.sqrt(sum(float(np.linalg.norm(each)) ** 2 for each in arrays)))


def _relative(
    got: NDArray[np.floating[Any]], want: NDArray[np.floating[Any]], whole: float
) -> float:
    return _norm([got - want]) / max(_norm([want]), _NOTHING * whole)
