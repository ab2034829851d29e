"""What each call cost."""

from __future__ import annotations

import statistics
from collections import defaultdict


class GasLog:
    """Gas used, by call, in the order of sending."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def record(self, name: str, gas_used: int) -> None:
        """Add one call."""
        self.calls.append((name, gas_used))

    def summary(self) -> dict[str, tuple[int, int, int, int]]:
        """Return per call (count, least, median, most) gas."""
        by_name: dict[str, list[int]] = defaultdict(list)
        for name, gas_used in self.calls:
            by_name[name].append(gas_used)
        return {
            name: (len(used), min(used), round(statistics.median(used)), max(used))
            for name, used in by_name.items()
        }
