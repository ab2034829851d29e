"""Small pre-norm transformers: a classifier of sequences, of images, and a language model.

The classifier is built as Llama is (RMS norm, rotary positions, no biases; GELU or SwiGLU), the
language model as GPT-2 is (layer norm, biases, packed projections, learned positions, tied head).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

_BASE = 10_000.0


@dataclass(frozen=True)
class Sizes:
    """How large a transformer is.

    Attributes:
        width: Features of a token; the heads divide it into an even number each.
        heads: Heads of each attention.
        layers: Blocks.
        hidden: Hidden units of a block's MLP.
    """

    width: int = 32
    heads: int = 4
    layers: int = 2
    hidden: int = 64


def _rotary_tables(tokens: int, features: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, (tokens, features) each (Su et al., arXiv 2104.09864)."""
    frequencies = _BASE ** (-torch.arange(0, features, 2) / features)
    angles = torch.outer(torch.arange(tokens), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def _rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


class RotaryAttention(nn.Module):
    """Attention whose queries and keys are rotated by their position."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, tokens: int, sizes: Sizes, *, causal: bool = False) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.causal = causal
        self.queries = nn.Linear(sizes.width, sizes.width, bias=False)
        self.keys = nn.Linear(sizes.width, sizes.width, bias=False)
        self.values = nn.Linear(sizes.width, sizes.width, bias=False)
        self.output = nn.Linear(sizes.width, sizes.width, bias=False)
        cosine, sine = _rotary_tables(tokens, sizes.width // sizes.heads)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (batch, tokens, width), that of `x`."""
        batch, tokens, width = x.shape

        def by_heads(values: Tensor) -> Tensor:
            return values.view(batch, tokens, self.heads, -1).transpose(1, 2)

        def rotated(values: Tensor) -> Tensor:
            return values * self.cosine + _rotate_half(values) * self.sine

        queries, keys = rotated(by_heads(self.queries(x))), rotated(by_heads(self.keys(x)))
        seen = functional.scaled_dot_product_attention(
            queries, keys, by_heads(self.values(x)), is_causal=self.causal
        )
        output: Tensor = self.output(seen.transpose(1, 2).reshape(batch, tokens, width))
        return output


class PackedAttention(nn.Module):
    """Attention whose queries, keys and values come out of one linear layer."""

    def __init__(self, sizes: Sizes, *, causal: bool = False) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.causal = causal
        self.packed = nn.Linear(sizes.width, 3 * sizes.width)
        self.output = nn.Linear(sizes.width, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (batch, tokens, width), that of `x`."""
        batch, tokens, width = x.shape
        queries, keys, values = (
            part.view(batch, tokens, self.heads, -1).transpose(1, 2)
            for part in self.packed(x).split(width, dim=2)
        )
        seen = functional.scaled_dot_product_attention(queries, keys, values, is_causal=self.causal)
        output: Tensor = self.output(seen.transpose(1, 2).reshape(batch, tokens, width))
        return output


class SwiGlu(nn.Module):
    """An MLP whose hidden units are gated by others (Shazeer, arXiv 2002.05202)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gate = nn.Linear(sizes.width, sizes.hidden, bias=False)
        self.up = nn.Linear(sizes.width, sizes.hidden, bias=False)
        self.down = nn.Linear(sizes.hidden, sizes.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (batch, tokens, width), that of `x`."""
        output: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return output


def _gelu_mlp(sizes: Sizes, *, bias: bool) -> nn.Module:
    return nn.Sequential(
        nn.Linear(sizes.width, sizes.hidden, bias=bias),
        nn.GELU(),
        nn.Linear(sizes.hidden, sizes.width, bias=bias),
    )


class Block(nn.Module):
    """Attention and an MLP, each after a normalisation and with a shortcut around both."""

    def __init__(
        self, width: int, norm: Callable[[int], nn.Module], attention: nn.Module, mlp: nn.Module
    ) -> None:
        super().__init__()
        self.norm1, self.attention = norm(width), attention
        self.norm2, self.mlp = norm(width), mlp

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (batch, tokens, width), that of `x`."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class SequenceClassifier(nn.Module):
    """Classes of sequences of number vectors, from the mean over tokens."""

    def __init__(
        self, tokens: int, features: int, outputs: int, sizes: Sizes, mlp: Literal["gelu", "swiglu"]
    ) -> None:
        super().__init__()
        self.embedding = nn.Linear(features, sizes.width)
        self.blocks = nn.Sequential(
            *(
                Block(
                    sizes.width,
                    nn.RMSNorm,
                    RotaryAttention(tokens, sizes),
                    SwiGlu(sizes) if mlp == "swiglu" else _gelu_mlp(sizes, bias=False),
                )
                for _ in range(sizes.layers)
            )
        )
        self.norm = nn.RMSNorm(sizes.width)
        self.head = nn.Linear(sizes.width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores, shape (batch, outputs), for sequences (batch, tokens, features)."""
        scores: Tensor = self.head(self.norm(self.blocks(self.embedding(x))).mean(dim=1))
        return scores


class ImageClassifier(nn.Module):
    """Classes of images whose square patches are the tokens (ViT, arXiv 2010.11929)."""

    def __init__(
        self, input_shape: tuple[int, int, int], outputs: int, sizes: Sizes, patch: int
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        tokens = (height // patch) * (width // patch)
        self.patches = nn.Conv2d(channels, sizes.width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, sizes.width))
        self.blocks = nn.Sequential(
            *(
                Block(
                    sizes.width, nn.LayerNorm, PackedAttention(sizes), _gelu_mlp(sizes, bias=True)
                )
                for _ in range(sizes.layers)
            )
        )
        self.norm = nn.LayerNorm(sizes.width)
        self.head = nn.Linear(sizes.width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores, shape (batch, outputs), for images (batch, channels, height, width)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        scores: Tensor = self.head(self.norm(self.blocks(tokens)).mean(dim=1))
        return scores


class LanguageModel(nn.Module):
    """Scores of every next token from those before it; the head is the embedding's own weight."""

    def __init__(self, tokens: int, vocabulary: int, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, sizes.width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, sizes.width))
        self.blocks = nn.Sequential(
            *(
                Block(
                    sizes.width,
                    nn.LayerNorm,
                    PackedAttention(sizes, causal=True),
                    _gelu_mlp(sizes, bias=True),
                )
                for _ in range(sizes.layers)
            )
        )
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return scores, shape (batch, tokens, vocabulary), for int64 tokens (batch, tokens)."""
        x = self.norm(self.blocks(self.embedding(tokens) + self.positions))
        return functional.linear(x, self.embedding.weight)
