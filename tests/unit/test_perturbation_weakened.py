"""Rules of the gauge analysis made weaker: each restriction is needed, and the check would notice.

A check of exactness that passes without a rule says nothing about the rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from graphs import Arrays, mixed_addition, random_weights
from recovered import Carried, errors
from rule_cases import carried

from omnilytics.perturbation import gauge
from omnilytics.perturbation import operations as op
from omnilytics.perturbation.gauge import AxisGauge, GaugeStructure, Placed, analyse
from omnilytics.perturbation.gauge_rules import Call
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node, TensorRole, TensorSpec
from omnilytics.perturbation.groups import EVERYTHING, Channels, Groups, Limit

SIGN, MAGNITUDE, ORDER, ROTATION = Limit.SIGN, Limit.MAGNITUDE, Limit.ORDER, Limit.ROTATION
BITS = 4


def worst(graph: Graph, weights: Arrays) -> float:
    """Return the largest error of a few secrets under the rules as they are now."""
    structure = analyse(graph)
    return max(errors(graph, weights, structure, seed, BITS) for seed in range(3))


def of_case(name: str) -> tuple[Graph, Arrays]:
    found: Carried = carried(name)
    return found.model.graph, found.weights


def unrotated(operation: op.Operation) -> tuple[Graph, Arrays]:
    """Return a graph of an operation behind gains, where scales and order are free."""
    reads = ("gained", "gained", "gained") if isinstance(operation, op.Attention) else ("gained",)
    graph = Graph(
        (3, 6),
        (TensorSpec("a", (8, 6)), TensorSpec("gain", (8,)), TensorSpec("head", (3, 8))),
        (
            Node("a", op.Linear(), (GRAPH_INPUT,), ("a",)),
            Node("gained", op.RmsNorm(1e-6), ("a",), ("gain",)),
            Node("under_test", operation, reads),
            Node("head", op.Linear(), ("under_test",), ("head",)),
        ),
    )
    return graph, random_weights(graph, dtype="float64")


def turned_heads() -> tuple[Graph, Arrays]:
    """Return a graph of rotary positions that nothing stands before."""
    graph, weights = unrotated(op.Rotary(1, 100.0))
    a, _, turned, head = graph.nodes
    nodes = (a, replace(turned, inputs=("a",)), head)
    tensors = tuple(each for each in graph.tensors if each.name != "gain")
    return replace(graph, tensors=tensors, nodes=nodes), weights_without(weights, "gain")


def weights_without(weights: Arrays, name: str) -> Arrays:
    return {key: value for key, value in weights.items() if key != name}


def unlike_heads(rotary: bool) -> tuple[Graph, Arrays]:
    """Return a graph whose two heads of 4 features are made of pieces of 2 and 6."""
    graph = Graph(
        (3, 6),
        (TensorSpec("a", (2, 6)), TensorSpec("b", (6, 6)), TensorSpec("head", (3, 8))),
        (
            *(Node(name, op.Linear(), (GRAPH_INPUT,), (name,)) for name in "ab"),
            Node("both", op.Concatenate(), ("a", "b")),
            Node("turned", op.Rotary(2, 100.0) if rotary else op.Scale(2.0), ("both",)),
            Node("attended", op.Attention(2, causal=True), ("turned", "turned", "both")),
            Node("head", op.Linear(), ("attended",), ("head",)),
        ),
    )
    return graph, random_weights(graph, dtype="float64")


NEEDED: list[tuple[type[op.Operation], Limit, Callable[[], tuple[Graph, Arrays]]]] = [
    *(
        (operation, limit, lambda name=name: of_case(name))
        for operation, limits, name in (
            (op.Relu, (SIGN, ROTATION), "relu"),
            (op.LeakyRelu, (SIGN, ROTATION), "leaky_relu"),
            (op.Prelu, (SIGN, ROTATION), "prelu"),
            (op.Gelu, (SIGN, MAGNITUDE, ROTATION), "gelu"),
            (op.Silu, (SIGN, MAGNITUDE, ROTATION), "silu"),
            (op.Sigmoid, (SIGN, MAGNITUDE, ROTATION), "sigmoid"),
            (op.Tanh, (MAGNITUDE, ROTATION), "tanh"),
            (op.Hardtanh, (SIGN, MAGNITUDE, ROTATION), "hardtanh"),
            (op.Hardswish, (SIGN, MAGNITUDE, ROTATION), "hardswish"),
            (op.Hardsigmoid, (SIGN, MAGNITUDE, ROTATION), "hardsigmoid"),
            (op.MaxPool2d, (SIGN,), "max_pool2d"),
            (op.Multiply, (SIGN, MAGNITUDE, ROTATION), "multiply"),
            (op.BatchNorm, (MAGNITUDE,), "batch_norm"),
            (op.BatchNorm, (ROTATION,), "batch_norm of vectors"),
            (op.GroupNorm, (SIGN, MAGNITUDE), "group_norm of one group"),
            (op.GroupNorm, (MAGNITUDE,), "group_norm of one each"),
            (op.GroupNorm, (ORDER,), "group_norm across what is read before"),
            (op.GroupNorm, (ROTATION,), "group_norm of vectors"),
            (op.LayerNorm, (Limit.ONES,), "layer_norm without gain"),
            (op.LayerNorm, (SIGN, MAGNITUDE, ROTATION), "layer_norm before relu"),
            (op.RmsNorm, (MAGNITUDE, ROTATION), "rms_norm before relu"),
            (op.SliceChannels, (EVERYTHING,), "slice_channels through a group"),
            (op.Conv2d, (EVERYTHING,), "grouped conv2d"),
        )
        for limit in limits
    ),
    (op.Attention, MAGNITUDE, lambda: unrotated(op.Attention(1, causal=False))),
    (op.Attention, EVERYTHING, lambda: unlike_heads(rotary=False)),
    *(
        (op.Rotary, limit, lambda: unrotated(op.Rotary(1, 100.0)))
        for limit in SIGN | MAGNITUDE | ORDER
    ),
    (op.Rotary, Limit.FREQUENCY, turned_heads),
]


IDS = [f"{operation.name} {limit.name}" for operation, limit, _ in NEEDED]


@pytest.mark.parametrize(("operation", "limit", "build"), NEEDED, ids=IDS)
def test_restriction_is_needed(
    operation: type[op.Operation],
    limit: Limit,
    build: Callable[[], tuple[Graph, Arrays]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, weights = build()
    assert worst(graph, weights) < 1e-10
    restrict = Call.restrict

    def weaker(call: Call, limits: Limit, *inputs: int) -> None:
        own = isinstance(call.node.operation, operation)
        restrict(call, limits & ~limit if own else limits, *inputs)

    monkeypatch.setattr(Call, "restrict", weaker)
    assert worst(graph, weights) > 1e-7


@pytest.mark.parametrize(
    "name",
    ["add", "multiply", "attention", "slice_channels between groups"],
)
def test_ties_are_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, weights = of_case(name)
    monkeypatch.setattr(Groups, "tie", lambda self, first, second, why: None)
    assert worst(graph, weights) > 1e-7


@pytest.mark.parametrize("end", ["input", "output"])
def test_ends_must_be_pinned(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = Groups.pin

    def weaker(groups: Groups, channels: Channels, why: str) -> None:
        if why != f"the network's {end}":
            pin(groups, channels, why)

    monkeypatch.setattr(Groups, "pin", weaker)
    for name in ("linear", "relu", "conv2d"):
        assert worst(*of_case(name)) > 1e-7


def test_additions_of_unlike_layouts_must_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Groups, "pin", lambda self, channels, why: None)
    graph = mixed_addition()
    assert worst(graph, random_weights(graph, dtype="float64")) > 1e-7


@pytest.mark.parametrize(
    "name", ["linear", "relu", "conv2d", "batch_norm", "layer_norm before relu"]
)
def test_frozen_tensors_must_be_pinned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, weights = of_case(name)
    frozen = graph.trained[0].name
    tensors = tuple(
        replace(each, role=TensorRole.FROZEN) if each.name == frozen else each
        for each in graph.tensors
    )
    graph = replace(graph, tensors=tensors)
    assert worst(graph, weights) < 1e-10
    monkeypatch.setattr(gauge, "_freeze", lambda groups, name, axes: None)
    assert worst(graph, weights) > 1e-7


MOVING = (
    "linear",
    "relu",
    "conv2d",
    "depthwise conv2d",
    "grouped conv2d",
    "prelu",
    "batch_norm",
    "group_norm of one each",
    "layer_norm before relu",
    "rms_norm before relu",
    "embedding",
    "add_positions",
)


@pytest.mark.parametrize("name", MOVING)
def test_every_axis_that_follows_a_group_must(name: str) -> None:
    graph, weights = of_case(name)
    structure = analyse(graph)
    inner = {tensor.name: tensor for tensor in structure.tensors}
    last = graph.nodes[-1]
    checked = 0
    for tensor in structure.tensors:
        for place, axis in enumerate(tensor.axes):
            if _is_fixed(structure, axis):
                continue  # the input's or the output's channels
            others = tensor.axes[:place] + tensor.axes[place + 1 :]
            for axes in (others, *_without_scales(structure, tensor.axes, place)):
                changed = inner | {tensor.name: replace(tensor, axes=axes)}
                broken = replace(structure, tensors=tuple(changed.values()))
                assert any(errors(graph, weights, broken, seed, BITS) > 1e-7 for seed in range(3))
                checked += 1
    assert checked >= len(last.tensors)


def _is_fixed(structure: GaugeStructure, axis: AxisGauge) -> bool:
    segments = [*axis.segments, *(each for segments, _ in axis.scales for each in segments)]
    return all(_is_pinned(structure, each) for each in segments)


def _is_pinned(structure: GaugeStructure, each: Placed) -> bool:
    scale = structure.scale_groups[each.scale]
    free = scale.signed or scale.stretched or not structure.order_groups[each.order].pinned
    return each.rotation is None and not free


def _without_scales(
    structure: GaugeStructure, axes: tuple[AxisGauge, ...], place: int
) -> list[tuple[AxisGauge, ...]]:
    """Return the axes with one scale left out that is not always 1, in turn, or upside down."""
    found = []
    axis = axes[place]
    for index, (segments, power) in enumerate(axis.scales):
        groups = [structure.scale_groups[each.scale] for each in segments]
        if any(each.signed or each.stretched for each in groups):
            rest = axis.scales[:index] + axis.scales[index + 1 :]
            choices = [rest]
            if any(each.stretched for each in groups):
                choices.append((*rest, (segments, -power)))
            found += [
                (*axes[:place], replace(axis, scales=each), *axes[place + 1 :]) for each in choices
            ]
    return found
