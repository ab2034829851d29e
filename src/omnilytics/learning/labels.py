"""A batch as a graph and a loss take it, or an error that says what does not fit."""

from __future__ import annotations

import numpy as np

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.datasets import Batch, Labels
from omnilytics.perturbation.graph import Graph, InputKind
from omnilytics.perturbation.losses import Loss


def fitting_labels(graph: Graph, batch: Batch, loss: Loss) -> Labels:
    """Return a batch's labels as the loss takes them.

    Raises:
        ModelError: The inputs or the labels do not fit the graph and the loss.
    """
    if len(batch) < 1:
        raise ModelError("the batch is empty", want="at least one sample")
    if batch.inputs.shape != (len(batch), *graph.input_shape):
        raise ModelError(
            "the batch does not fit the model",
            got=batch.inputs.shape[1:],
            want=graph.input_shape,
        )
    _check_inputs(graph, batch)
    places, outputs = graph.output_shape[:-1], graph.output_shape[-1]
    classes = loss is Loss.CROSS_ENTROPY or (loss is Loss.MSE and outputs > 1)
    if classes and (loss is Loss.CROSS_ENTROPY or batch.labels.dtype == np.int64):
        return _classes(batch.labels, (len(batch), *places), outputs)
    return _targets(batch.labels, (len(batch), *places), outputs, loss)


def _check_inputs(graph: Graph, batch: Batch) -> None:
    if graph.input_kind is InputKind.TOKENS:
        tokens = batch.inputs
        if tokens.dtype != np.int64 or tokens.min() < 0 or tokens.max() >= graph.vocabulary:
            raise ModelError(
                "the batch's inputs are not tokens of the model",
                got=tokens.dtype if tokens.dtype != np.int64 else (tokens.min(), tokens.max()),
                want=f"int64, 0 to {graph.vocabulary - 1}",
            )
    elif batch.inputs.dtype != np.float32 or not np.isfinite(batch.inputs).all():
        raise ModelError("the batch's inputs are not finite float32", got=batch.inputs.dtype)


def _classes(labels: Labels, shape: tuple[int, ...], outputs: int) -> Labels:
    if labels.shape != shape or labels.dtype != np.int64:
        raise ModelError(
            f"the batch's labels are not one int64 class per {'token' if shape[1:] else 'sample'}",
            got=(labels.dtype, labels.shape),
            hint="classes are whole numbers from 0; targets that are numbers need loss mse",
        )
    if labels.min() < 0 or labels.max() >= outputs:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise ModelError(
            "a label is not one of the model's classes", got=int(wrong), want=f"0 to {outputs - 1}"
        )
    return labels


def _targets(labels: Labels, shape: tuple[int, ...], outputs: int, loss: Loss) -> Labels:
    """Return targets of the outputs' shape; a model of one output may have them in one row."""
    if labels.ndim == 1 and outputs == 1:
        labels = labels[:, None]
    if labels.shape != (*shape, outputs):
        raise ModelError(
            "the batch's targets do not fit the model's outputs",
            got=labels.shape[1:],
            want=(*shape[1:], outputs),
        )
    targets = labels.astype(np.float32)
    if not np.isfinite(targets).all():
        raise ModelError("a target is NaN or infinite")
    binary = loss is Loss.BINARY_CROSS_ENTROPY
    if binary and not (targets.min() >= 0 and targets.max() <= 1):
        raise ModelError("a target is not between 0 and 1", hint="1 for yes, 0 for no")
    return targets
