"""Federated SGD in the clear: the baseline whose owners are believed and whose server sees all.

The model owner sends its weights, owners send PyTorch's gradient of them, one server adds them.
Batches, gradients, mean and step are those of a protected round; nothing else is done.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from omnilytics.learning.datasets import Batch
from omnilytics.perturbation.losses import Loss, loss_value

Gradient = list[NDArray[np.float32]]


def gradient(module: nn.Module, batch: Batch, loss: Loss) -> Gradient:
    """Return the gradient of the mean loss by parameter, as the network is in training."""
    module.train()
    parameters = [each for each in module.parameters() if each.requires_grad]
    value = loss_value(loss, module(torch.from_numpy(batch.inputs)), torch.from_numpy(batch.labels))
    return [each.numpy() for each in torch.autograd.grad(value, parameters)]


def mean(gradients: Sequence[Gradient]) -> Gradient:
    """Return the mean over owners, added one after the other as they arrive."""
    total = [np.zeros_like(each) for each in gradients[0]]
    for found in gradients:
        for part, each in zip(total, found, strict=True):
            np.add(part, each, out=part)
    return [part / np.float32(len(gradients)) for part in total]


def step(module: nn.Module, optimiser: torch.optim.Optimizer, found: Gradient) -> None:
    """Take one optimiser step along a gradient by parameter."""
    parameters = [each for each in module.parameters() if each.requires_grad]
    for parameter, each in zip(parameters, found, strict=True):
        parameter.grad = torch.from_numpy(each)
    optimiser.step()
