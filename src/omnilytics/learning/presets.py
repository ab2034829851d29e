"""Settings that work for the data sets at hand.

Measured with Adam, test accuracy of the plain run: digits, cnn (3,818 parameters), 10 owners,
0.967 to 0.989 over five seeds after 40 rounds; breast-cancer, mlp (1,058), 0.947 to 1.0. Every
model with the demo's 7 honest owners: `docs/benchmarks.md`, "Training".
"""

from __future__ import annotations

from dataclasses import dataclass

from omnilytics.foundation.errors import ConfigError


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


_ALL = (
    Preset("digits", "cnn", learning_rate=1e-2, batch_size=32, rounds=40),
    Preset("digits", "mlp", learning_rate=1e-2, batch_size=32, rounds=40),
    Preset("digits", "resnet20", learning_rate=5e-3, batch_size=32, rounds=32),
    Preset("digits", "mobilenet", learning_rate=1e-2, batch_size=32, rounds=40),
    Preset("digits", "transformer", learning_rate=1e-2, batch_size=32, rounds=80),
    Preset("digits", "transformer-swiglu", learning_rate=1e-2, batch_size=32, rounds=80),
    Preset("digits", "transformer-lora", learning_rate=3e-2, batch_size=32, rounds=80),
    Preset("breast-cancer", "mlp", learning_rate=1e-2, batch_size=16, rounds=40),
)

PRESETS: dict[str, Preset] = {preset.dataset: preset for preset in reversed(_ALL)}
"""The first of each data set: the quickest."""


def models_for(dataset: str) -> tuple[str, ...]:
    """Return the models that have a preset for a data set, the quickest first."""
    return tuple(preset.model for preset in _ALL if preset.dataset == dataset)


def preset_for(dataset: str, model: str) -> Preset:
    """Return how a model is trained on a data set.

    Raises:
        ConfigError: If nobody has tried.
    """
    for preset in _ALL:
        if (preset.dataset, preset.model) == (dataset, model):
            return preset
    raise ConfigError(
        f"no settings are known for this model on {dataset}",
        got=model,
        want=" or ".join(models_for(dataset)) or "another data set",
    )
