"""Counts of bytes and seconds by phase of a round, for reports."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Meter:
    """Adds up what each phase costs."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)

    def add_bytes(self, phase: str, count: int) -> None:
        """Add `count` bytes sent or received in `phase`."""
        self.bytes[phase] += count

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Add the wall-clock seconds of the block to `phase`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start
