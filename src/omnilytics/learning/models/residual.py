"""Residual networks (He et al., arXiv 1512.03385): ResNet-20 for small images, and ResNet-18."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

Norm = Callable[[int], nn.Module]

_LARGE_IMAGE = 64
_CHANNELS_OF_A_GROUP = 8


def group_norm(channels: int) -> nn.Module:
    """Return a normalisation over groups of 8 channels, the same for any batch."""
    return nn.GroupNorm(channels // _CHANNELS_OF_A_GROUP, channels)


class PaddedShortcut(nn.Module):
    """The shortcut without parameters ("option A"): every other pixel, missing channels are 0."""

    def __init__(self, channels: int, wide: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (wide - channels) // 2
        self.after = wide - channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (batch, wide, height / stride, width / stride)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(x, (0, 0, 0, 0, self.before, self.after))


class Block(nn.Module):
    """Two convolutions of 3 x 3 and a shortcut around them."""

    def __init__(self, channels: int, wide: int, stride: int, norm: Norm, padded: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, wide, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.norm2 = norm(wide)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != wide:
            self.shortcut = (
                PaddedShortcut(channels, wide, stride)
                if padded
                else nn.Sequential(nn.Conv2d(channels, wide, 1, stride, bias=False), norm(wide))
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (batch, wide, height / stride, width / stride)."""
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResidualNetwork(nn.Module):
    """A stem, stages of blocks that halve the image from the second on, a mean, a linear layer."""

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        widths: Sequence[int],
        blocks: int,
        norm: Norm = nn.BatchNorm2d,
        padded: bool = False,
        large: bool = False,
    ) -> None:
        super().__init__()
        first = widths[0]
        stem: list[nn.Module] = [
            nn.Conv2d(channels, first, 7, stride=2, padding=3, bias=False)
            if large
            else nn.Conv2d(channels, first, 3, padding=1, bias=False),
            norm(first),
            nn.ReLU(),
        ]
        stem += [nn.MaxPool2d(3, stride=2, padding=1)] if large else []
        self.stem = nn.Sequential(*stem)
        stages: list[nn.Module] = []
        before = first
        for number, wide in enumerate(widths):
            for block in range(blocks):
                stride = 2 if number and not block else 1
                stages.append(Block(before, wide, stride, norm, padded))
                before = wide
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(before, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores, shape (batch, outputs), for images (batch, channels, height, width)."""
        scores: Tensor = self.head(self.pool(self.stages(self.stem(x))).flatten(1))
        return scores


def resnet20(
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    norm: Norm = nn.BatchNorm2d,
    padded: bool = False,
) -> nn.Module:
    """Return ResNet-20; 272,474 parameters for (3, 32, 32) and 10 classes, 269,722 if `padded`.

    Args:
        input_shape: (channels, height, width), 4 pixels or more.
        outputs: Number of classes.
        norm: Normalisation of so many channels.
        padded: Shortcuts without parameters, where others have a convolution of 1 x 1.
    """
    return ResidualNetwork(
        input_shape[0], outputs, widths=(16, 32, 64), blocks=3, norm=norm, padded=padded
    )


def resnet18(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return ResNet-18; images below 64 pixels have the stem of CIFAR-10 (11,173,962 parameters).

    From 64 pixels on the stem is that of ImageNet (11,689,512 parameters for 1,000 classes).
    """
    channels, height, width = input_shape
    return ResidualNetwork(
        channels,
        outputs,
        widths=(64, 128, 256, 512),
        blocks=2,
        large=min(height, width) >= _LARGE_IMAGE,
    )
