"""Rules of the gauge analysis together, in networks as people build them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from modules import (
    HEADS,
    TOKENS,
    Composed,
    Residual,
    TinyLanguageModel,
    attend,
    split_heads,
)
from recovered import Carried, freedom, scrambled
from torch import Tensor, nn

from omnilytics.perturbation.graph import InputKind

VECTOR, IMAGE, SEQUENCE, WORDS = (6,), (2, 4, 4), (TOKENS, 6), (TOKENS,)
HEADS_TURNED = ["4 rotation"] * 2 * HEADS
ATTENTION = ["4 rotation"] * HEADS + ["4 rotation by frequency"] * HEADS


@dataclass(frozen=True)
class Case:
    """A module, and what its hidden groups may do."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    freedom: list[str]
    kept: set[str]


def of(
    shape: tuple[int, ...],
    freedom: list[str],
    kept: set[str],
    function: Callable[[Any, Tensor], Any],
    **parts: Callable[[], nn.Module | nn.Parameter],
) -> Case:
    def build() -> nn.Module:
        return Composed(function, **{name: make() for name, make in parts.items()})

    return Case(build, shape, freedom, kept)


def linear(inputs: int = 6, outputs: int = 8, **options: bool) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(inputs, outputs, **options)


def conv(*arguments: Any, **options: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(*arguments, **options)


def rms() -> nn.Module:
    return nn.RMSNorm(8, eps=1e-6)


def layer_norm() -> nn.Module:
    return nn.LayerNorm(8)


def encoder_layer(*, norm_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, HEADS, 16, 0.0, batch_first=True, norm_first=norm_first)
    return nn.Sequential(nn.Linear(6, 8), layer, nn.Linear(8, 3))


def multihead(m: Any, x: Tensor) -> Any:
    x = m.first(x)
    return m.head(x + m.attention(x, x, x, need_weights=False)[0])


def depthwise_separable() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1, bias=False),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def twice(m: Any, x: Tensor) -> Any:
    x = torch.relu(m.first(x))
    return m.head(torch.relu(m.shared(torch.relu(m.shared(x)))))


def shared_norm(m: Any, x: Tensor) -> Any:
    return m.head(torch.relu(m.norm(m.b(torch.relu(m.norm(m.a(x)))))))


def unlike_heads(m: Any, x: Tensor) -> Any:
    heads = split_heads(torch.cat([m.a(x), m.b(x)], -1))
    return m.head(attend(heads, heads, heads))


def cross_attention(m: Any, x: Tensor) -> Any:
    memory = m.memory(x)
    keys, values = split_heads(m.keys(memory)), split_heads(m.values(memory))
    return m.head(attend(split_heads(m.queries(x)), keys, values))


def bare_attention(m: Any, x: Tensor) -> Any:
    heads = split_heads(m.a(x))
    return m.head(attend(heads, heads, heads))


def crossed(m: Any, x: Tensor) -> Any:
    a, b = torch.relu(m.a(x)), m.b(x)
    return m.head(torch.cat([a, b], 1) + torch.cat([b, a], 1))


def residual_of_concat(m: Any, x: Tensor) -> Any:
    y = torch.cat([torch.relu(m.a(x)), m.b(x)], 1)
    return m.head(y + m.c(y))


def adapted(m: Any, x: Tensor) -> Any:
    return m.head(torch.relu(m.base(x) + m.up(m.down(x))))


def patches(m: Any, x: Tensor) -> Any:
    tokens = m.patches(x).flatten(2).transpose(1, 2) + m.positions
    return m.head(m.norm(m.layer(tokens)).mean(1))


def two_readers(m: Any, x: Tensor) -> Any:
    normed = m.norm(m.a(x))
    return m.b(normed) + m.c(torch.relu(normed))


CASES = {
    "residual of a concatenation with another layout": of(
        VECTOR,
        ["4 pinned", "4 pinned", "8 pinned"],
        {f"{name}.{each}" for name in ("a", "b", "c", "head") for each in ("weight", "bias")},
        residual_of_concat,
        a=linear(6, 4),
        b=linear(6, 4),
        c=linear(8, 8),
        head=linear(8, 3),
    ),
    "residual of two concatenations": of(
        VECTOR,
        ["4 rotation", "4 stretch order"],
        {"head.bias"},
        lambda m, x: m.head(
            torch.cat([torch.relu(m.a(x)), m.b(x)], 1) + torch.cat([m.c(x), m.d(x)], 1)
        ),
        **{name: linear(6, 4) for name in "abcd"},
        head=linear(8, 3),
    ),
    "concatenations added crosswise": of(
        VECTOR,
        ["4 stretch order"],
        {"head.bias"},
        crossed,
        a=linear(6, 4),
        b=linear(6, 4),
        head=linear(8, 3),
    ),
    "one value twice": of(
        VECTOR,
        ["4 stretch order"],
        {"head.bias"},
        lambda m, x: m.head(torch.cat([y := torch.relu(m.a(x)), y], 1)),
        a=linear(6, 4),
        head=linear(8, 3),
    ),
    "flatten, then add": of(
        IMAGE,
        ["4 sign stretch order"],
        {"head.bias"},
        lambda m, x: m.head(m.a(x).flatten(1) + m.b(x).flatten(1)),
        a=conv(2, 4, 3, padding=1),
        b=conv(2, 4, 1),
        head=linear(64, 3),
    ),
    "flatten, then add another layout": of(
        IMAGE,
        ["2 pinned", "4 pinned", "64 pinned"],
        {f"{name}.{each}" for name in ("a", "b", "head") for each in ("weight", "bias")},
        lambda m, x: m.head(m.a(x).flatten(1) + m.b(x.flatten(1))),
        a=conv(2, 4, 3, padding=1),
        b=linear(32, 64),
        head=linear(64, 3),
    ),
    "depthwise and batch norm": Case(
        depthwise_separable,
        IMAGE,
        [
            "4 sign order",
            "4 sign stretch order",
            "8 order",
            "8 sign order",
            "8 sign order",
            "8 stretch order",
        ],
        {"10.bias"},
    ),
    "shortcut by a convolution": Case(
        partial(Residual, padded=False),
        IMAGE,
        ["4 sign order", "4 stretch order", *["8 sign order"] * 2, *["8 stretch order"] * 2],
        {"head.bias"},
    ),
    "shortcut padded with zeros": Case(
        partial(Residual, padded=True),
        IMAGE,
        ["2 pinned"] * 2
        + ["4 pinned", "4 sign", "8 pinned", "8 sign", "8 sign order", "8 stretch order"],
        {f"norms.{place}.{each}" for place in (0, 2) for each in ("bias", "running_var")}
        | {"head.weight", "head.bias"},
    ),
    "batch norm of a concatenation": of(
        VECTOR,
        ["4 order", "4 sign order", "4 stretch order", "4 stretch order"],
        {"head.bias"},
        lambda m, x: m.head(torch.relu(m.norm(torch.cat([torch.relu(m.a(x)), m.b(x)], 1)))),
        a=linear(6, 4),
        b=linear(6, 4, bias=False),
        norm=lambda: nn.BatchNorm1d(8),
        head=linear(8, 3),
    ),
    "batch norm of pixels": Case(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False),
            nn.Flatten(),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Linear(16, 3),
        ),
        IMAGE,
        # Four pixels of one channel have four gains, but move as one.
        ["4 sign order", "4 stretch order"],
        {"4.bias"},
    ),
    "layer norm of pixels": Case(
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 3)),
        IMAGE,
        ["4 order"],
        {"3.bias"},
    ),
    "rms norm of a concatenation": of(
        VECTOR,
        ["4 order", "4 rotation"],
        {"head.bias"},
        lambda m, x: m.head(m.norm(torch.cat([m.a(x), torch.relu(m.b(x))], 1))),
        a=linear(6, 4),
        b=linear(6, 4),
        norm=rms,
        head=linear(8, 3),
    ),
    "layer norm that cannot be folded": of(
        VECTOR,
        ["8 order", "8 stretch order"],
        {"b.bias", "c.bias"},
        two_readers,
        a=linear(),
        norm=layer_norm,
        b=linear(8, 3),
        c=linear(8, 3),
    ),
    "layer norm folded behind a mean of tokens": of(
        SEQUENCE,
        ["8 rotation keeping ones"],
        {"head.bias"},
        lambda m, x: m.head(m.norm(m.a(x)).mean(1)),
        a=linear(),
        norm=layer_norm,
        head=linear(8, 3),
    ),
    "layer norm at the end": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8)),
        VECTOR,
        ["8 pinned"],
        {"0.weight", "0.bias", "1.weight", "1.bias"},
    ),
    "a layer called twice": of(
        VECTOR,
        ["8 stretch order"] * 3,
        {"head.bias"},
        twice,
        first=linear(),
        shared=linear(8, 8),
        head=linear(8, 3),
    ),
    "a batch norm called twice": of(
        VECTOR,
        ["8 sign order"] * 2 + ["8 stretch order"] * 2,
        {"head.bias"},
        shared_norm,
        a=linear(bias=False),
        b=linear(8, 8, bias=False),
        norm=lambda: nn.BatchNorm1d(8),
        head=linear(8, 3),
    ),
    "a folded norm called twice": of(
        VECTOR,
        ["8 rotation keeping ones"] * 2,
        {"head.bias"},
        lambda m, x: m.head(m.norm(m.b(m.norm(m.a(x))))),
        a=linear(),
        b=linear(8, 8),
        norm=layer_norm,
        head=linear(8, 3),
    ),
    "frozen gains": Case(
        lambda: nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8).requires_grad_(False), nn.ReLU(), nn.Linear(8, 3)
        ),
        VECTOR,
        ["8 pinned"] * 2,
        {f"{place}.{each}" for place in (0, 1, 3) for each in ("weight", "bias")}
        | {"1.running_mean", "1.running_var"},
    ),
    "adapters of frozen weights": of(
        VECTOR,
        ["3 rotation", "8 pinned"],
        {"base.weight", "base.bias", "head.weight", "head.bias"},
        adapted,
        base=lambda: nn.Linear(6, 8).requires_grad_(False),
        down=linear(6, 3, bias=False),
        up=linear(3, 8, bias=False),
        head=linear(8, 3),
    ),
    "nn.MultiheadAttention": of(
        SEQUENCE,
        [*HEADS_TURNED, "8 rotation"],
        {"head.bias"},
        multihead,
        first=linear(),
        attention=lambda: nn.MultiheadAttention(8, HEADS, batch_first=True),
        head=linear(8, 3),
    ),
    "nn.TransformerEncoderLayer, norm first": Case(
        partial(encoder_layer, norm_first=True),
        SEQUENCE,
        ["16 stretch order", *HEADS_TURNED, "8 rotation keeping ones"],
        {"2.bias"},
    ),
    "nn.TransformerEncoderLayer, norm last": Case(
        partial(encoder_layer, norm_first=False),
        SEQUENCE,
        ["16 stretch order", *HEADS_TURNED, "8 order", "8 order"],
        {"2.bias"},
    ),
    "language model": Case(
        partial(TinyLanguageModel, rms), WORDS, ["16 order", *HEADS_TURNED, "8 rotation"], set()
    ),
    "language model with a tied head": Case(
        partial(TinyLanguageModel, rms, tied=True),
        WORDS,
        ["16 order", *HEADS_TURNED, "8 rotation"],
        set(),
    ),
    "language model of packed projections": Case(
        partial(TinyLanguageModel, rms, packed=True),
        WORDS,
        ["16 order", *HEADS_TURNED, "8 rotation"],
        set(),
    ),
    "language model with layer norms and positions": Case(
        partial(TinyLanguageModel, layer_norm, positions=True),
        WORDS,
        ["16 order", *HEADS_TURNED, "8 rotation keeping ones"],
        {"norm.bias.shift.linear_6"},  # as a bias of the head: the output's own
    ),
    "images as tokens": of(
        IMAGE,
        ["16 stretch order", *HEADS_TURNED, "8 order"],
        {"head.bias"},
        patches,
        patches=conv(2, 8, 2, stride=2),
        positions=lambda: nn.Parameter(torch.randn(1, 4, 8)),
        layer=lambda: nn.TransformerEncoderLayer(
            8, HEADS, 16, 0.0, batch_first=True, norm_first=True
        ),
        norm=layer_norm,
        head=linear(8, 3),
    ),
    "attention across": of(
        SEQUENCE,
        [*HEADS_TURNED, "8 rotation"],
        {"head.bias"},
        cross_attention,
        memory=linear(),
        queries=linear(),
        keys=linear(8, 8),
        values=linear(8, 8),
        head=linear(8, 3),
    ),
    "attention of a value to itself": of(
        SEQUENCE,
        ["4 rotation"] * HEADS,
        {"head.bias"},
        bare_attention,
        a=linear(),
        head=linear(8, 3),
    ),
    "heads made of unlike pieces": of(
        # As many groups of channels as heads, but not along them.
        SEQUENCE,
        ["3 pinned", "5 pinned"],
        {f"{name}.{each}" for name in ("a", "b", "head") for each in ("weight", "bias")},
        unlike_heads,
        a=linear(6, 3),
        b=linear(6, 5),
        head=linear(8, 3),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_combination_is_exact(name: str) -> None:
    case = CASES[name]
    kind = InputKind.TOKENS if case.shape == WORDS else InputKind.NUMBERS
    carried = Carried(scrambled(case.build()), case.shape, kind=kind)
    assert freedom(carried.structure, carried.model.graph) == sorted(case.freedom)
    for seed, magnitude_bits in ((0, 0), (1, 4)):
        recovery = carried.recover(seed, magnitude_bits)
        assert recovery.worst < 1e-10
        assert recovery.kept == case.kept
        assert magnitude_bits or recovery.norms < 1e-10


@pytest.mark.parametrize("packed", [False, True])
def test_rotary_positions_leave_turns_by_frequency(packed: bool) -> None:
    module = TinyLanguageModel(rms, packed=packed, rotary=True, gated=True)
    carried = Carried(scrambled(module), WORDS, kind=InputKind.TOKENS)
    assert freedom(carried.structure, carried.model.graph) == sorted(
        ["16 order", *ATTENTION, "8 rotation"]
    )
    recovery = carried.recover()
    assert max(recovery.outputs, recovery.gradients, recovery.norms) < 1e-10
    assert recovery.module < 1e-5  # the module's tables are float32
    assert not recovery.kept
