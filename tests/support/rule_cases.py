"""Modules in which one rule of the gauge analysis is at work, and what it should free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from modules import Composed, attend, split_heads
from recovered import Carried, scrambled
from torch import Tensor, nn
from torch.nn import functional

from omnilytics.perturbation.graph import InputKind

VECTOR, IMAGE, SEQUENCE, WORDS = (6,), (2, 4, 4), (5, 6), (5,)
FREE = "8 sign stretch order"
POSITIVE = "8 stretch order"


@dataclass(frozen=True)
class Case:
    """A module in which one rule is at work.

    Attributes:
        build: Makes it.
        shape: Of its input; tokens where it is `WORDS`.
        freedom: Of its hidden groups, as `recovered.freedom` words it.
        kept: Published tensors that no secret changes.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    freedom: tuple[str, ...]
    kept: tuple[str, ...]


def between(layer: Callable[[], nn.Module], *freedom: str, kept: tuple[str, ...] = ()) -> Case:
    """Return a case of a layer between two linear layers."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), layer(), nn.Linear(8, 3))

    return Case(build, VECTOR, freedom, ("2.bias", *kept))


def on_images(
    layer: Callable[[], nn.Module],
    *freedom: str,
    features: int = 128,
    kept: tuple[str, ...] = (),
) -> Case:
    """Return a case of a layer between a convolution and a linear layer."""

    def build() -> nn.Module:
        conv = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        return nn.Sequential(conv, layer(), nn.Flatten(), nn.Linear(features, 3))

    return Case(build, IMAGE, freedom, ("3.bias", *kept))


def of(
    function: Callable[[Any, Tensor], Any],
    shape: tuple[int, ...],
    *freedom: str,
    kept: tuple[str, ...] = (),
    **layers: Callable[[], nn.Module | nn.Parameter],
) -> Case:
    """Return a case of a function of layers, the last of which is called `head`."""

    def build() -> nn.Module:
        return Composed(function, **{name: make() for name, make in layers.items()})

    return Case(build, shape, freedom, ("head.bias", *kept))


def linear(inputs: int = 6, outputs: int = 8) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(inputs, outputs)


def conv(inputs: int = 2, outputs: int = 8) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(inputs, outputs, 3, padding=1)


def attention(m: Any, x: Tensor) -> Any:
    parts = [split_heads(layer(x)) for layer in (m.queries, m.keys, m.values)]
    return m.head(attend(*parts))


HEAD = linear(8, 3)
CASES = {
    "linear": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)),
        VECTOR,
        ("8 rotation",),
        ("1.bias",),
    ),
    "linear without bias": Case(
        lambda: nn.Sequential(nn.Linear(6, 8, bias=False), nn.Linear(8, 3, bias=False)),
        VECTOR,
        ("8 rotation",),
        (),
    ),
    "linear on tokens": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)),
        SEQUENCE,
        ("8 rotation",),
        ("1.bias",),
    ),
    "relu": between(nn.ReLU, POSITIVE),
    "leaky_relu": between(lambda: nn.LeakyReLU(0.3), POSITIVE),
    "prelu of one slope": between(nn.PReLU, POSITIVE, kept=("1.weight",)),
    "prelu": between(lambda: nn.PReLU(8), POSITIVE),
    "prelu on images": on_images(lambda: nn.PReLU(8), POSITIVE),
    "gelu": between(nn.GELU, "8 order"),
    "gelu by tanh": between(lambda: nn.GELU(approximate="tanh"), "8 order"),
    "silu": between(nn.SiLU, "8 order"),
    "sigmoid": between(nn.Sigmoid, "8 order"),
    "tanh": between(nn.Tanh, "8 order"),
    "hardtanh": between(lambda: nn.Hardtanh(-0.3, 0.8), "8 order"),
    "relu6": between(nn.ReLU6, "8 order"),
    "hardswish": between(nn.Hardswish, "8 order"),
    "hardsigmoid": between(nn.Hardsigmoid, "8 order"),
    "scale": of(lambda m, x: m.head(-2.5 * m.a(x)), VECTOR, "8 rotation", a=linear(), head=HEAD),
    "add": of(
        lambda m, x: m.head(m.a(x).relu() + m.b(x)),
        VECTOR,
        POSITIVE,
        a=linear(),
        b=linear(),
        head=HEAD,
    ),
    "multiply": of(
        lambda m, x: m.head(m.a(x) * m.b(x)), VECTOR, "8 order", a=linear(), b=linear(), head=HEAD
    ),
    "conv2d": on_images(nn.Identity, FREE, kept=()),
    "max_pool2d": on_images(lambda: nn.MaxPool2d(3, 2, 1), POSITIVE, features=32),
    "avg_pool2d": on_images(lambda: nn.AvgPool2d(2, padding=1), FREE, features=72),
    "adaptive_avg_pool2d": on_images(lambda: nn.AdaptiveAvgPool2d((2, 1)), FREE, features=16),
    "depthwise conv2d": on_images(lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8), FREE, FREE),
    "grouped conv2d": on_images(
        lambda: nn.Conv2d(8, 8, 3, padding=1, groups=2),
        "8 pinned",
        "8 sign stretch",
        kept=("0.weight",),
    ),
    "depthwise conv2d with a multiplier": on_images(
        lambda: nn.Conv2d(8, 16, 3, padding=1, groups=8),
        "16 sign stretch",
        "8 pinned",
        features=256,
        kept=("0.weight",),
    ),
    "batch_norm": on_images(lambda: nn.BatchNorm2d(8), "8 sign order", FREE),
    "batch_norm of vectors": between(lambda: nn.BatchNorm1d(8), "8 sign order", FREE),
    "batch_norm without gain": on_images(lambda: nn.BatchNorm2d(8, affine=False), "8 sign order"),
    "group_norm of one group": on_images(lambda: nn.GroupNorm(1, 8), "8 order", FREE),
    "group_norm of one each": on_images(lambda: nn.GroupNorm(8, 8), "8 sign order", FREE),
    "group_norm without gain": on_images(lambda: nn.GroupNorm(8, 8, affine=False), "8 sign order"),
    "group_norm": on_images(
        lambda: nn.GroupNorm(2, 8), *["4 order"] * 2, *["4 sign stretch order"] * 2
    ),
    "group_norm of vectors": between(
        lambda: nn.GroupNorm(2, 8), *["4 order"] * 2, *["4 sign stretch order"] * 2
    ),
    "group_norm across what is read before": of(
        lambda m, x: m.head((m.norm(y := m.a(x)) + y).flatten(1)),
        IMAGE,
        "8 pinned",
        kept=("a.weight", "a.bias", "norm.weight", "norm.bias", "head.weight"),
        a=conv(),
        norm=lambda: nn.GroupNorm(2, 8),
        head=linear(128, 3),
    ),
    "layer_norm, folded": between(lambda: nn.LayerNorm(8), "8 rotation keeping ones"),
    "layer_norm without shift": between(
        lambda: nn.LayerNorm(8, bias=False), "8 rotation keeping ones"
    ),
    "layer_norm without gain": between(
        lambda: nn.LayerNorm(8, elementwise_affine=False), "8 rotation keeping ones"
    ),
    "layer_norm before relu": between(
        lambda: nn.Sequential(nn.LayerNorm(8), nn.ReLU()), "8 order", POSITIVE
    ),
    "rms_norm, folded": between(lambda: nn.RMSNorm(8, eps=1e-6), "8 rotation"),
    "rms_norm before relu": between(
        lambda: nn.Sequential(nn.RMSNorm(8, eps=1e-6), nn.ReLU()), "8 sign order", POSITIVE
    ),
    "flatten of tokens": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Flatten(), nn.Linear(40, 3)),
        SEQUENCE,
        ("8 rotation",),
        ("2.bias",),
    ),
    "concatenate": of(
        lambda m, x: m.head(torch.cat([m.a(x).relu(), m.b(x)], 1)),
        VECTOR,
        "4 stretch order",
        "5 rotation",
        a=linear(6, 4),
        b=linear(6, 5),
        head=linear(9, 3),
    ),
    "concatenate images": of(
        lambda m, x: m.head(torch.cat([m.a(x).relu(), m.b(x)], 1).flatten(1)),
        IMAGE,
        "4 stretch order",
        "5 sign stretch order",
        a=conv(2, 4),
        b=conv(2, 5),
        head=linear(144, 3),
    ),
    "slice_channels between groups": of(
        lambda m, x: m.head((y := torch.cat([m.a(x), m.b(x)], 1).tanh())[:, :4] * y[:, 4:]),
        VECTOR,
        "4 order",
        a=linear(6, 4),
        b=linear(6, 4),
        head=linear(4, 3),
    ),
    "slice_channels through a group": of(
        lambda m, x: m.head(m.a(x).relu()[:, 2:7]),
        VECTOR,
        "5 pinned",
        "8 pinned",
        kept=("a.weight", "a.bias", "head.weight"),
        a=linear(),
        head=linear(5, 3),
    ),
    "slice_pixels": of(
        lambda m, x: m.head(functional.avg_pool2d(m.a(x)[:, :, 1:, ::2], 2).flatten(1)),
        IMAGE,
        FREE,
        a=conv(),
        head=linear(8, 3),
    ),
    "pad2d": of(
        lambda m, x: m.head(functional.pad(m.a(x), (1, 0, 2, 1)).flatten(1)),
        IMAGE,
        FREE,
        a=conv(),
        head=linear(8 * 35, 3),
    ),
    "pad2d of channels": of(
        lambda m, x: m.head(functional.pad(m.a(x), (0, 0, 0, 0, 1, 2)).flatten(1)),
        IMAGE,
        "1 pinned",
        "2 pinned",
        FREE,
        a=conv(),
        head=linear(11 * 16, 3),
    ),
    "pixels_to_tokens": of(
        lambda m, x: m.head(m.a(x).flatten(2).transpose(1, 2)), IMAGE, FREE, a=conv(), head=HEAD
    ),
    "mean_tokens": of(
        lambda m, x: m.head(m.a(x).mean(1)), SEQUENCE, "8 rotation", a=linear(), head=HEAD
    ),
    "select_token": of(
        lambda m, x: m.head(m.a(x)[:, 2]), SEQUENCE, "8 rotation", a=linear(), head=HEAD
    ),
    "embedding": Case(
        lambda: nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 3)),
        WORDS,
        ("8 rotation",),
        ("1.bias",),
    ),
    "add_positions": of(
        lambda m, x: m.head((m.a(x) + m.positions).relu()),
        SEQUENCE,
        POSITIVE,
        a=linear(),
        positions=lambda: nn.Parameter(torch.randn(1, 5, 8)),
        head=HEAD,
    ),
    "attention": of(
        attention,
        SEQUENCE,
        *["4 rotation"] * 4,
        queries=linear(),
        keys=linear(),
        values=linear(),
        head=HEAD,
    ),
}


@cache
def carried(name: str) -> Carried:
    """Return a case's module, as the market carries it."""
    case = CASES[name]
    kind = InputKind.TOKENS if case.shape == WORDS else InputKind.NUMBERS
    return Carried(scrambled(case.build()), case.shape, kind=kind)
