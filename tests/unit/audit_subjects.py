"""Small networks and data for the audit's tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from omnilytics.learning.audit.subject import Subject
from omnilytics.learning.carried import CarriedModel
from omnilytics.learning.datasets import Batch
from omnilytics.perturbation.losses import Loss


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.inner = nn.Conv2d(6, 5, 3, padding=1)
        self.outer = nn.Conv2d(5, 6, 3, padding=1)
        self.head = nn.Linear(6 * 9, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.outer(torch.relu(self.inner(x))))
        outputs: torch.Tensor = self.head(torch.max_pool2d(x, 2).flatten(1))
        return outputs


class Normalised(nn.Module):
    """Batch norms, and a convolution by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(6)
        self.depth = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.outer = nn.Conv2d(6, 8, 1)
        self.outer_norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 9, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(self.outer_norm(self.outer(torch.relu(self.depth(x)))))
        outputs: torch.Tensor = self.head(torch.max_pool2d(x, 2).flatten(1))
        return outputs


class Branched(nn.Module):
    """Two branches, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(1, 4, 3, padding=1)
        self.right = nn.Conv2d(1, 4, 5, padding=2)
        self.joined = nn.Conv2d(8, 5, 1)
        self.head = nn.Linear(5 * 9, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], dim=1)
        x = torch.max_pool2d(torch.relu(self.joined(x)), 2)
        outputs: torch.Tensor = self.head(x.flatten(1))
        return outputs


class Rotated(nn.Module):
    """A residual stream that a secret orthogonal matrix turns, as in a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Linear(6, 8)
        self.up = nn.Linear(8, 12)
        self.down = nn.Linear(12, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inward(x)
        x = x + self.down(nn.functional.gelu(self.up(x)))
        outputs: torch.Tensor = self.head(x.mean(dim=1))
        return outputs


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3)
    )


NETWORKS = {
    "mlp": mlp,
    "residual": Residual,
    "normalised": Normalised,
    "branched": Branched,
    "rotated": Rotated,
}


def of_module(module: nn.Module, data: Batch, *, loss: Loss, seed: int = 0) -> Subject:
    carried = CarriedModel(module, input_shape=data.inputs.shape[1:])
    return Subject(carried.graph, carried.weights(), loss, data, seed=seed)


def images(seed: int = 0) -> Batch:
    coarse = np.random.default_rng(seed).normal(size=(96, 1, 3, 3))
    inputs = np.kron(coarse, np.ones((2, 2))).astype(np.float32)
    return Batch(inputs, inputs.reshape(96, 3, 12).sum(axis=2).argmax(axis=1))


def subject(module: str = "mlp", seed: int = 0, loss: Loss = Loss.CROSS_ENTROPY) -> Subject:
    torch.manual_seed(seed)
    data = images(seed)
    if module == "rotated":
        data = Batch(np.ascontiguousarray(data.inputs[:, 0]), data.labels)
    return of_module(NETWORKS[module](), data, loss=loss, seed=seed)


def linear_alone(loss: Loss = Loss.CROSS_ENTROPY) -> Subject:
    torch.manual_seed(0)
    inputs = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    return of_module(nn.Linear(4, 3), Batch(inputs, np.arange(8) % 3), loss=loss)
