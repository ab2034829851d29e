"""A data owner's step: the gradient of the mean loss over its samples, on the perturbed model.

Samples may come in parts, such as a DataLoader gives: the gradient is that of the mean over all of
them, and only one part and one gradient are held at a time.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.datasets import Batch, Labels
from omnilytics.perturbation.artefact import Artefact, Tensors
from omnilytics.perturbation.graph import Graph
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.losses import Loss, loss_value


def compute_gradients(artefact: Artefact, data: Batch | Iterable[Batch], loss: Loss) -> Tensors:
    """Return the gradient of the mean loss with respect to every tensor of the artefact.

    Args:
        artefact: A decoded artefact; nothing in it is executed.
        data: At least one sample, at once or in parts of any sizes.
        loss: The task's loss.

    Returns:
        float32 arrays by tensor name, in the graph's order and shapes, all finite.

    Raises:
        ModelError: If a batch does not fit the graph, or a gradient is NaN or infinite (it
            names the tensor).
    """
    weights = {
        tensor.name: torch.tensor(artefact.weights[tensor.name], requires_grad=True)
        for tensor in artefact.graph.tensors
    }
    # Float64: one part alone comes out exactly as its own gradient.
    sums = [torch.zeros(tensor.shape, dtype=torch.float64) for tensor in weights.values()]
    samples = 0
    for batch in [data] if isinstance(data, Batch) else data:
        labels = torch.from_numpy(fitting_labels(artefact.graph, batch, loss))
        outputs = run_graph(artefact.graph, weights, torch.from_numpy(batch.inputs))
        gradients = torch.autograd.grad(loss_value(loss, outputs, labels), list(weights.values()))
        for total, gradient in zip(sums, gradients, strict=True):
            total.add_(gradient.double(), alpha=len(batch))
        samples += len(batch)
    if not samples:
        raise ModelError("there is no data", want="at least one sample")
    named = {
        name: total.div_(samples).float().numpy() for name, total in zip(weights, sums, strict=True)
    }
    for name, mean in named.items():
        if not np.isfinite(mean).all():
            raise ModelError(
                "the gradient is NaN or infinite",
                hint="the model may have diverged: a smaller learning rate helps",
                tensor=name,
            )
    return named


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
    if batch.inputs.dtype != np.float32 or not np.isfinite(batch.inputs).all():
        raise ModelError("the batch's inputs are not finite float32", got=batch.inputs.dtype)
    outputs = graph.output_shape[0]
    classes = loss is Loss.CROSS_ENTROPY or (loss is Loss.MSE and outputs > 1)
    if classes and (loss is Loss.CROSS_ENTROPY or batch.labels.dtype == np.int64):
        return _classes(batch.labels, outputs)
    return _targets(batch.labels, len(batch), outputs, loss)


def _classes(labels: Labels, outputs: int) -> Labels:
    if labels.ndim != 1 or labels.dtype != np.int64:
        raise ModelError(
            "the batch's labels are not one int64 class per sample",
            got=(labels.dtype, labels.shape),
            hint="classes are whole numbers from 0; targets that are numbers need loss mse",
        )
    if labels.min() < 0 or labels.max() >= outputs:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise ModelError(
            "a label is not one of the model's classes", got=int(wrong), want=f"0 to {outputs - 1}"
        )
    return labels


def _targets(labels: Labels, samples: int, outputs: int, loss: Loss) -> Labels:
    """Return targets of the outputs' shape; a model of one output may have them in one row."""
    if labels.ndim == 1 and outputs == 1:
        labels = labels[:, None]
    if labels.shape != (samples, outputs):
        raise ModelError(
            "the batch's targets do not fit the model's outputs",
            got=labels.shape[1:],
            want=(outputs,),
        )
    targets = labels.astype(np.float32)
    if not np.isfinite(targets).all():
        raise ModelError("a target is NaN or infinite")
    binary = loss is Loss.BINARY_CROSS_ENTROPY
    if binary and not (targets.min() >= 0 and targets.max() <= 1):
        raise ModelError("a target is not between 0 and 1", hint="1 for yes, 0 for no")
    return targets
