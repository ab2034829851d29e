"""What an audit found: one row per attack, for a table and for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from omnilytics.learning.audit.imprint import Imprinted
from omnilytics.learning.audit.inversion import Inverted
from omnilytics.learning.audit.scales import ScaleRecovery


@dataclass(frozen=True)
class Finding:
    """One attack.

    Attributes:
        attack: Its name.
        who: The party that can do it.
        sees: What that party has.
        learns: What it learns by it; "not applicable" where the attack does not apply.
        measured: The figures, or why it does not apply.
        said: The same in one sentence.
        figures: The same by name.
        applies: Whether the attack applies to the network.
    """

    attack: str
    who: str
    sees: str
    learns: str
    measured: str
    said: str
    figures: Mapping[str, object] = field(default_factory=dict)
    applies: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain JSON values; figures that are not finite are null."""
        return {
            "attack": self.attack,
            "who": self.who,
            "sees": self.sees,
            "learns": self.learns,
            "measured": self.measured,
            "said": self.said,
            "applies": self.applies,
            "figures": {name: _plain(value) for name, value in self.figures.items()},
        }


@dataclass(frozen=True, repr=False)
class Audit:
    """All findings, and what plots need.

    Attributes:
        findings: In the order in which attacks were run.
        inversions: By the model that was attacked, for rising numbers of samples.
        imprints: For rising numbers of units.
        scales: The estimate of secret scales, where there are any.
    """

    findings: tuple[Finding, ...]
    inversions: Mapping[str, tuple[Inverted, ...]]
    imprints: tuple[Imprinted, ...]
    scales: ScaleRecovery | None

    def as_dict(self) -> dict[str, Any]:
        """The audit as plain JSON values."""
        return {"findings": [finding.as_dict() for finding in self.findings]}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value
