"""Seeded bytes for simulations that can be repeated."""

from __future__ import annotations

import numpy as np


class PublicRandomness:
    """Bytes that follow from public seeds: for secrets that protect nothing, never for others."""

    def __init__(self, *seed: int) -> None:
        self._draw = np.random.default_rng(seed)

    def bytes(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        return self._draw.bytes(count)
