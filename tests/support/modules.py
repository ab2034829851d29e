"""Small modules for tests of what the market carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

TOKENS, FEATURES, HEADS = 5, 8, 2


class Composed(nn.Module):
    """A function of a module with these parts and an input."""

    def __init__(
        self, function: Callable[[Any, Tensor], Any], **parts: nn.Module | nn.Parameter
    ) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def split_heads(value: Tensor, heads: int = HEADS) -> Tensor:
    """Return (batch, tokens, heads * d) as (batch, heads, tokens, d)."""
    return value.view(value.shape[0], value.shape[1], heads, -1).transpose(1, 2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, **options: Any) -> Tensor:
    """Return attention of values by heads, joined again."""
    found = functional.scaled_dot_product_attention(queries, keys, values, **options)
    return found.transpose(1, 2).flatten(2)


def rotary_tables(tokens: int = TOKENS, features: int = FEATURES // HEADS) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (tokens, features) of rotary positions, base 10,000."""
    frequencies = 10_000.0 ** (-torch.arange(0, features, 2) / features)
    angles = torch.outer(torch.arange(tokens), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(value: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return rotary positions applied to (..., tokens, d)."""
    first, second = value.chunk(2, dim=-1)
    return value * cosine + torch.cat([-second, first], dim=-1) * sine


class Block(nn.Module):
    """A pre-norm transformer block, with or without packed projections, rotation and a gate."""

    cosine: Tensor
    sine: Tensor

    def __init__(
        self,
        norm: Callable[[], nn.Module],
        *,
        packed: bool = False,
        rotary: bool = False,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.packed, self.rotary, self.gated = packed, rotary, gated
        self.first, self.second = norm(), norm()
        sizes = [3 * FEATURES] if packed else [FEATURES] * 3
        self.projections = nn.ModuleList(nn.Linear(FEATURES, size) for size in sizes)
        self.out = nn.Linear(FEATURES, FEATURES)
        self.up = nn.ModuleList(nn.Linear(FEATURES, 16) for _ in range(1 + gated))
        self.down = nn.Linear(16, FEATURES)
        cosine, sine = rotary_tables()
        self.register_buffer("cosine", cosine)
        self.register_buffer("sine", sine)

    def forward(self, x: Tensor) -> Any:
        normed = self.first(x)
        projected = [layer(normed) for layer in self.projections]
        parts = projected[0].chunk(3, dim=-1) if self.packed else projected
        queries, keys, values = (split_heads(each) for each in parts)
        if self.rotary:
            queries, keys = (rotate(each, self.cosine, self.sine) for each in (queries, keys))
        x = x + self.out(attend(queries, keys, values, is_causal=True))
        hidden = [layer(self.second(x)) for layer in self.up]
        if self.gated:
            return x + self.down(functional.silu(hidden[0]) * hidden[1])
        return x + self.down(functional.gelu(hidden[0]))


class TinyLanguageModel(nn.Module):
    """An embedding, one block, a norm and a head, tied to the embedding or not."""

    def __init__(
        self,
        norm: Callable[[], nn.Module],
        *,
        tied: bool = False,
        positions: bool = False,
        **options: bool,
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(7, FEATURES)
        self.positions = nn.Parameter(torch.randn(TOKENS, FEATURES)) if positions else None
        self.block = Block(norm, **options)
        self.norm = norm()
        self.head = nn.Linear(FEATURES, 7, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Any:
        x = self.table(tokens)
        if self.positions is not None:
            x = x + self.positions
        return self.head(self.norm(self.block(x)))


class Residual(nn.Module):
    """A residual block with batch norms whose shortcut is a convolution or padded with zeros."""

    def __init__(self, *, padded: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.one = nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False)
        self.two = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in (4, 8, 8))
        self.shortcut = None if padded else nn.Conv2d(4, 8, 1, stride=2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        x = functional.relu(self.norms[0](self.stem(x)))
        y = functional.relu(self.norms[1](self.one(x)))
        y = self.norms[2](self.two(y))
        if self.shortcut is None:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        else:
            x = self.shortcut(x)
        pooled = functional.adaptive_avg_pool2d(functional.relu(y + x), 1)
        return self.head(pooled.flatten(1))
