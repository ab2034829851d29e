"""Secrets: exact perturbation and recovery, freshness, silence, and keeping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import (
    GRAPHS,
    linear_chain,
    mlp,
    outputs_and_gradients,
    random_weights,
    residual_cnn,
    transformer,
)
from recovered import SeededRandomness

from omnilytics.foundation.errors import MalformedError, ModelError
from omnilytics.perturbation.draws import uniform_orthogonal
from omnilytics.perturbation.gauge import analyse
from omnilytics.perturbation.losses import Loss
from omnilytics.perturbation.secret import Record, restore_secret, sample_secret

UNROTATED = [name for name, graph in GRAPHS.items() if not analyse(graph).rotation_groups]


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("name", GRAPHS)
def test_same_function_and_exact_recovery(
    name: str, dtype: str, tolerance: float, loss: Loss
) -> None:
    graph = GRAPHS[name]
    weights = random_weights(graph, dtype=dtype)
    want_outputs, want = outputs_and_gradients(graph, weights, loss)
    for seed in range(3):
        secret = sample_secret(analyse(graph), SeededRandomness(seed))
        outputs, gradients = outputs_and_gradients(graph, secret.perturb(weights), loss)
        np.testing.assert_allclose(outputs, want_outputs, rtol=tolerance, atol=tolerance)
        recovered = secret.recover(gradients)
        for tensor, gradient in want.items():
            assert recovered[tensor].dtype == gradient.dtype
            scale = np.abs(gradient).max()
            assert scale > 0
            np.testing.assert_allclose(recovered[tensor], gradient, rtol=0, atol=tolerance * scale)
            # Norm-preserving: a bound on the perturbed gradient bounds the true one.
            assert np.linalg.norm(gradients[tensor]) == pytest.approx(
                np.linalg.norm(gradient), rel=tolerance * 10
            )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", UNROTATED)
def test_perturbation_is_bit_exact_and_linear(name: str, dtype: str) -> None:
    graph = GRAPHS[name]
    weights = random_weights(graph, dtype=dtype)
    secret = sample_secret(analyse(graph), SeededRandomness(1))
    perturbed = secret.perturb(weights)
    for tensor, weight in weights.items():
        assert perturbed[tensor].dtype == weight.dtype
        # The same magnitudes, bit for bit, in other places and with other signs.
        np.testing.assert_array_equal(
            np.sort(np.abs(perturbed[tensor]), axis=None), np.sort(np.abs(weight), axis=None)
        )
    # Signs and permutations are orthogonal, so the gradient's map undoes the weights' map.
    restored = secret.recover(perturbed)
    for tensor, weight in weights.items():
        np.testing.assert_array_equal(restored[tensor], weight)


def test_powers_of_two_are_bit_exact_both_ways() -> None:
    graph = residual_cnn()
    weights = random_weights(graph)
    wide = {name: each.astype(np.float64) for name, each in weights.items()}
    secret = sample_secret(analyse(graph), SeededRandomness(8), magnitude_bits=5)
    # Nothing is rounded: numbers of 24 bits give the same in 24 bits as in 53.
    perturbed = secret.perturb(weights)
    for convert in (secret.perturb, secret.recover):
        for name, exact in convert(wide).items():
            np.testing.assert_array_equal(convert(weights)[name], exact)
    # R o R o W: every mantissa and sign where it was, and magnitudes did change.
    for name, twice in secret.recover(perturbed).items():
        mantissas, exponents = np.frexp(weights[name])
        found_mantissas, found_exponents = np.frexp(twice)
        np.testing.assert_array_equal(found_mantissas, mantissas)
        assert (found_exponents != exponents).any()
        assert ((found_exponents - exponents) % 2 == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_of_two_keep_the_function_and_bring_gradients_back(dtype: str) -> None:
    graph = residual_cnn()
    weights = random_weights(graph, dtype=dtype)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    secret = sample_secret(analyse(graph), SeededRandomness(8), magnitude_bits=5)
    want_outputs, want = outputs_and_gradients(graph, weights, Loss.MSE)
    outputs, gradients = outputs_and_gradients(graph, secret.perturb(weights), Loss.MSE)
    np.testing.assert_allclose(outputs, want_outputs, rtol=0, atol=tolerance)
    for name, gradient in secret.recover(gradients).items():
        scale = np.abs(want[name]).max()
        np.testing.assert_allclose(gradient, want[name], rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", ["mlp", "linear chain", "residual cnn"])
def test_every_hidden_tensor_changes(name: str) -> None:
    graph = GRAPHS[name]
    weights = random_weights(graph)
    perturbed = sample_secret(analyse(graph), SeededRandomness(2)).perturb(weights)
    pinned = {"b.bias"}  # the output's own bias cannot move
    for tensor, weight in weights.items():
        assert np.array_equal(perturbed[tensor], weight) == (tensor in pinned), tensor


def test_rotations_mix_what_orders_only_move() -> None:
    weights = random_weights(linear_chain())
    perturbed = sample_secret(analyse(linear_chain()), SeededRandomness(4)).perturb(weights)
    moved = np.sort(np.abs(perturbed["a.bias"]))
    assert not np.isin(moved, np.abs(weights["a.bias"])).any()
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(weights["a.bias"]), rel=1e-6)


def test_secrets_are_fresh_and_silent() -> None:
    structure = analyse(residual_cnn())
    weights = random_weights(residual_cnn())
    draw = SeededRandomness(9)
    first, second = sample_secret(structure, draw), sample_secret(structure, draw)
    assert not np.array_equal(
        first.perturb(weights)["stem.weight"], second.perturb(weights)["stem.weight"]
    )
    assert repr(first) == "GaugeSecret(9 tensors)"


def test_secret_refuses_other_tensors() -> None:
    graph = mlp()
    secret = sample_secret(analyse(graph), SeededRandomness(1))
    weights = random_weights(graph)
    with pytest.raises(ModelError, match="not those of the graph"):
        secret.recover({**weights, "c": weights["a.bias"]})
    for call in (secret.recover, secret.perturb):
        with pytest.raises(ModelError, match="not those of the graph"):
            call({"a.bias": weights["a.bias"]})
        with pytest.raises(ModelError, match="another shape"):
            call({**weights, "a.bias": weights["b.bias"]})


@pytest.mark.parametrize("name", ["mlp", "linear chain", "residual cnn"])
@pytest.mark.parametrize("magnitude_bits", [0, 3])
def test_a_kept_secret_is_the_same(name: str, magnitude_bits: int) -> None:
    structure = analyse(GRAPHS[name])
    secret = sample_secret(structure, SeededRandomness(4), magnitude_bits=magnitude_bits)
    weights = random_weights(GRAPHS[name])
    again = restore_secret(structure, secret.record())
    for tensor, perturbed in secret.perturb(weights).items():
        np.testing.assert_array_equal(again.perturb(weights)[tensor], perturbed)
    assert again.record() == secret.record()


def changed(record: Record, part: str, index: int, value: Any) -> Record:
    dtype = "<i8" if part == "orders" else "<f8"
    found = {name: list(each) for name, each in record.items()}
    found[part][index] = np.asarray(value, dtype=dtype).tobytes()
    return found


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("orders", np.zeros(8)),
        ("orders", np.arange(1, 9)),
        ("orders", np.arange(7)),
        ("scales", np.full(8, -1.0)),  # a ReLU follows
        ("scales", np.full(8, 3.0)),  # no power of two
        ("scales", np.full(8, 2.0**9)),
        ("scales", np.full(8, 0.0)),
        ("scales", np.full(8, np.nan)),
        ("scales", np.full(8, np.inf)),
        ("scales", np.ones(7)),
    ],
)
def test_a_secret_of_another_model_is_refused(part: str, value: Any) -> None:
    structure = analyse(mlp())
    record = sample_secret(structure, SeededRandomness(4)).record()
    hidden = 1  # the groups are input, hidden, output
    with pytest.raises(MalformedError, match="not of this model"):
        restore_secret(structure, changed(record, part, hidden, value))


def test_pinned_parts_of_a_kept_secret_must_be_as_they_are() -> None:
    structure = analyse(mlp())
    record = sample_secret(structure, SeededRandomness(4)).record()
    with pytest.raises(MalformedError, match="not of this model"):
        restore_secret(structure, changed(record, "orders", 0, np.arange(6)[::-1]))
    with pytest.raises(MalformedError, match="not of this model"):
        restore_secret(structure, changed(record, "scales", 2, np.full(3, 2.0)))


def test_rotations_of_a_kept_secret_must_be_of_their_kind() -> None:
    graph = transformer()
    structure = analyse(graph)
    secret = sample_secret(structure, SeededRandomness(4))
    record, weights = secret.record(), random_weights(graph, dtype="float64")
    again = restore_secret(structure, record)
    for name, perturbed in secret.perturb(weights).items():
        np.testing.assert_array_equal(again.perturb(weights)[name], perturbed)
    kinds = [(each.keeps_ones, each.by_frequency) for each in structure.rotation_groups]
    assert sorted(kinds) == [*[(False, False)] * 2, *[(False, True)] * 2, (True, False)]
    for index, group in enumerate(structure.rotation_groups):
        if group.keeps_ones or group.by_frequency:
            other = uniform_orthogonal(group.channels, SeededRandomness(1))
            with pytest.raises(MalformedError, match="not of this model"):
                restore_secret(structure, changed(record, "rotations", index, other))


def test_damaged_records_are_refused() -> None:
    structure = analyse(linear_chain())
    record = sample_secret(structure, SeededRandomness(4)).record()
    stretched = np.eye(8) * (1 + 1e-6)
    wrong: list[Any] = [
        {},
        {**record, "orders": record["orders"][1:]},
        {**record, "scales": None},
        {**record, "scales": [part[:-1] for part in record["scales"]]},
        {**record, "rotations": []},
        {**record, "rotations": [b"\x00" * 16]},
        changed(record, "rotations", 0, stretched),
        changed(record, "rotations", 0, np.full((8, 8), np.nan)),
    ]
    for each in wrong:
        with pytest.raises(MalformedError, match="not of this model"):
            restore_secret(structure, each)
