"""A data owner's step: the gradient of the mean loss over one batch, on the perturbed model."""

from __future__ import annotations

import numpy as np
import torch

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.datasets import Batch
from omnilytics.perturbation.artefact import Artefact, Tensors
from omnilytics.perturbation.graph import Graph
from omnilytics.perturbation.interpreter import run_graph
from omnilytics.perturbation.losses import Loss, loss_value


def compute_gradients(artefact: Artefact, batch: Batch, loss: Loss) -> Tensors:
    """Return the gradient of the mean loss with respect to every tensor of the artefact.

    Args:
        artefact: A decoded artefact; nothing in it is executed.
        batch: At least one sample.
        loss: The task's loss.

    Returns:
        float32 arrays by tensor name, in the graph's order and shapes, all finite.

    Raises:
        ModelError: If the batch does not fit the graph, or a gradient is NaN or infinite (it
            names the tensor).
    """
    check_batch(artefact.graph, batch)
    weights = {
        tensor.name: torch.tensor(artefact.weights[tensor.name], requires_grad=True)
        for tensor in artefact.graph.tensors
    }
    outputs = run_graph(artefact.graph, weights, torch.from_numpy(batch.inputs))
    value = loss_value(loss, outputs, torch.from_numpy(batch.labels))
    gradients = torch.autograd.grad(value, list(weights.values()))
    named = {name: gradient.numpy() for name, gradient in zip(weights, gradients, strict=True)}
    for name, gradient in named.items():
        if not np.isfinite(gradient).all():
            raise ModelError(
                "the gradient is NaN or infinite",
                hint="the model may have diverged: a smaller learning rate helps",
                tensor=name,
            )
    return named


def check_batch(graph: Graph, batch: Batch) -> None:
    """Raise `ModelError` unless `batch` fits the graph's input and output."""
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
    if batch.labels.shape != (len(batch),) or batch.labels.dtype != np.int64:
        raise ModelError(
            "the batch's labels are not one int64 class per sample",
            got=(batch.labels.dtype, batch.labels.shape),
        )
    outputs = graph.output_shape[0]
    if batch.labels.min() < 0 or batch.labels.max() >= outputs:
        raise ModelError(
            "a label is not one of the model's classes",
            got=int(batch.labels.max()),
            want=f"0 to {outputs - 1}",
        )
