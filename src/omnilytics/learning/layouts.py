"""Where the entries of a traced tensor come from: views, transpositions and the like, by numbers.

A module may lay a value out in any way before it computes with it: split heads, move the tokens in
front of the batch, fuse batch and heads. Instead of recognising every spelling, the tracer runs
such operations on the numbers of a value's entries, for a batch of `SAMPLES`. What comes out tells
which entry stands where, and whether that is a layout that a listed operation has.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from omnilytics.perturbation.operations import Shape

SAMPLES = 3
"""Of the batch that layouts are followed for; unequal to usual sizes, and not 1."""


@dataclass(frozen=True)
class View:
    """A tensor whose entries are those of one value of the graph, in some layout.

    Attributes:
        source: Name of the value.
        shape: The value's shape, without batch.
        numbers: Which entry of (SAMPLES, *shape) stands where, int64; None for the plain layout.
    """

    source: str
    shape: Shape
    numbers: Tensor | None = None

    def laid_out(self) -> Tensor:
        """Return the numbers of the entries."""
        return plain_numbers(self.shape) if self.numbers is None else self.numbers

    def is_plain(self) -> bool:
        """Tell whether the layout is that of the value itself."""
        if self.numbers is None:
            return True
        wanted = (SAMPLES, *self.shape)
        return tuple(self.numbers.shape) == wanted and torch.equal(
            self.numbers, plain_numbers(self.shape)
        )

    def is_flat(self) -> bool:
        """Tell whether it is each sample's entries in one row."""
        flat = self.laid_out()
        wanted = (SAMPLES, prod(self.shape))
        return tuple(flat.shape) == wanted and torch.equal(
            flat, torch.arange(flat.numel()).reshape(wanted)
        )

    def with_source(self, source: str, shape: Shape) -> View:
        """Return the same layout of another value of the same number of tokens.

        The last axis must hold all features of a token, in order.
        """
        if self.is_plain():
            return View(source, shape)
        tokens = self.laid_out()[..., 0] // self.shape[-1]
        numbers = tokens[..., None] * shape[-1] + torch.arange(shape[-1])
        return View(source, shape, numbers)

    def holds_tokens(self) -> bool:
        """Tell whether the last axis holds all features of a token, in order."""
        numbers, size = self.laid_out(), self.shape[-1]
        if numbers.shape[-1] != size or numbers.numel() != SAMPLES * prod(self.shape):
            return False
        first = numbers[..., :1]
        return bool((first % size == 0).all()) and torch.equal(
            numbers, first + torch.arange(size).expand_as(numbers)
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The tensor's shape, with the batch."""
        return (SAMPLES, *self.shape) if self.numbers is None else tuple(self.numbers.shape)

    def head_features(self) -> Tensor | None:
        """Return which feature stands at each (head, place), or None if it is not (B, h, T, d)."""
        numbers = self.laid_out()
        if numbers.dim() != 4 or len(self.shape) != 2 or len(numbers) != SAMPLES:
            return None
        tokens, features = self.shape
        found = numbers[0, :, 0, :]
        if numbers.shape[2] != tokens or bool((found >= features).any()):
            return None
        starts = torch.arange(SAMPLES * tokens).reshape(SAMPLES, 1, tokens, 1) * features
        return found if torch.equal(numbers, starts + found[:, None, :]) else None


def by_heads(value: Tensor, heads: int) -> Tensor:
    """Return a tensor (..., h * d) as (..., h, d)."""
    return value.reshape(*value.shape[:-1], heads, value.shape[-1] // heads)


def plain_numbers(shape: Shape) -> Tensor:
    """Return 0, 1, 2, ... in shape (SAMPLES, *shape)."""
    return torch.arange(SAMPLES * prod(shape)).reshape(SAMPLES, *shape)
