"""A user's module as the market carries it: its graph, weights out, mean gradient in.

The module stays the user's, with its optimiser, device and training loop; here its weights are read
and the gradients of its parameters are set.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.tracing import trace
from omnilytics.perturbation.artefact import Tensors, check_tensors
from omnilytics.perturbation.graph import Graph

FloatArray = NDArray[np.floating[Any]]
Module = nn.Module


class CarriedModel:
    """A module and its graph.

    Args:
        module: The user's network; float32, every parameter trained.
        input_shape: Shape of one sample.

    Raises:
        ModelError: If the module cannot be carried by the market (see `tracing`).
    """

    def __init__(self, module: Module, *, input_shape: tuple[int, ...]) -> None:
        self.module = module
        self.graph: Graph = trace(_on_cpu(module), input_shape)
        self._parameters = dict(module.named_parameters())

    def fresh_copy(self) -> Self:
        """Return the same of a copy of the module as it is now."""
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module)
        twin._parameters = dict(twin.module.named_parameters())
        return twin

    def weights(self) -> Tensors:
        """Return copies of the weights, float32 by name, in the graph's order."""
        return {
            tensor.name: self._parameters[tensor.name].detach().cpu().numpy().copy()
            for tensor in self.graph.tensors
        }

    def load_weights(self, weights: Mapping[str, FloatArray]) -> None:
        """Give the module these weights, by name."""
        check_tensors(self.graph, weights)
        with torch.no_grad():
            for name, values in weights.items():
                self._parameters[name].copy_(torch.from_numpy(np.array(values, dtype=np.float32)))

    def fill_gradients(self, gradients: Mapping[str, FloatArray]) -> None:
        """Set `.grad` of every parameter to a gradient of the true model, by tensor name."""
        check_tensors(self.graph, gradients)
        fill_gradients(self.module, gradients)


def _on_cpu(module: Module) -> Module:
    elsewhere = any(parameter.device.type != "cpu" for parameter in module.parameters())
    return copy.deepcopy(module).cpu() if elsewhere else module


def fill_gradients(module: Module, gradients: Mapping[str, FloatArray]) -> None:
    """Set `.grad` of a module's parameters, where they are and in their type.

    Raises:
        ModelError: The module's parameters are not those of the gradients; nothing was set.
    """
    parameters = dict(module.named_parameters())
    wanted = {name: gradient.shape for name, gradient in gradients.items()}
    got = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    if got != wanted:
        different = sorted(
            name for name in got.keys() | wanted if got.get(name) != wanted.get(name)
        )
        raise ModelError(
            "the module is not the task's",
            got=f"{len(different)} parameters of another name or shape",
            hint="give the module that was published",
            tensor=different[0][:80],
        )
    for name, parameter in parameters.items():
        gradient = torch.from_numpy(gradients[name].astype(np.float32))
        parameter.grad = gradient.to(device=parameter.device, dtype=parameter.dtype)
