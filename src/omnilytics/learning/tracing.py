"""From a user's `nn.Module` to a `Graph`, by `torch.export`, or a refusal that says why.

The module is traced in training mode with a batch dimension of at least 2, each ATen call is read
as one listed operation, gains are folded and shared weights split (`folding`), and the result is
checked on a probe batch: the graph must compute what the module computes, and have its gradient.
Only names of parameters and operations leave; no source lines, no archive of torch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.layouts import SAMPLES
from omnilytics.learning.reading import Reader, Traced
from omnilytics.perturbation.graph import Dtype, Graph, InputKind
from omnilytics.perturbation.interpreter import run_graph

_PROBE_SAMPLES = SAMPLES + 1
"""Not as many as layouts are followed for: whatever depends on the number is noticed."""
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5
_GRADIENT_RELATIVE = 1e-3
"""Of the norm of the whole gradient, which is float32."""


def trace(module: nn.Module, input_shape: tuple[int, ...]) -> Graph:
    """Return the graph of `module`; see `trace_module`."""
    return trace_module(module, input_shape).graph


def trace_module(
    module: nn.Module,
    input_shape: tuple[int, ...],
    *,
    input_kind: InputKind = InputKind.NUMBERS,
) -> Traced:
    """Return what is published of `module`, whose mode, weights and buffers are left as they were.

    Args:
        module: Takes one tensor (batch, *input_shape), float32 or int64 tokens; returns one
            (batch, outputs) or (batch, tokens, outputs).
        input_shape: Shape of one sample.
        input_kind: Whether it is numbers or tokens.

    Raises:
        ModelError: If something is not on the list; it names the node, the operation and a way out.
    """
    _check_parameters(module)
    twin = copy.deepcopy(module).train()
    program = _export(twin, input_shape, input_kind)
    traced = Reader(program, twin, input_shape, input_kind).read()
    _check_probe(twin, traced)
    return traced


def _check_parameters(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise ModelError(
                "a parameter is not float32",
                got=parameter.dtype,
                hint="convert the module with .float()",
                tensor=name,
            )


def _export(module: nn.Module, shape: tuple[int, ...], kind: InputKind) -> ExportedProgram:
    dtype = torch.int64 if kind is InputKind.TOKENS else torch.float32
    example = torch.zeros(2, *shape, dtype=dtype)
    try:
        with torch.no_grad():
            copy.deepcopy(module)(example.clone())  # a plain error, before the tracer's long one
        return torch.export.export(module, (example,), dynamic_shapes=({0: Dim("batch", min=2)},))
    except Exception as error:  # torch.export raises many kinds; all mean "cannot be traced"
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            "torch.export cannot trace the module",
            got=f"{type(error).__name__}: {lines[0][:200]}",
            hint="no branches on data, one tensor in, one out, any batch of 2 or more",
        ) from error


def probe_inputs(graph: Graph, samples: int) -> Tensor:
    """Return a batch of made-up inputs, the same for the same graph."""
    generator = torch.Generator().manual_seed(0)
    shape = (samples, *graph.input_shape)
    if graph.input_kind is InputKind.TOKENS:
        return torch.randint(graph.vocabulary, shape, generator=generator)
    return torch.randn(*shape, generator=generator)


def _check_probe(module: nn.Module, traced: Traced) -> None:
    graph = traced.graph
    probe = probe_inputs(graph, _PROBE_SAMPLES)
    state = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    weights = {
        name: torch.from_numpy(value)
        for name, value in traced.weights(state, Dtype.FLOAT32).items()
    }
    trained = {tensor.name: weights[tensor.name].requires_grad_() for tensor in graph.trained}
    own = {name: each for name, each in module.named_parameters() if each.requires_grad}
    with torch.random.fork_rng(devices=[]):
        # Dropout draws the same masks after the same seed.
        torch.manual_seed(0)
        got = run_graph(graph, weights, probe)
        torch.manual_seed(0)
        want = module(probe.clone())
        if not torch.allclose(got, want, rtol=_RELATIVE, atol=_ABSOLUTE):
            raise ModelError(
                "the traced graph does not compute what the module computes",
                got=float((got - want).detach().abs().max()),
                want="the same outputs on a probe batch",
                hint="hooks, randomness or state outside parameters cannot travel",
            )
        cotangent = torch.randn(want.shape)
    found = traced.parameter_gradients(_gradients(got, cotangent, trained), state)
    _check_gradients(found, _gradients(want, cotangent, own))


def _gradients(
    outputs: Tensor, cotangent: Tensor, tensors: Mapping[str, Tensor]
) -> dict[str, NDArray[np.float64]]:
    try:
        found = torch.autograd.grad(outputs, list(tensors.values()), cotangent)
    except RuntimeError as error:  # a value was overwritten that the backward pass needs
        raise ModelError(
            "the module has no gradient",
            got=str(error).splitlines()[0][:200],
            hint="use inplace=False",
        ) from error
    return {name: each.double().numpy() for name, each in zip(tensors, found, strict=True)}


def _check_gradients(
    got: Mapping[str, NDArray[np.float64]], want: Mapping[str, NDArray[np.float64]]
) -> None:
    whole = np.sqrt(sum(np.linalg.norm(each) ** 2 for each in want.values()))
    for name, gradient in want.items():
        difference = float(np.linalg.norm(got[name] - gradient))
        if not difference <= _GRADIENT_RELATIVE * whole:
            raise ModelError(
                "the traced graph has another gradient than the module",
                got=difference,
                want=f"below {_GRADIENT_RELATIVE:g} of {whole:g} on a probe batch",
                hint="functions with a backward pass of their own, and hooks, cannot travel",
                tensor=name,
            )
