"""What of a user's network a secret would hide, node by node, and whether it comes back exactly.

For a model owner, before any task: the network is traced, its gauge is analysed
(perturbation.md section 2), and one perturbation is tried with made-up inputs. What is hidden is
the order, sign and mixture of hidden units: not the function, and no count of it is a strength.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np
import torch

from omnilytics.foundation.randomness import Randomness, SystemRandomness
from omnilytics.learning.carried import CarriedModel, FloatArray, Module
from omnilytics.learning.tracing import probe_inputs
from omnilytics.perturbation.gauge import GaugeStructure, Placed, RotationGroup, analyse
from omnilytics.perturbation.graph import Dtype, Graph, InputKind, Node
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.secret import GaugeSecret, sample_secret

REMARK = "a count of the possible secrets, no security level: the function itself is not hidden"
_PROBES = 4
_TINY = 1e-300

Labels = Mapping[tuple[str, int], str]
"""Labels of groups, by kind and index in the structure."""


@dataclass(frozen=True)
class NodeReport:
    """One operation.

    Attributes:
        name: Of the node.
        operation: Its kind.
        shape: Of one sample of its output.
        parameters: Entries of its trained tensors.
        frozen: Entries of its frozen ones.
        groups: Labels of the groups of its output's channels, in order: "O1" of orders, "S1" of
            scales, "R1" of rotations.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    parameters: int
    frozen: int
    groups: tuple[str, ...]


@dataclass(frozen=True)
class GroupReport:
    """Channels that share a part of the secret.

    Attributes:
        label: "O1", "S1" or "R1".
        channels: How many.
        hidden: What is drawn anew in every round, in words; None where the group is pinned.
        why: What pins or restricts it: the operation and its node.
        bits: log2 of the number of choices; 0 for a rotation.
        angles: Free angles of a rotation.
    """

    label: str
    channels: int
    hidden: str | None
    why: str
    bits: float = 0.0
    angles: int = 0


@dataclass(frozen=True)
class ModelReport:
    """What is to be known of a network.

    Attributes:
        graph: As it would be published.
        nodes: In order.
        groups: Those of orders, of scales, and of rotations.
        output_error: Largest difference of outputs of the perturbed network, by the largest output.
        gradient_error: Norm of what the recovered gradient is off, by the gradient's norm.
        statistics_error: The same of what is sent for running statistics; 0 without any. All three
            in float64.
    """

    graph: Graph
    nodes: tuple[NodeReport, ...]
    groups: tuple[GroupReport, ...]
    output_error: float
    gradient_error: float
    statistics_error: float

    @property
    def secret_bits(self) -> float:
        """log2 of the number of orders and signs."""
        return sum(group.bits for group in self.groups)

    @property
    def secret_angles(self) -> int:
        """Free angles of all rotations."""
        return sum(group.angles for group in self.groups)


def report_model(
    module: Module,
    input_shape: tuple[int, ...],
    *,
    input_kind: InputKind = InputKind.NUMBERS,
    randomness: Randomness | None = None,
) -> ModelReport:
    """Return the report of a module, which is left as it was.

    Args:
        module: The user's network.
        input_shape: Shape of one sample.
        input_kind: Whether it is numbers or tokens.
        randomness: Of the secret that is tried.

    Raises:
        ModelError: If the module cannot be carried; it names node and operation, and a way out.
    """
    model = CarriedModel(module, input_shape=input_shape, input_kind=input_kind)
    structure = analyse(model.graph)
    secret = sample_secret(structure, randomness or SystemRandomness())
    errors = _try_secret(model.graph, model.weights(Dtype.FLOAT64), secret)
    labels = _number_groups(structure)
    return ModelReport(
        graph=model.graph,
        nodes=tuple(
            _node_report(node, model.graph, structure, labels) for node in model.graph.nodes
        ),
        groups=tuple(
            _group_report(kind, index, label, structure) for (kind, index), label in labels.items()
        ),
        output_error=errors[0],
        gradient_error=errors[1],
        statistics_error=errors[2],
    )


def _number_groups(structure: GaugeStructure) -> dict[tuple[str, int], str]:
    """Return the labels of the groups that values have, by kind and index, as they appear."""
    keys = [key for value in structure.values.values() for each in value for key in _keys(each)]
    labels: dict[tuple[str, int], str] = {}
    for kind in "OSR":
        own = [key for key in dict.fromkeys(keys) if key[0] == kind]
        labels |= {key: f"{kind}{number}" for number, key in enumerate(own, start=1)}
    return labels


def _keys(placed: Placed) -> list[tuple[str, int]]:
    if placed.rotation is not None:
        return [("R", placed.rotation)]
    return [("O", placed.order), ("S", placed.scale)]


def _node_report(node: Node, graph: Graph, structure: GaugeStructure, labels: Labels) -> NodeReport:
    trained = {tensor.name: prod(tensor.shape) for tensor in graph.trained}
    frozen = {tensor.name: prod(tensor.shape) for tensor in graph.frozen}
    groups = [labels[key] for placed in structure.values[node.name] for key in _keys(placed)]
    return NodeReport(
        name=node.name,
        operation=node.operation.name,
        shape=graph.shapes[node.name],
        parameters=sum(trained.get(name, 0) for name in node.tensors),
        frozen=sum(frozen.get(name, 0) for name in node.tensors),
        groups=tuple(dict.fromkeys(groups)),
    )


def _group_report(kind: str, index: int, label: str, structure: GaugeStructure) -> GroupReport:
    if kind == "O":
        order = structure.order_groups[index]
        hidden = None if order.pinned or order.channels == 1 else "any order"
        why = order.why if order.pinned else ""
        return GroupReport(label, order.channels, hidden, why, order.bits)
    if kind == "S":
        scale = structure.scale_groups[index]
        hidden = "signs" if scale.signed else None
        return GroupReport(label, scale.channels, hidden, scale.why, scale.bits)
    return _rotation(label, structure.rotation_groups[index])


def _rotation(label: str, group: RotationGroup) -> GroupReport:
    size = group.channels
    if group.by_frequency:
        return GroupReport(
            label, size, "an angle for each pair", "rotary positions", 0.0, size // 2
        )
    if group.keeps_ones:
        angles = (size - 1) * (size - 2) // 2
        hidden, why = "any rotation that keeps the mean", "layer_norm"
        return GroupReport(label, size, hidden, why, 0.0, angles)
    return GroupReport(label, size, "any rotation", "", 0.0, size * (size - 1) // 2)


def _try_secret(
    graph: Graph, weights: Mapping[str, FloatArray], secret: GaugeSecret
) -> tuple[float, float, float]:
    """Return the relative errors of outputs, recovered gradient and recovered statistics."""
    same, wanted = _send(graph, weights)
    outputs, sent = _send(graph, secret.perturb(weights))
    got = secret.recover(sent)
    largest = max(float(np.abs(same).max()), _TINY)
    return (
        float(np.abs(outputs - same).max()) / largest,
        _error([tensor.name for tensor in graph.trained], got, wanted),
        _error([tensor.name for tensor in graph.statistics], got, wanted),
    )


def _error(
    names: Sequence[str], got: Mapping[str, FloatArray], wanted: Mapping[str, FloatArray]
) -> float:
    off = sum(float(np.square(got[name] - wanted[name]).sum()) for name in names)
    return sqrt(off / max(sum(float(np.square(wanted[name]).sum()) for name in names), _TINY))


def _send(
    graph: Graph, weights: Mapping[str, FloatArray]
) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Return outputs and what an owner would send: gradients, and how statistics differ."""
    names = [tensor.name for tensor in graph.trained]
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(value)).requires_grad_(name in names)
        for name, value in weights.items()
    }
    inputs = probe_inputs(graph, _PROBES)
    inputs = inputs if graph.input_kind is InputKind.TOKENS else inputs.double()
    statistics: dict[str, torch.Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same dropout, and the same cotangent
        outputs = run_graph(graph, tensors, inputs, statistics=statistics)
        total: Any = (outputs * torch.randn(outputs.shape, dtype=torch.float64)).sum()
    found = torch.autograd.grad(total, [tensors[name] for name in names])
    sent: dict[str, FloatArray] = {
        name: gradient.numpy() for name, gradient in zip(names, found, strict=True)
    }
    sent |= {name: weights[name] - batch.numpy() for name, batch in statistics.items()}
    return outputs.detach().numpy(), sent
