"""What the audit finds out about the gauge, on networks where it must and where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from audit_subjects import linear_alone, subject

from omnilytics.learning.audit.function import compare_function, gauge_function
from omnilytics.learning.audit.matching import match_rounds
from omnilytics.learning.audit.scales import balance, recover_scales
from omnilytics.learning.audit.structure import NotApplicable, publish, read_structure
from omnilytics.learning.audit.subject import train_on

ALL = ["mlp", "residual", "normalised", "branched"]


@pytest.mark.parametrize("module", ALL)
def test_pieces_cover_every_tensor_and_say_how_it_moves(module: str) -> None:
    one = subject(module)
    structure = read_structure(one.graph)
    published = publish(one.graph, one.weights, 5, magnitude_bits=3)
    covered = {name: np.zeros(tensor.shape) for name, tensor in one.weights.items()}
    for piece in structure.pieces:
        covered[piece.name][piece.cut] += 1
        expected = piece.of(one.weights)
        for side in piece.sides:
            for scale, power in side.scales:
                expected = expected * piece.along(side, published.scales[scale] ** power)
            order = published.orders[side.order]
            entries = order[:, None] * side.block + np.arange(side.block)
            expected = expected.take(entries.reshape(-1), axis=side.axis)
        assert piece.of(published.weights) == pytest.approx(expected)
    assert all((count == 1).all() for count in covered.values())
    assert any((np.abs(np.log2(scales)) >= 1).any() for scales in map(np.abs, published.scales))


@pytest.mark.parametrize("module", ALL)
def test_balancing_norms_finds_secret_scales(module: str) -> None:
    correlations = recover_scales(subject(module)).correlations()
    assert min(correlations.values()) > 0.9


def test_balancing_finds_nothing_where_the_model_was_unbalanced_itself() -> None:
    one = subject()
    # The function is the same, the norms say nothing: what is undone is mostly this.
    odd = publish(one.graph, one.weights, 99, magnitude_bits=8).weights
    found = recover_scales(one.with_weights(odd), magnitude_bits=1).correlations()
    assert max(abs(each) for each in found.values()) < 0.6


def test_what_is_balanced_anew_is_what_the_secret_upset() -> None:
    one = subject()
    structure = read_structure(one.graph)
    before = balance(structure, one.weights)
    published = publish(one.graph, one.weights, 3, magnitude_bits=4)
    after = balance(structure, published.weights)
    orders = {
        scale: side.order
        for piece in structure.pieces
        for side in piece.sides
        for scale, _ in side.scales
    }
    assert len(before) == 2
    for group, logarithms in before.items():
        order = published.orders[orders[group]]
        drawn = np.log2(np.abs(published.scales[group]))[order]
        assert after[group] - logarithms[order] == pytest.approx(drawn - drawn.mean(), abs=1e-6)


@pytest.mark.parametrize("module", [*ALL, "rotated"])
@pytest.mark.parametrize("bits", [0, 4])
def test_consecutive_rounds_are_matched(module: str, bits: int) -> None:
    one = subject(module)
    matched = match_rounds(one, train_on(one, steps=1), magnitude_bits=bits)
    assert matched.share == 1
    units = {"mlp": 40, "residual": 11, "normalised": 14, "branched": 13, "rotated": 12}
    assert sum(matched.units.values()) == units[module]


@pytest.mark.parametrize("module", [*ALL, "rotated"])
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
