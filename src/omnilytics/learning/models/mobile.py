"""A small network of depthwise convolutions: MobileNetV2's blocks (arXiv 1801.04381)."""

from __future__ import annotations

from torch import Tensor, nn

_STEM = 16
_BLOCKS = ((16, 1), (24, 2), (24, 1), (40, 2), (40, 1))
_EXPANSION = 4
_LAST = 128


def _layer(
    channels: int, wide: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    convolution = nn.Conv2d(
        channels, wide, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(wide), nn.ReLU6()]


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, narrow; a shortcut where shapes allow it."""

    def __init__(self, channels: int, wide: int, stride: int) -> None:
        super().__init__()
        inner = channels * _EXPANSION
        self.layers = nn.Sequential(
            *_layer(channels, inner),
            *_layer(inner, inner, kernel=3, stride=stride, groups=inner),
            *_layer(inner, wide)[:2],
        )
        self.has_shortcut = stride == 1 and channels == wide

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (batch, wide, height / stride, width / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.has_shortcut else y


def mobilenet(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return five inverted residuals between a stem and a mean, for 4 pixels or more."""
    layers = _layer(input_shape[0], _STEM, kernel=3)
    channels = _STEM
    for wide, stride in _BLOCKS:
        layers.append(InvertedResidual(channels, wide, stride))
        channels = wide
    layers += _layer(channels, _LAST)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_LAST, outputs)]
    return nn.Sequential(*layers, *head)
