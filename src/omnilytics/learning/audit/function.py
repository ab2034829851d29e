"""Using the published model as it is: what a data owner gets without any attack."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np

from omnilytics.learning.audit.structure import publish
from omnilytics.learning.audit.subject import Subject, outputs_of
from omnilytics.perturbation.artefact import Tensors
from omnilytics.perturbation.losses import Loss


@dataclass(frozen=True)
class FunctionSeen:
    """The published model beside the true one.

    Attributes:
        agreement: Share of samples with the same largest output (sign, for one output).
        difference: Largest difference of an output over the largest output.
        published_accuracy: Share of right decisions of the published model; NaN without classes.
        true_accuracy: The same of the true one.
    """

    agreement: float
    difference: float
    published_accuracy: float
    true_accuracy: float


def compare_function(subject: Subject, published: Tensors) -> FunctionSeen:
    """Return what the published weights compute beside what the true ones do."""
    true = outputs_of(subject.graph, subject.weights, subject.data)
    seen = outputs_of(subject.graph, published, subject.data)
    largest = float(np.abs(true).max()) or 1.0
    accuracies = (nan, nan)
    if subject.has_classes:
        accuracies = tuple(  # type: ignore[assignment]
            float((_decided(each) == subject.data.labels).mean()) for each in (seen, true)
        )
    elif subject.loss is Loss.BINARY_CROSS_ENTROPY:
        wanted = subject.data.labels.reshape(true.shape) > 0.5
        accuracies = float(((seen > 0) == wanted).mean()), float(((true > 0) == wanted).mean())
    return FunctionSeen(
        agreement=float((_decided(seen) == _decided(true)).mean()),
        difference=float(np.abs(seen - true).max()) / largest,
        published_accuracy=accuracies[0],
        true_accuracy=accuracies[1],
    )


def gauge_function(subject: Subject) -> FunctionSeen:
    """Return what the model computes once it is published under the `gauge` profile."""
    return compare_function(
        subject, publish(subject.graph, subject.weights, subject.seed, 4).weights
    )


def _decided(outputs: np.ndarray) -> np.ndarray:
    if outputs.shape[-1] == 1:
        return np.asarray(outputs[..., 0] > 0)
    return np.asarray(outputs.argmax(axis=-1))
