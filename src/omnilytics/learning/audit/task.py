"""What attacks are run on, and what one says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from omnilytics.learning.audit.imprint import Imprinted
from omnilytics.learning.audit.inversion import Inverted
from omnilytics.learning.audit.noise import NoiseRemoved
from omnilytics.learning.audit.scales import ScaleRecovery
from omnilytics.learning.audit.subject import Subject

Found = tuple[str, str, str, dict[str, object]]
"""What an attack learns, its figures in words, the sentence, its figures by name."""


@dataclass
class Task:
    """What attacks read, and what they leave for plots.

    Attributes:
        first: The model that the first round publishes.
        last: The same after `rounds` steps.
        rounds: How many.
        steps: Of each gradient inversion.
        inversions: By the model that was attacked, for rising numbers of samples.
        imprints: For rising numbers of units.
        scales: The estimate of secret scales.
        noise: The attack on noise of several scales, which several rows tell of.
        trained_by_mse: The model that it is run on.
    """

    first: Subject
    last: Subject
    rounds: int
    steps: int
    inversions: dict[str, tuple[Inverted, ...]] = field(default_factory=dict)
    imprints: tuple[Imprinted, ...] = ()
    scales: ScaleRecovery | None = None
    noise: dict[float, NoiseRemoved] = field(default_factory=dict)
    trained_by_mse: Subject | None = None
