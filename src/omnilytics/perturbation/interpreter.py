"""The whitelist interpreter: runs a graph with PyTorch, one listed operation after another.

This is how a data owner computes with a model it does not trust: nothing can run but the functions
of `_RUN`, with attributes and shapes that `Graph` has checked. Autograd works through it. It does
not judge what the network computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from omnilytics.perturbation import operations as op
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph

_Ins = Sequence[Tensor]


def run_graph(
    graph: Graph,
    weights: Mapping[str, Tensor],
    inputs: Tensor,
    *,
    statistics: dict[str, Tensor] | None = None,
) -> Tensor:
    """Return the network's outputs, as in training.

    Args:
        graph: A sound graph.
        weights: A tensor for every name in `graph.tensors`, of that shape.
        inputs: Shape (batch, *graph.input_shape), the weights' dtype; int64 tokens below the
            graph's vocabulary.
        statistics: Takes mean and (unbiased) variance of the batch by the names of the graph's
            statistics, detached.

    Returns:
        Shape (batch, *graph.output_shape).
    """
    return run_values(graph, weights, inputs, statistics=statistics)[graph.nodes[-1].name]


def run_values(
    graph: Graph,
    weights: Mapping[str, Tensor],
    inputs: Tensor,
    *,
    statistics: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return every value of the network by name; see `run_graph`."""
    values = {GRAPH_INPUT: inputs}
    for node in graph.nodes:
        ins = [values[name] for name in node.inputs]
        owned = [weights[name] for name in node.tensors]
        if statistics is not None and isinstance(node.operation, op.BatchNorm):
            taken = _Statistics.like(owned)
            values[node.name] = _batch_norm(node.operation, ins, owned, taken)
            statistics.update(zip(node.tensors[-2:], taken, strict=True))
        else:
            values[node.name] = _RUN[type(node.operation)](node.operation, ins, owned)
    return values


class _Statistics(NamedTuple):
    """Mean and unbiased variance of a batch, filled by the normalisation itself.

    A second pass over its input would take four times as long as the normalisation.
    """

    mean: Tensor
    variance: Tensor

    @classmethod
    def like(cls, owned: _Ins) -> _Statistics:
        """Return room for the statistics of a node with these tensors."""
        return cls(*(torch.zeros_like(each, requires_grad=False) for each in owned[-2:]))


def _linear(operation: op.Linear, ins: _Ins, owned: _Ins) -> Tensor:
    return functional.linear(ins[0], *owned)


def _conv2d(operation: op.Conv2d, ins: _Ins, owned: _Ins) -> Tensor:
    bias = owned[1] if len(owned) == 2 else None
    return functional.conv2d(
        ins[0],
        owned[0],
        bias,
        operation.stride,
        operation.padding,
        operation.dilation,
        operation.groups,
    )


def _embedding(operation: op.Embedding, ins: _Ins, owned: _Ins) -> Tensor:
    return functional.embedding(ins[0], owned[0])


def _max_pool2d(operation: op.MaxPool2d, ins: _Ins, owned: _Ins) -> Tensor:
    return functional.max_pool2d(
        ins[0], operation.kernel, operation.stride, operation.padding, operation.dilation
    )


def _avg_pool2d(operation: op.AvgPool2d, ins: _Ins, owned: _Ins) -> Tensor:
    return functional.avg_pool2d(ins[0], operation.kernel, operation.stride, operation.padding)


def _adaptive_avg_pool2d(operation: op.AdaptiveAvgPool2d, ins: _Ins, owned: _Ins) -> Tensor:
    return functional.adaptive_avg_pool2d(ins[0], operation.output_size)


def _concatenate(operation: op.Concatenate, ins: _Ins, owned: _Ins) -> Tensor:
    return torch.cat(list(ins), dim=_channel_axis(ins[0]))


def _slice_channels(operation: op.SliceChannels, ins: _Ins, owned: _Ins) -> Tensor:
    size = operation.stop - operation.start
    return ins[0].narrow(_channel_axis(ins[0]), operation.start, size)


def _slice_pixels(operation: op.SlicePixels, ins: _Ins, owned: _Ins) -> Tensor:
    rows, columns = (
        slice(*each) for each in zip(operation.start, operation.stop, operation.step, strict=True)
    )
    return ins[0][:, :, rows, columns]


def _pad2d(operation: op.Pad2d, ins: _Ins, owned: _Ins) -> Tensor:
    return functional.pad(ins[0], (*operation.width, *operation.height, *operation.channels))


def _batch_norm(
    operation: op.BatchNorm, ins: _Ins, owned: _Ins, statistics: _Statistics | None = None
) -> Tensor:
    weight, bias = owned[:2] if len(owned) == 4 else (None, None)
    return functional.batch_norm(
        ins[0],
        statistics.mean if statistics else None,
        statistics.variance if statistics else None,
        weight,
        bias,
        training=True,
        momentum=1.0,  # the batch's own statistics take the place of zeros
        eps=operation.epsilon,
    )


def _group_norm(operation: op.GroupNorm, ins: _Ins, owned: _Ins) -> Tensor:
    weight, bias = owned or (None, None)
    return functional.group_norm(ins[0], operation.groups, weight, bias, operation.epsilon)


def _layer_norm(operation: op.LayerNorm, ins: _Ins, owned: _Ins) -> Tensor:
    weight, bias = (*owned, None, None)[:2]
    return functional.layer_norm(ins[0], ins[0].shape[-1:], weight, bias, operation.epsilon)


def _rms_norm(operation: op.RmsNorm, ins: _Ins, owned: _Ins) -> Tensor:
    weight = owned[0] if owned else None
    return functional.rms_norm(ins[0], list(ins[0].shape[-1:]), weight, operation.epsilon)


def _attention(operation: op.Attention, ins: _Ins, owned: _Ins) -> Tensor:
    queries, keys, values = (_by_heads(each, operation.heads).transpose(1, 2) for each in ins)
    found = functional.scaled_dot_product_attention(
        queries, keys, values, is_causal=operation.causal
    )
    return found.transpose(1, 2).flatten(2)


def _by_heads(value: Tensor, heads: int) -> Tensor:
    return value.reshape(*value.shape[:-1], heads, value.shape[-1] // heads)


def _rotary(operation: op.Rotary, ins: _Ins, owned: _Ins) -> Tensor:
    heads = _by_heads(ins[0], operation.heads)
    first, second = heads.chunk(2, dim=-1)
    angles = rotary_angles(heads.shape[1], heads.shape[-1], operation.base)
    cosine, sine = (part.to(ins[0].dtype)[:, None, :] for part in (angles.cos(), angles.sin()))
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return torch.cat(turned, dim=-1).flatten(2)


def rotary_angles(tokens: int, features: int, base: float) -> Tensor:
    """Return the angle of every token and pair of features, float64 (tokens, features / 2)."""
    frequencies = base ** (-torch.arange(0, features, 2, dtype=torch.float64) / features)
    return torch.outer(torch.arange(tokens, dtype=torch.float64), frequencies)


def _channel_axis(value: Tensor) -> int:
    return 1 + op.channel_axis(tuple(value.shape[1:]))


_RUN: dict[type[op.Operation], Callable[[Any, _Ins, _Ins], Tensor]] = {
    op.Linear: _linear,
    op.Conv2d: _conv2d,
    op.Embedding: _embedding,
    op.AddPositions: lambda operation, ins, owned: ins[0] + owned[0],
    op.Relu: lambda operation, ins, owned: functional.relu(ins[0]),
    op.LeakyRelu: lambda operation, ins, owned: functional.leaky_relu(ins[0], operation.slope),
    op.Prelu: lambda operation, ins, owned: functional.prelu(ins[0], owned[0]),
    op.Gelu: lambda operation, ins, owned: functional.gelu(
        ins[0], approximate="tanh" if operation.tanh else "none"
    ),
    op.Silu: lambda operation, ins, owned: functional.silu(ins[0]),
    op.Sigmoid: lambda operation, ins, owned: torch.sigmoid(ins[0]),
    op.Tanh: lambda operation, ins, owned: torch.tanh(ins[0]),
    op.Hardtanh: lambda operation, ins, owned: functional.hardtanh(
        ins[0], operation.low, operation.high
    ),
    op.Hardswish: lambda operation, ins, owned: functional.hardswish(ins[0]),
    op.Hardsigmoid: lambda operation, ins, owned: functional.hardsigmoid(ins[0]),
    op.Dropout: lambda operation, ins, owned: functional.dropout(ins[0], operation.probability),
    op.Scale: lambda operation, ins, owned: ins[0] * operation.factor,
    op.Add: lambda operation, ins, owned: ins[0] + ins[1],
    op.Multiply: lambda operation, ins, owned: ins[0] * ins[1],
    op.MaxPool2d: _max_pool2d,
    op.AvgPool2d: _avg_pool2d,
    op.AdaptiveAvgPool2d: _adaptive_avg_pool2d,
    op.Flatten: lambda operation, ins, owned: ins[0].flatten(1),
    op.Concatenate: _concatenate,
    op.SliceChannels: _slice_channels,
    op.SlicePixels: _slice_pixels,
    op.Pad2d: _pad2d,
    op.PixelsToTokens: lambda operation, ins, owned: ins[0].flatten(2).transpose(1, 2),
    op.MeanTokens: lambda operation, ins, owned: ins[0].mean(dim=1),
    op.SelectToken: lambda operation, ins, owned: ins[0].select(1, operation.index),
    op.BatchNorm: _batch_norm,
    op.GroupNorm: _group_norm,
    op.LayerNorm: _layer_norm,
    op.RmsNorm: _rms_norm,
    op.Attention: _attention,
    op.Rotary: _rotary,
}
