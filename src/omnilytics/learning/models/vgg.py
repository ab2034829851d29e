"""VGG-11 (Simonyan and Zisserman, arXiv 1409.1556) with one linear layer, as used on CIFAR-10."""

from __future__ import annotations

from torch import nn

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def vgg11(input_shape: tuple[int, ...], outputs: int, *, normalised: bool = False) -> nn.Module:
    """Return eight convolutions of 3 x 3 and one linear layer.

    Args:
        input_shape: (channels, height, width); the maximum after a stage is left out once a side
            is a single pixel.
        outputs: Number of classes.
        normalised: Normalise each convolution's output over the batch.
    """
    channels, height, width = input_shape
    layers: list[nn.Module] = []
    for stage in _STAGES:
        for wide in stage:
            layers.append(nn.Conv2d(channels, wide, 3, padding=1))
            layers += [nn.BatchNorm2d(wide)] if normalised else []
            layers.append(nn.ReLU())
            channels = wide
        if min(height, width) > 1:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, outputs))
