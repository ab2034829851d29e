"""Randomness as a parameter: the operating system's generator, or a seeded one for tests.

Protocol code takes a `Randomness` and never reaches for a global generator. `SystemRandomness` is
the only implementation shipped; seeded ones live under tests/ (protocol.md section 7).
"""

from __future__ import annotations

import os
from typing import Protocol


class Randomness(Protocol):
    """A source of uniformly random bytes."""

    def bytes(self, count: int) -> bytes:
        """Return `count` uniformly random bytes."""
        ...


class SystemRandomness:
    """The operating system's generator."""

    def bytes(self, count: int) -> bytes:
        """Return `count` bytes from the operating system."""
        return os.urandom(count)
