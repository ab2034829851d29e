"""A user's module as the market carries it: its graph, weights out, mean gradient in.

The module stays the user's, with its optimiser, device and training loop; here its weights are read
and the gradients of its parameters are set.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.tracing import trace_module
from omnilytics.perturbation.artefact import NOTHING_FROZEN, Artefact, Tensors, encode_frozen
from omnilytics.perturbation.graph import Dtype, Graph, InputKind
from omnilytics.perturbation.round_secret import RoundSecret
from omnilytics.wire.hashing import content_hash

FloatArray = NDArray[np.floating[Any]]
Module = nn.Module


class CarriedModel:
    """A module and its graph.

    Args:
        module: The user's network; float32. Parameters that need no gradient stay frozen.
        input_shape: Shape of one sample.
        input_kind: Whether it is numbers or tokens.

    Raises:
        ModelError: If the module cannot be carried by the market (see `tracing`).
    """

    def __init__(
        self,
        module: Module,
        *,
        input_shape: tuple[int, ...],
        input_kind: InputKind = InputKind.NUMBERS,
    ) -> None:
        self.module = module
        self._traced = trace_module(_on_cpu(module), input_shape, input_kind=input_kind)
        self.graph: Graph = self._traced.graph

    def fresh_copy(self) -> Self:
        """Return the same of a copy of the module as it is now."""
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module)
        return twin

    def weights(self, dtype: Dtype = Dtype.FLOAT32) -> Tensors:
        """Return the tensors to be published, unperturbed, by name, in the graph's order."""
        return self._traced.weights(self.state(), dtype)

    def state(self) -> Tensors:
        """Return copies of the module's parameters and running statistics, by their names there."""
        sources = self._traced.sources.values()
        wanted = {name for source in sources for name in source.parameters}
        return {
            name: value.detach().cpu().numpy().copy()
            for name, value in self._tensors().items()
            if name in wanted
        }

    def load_state(self, state: Mapping[str, FloatArray]) -> None:
        """Give the module parameters and statistics that `state` returned.

        Raises:
            ModelError: They are not this module's; nothing was changed.
        """
        tensors = self._tensors()
        wanted = {name: value.shape for name, value in self.state().items()}
        check_names({name: value.shape for name, value in state.items()}, wanted)
        with torch.no_grad():
            for name, values in state.items():
                tensors[name].copy_(torch.from_numpy(np.array(values, dtype=np.float32)))

    def artefact(
        self, secret: RoundSecret | None = None, *, dtype: Dtype = Dtype.FLOAT32
    ) -> Artefact:
        """Return what is published with a secret; without one, the network as it is in a type."""
        graph = replace(self.graph, dtype=dtype) if secret is None else secret.published_graph
        weights = self.weights(graph.dtype)
        frozen = content_hash(encode_frozen(graph, weights)) if graph.frozen else NOTHING_FROZEN
        return Artefact(graph, weights if secret is None else secret.perturb(weights), frozen)

    def frozen_content(self, dtype: Dtype = Dtype.FLOAT32) -> bytes | None:
        """Return the frozen weights as they are published once, or None where there are none."""
        if not self.graph.frozen:
            return None
        return encode_frozen(replace(self.graph, dtype=dtype), self.weights(dtype))

    def parameter_gradients(self, gradients: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return gradients by the module's parameters from those of the graph's trained tensors.

        The module must have the weights that were published.

        Raises:
            ModelError: The gradients are not of the graph's trained tensors.
        """
        wanted = {tensor.name: tensor.shape for tensor in self.graph.trained}
        check_names({name: value.shape for name, value in gradients.items()}, wanted)
        found = self._traced.parameter_gradients(gradients, self.state())
        parameters = self.module.named_parameters()
        return {name: found[name] for name, each in parameters if each.requires_grad}

    def statistics_after(self, differences: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return the running statistics after a round, by the names of the module's buffers.

        Args:
            differences: Mean over owners of the running value less the batch's, by the names of
                the graph's statistics.
        """
        wanted = {tensor.name: tensor.shape for tensor in self.graph.statistics}
        check_names({name: value.shape for name, value in differences.items()}, wanted)
        state = self.state()
        found: dict[str, FloatArray] = {}
        for name in wanted:  # in the graph's order, for a layer that is used more than once
            buffer = str(self._traced.sources[name].parameter)
            momentum = self._traced.momentum[name]
            batch = state[buffer] - differences[name]
            after = (1 - momentum) * found.get(buffer, state[buffer]) + momentum * batch
            is_variance = buffer.endswith("running_var")  # which rounding may take below 0
            found[buffer] = np.maximum(after, 0.0) if is_variance else after
        return found

    def fill_gradients(self, gradients: Mapping[str, FloatArray]) -> None:
        """Set `.grad` of every trained parameter to gradients of the graph's trained tensors."""
        fill_gradients(self.module, self.parameter_gradients(gradients))

    def _tensors(self) -> dict[str, torch.Tensor]:
        return dict(self.module.named_parameters()) | dict(self.module.named_buffers())


def _on_cpu(module: Module) -> Module:
    elsewhere = any(parameter.device.type != "cpu" for parameter in module.parameters())
    return copy.deepcopy(module).cpu() if elsewhere else module


def check_names(got: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `ModelError` unless names and shapes are those of the module."""
    if dict(got) != dict(wanted):
        different = sorted(
            name for name in got.keys() | wanted if got.get(name) != wanted.get(name)
        )
        raise ModelError(
            "the module is not the task's",
            got=f"{len(different)} tensors of another name or shape",
            hint="give the module that was published",
            tensor=different[0][:80],
        )


def fill_gradients(module: Module, gradients: Mapping[str, FloatArray]) -> None:
    """Set `.grad` of a module's trained parameters, where they are and in their type.

    Raises:
        ModelError: The module's parameters are not those of the gradients; nothing was set.
    """
    parameters = {name: each for name, each in module.named_parameters() if each.requires_grad}
    check_names(
        {name: tuple(parameter.shape) for name, parameter in parameters.items()},
        {name: gradient.shape for name, gradient in gradients.items()},
    )
    for name, parameter in parameters.items():
        gradient = torch.from_numpy(gradients[name].astype(np.float32))
        parameter.grad = gradient.to(device=parameter.device, dtype=parameter.dtype)


def fill_statistics(module: Module, statistics: Mapping[str, FloatArray]) -> None:
    """Set a module's running statistics, where they are and in their type."""
    buffers = dict(module.named_buffers())
    check_names(
        {name: tuple(buffers[name].shape) for name in statistics if name in buffers},
        {name: value.shape for name, value in statistics.items()},
    )
    with torch.no_grad():
        for name, values in statistics.items():
            buffers[name].copy_(torch.from_numpy(values.astype(np.float32)))
