"""Small networks for the data sets at hand: a few thousand parameters, listed operations only."""

from __future__ import annotations

from math import prod

import torch
from torch import nn

from omnilytics.foundation.errors import ConfigError, ModelError

MODEL_NAMES = ("cnn", "mlp")

_HIDDEN_UNITS = 32
_CHANNELS = (8, 16)


def build_model(name: str, *, input_shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """Return a freshly initialised network, the same for the same arguments.

    Args:
        name: "cnn" for (channels, height, width) of even sizes; "mlp" for any input.
        input_shape: Shape of one sample.
        outputs: Number of classes.
        seed: Public seed of the initial weights; the global generator is left as it was.

    Raises:
        ConfigError: If the name is unknown.
        ModelError: If the network does not fit the input.
    """
    if name not in MODEL_NAMES:
        raise ConfigError("unknown model", got=name, want=" or ".join(MODEL_NAMES))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "mlp":
            return _mlp(input_shape, outputs)
        return _cnn(input_shape, outputs)


def _mlp(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    features = prod(input_shape)
    layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
    layers += [nn.Linear(features, _HIDDEN_UNITS), nn.ReLU()]
    layers += [nn.Linear(_HIDDEN_UNITS, outputs)]
    return nn.Sequential(*layers)


def _cnn(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    if len(input_shape) != 3 or input_shape[1] < 2 or input_shape[2] < 2:
        raise ModelError(
            "the cnn needs images",
            got=input_shape,
            want="(channels, height, width)",
            hint="use the mlp for tables",
        )
    channels, height, width = input_shape
    first, second = _CHANNELS
    return nn.Sequential(
        nn.Conv2d(channels, first, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * (height // 2) * (width // 2), outputs),
    )
