"""The parameters (n, t, e) of a committee and what they must fulfil (protocol.md section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from omnilytics.foundation.errors import UsageError

MAX_SERVERS: Final = 13


@dataclass(frozen=True)
class Committee:
    """The servers of a task, at the points 1..n.

    Attributes:
        servers: n.
        privacy: t: any t servers learn nothing; shares have degree t.
        errors: e <= t: that many may deviate or be down.

    Raises:
        UsageError: Unless n >= 2t + 1 + 2e, 0 <= e <= t, 1 <= t, n <= 13, and n >= 3t + e if e > 0
            (else t deviators could put an honest server off an honest owner's codeword).
    """

    servers: int
    privacy: int
    errors: int

    def __post_init__(self) -> None:
        n, t, e = self.servers, self.privacy, self.errors
        if not (t >= 1 and 0 <= e <= t):
            raise UsageError("committee out of range", got=(n, t, e), want="1 <= t, 0 <= e <= t")
        least = max(2 * t + 1 + 2 * e, 3 * t + e if e else 0)
        if not least <= n <= MAX_SERVERS:
            raise UsageError(
                "committee of impossible size",
                got=(n, t, e),
                want=f"{least} to {MAX_SERVERS} servers for t = {t}, e = {e}",
            )

    @property
    def points(self) -> tuple[int, ...]:
        """The servers' points 1..n; server j is at point j."""
        return tuple(range(1, self.servers + 1))

    @property
    def quorum(self) -> int:
        """Words and signatures that any step needs: n - e."""
        return self.servers - self.errors

    @property
    def explicit_points(self) -> tuple[int, ...]:
        """The points t+1..n, whose shares travel in full; 1..t get seeds."""
        return tuple(range(self.privacy + 1, self.servers + 1))


DEFAULT: Final = Committee(5, 1, 1)
OFFERED: Final = (
    DEFAULT,
    Committee(7, 2, 1),
    Committee(10, 3, 1),
    Committee(13, 4, 1),
    Committee(11, 3, 2),
    Committee(3, 1, 0),
    Committee(5, 2, 0),
)
"""The committees that tasks may choose from; the last two only for honest servers."""
