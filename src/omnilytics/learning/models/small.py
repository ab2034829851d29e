"""Networks of a few thousand parameters, and LeNet-5."""

from __future__ import annotations

from math import prod

from torch import nn

_HIDDEN_UNITS = 32
_CHANNELS = (8, 16)


def mlp(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return one hidden layer of 32 units, for samples of any shape."""
    layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
    layers += [nn.Linear(prod(input_shape), _HIDDEN_UNITS), nn.ReLU()]
    layers += [nn.Linear(_HIDDEN_UNITS, outputs)]
    return nn.Sequential(*layers)


def cnn(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return two convolutions and one linear layer."""
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


def lenet(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return LeNet-5 with ReLU and maxima (LeCun et al., 1998), for images of 12 pixels or more.

    Images below 32 pixels are padded by 2 on every side, as 28 x 28 digits are.
    """
    channels, height, width = input_shape
    padding = 2 if min(height, width) < 32 else 0
    rows, columns = (((size + 2 * padding - 4) // 2 - 4) // 2 for size in (height, width))
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * rows * columns, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, outputs),
    )
