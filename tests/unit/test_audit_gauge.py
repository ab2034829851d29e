"""What the audit finds out about the gauge, on networks where it must and where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from audit_subjects import linear_alone, subject

from omnilytics.learning.audit.function import compare_function, gauge_function
from omnilytics.learning.audit.matching import match_rounds
from omnilytics.learning.audit.scales import balance, recover_scales
from omnilytics.learning.audit.structure import (
    NotApplicable,
    draw_secret,
    read_structure,
    true_order,
    true_scales,
)
from omnilytics.learning.audit.subject import train_on


@pytest.mark.parametrize("module", ["mlp", "residual"])
def test_truth_is_read_from_the_secret(module: str) -> None:
    one = subject(module)
    structure = read_structure(one.graph)
    secret = draw_secret(one.graph, 5, magnitude_bits=3)
    published = secret.perturb(one.weights)
    name = "1.weight" if module == "mlp" else "stem.weight"
    group = structure.names.index(name)
    order = true_order(secret, structure, one.weights, group)
    assert sorted(order) == list(range(structure.channels[group]))
    scale = structure.tensors[name][0].scale
    scales = true_scales(secret, structure, one.weights, scale)
    ratio = published[name] / one.weights[name][order]
    assert ratio.reshape(len(ratio), -1)[:, 0] == pytest.approx(scales)
    assert np.ptp(scales) > 0


@pytest.mark.parametrize("module", ["mlp", "residual"])
def test_balancing_norms_finds_secret_scales(module: str) -> None:
    for found in recover_scales(subject(module)).correlations().values():
        assert found > 0.97


def test_balancing_finds_nothing_where_the_model_was_unbalanced_itself() -> None:
    one = subject()
    # The function is the same, the norms say nothing: what is undone is mostly this.
    odd = draw_secret(one.graph, 99, magnitude_bits=40).perturb(one.weights)
    found = recover_scales(one.with_weights(odd)).correlations()
    assert max(abs(each) for each in found.values()) < 0.6


def test_balanced_weights_stay_as_they_are() -> None:
    one = subject()
    structure = read_structure(one.graph)
    first = balance(structure, one.weights)
    secret = draw_secret(one.graph, 3, magnitude_bits=4)
    second = balance(structure, secret.perturb(one.weights))
    for group, logarithms in first.items():
        drawn = np.log2(true_scales(secret, structure, one.weights, group))
        order_group = next(
            side.order
            for sides in structure.tensors.values()
            for side in sides
            if side.scale == group
        )
        order = true_order(secret, structure, one.weights, order_group)
        # Exact up to what the true weights were out of balance before.
        assert second[group] - logarithms[order] == pytest.approx(drawn - drawn.mean(), abs=1e-6)


@pytest.mark.parametrize("module", ["mlp", "residual"])
@pytest.mark.parametrize("bits", [0, 4])
def test_consecutive_rounds_are_matched(module: str, bits: int) -> None:
    one = subject(module)
    matched = match_rounds(one, train_on(one, steps=1), magnitude_bits=bits)
    assert matched.share == 1
    assert sum(matched.units.values()) == (40 if module == "mlp" else 11)


@pytest.mark.parametrize("module", ["mlp", "residual"])
def test_models_that_have_nothing_in_common_are_not_matched(module: str) -> None:
    assert match_rounds(subject(module), subject(module, seed=8)).share < 0.4


def test_a_network_without_hidden_units_says_why() -> None:
    with pytest.raises(NotApplicable, match="no unit"):
        recover_scales(linear_alone())
    with pytest.raises(NotApplicable, match="no units"):
        match_rounds(linear_alone(), linear_alone())


def test_the_published_model_decides_as_the_true_one_and_another_does_not() -> None:
    one = train_on(subject(), steps=30)
    seen = gauge_function(one)
    assert (seen.agreement, seen.published_accuracy) == (1, seen.true_accuracy)
    assert seen.true_accuracy > 0.7
    assert seen.difference < 1e-5
    other = compare_function(one, subject(seed=8).weights)
    assert other.agreement < 0.6
    assert other.published_accuracy < 0.6
    assert other.difference > 0.1
