"""What the audit finds of data owners' samples, where it must and where it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_subjects import images, subject

from omnilytics.learning.audit.imprint import (
    imprint,
    imprint_artefact,
    read_imprint,
    refusals,
    share_reconstructed,
)
from omnilytics.learning.audit.inversion import correlations, invert, invert_means
from omnilytics.learning.audit.subject import mean_gradient, own_subject
from omnilytics.learning.datasets import Batch
from omnilytics.learning.gradients import compute_gradients
from omnilytics.learning.models import build_model
from omnilytics.perturbation.artefact import Artefact, Tensors
from omnilytics.perturbation.losses import Loss


def noised(gradients: Tensors, share: float) -> Tensors:
    """Return gradients with noise of that share of their norm, as differential privacy adds it."""
    draw = np.random.default_rng(0)
    norm = np.sqrt(sum(float((each**2).sum()) for each in gradients.values()))
    count = sum(each.size for each in gradients.values())
    return {
        name: (each + draw.normal(size=each.shape) * share * norm / np.sqrt(count)).astype(
            np.float32
        )
        for name, each in gradients.items()
    }


@pytest.mark.parametrize("published", [True, False])
def test_one_sample_is_found_from_its_gradient(published: bool) -> None:
    found = invert_means(subject(), samples=1, steps=80, starts=1, published=published)
    assert found.correlation > 0.9
    assert found.correlation > found.baseline + 0.2
    assert found.psnr > 15
    assert found.true.shape == found.found.shape == (4, 1, 6, 6)


def test_a_gradient_that_is_mostly_noise_gives_nothing_away() -> None:
    one = subject()
    batch = one.data.take(np.arange(1))
    gradient = compute_gradients(Artefact(one.graph, one.weights), batch, one.loss)
    for share, low, high in ((0.0, 0.9, 1.0), (30.0, -1.0, 0.5)):
        found = invert(one, one.weights, noised(gradient, share), batch, steps=80, starts=1, seed=0)
        assert low < correlations(batch.inputs, found)[0, 0] <= high


def test_a_mean_of_many_gives_less_of_each() -> None:
    one = subject()
    found = [invert_means(one, samples=count, steps=80, starts=1).correlation for count in (1, 24)]
    assert found[0] > found[1] + 0.3


def test_gradients_of_attention_are_met() -> None:
    data = Batch(images().inputs[:, 0], images().labels)
    network = build_model("transformer", input_shape=(6, 6), outputs=3, seed=0)
    one = own_subject(network, data, loss=Loss.CROSS_ENTROPY, seed=0)
    known = one.data.take(np.arange(1))
    wanted = mean_gradient(one, one.weights, known)

    def cosine(steps: int) -> float:
        found = invert(one, one.weights, wanted, known, steps=steps, starts=1, seed=0)
        made = mean_gradient(one, one.weights, Batch(found, known.labels))
        product = sum(float((made[name] * wanted[name]).sum()) for name in wanted)
        norms = [sum(float((each**2).sum()) for each in side.values()) for side in (made, wanted)]
        return float(product / np.sqrt(norms[0] * norms[1]))

    assert cosine(1) < 0.6
    assert cosine(60) > 0.9


def test_targets_that_are_numbers_are_attacked_too() -> None:
    one = subject(loss=Loss.MSE)
    targets = images(3).inputs.reshape(96, -1)[:, :3]
    found = invert_means(replace(one, data=replace(one.data, labels=targets)), samples=1, steps=100)
    assert found.correlation > 0.9


@pytest.mark.parametrize("loss", [Loss.CROSS_ENTROPY, Loss.MSE])
def test_an_imprint_layer_takes_samples_out_of_a_sum(loss: Loss) -> None:
    found = imprint(subject(loss=loss), owners=4, samples=3, units=96)
    assert (found.owners, found.samples) == (4, 12)
    assert found.reconstructed > 0.6
    assert found.rounded > 0.6
    assert found.refused


def test_an_imprint_layer_of_one_unit_or_under_noise_takes_nothing() -> None:
    one = subject()
    assert imprint(one, owners=4, samples=3, units=1).reconstructed == 0
    batch = one.data.take(np.arange(12))
    total = compute_gradients(imprint_artefact(one, one.data, 96), batch, one.loss)
    assert share_reconstructed(batch.inputs, read_imprint(total)) > 0.6
    assert share_reconstructed(batch.inputs, read_imprint(noised(total, 1.0))) == 0


def test_an_honest_network_gives_no_samples_away_like_that() -> None:
    one = subject()
    batch = one.data.take(np.arange(12))
    total = compute_gradients(Artefact(one.graph, one.weights), batch, one.loss)
    honest = {"imprint.weight": total["1.weight"], "imprint.bias": total["1.bias"]}
    assert share_reconstructed(batch.inputs, read_imprint(honest)) == 0
    assert not refusals(Artefact(one.graph, one.weights), batch)
