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
from torch import nn

from omnilytics.foundation.errors import ConfigError

_MODEL, _OPTIMISER = "model.", "optimiser."


def save_checkpoint(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, facts: Mapping[str, str]
) -> None:
    """Write a module's weights and buffers, its optimiser's state and facts."""
    tensors = {_MODEL + name: _plain(value) for name, value in module.state_dict().items()}
    for place, entries in optimiser.state_dict()["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{_OPTIMISER}{place}.{key}"] = _plain(value)
    write_file(path, save(tensors, metadata=dict(facts)))


def load_optimiser(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Give a module's optimiser the state that a checkpoint has.

    Raises:
        ConfigError: Not a checkpoint, or another model's; nothing was changed.
    """
    tensors, _ = _read(path)
    got = {name: tuple(tensor.shape) for name, tensor in _part(tensors, _MODEL).items()}
    want = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if got != want:
        raise ConfigError("the checkpoint is of another model", got=path)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in _part(tensors, _OPTIMISER).items():
        place, _, key = name.partition(".")
        state.setdefault(int(place), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def export_weights(checkpoint: Path, target: Path) -> dict[str, str]:
    """Write a checkpoint's weights alone, under the module's own names; return its facts."""
    tensors, facts = _read(checkpoint)
    write_file(target, save(_part(tensors, _MODEL), metadata=facts))
    return facts


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


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().clone()


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            facts = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in list(file.keys())}, facts
    except (OSError, SafetensorError) as error:
        raise ConfigError("the checkpoint cannot be read", got=f"{path}: {error}") from None
