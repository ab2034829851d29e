"""Low-rank adapters (Hu et al., arXiv 2106.09685): small trained factors on a frozen network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class AdaptedLinear(nn.Module):
    """A frozen linear layer plus `scale * up(down(x))`, of which only `down` and `up` are trained.

    Args:
        frozen: The layer, with its weights.
        rank: Size between the factors, at least 1.
        scale: Multiplies the factors' product.
    """

    def __init__(self, frozen: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)  # at first nothing is changed
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (..., outputs) for (..., inputs)."""
        output: Tensor = self.frozen(x) + self.up(self.down(x)) * self.scale
        return output


def with_adapters(module: nn.Module, *, rank: int, seed: int, scale: float = 2.0) -> nn.Module:
    """Return a frozen copy of a network whose linear layers have trained adapters.

    Args:
        module: Any network; left as it was.
        rank: Rank of every adapter.
        seed: Public seed of the adapters' first factors; the global generator is left as it was.
        scale: alpha / rank of the paper.
    """
    adapted = copy.deepcopy(module).requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _adapt(adapted, rank, scale)


def _adapt(module: nn.Module, rank: int, scale: float) -> nn.Module:
    if isinstance(module, nn.Linear):
        return AdaptedLinear(module, rank, scale)
    for name, child in list(module.named_children()):
        setattr(module, name, _adapt(child, rank, scale))
    return module
