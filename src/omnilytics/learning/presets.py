"""Settings that work for the data sets at hand.

Measured with 10 owners and Adam, test accuracy of the plain run over five seeds: digits (cnn,
3,818 parameters) 0.967 to 0.989 after 40 rounds; breast-cancer (mlp, 1,058) 0.947 to 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A data set, a model for it, and how to train that with a handful of owners.

    Attributes:
        dataset: Name for `datasets.load_market_data`.
        model: Name for `models.build_model`.
        learning_rate: For Adam.
        batch_size: Samples per owner and round.
        rounds: Rounds after which the plain run has converged.
    """

    dataset: str
    model: str
    learning_rate: float
    batch_size: int
    rounds: int


PRESETS: dict[str, Preset] = {
    preset.dataset: preset
    for preset in (
        Preset("digits", "cnn", learning_rate=1e-2, batch_size=32, rounds=40),
        Preset("breast-cancer", "mlp", learning_rate=1e-2, batch_size=16, rounds=40),
    )
}
