"""Gauge analysis: which groups a graph has, and what restricts them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from graphs import linear_chain, mixed_addition, mlp, residual_cnn

from omnilytics.perturbation import interpreter
from omnilytics.perturbation.gauge import GaugeStructure, analyse
from omnilytics.perturbation.gauge_rules import RULES
from omnilytics.perturbation.operations import OPERATIONS


def scales(structure: GaugeStructure) -> Counter[tuple[int, bool, bool]]:
    return Counter(
        (group.channels, group.signed, group.stretched) for group in structure.scale_groups
    )


def test_groups_of_a_residual_network() -> None:
    structure = analyse(residual_cnn())
    assert scales(structure) == {
        (2, False, False): 1,  # input
        (4, False, True): 1,  # stem, tied to the second convolution by the addition
        (5, False, True): 1,
        (6, True, True): 1,  # mix: only pools and flatten before the next linear layer
        (7, False, True): 1,
        (3, False, False): 1,  # output
    }
    free = [group.channels for group in structure.order_groups if not group.pinned]
    assert sorted(free) == [4, 5, 6, 7]
    assert not structure.rotation_groups
    axes = {tensor.name: tensor.axes for tensor in structure.tensors}
    (pixels,) = axes["hidden.weight"][1].segments
    (mixed,) = axes["mix.weight"][0].segments
    assert (pixels.block, mixed.block) == (4, 1)
    assert (pixels.order, pixels.scale) == (mixed.order, mixed.scale)
    assert axes["two.weight"][0] == axes["stem.weight"][0]
    assert [axis.axis for axis in axes["two.bias"]] == [0]


def test_signs_need_a_linear_path_and_rotations_too() -> None:
    assert scales(analyse(mlp()))[8, False, True] == 1
    assert not analyse(mlp()).rotation_groups
    structure = analyse(linear_chain())
    assert [group.channels for group in structure.rotation_groups] == [8]
    # A rotation replaces order and scale of its channels.
    assert scales(structure)[8, False, False] == 1
    assert all(group.pinned for group in structure.order_groups)


def test_additions_of_unlike_layouts_are_pinned() -> None:
    structure = analyse(mixed_addition())
    assert all(group.pinned for group in structure.order_groups)
    assert not any(group.signed or group.stretched for group in structure.scale_groups)
    assert not structure.rotation_groups
    assert structure.secret_bits() == 0


def test_restrictions_say_why() -> None:
    structure = analyse(residual_cnn())
    reasons = {group.channels: group.why for group in structure.scale_groups}
    assert reasons == {
        2: "the network's input",
        4: "relu relu",
        5: "relu relu_1",
        6: "",
        7: "relu relu_3",
        3: "the network's output",
    }
    pinned = {group.channels: group.why for group in structure.order_groups if group.pinned}
    assert pinned == {2: "the network's input", 3: "the network's output"}
    orders = analyse(mixed_addition()).order_groups
    assert "add add" in {group.why for group in orders}
    assert [group.why for group in analyse(linear_chain()).order_groups] == [
        "the network's input",
        "mixed by a rotation",
        "the network's output",
    ]


def test_secret_bits() -> None:
    assert analyse(mlp()).secret_bits() == pytest.approx(np.log2(40320))
    # Orders of 4, 5, 6, 7 channels and the 6 signs before the flattening.
    orders = np.log2(24.0) + np.log2(120.0) + np.log2(720.0) + np.log2(5040.0)
    assert analyse(residual_cnn()).secret_bits() == pytest.approx(orders + 6)


def test_every_listed_operation_is_complete() -> None:
    assert set(interpreter._RUN) == set(RULES) == set(OPERATIONS.values())
