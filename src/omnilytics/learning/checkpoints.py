"""Weights and optimiser state in one safetensors file: whole or not there, on the device.

Reading one executes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from omnilytics.foundation.errors import ConfigError
from omnilytics.learning.training import Trainer

_MODEL, _OPTIMISER = "model.", "optimiser."


def save_checkpoint(path: Path, trainer: Trainer, facts: Mapping[str, str]) -> None:
    """Write weights, optimiser state and facts."""
    tensors = {
        _MODEL + name: parameter.detach().cpu().contiguous().clone()
        for name, parameter in trainer.module.named_parameters()
    }
    for place, entries in trainer._optimiser.state_dict()["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{_OPTIMISER}{place}.{key}"] = value.detach().cpu().contiguous().clone()
    write_file(path, save(tensors, metadata=dict(facts)))


def load_checkpoint(path: Path, trainer: Trainer) -> dict[str, str]:
    """Give a trainer a checkpoint's weights and optimiser state; return its facts.

    Raises:
        ConfigError: Not a checkpoint, or another model's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ConfigError("the checkpoint cannot be read", got=f"{path}: {error}") from None
    parameters = dict(trainer.module.named_parameters())
    weights = {
        name.removeprefix(_MODEL): tensor
        for name, tensor in tensors.items()
        if name.startswith(_MODEL)
    }
    got = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if got != {name: tuple(parameter.shape) for name, parameter in parameters.items()}:
        raise ConfigError("the checkpoint is of another model", got=path)
    with torch.no_grad():
        for name, tensor in weights.items():
            parameters[name].copy_(tensor)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_OPTIMISER):
            place, _, key = name.removeprefix(_OPTIMISER).partition(".")
            state.setdefault(int(place), {})[key] = tensor
    whole = trainer._optimiser.state_dict()
    trainer._optimiser.load_state_dict({**whole, "state": state})
    return facts


def export_weights(path: Path, trainer: Trainer, facts: Mapping[str, str]) -> None:
    """Write the weights alone, under the module's own names."""
    tensors = {
        name: parameter.detach().cpu().contiguous().clone()
        for name, parameter in trainer.module.named_parameters()
    }
    write_file(path, save(tensors, metadata=dict(facts)))


def write_file(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 in one step: after a crash there is the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        names = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(names)
        finally:
            os.close(names)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError("cannot write", got=f"{path}: {error.strerror}") from None
