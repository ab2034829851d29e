"""Listed operations: shapes, attributes, costs, and that they compute what they say."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
from graphs import CONV
from torch import Tensor

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation import operations as op
from omnilytics.perturbation.interpreter import _RUN
from omnilytics.perturbation.operations import Operation, Shape

GROUPED = op.Conv2d((1, 1), (0, 0), (1, 1), groups=2)
POOL = op.MaxPool2d((3, 2), (2, 2), (1, 0), (1, 2))
IMAGE: Shape = (2, 3, 4)
POINTWISE: list[Operation] = [
    op.Relu(),
    op.LeakyRelu(0.1),
    op.Gelu(tanh=True),
    op.Silu(),
    op.Sigmoid(),
    op.Tanh(),
    op.Hardtanh(0.0, 6.0),
    op.Hardswish(),
    op.Hardsigmoid(),
    op.Dropout(0.5),
    op.Scale(-2.0),
]

SHAPES: list[tuple[Operation, list[Shape], list[Shape], Shape]] = [
    (op.Linear(), [(5,)], [(3, 5), (3,)], (3,)),
    (op.Linear(), [(4, 5)], [(3, 5)], (4, 3)),
    (op.Conv2d((2, 1), (0, 1), (1, 2)), [(2, 9, 9)], [(4, 2, 3, 3)], (4, 4, 7)),
    (GROUPED, [(4, 3, 3)], [(6, 2, 1, 1), (6,)], (6, 3, 3)),
    (op.Embedding(), [(5,)], [(7, 4)], (5, 4)),
    (op.AddPositions(), [(5, 4)], [(5, 4)], (5, 4)),
    (op.AddPositions(), [(5, 4)], [(1, 5, 4)], (5, 4)),
    *((operation, [IMAGE], [], IMAGE) for operation in POINTWISE),
    (op.Prelu(), [(2, 3, 4)], [(2,)], (2, 3, 4)),
    (op.Prelu(), [(3, 4)], [(1,)], (3, 4)),
    (op.Add(), [(2, 4), (2, 4)], [], (2, 4)),
    (op.Multiply(), [(2, 4), (2, 4)], [], (2, 4)),
    (POOL, [(2, 7, 7)], [], (2, 4, 3)),
    (op.AvgPool2d((2, 2), (1, 1), (0, 0)), [(2, 4, 5)], [], (2, 3, 4)),
    (op.AdaptiveAvgPool2d((1, 2)), [(2, 4, 5)], [], (2, 1, 2)),
    (op.Flatten(), [(2, 4, 5)], [], (40,)),
    (op.Concatenate(), [(2, 4, 5), (3, 4, 5)], [], (5, 4, 5)),
    (op.Concatenate(), [(4, 5), (4, 1), (4, 2)], [], (4, 8)),
    (op.SliceChannels(1, 3), [(4, 2, 2)], [], (2, 2, 2)),
    (op.SliceChannels(1, 3), [(2, 4)], [], (2, 2)),
    (op.SlicePixels((1, 0), (5, 4), (2, 3)), [(2, 5, 5)], [], (2, 2, 2)),
    (op.Pad2d((1, 0), (0, 2), (3, 0)), [(2, 3, 4)], [], (3, 5, 7)),
    (op.PixelsToTokens(), [(2, 3, 4)], [], (12, 2)),
    (op.MeanTokens(), [(5, 4)], [], (4,)),
    (op.SelectToken(4), [(5, 4)], [], (4,)),
    (op.BatchNorm(1e-5), [(2, 3, 4)], [(2,)] * 4, (2, 3, 4)),
    (op.BatchNorm(1e-5), [(5,)], [(5,)] * 2, (5,)),
    (op.GroupNorm(1e-5, 2), [(4, 3, 3)], [(4,)] * 2, (4, 3, 3)),
    (op.LayerNorm(1e-5), [(3, 4)], [(4,)], (3, 4)),
    (op.RmsNorm(1e-5), [(4,)], [(4,)], (4,)),
    (op.Attention(2, causal=True), [(3, 4), (3, 4), (3, 6)], [], (3, 6)),
    (op.Attention(1, causal=False), [(2, 4), (3, 4), (3, 6)], [], (2, 6)),
    (op.Rotary(2, 100.0), [(3, 8)], [], (3, 8)),
]


@pytest.mark.parametrize(("operation", "inputs", "tensors", "output"), SHAPES)
def test_shape_rules_are_what_runs(
    operation: Operation, inputs: list[Shape], tensors: list[Shape], output: Shape
) -> None:
    assert operation.output_shape(inputs, tensors) == output
    read = sum(prod(shape) for shape in inputs)
    assert operation.multiply_adds(inputs, tensors, output) >= max(prod(output), read // 4)
    assert operation.workspace(inputs, tensors, output) >= 0
    draw = torch.Generator().manual_seed(1)
    tokens = isinstance(operation, op.Embedding)
    ins = [
        torch.randint(7, (6, *shape)) if tokens else torch.randn(6, *shape, generator=draw)
        for shape in inputs
    ]
    found = _RUN[type(operation)](operation, ins, [torch.rand(shape) for shape in tensors])
    assert found.shape == (6, *output)


def test_every_operation_is_among_them() -> None:
    assert {type(operation) for operation, *_ in SHAPES} == set(op.OPERATIONS.values())


@pytest.mark.parametrize(
    ("operation", "inputs", "tensors", "words"),
    [
        (op.Linear(), [(2, 3, 4)], [(3, 5)], "dimensions"),
        (op.Linear(), [(5,)], [(3, 4)], "weight does not fit"),
        (op.Linear(), [(5,)], [(3, 5), (4,)], "bias does not fit"),
        (CONV, [(5,)], [(3, 5, 1, 1)], "dimensions"),
        (CONV, [(2, 4, 4)], [(3, 1, 3, 3)], "weight does not fit"),
        (CONV, [(2, 4, 4)], [(3, 2, 9, 9)], "kernel is larger"),
        (GROUPED, [(4, 3, 3)], [(5, 2, 1, 1)], "weight does not fit"),
        (GROUPED, [(4, 3, 3)], [(6, 4, 1, 1)], "weight does not fit"),
        (op.Embedding(), [(5, 4)], [(7, 4)], "dimensions"),
        (op.Embedding(), [(5,)], [(7,)], "dimensions"),
        (op.AddPositions(), [(5, 4)], [(4, 4)], "table of positions"),
        (op.AddPositions(), [(5, 4)], [(2, 5, 4)], "table of positions"),
        (op.AddPositions(), [(4,)], [(4,)], "dimensions"),
        (op.Prelu(), [(3, 4)], [(4,)], "slopes of sequences"),
        (op.Prelu(), [(3,)], [(2,)], "slopes do not fit"),
        (op.MaxPool2d((2, 2), (2, 2), (2, 0), (1, 1)), [(1, 4, 4)], [], "half of the kernel"),
        (op.AvgPool2d((5, 5), (1, 1), (0, 0)), [(1, 4, 4)], [], "kernel is larger"),
        (op.AdaptiveAvgPool2d((1, 1)), [(4,)], [], "dimensions"),
        (op.Add(), [(1, 2, 2), (4,)], [], "differ in shape"),
        (op.Multiply(), [(4, 1, 1), (4, 2, 2)], [], "differ in shape"),
        (op.Concatenate(), [(2, 4, 5), (2, 4, 4)], [], "more than their channels"),
        (op.Concatenate(), [(2, 4), (8,)], [], "more than their channels"),
        (op.SliceChannels(2, 5), [(4,)], [], "not within the channels"),
        (op.SliceChannels(2, 2), [(4,)], [], "not within the channels"),
        (op.SlicePixels((0, 3), (4, 3), (1, 1)), [(1, 4, 4)], [], "not within the image"),
        (op.SlicePixels((0, 0), (5, 4), (1, 1)), [(1, 4, 4)], [], "not within the image"),
        (op.Pad2d((0, 0), (0, 0), (0, 0)), [(4,)], [], "dimensions"),
        (op.PixelsToTokens(), [(4, 4)], [], "dimensions"),
        (op.MeanTokens(), [(4,)], [], "dimensions"),
        (op.SelectToken(5), [(5, 4)], [], "no such token"),
        (op.BatchNorm(1e-5), [(3, 4)], [(4,)] * 2, "dimensions"),
        (op.BatchNorm(1e-5), [(3,)], [(3,), (4,)], "tensor of the normalisation"),
        (op.GroupNorm(1e-5, 3), [(4,)], [], "groups do not divide"),
        (op.LayerNorm(1e-5), [(2, 3, 4)], [], "dimensions"),
        (op.RmsNorm(1e-5), [(3, 4)], [(3,)], "tensor of the normalisation"),
        (op.Attention(3, causal=True), [(3, 4)] * 3, [], "heads do not divide"),
        (op.Attention(1, causal=True), [(3, 4), (3, 5), (3, 4)], [], "do not fit"),
        (op.Attention(1, causal=True), [(3, 4), (3, 4), (2, 4)], [], "do not fit"),
        (op.Attention(1, causal=True), [(4,)] * 3, [], "dimensions"),
        (op.Rotary(2, 100.0), [(3, 6)], [], "odd number of features"),
        (op.Rotary(4, 100.0), [(3, 6)], [], "heads do not divide"),
    ],
)
def test_shape_rules_refuse(
    operation: Operation, inputs: list[Shape], tensors: list[Shape], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        operation.output_shape(inputs, tensors)


@pytest.mark.parametrize("stride", [(0, 1), (1, 5000), (1,), (1, 1, 1), (True, 1), (1.0, 1), None])
def test_pairs_out_of_range(stride: Any) -> None:
    with pytest.raises(ModelError, match="attribute stride"):
        op.Conv2d(stride=stride, padding=(0, 0), dilation=(1, 1))


@pytest.mark.parametrize(
    ("kind", "values", "name"),
    [
        (op.Conv2d, {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 0}, "gro"),
        (op.Gelu, {"tanh": 1}, "tanh"),
        (op.LeakyRelu, {"slope": float("nan")}, "slope"),
        (op.LeakyRelu, {"slope": 1}, "slope"),
        (op.Scale, {"factor": 1e10}, "factor"),
        (op.Scale, {"factor": float("-inf")}, "factor"),
        (op.Dropout, {"probability": 1.0}, "probability"),
        (op.Dropout, {"probability": -0.1}, "probability"),
        (op.BatchNorm, {"epsilon": 0.0}, "epsilon"),
        (op.LayerNorm, {"epsilon": 2.0}, "epsilon"),
        (op.GroupNorm, {"epsilon": 1e-5, "groups": -1}, "groups"),
        (op.SliceChannels, {"start": -1, "stop": 2}, "start"),
        (op.SliceChannels, {"start": 0, "stop": 1 << 25}, "stop"),
        (op.SelectToken, {"index": True}, "index"),
        (op.Attention, {"heads": 0, "causal": True}, "heads"),
        (op.Attention, {"heads": 1, "causal": "yes"}, "causal"),
        (op.Rotary, {"heads": 1, "base": 0.5}, "base"),
        (op.Pad2d, {"channels": (-1, 0), "height": (0, 0), "width": (0, 0)}, "channels"),
    ],
)
def test_attributes_out_of_range(kind: type[Operation], values: dict[str, Any], name: str) -> None:
    with pytest.raises(ModelError, match=f"attribute {name}"):
        kind(**values)


def run(operation: Operation, *inputs: Tensor) -> Tensor:
    return _RUN[type(operation)](operation, inputs, [])


def test_attention_is_the_formula() -> None:
    draw = torch.Generator().manual_seed(2)
    queries, keys, values = (torch.randn(2, 5, 6, generator=draw).double() for _ in range(3))
    for causal in (False, True):
        found = run(op.Attention(2, causal=causal), queries, keys, values)
        for head in range(2):
            part = slice(3 * head, 3 * head + 3)
            scores = queries[..., part] @ keys[..., part].transpose(1, 2) / 3**0.5
            if causal:
                later = torch.ones(5, 5).triu(1).bool()
                scores = scores.masked_fill(later, -torch.inf)
            want = scores.softmax(-1) @ values[..., part]
            torch.testing.assert_close(found[..., part], want)


def test_rotary_positions_are_the_formula() -> None:
    value = torch.randn(2, 5, 8, dtype=torch.float64)
    found = run(op.Rotary(2, 50.0), value)
    for token in range(5):
        for head in range(2):
            for pair in range(2):
                first, second = 4 * head + pair, 4 * head + pair + 2
                angle = torch.tensor(token * 50.0 ** (-2 * pair / 4), dtype=torch.float64)
                a, b = value[:, token, first], value[:, token, second]
                wanted = (a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin())
                torch.testing.assert_close(found[:, token, first], wanted[0])
                torch.testing.assert_close(found[:, token, second], wanted[1])
