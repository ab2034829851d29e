"""The networks by name, what each takes, and how one is built from a public seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Literal

import torch
from torch import nn

from omnilytics.foundation.errors import ConfigError, ModelError
from omnilytics.learning.datasets import Layout
from omnilytics.learning.models.lora import with_adapters
from omnilytics.learning.models.mobile import mobilenet
from omnilytics.learning.models.residual import group_norm, resnet18, resnet20
from omnilytics.learning.models.small import cnn, lenet, mlp
from omnilytics.learning.models.transformers import (
    ImageClassifier,
    LanguageModel,
    SequenceClassifier,
    Sizes,
)
from omnilytics.learning.models.vgg import vgg11

_RANK = 4
_PATCH = 2


class Takes(StrEnum):
    """What a sample of a network is."""

    ANY = "numbers of any shape"
    IMAGES = "(channels, height, width)"
    SEQUENCES = "(tokens, features)"
    TOKENS = "(tokens,), int64"


_RANKS = {Takes.IMAGES: 3, Takes.SEQUENCES: 2, Takes.TOKENS: 1}
_LAYOUTS = {Takes.ANY: Layout.FLAT, Takes.SEQUENCES: Layout.ROWS}


@dataclass(frozen=True)
class ModelKind:
    """A network by name.

    Attributes:
        takes: What a sample is.
        make: From a sample's shape and the number of classes (of tokens: the vocabulary).
        smallest: Least height and width of images.
    """

    takes: Takes
    make: Callable[[tuple[int, ...], int], nn.Module]
    smallest: int = 1


def _transformer(
    input_shape: tuple[int, ...], outputs: int, *, mlp: Literal["gelu", "swiglu"] = "gelu"
) -> nn.Module:
    tokens, features = input_shape
    return SequenceClassifier(tokens, features, outputs, Sizes(), mlp)


def _vit(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    channels, height, width = input_shape
    return ImageClassifier((channels, height, width), outputs, Sizes(), _PATCH)


def _language_model(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    return LanguageModel(input_shape[0], outputs, Sizes())


def _adapted(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    return with_adapters(
        _transformer(input_shape, outputs), rank=_RANK, seed=torch.initial_seed() & 0xFFFFFFFF
    )


MODELS: dict[str, ModelKind] = {
    "mlp": ModelKind(Takes.ANY, mlp),
    "cnn": ModelKind(Takes.IMAGES, cnn, smallest=2),
    "lenet": ModelKind(Takes.IMAGES, lenet, smallest=12),
    "vgg11": ModelKind(Takes.IMAGES, vgg11),
    "vgg11-batchnorm": ModelKind(Takes.IMAGES, partial(vgg11, normalised=True)),
    "resnet20": ModelKind(Takes.IMAGES, resnet20),
    "resnet20-padded": ModelKind(Takes.IMAGES, partial(resnet20, padded=True)),
    "resnet20-groupnorm": ModelKind(Takes.IMAGES, partial(resnet20, norm=group_norm)),
    "resnet18": ModelKind(Takes.IMAGES, resnet18),
    "mobilenet": ModelKind(Takes.IMAGES, mobilenet),
    "transformer": ModelKind(Takes.SEQUENCES, _transformer),
    "transformer-swiglu": ModelKind(Takes.SEQUENCES, partial(_transformer, mlp="swiglu")),
    "transformer-lora": ModelKind(Takes.SEQUENCES, _adapted),
    "vit": ModelKind(Takes.IMAGES, _vit, smallest=_PATCH),
    "language-model": ModelKind(Takes.TOKENS, _language_model),
}
MODEL_NAMES = tuple(MODELS)


def layout_for(name: str) -> Layout:
    """Return how a data set's samples are given to a network of this name."""
    return _LAYOUTS.get(MODELS[name].takes, Layout.OWN)


def build_model(name: str, *, input_shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """Return a freshly initialised network, the same for the same arguments.

    Args:
        name: One of `MODEL_NAMES`.
        input_shape: Shape of one sample, as `MODELS[name].takes` says.
        outputs: Number of classes; of a language model, its vocabulary.
        seed: Public seed of the initial weights; the global generator is left as it was.

    Raises:
        ConfigError: If the name is unknown.
        ModelError: If the network does not fit the input.
    """
    if name not in MODELS:
        raise ConfigError("unknown model", got=name, want=" or ".join(MODEL_NAMES))
    kind = MODELS[name]
    if len(input_shape) != _RANKS.get(kind.takes, len(input_shape)):
        raise ModelError(
            f"the network {name} needs other samples",
            got=input_shape,
            want=kind.takes.value,
            hint="the mlp takes any shape",
        )
    if kind.takes is Takes.IMAGES and min(input_shape[1:]) < kind.smallest:
        raise ModelError(
            f"the images are too small for {name}",
            got=input_shape,
            want=f"{kind.smallest} pixels a side or more",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind.make(input_shape, outputs)
