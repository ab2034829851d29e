"""What the tracer refuses: it names the node, the operation, why, and a way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from modules import HEADS, Composed, attend, split_heads
from torch import Tensor, nn
from torch.nn import functional

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.tracing import trace_module
from omnilytics.perturbation.graph import InputKind

VECTOR, IMAGE, SEQUENCE, WORDS = (3,), (2, 6, 6), (6, 8), (5,)


def before_head(function: Callable[[Tensor], Any], features: int) -> nn.Module:
    """Return a linear layer after a function of the input."""
    return Composed(lambda m, x: m.head(function(x)), head=nn.Linear(features, 2))


def of_heads(function: Callable[[Tensor, Tensor, Tensor], Any]) -> nn.Module:
    """Return a function of one packed layer's queries, keys and values."""

    def forward(m: Any, x: Tensor) -> Any:
        return function(*(split_heads(each) for each in m.packed(x).chunk(3, -1)))

    return Composed(forward, packed=nn.Linear(8, 24))


def grouped_queries(*, by_hand: bool) -> nn.Module:
    """Return an attention with fewer heads of keys and values than of queries."""

    def forward(m: Any, x: Tensor) -> Any:
        keys, values = (split_heads(layer(x), 1) for layer in (m.keys, m.values))
        if not by_hand:
            return attend(split_heads(m.queries(x)), keys, values, enable_gqa=True)
        keys, values = (each.repeat_interleave(2, 1) for each in (keys, values))
        return attend(split_heads(m.queries(x)), keys, values)

    layers = {"keys": nn.Linear(8, 4), "values": nn.Linear(8, 4)}
    return Composed(forward, queries=nn.Linear(8, 8), **layers)


def in_place_through_a_view(x: Tensor) -> Tensor:
    y = x + x
    z = y.flatten(1)
    functional.relu(z, inplace=True)
    return y.flatten(1) + z


def without_gradient(m: Any, x: Tensor) -> Any:
    with torch.no_grad():
        y = m.first(x)
    return m.head(y)


BANDS = torch.ones(6, 6).triu(-1).tril(1).bool()

Refusal = tuple[Callable[[], nn.Module], tuple[int, ...], str, str, str]
"""The module, its input's shape, how the operation starts, and words of the reason and way out."""

LISTED = "is not on the list"


def image(
    function: Callable[[Tensor], Any], features: int, operation: str, why: str, hint: str
) -> Refusal:
    return lambda: before_head(function, features), IMAGE, operation, why, hint


def sequence(
    function: Callable[[Tensor], Any], features: int, operation: str, why: str, hint: str
) -> Refusal:
    return lambda: before_head(function, features), SEQUENCE, operation, why, hint


REFUSALS: dict[str, Refusal] = {
    # activations and randomness
    "erf": image(lambda x: x.erf().flatten(1), 72, "erf", LISTED, "use linear"),
    "elu": image(lambda x: functional.elu(x).flatten(1), 72, "elu", LISTED, "gelu"),
    "softmax": image(lambda x: x.flatten(1).softmax(1), 72, "softmax", LISTED, "loss has it"),
    "noise": image(lambda x: x.flatten(1) * torch.rand(1), 72, "rand", "is random", "dropout"),
    "dropped channels": image(
        lambda x: functional.dropout2d(x).flatten(1), 72, "feature_dropout", LISTED, "nn.Dropout"
    ),
    # arithmetic
    "a constant added": image(
        lambda x: (x + 1.0).flatten(1), 72, "add", "not a value of the network", "parameters"
    ),
    "a multiple added": image(
        lambda x: torch.add(x, x, alpha=2).flatten(1), 72, "add", "has alpha=2", "only alpha=1"
    ),
    "a difference": image(lambda x: (x - 2 * x).flatten(1), 72, "sub", LISTED, "-1.0 * y"),
    "a quotient": image(lambda x: (x / x).flatten(1), 72, "div", "more than a number", "x / 2.0"),
    "new constants": image(lambda x: x.flatten(1) + x.new_ones(72), 72, "new_ones", LISTED, "use"),
    "a broadcast product": image(
        lambda x: (x * x.mean((2, 3), keepdim=True)).flatten(1), 72, "mul", "does not fit", "want"
    ),
    "attention by hand": sequence(
        lambda x: (x @ x.transpose(1, 2)).softmax(-1) @ x,
        8,
        "matmul",
        LISTED,
        "scaled_dot_product_attention",
    ),
    "an einsum": sequence(
        lambda x: torch.einsum("btf,bsf->bts", x, x), 6, "einsum", LISTED, "nn.Linear"
    ),
    # pooling
    "ceil mode": image(
        lambda x: functional.max_pool2d(x, 4, ceil_mode=True).flatten(1),
        8,
        "max_pool2d",
        "has ceil_mode=True",
        "only ceil_mode=False",
    ),
    "padding not counted": image(
        lambda x: functional.avg_pool2d(x, 2, padding=1, count_include_pad=False).flatten(1),
        32,
        "avg_pool2d",
        "has count_include_pad=False",
        "only count_include_pad=True",
    ),
    "another divisor": image(
        lambda x: functional.avg_pool2d(x, 2, divisor_override=3).flatten(1),
        18,
        "avg_pool2d",
        "has divisor_override=3",
        "only divisor_override=None",
    ),
    "a global maximum": image(lambda x: x.amax((2, 3)), 2, "amax", LISTED, "nn.MaxPool2d"),
    "a mean of channels": image(
        lambda x: x.mean(1).flatten(1), 36, "mean", "other axes", "height and width"
    ),
    "a sum": image(lambda x: x.sum((2, 3)), 2, "sum", LISTED, "a mean"),
    # moves
    "shuffled pixels": image(
        lambda x: functional.pixel_shuffle(torch.cat([x, x], 1), 2).flatten(1),
        144,
        "pixel_shuffle",
        LISTED,
        "use linear",
    ),
    "enlarged images": image(
        lambda x: functional.interpolate(x, scale_factor=2).flatten(1),
        288,
        "upsample_nearest2d",
        LISTED,
        "use linear",
    ),
    "columns before rows": image(
        lambda x: x.transpose(2, 3).flatten(1), 72, "linear", "in an order", "flatten"
    ),
    "samples mixed": image(lambda x: x.view(-1, 36), 36, "linear", "in an order", "flatten"),
    "broadcast": image(
        lambda x: x[:, :1].expand(-1, 2, -1, -1).flatten(1), 72, "expand", LISTED, "one shape"
    ),
    "joined rows": image(
        lambda x: torch.cat([x, x], 2).flatten(1), 144, "cat", "another axis", "dim=1"
    ),
    "reflected edges": image(
        lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect").flatten(1),
        128,
        "pad",
        "has mode=reflect",
        "only mode=constant",
    ),
    "cut edges": image(
        lambda x: functional.pad(x, (-1, -1)).flatten(1), 48, "pad", "less than nothing", "slices"
    ),
    "more tokens": sequence(
        lambda x: functional.pad(x, (0, 0, 1, 0)), 8, "pad", "other than images", "images"
    ),
    "fewer tokens": sequence(lambda x: x[:, 1:], 8, "linear", "in an order", "tokens"),
    "overwritten through a view": image(
        in_place_through_a_view, 72, "relu_", "used elsewhere", "inplace=False"
    ),
    # layers
    "no running statistics": (
        lambda: nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.Linear(3, 2)),
        VECTOR,
        "batch_norm",
        "keeps no running statistics",
        "track_running_stats=True",
    ),
    "batch norm of tokens": (
        lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(8, 2)),
        SEQUENCE,
        "batch_norm",
        "wrong number of dimensions",
        "(channels, height, width)",
    ),
    "instance norm": (
        lambda: nn.Sequential(nn.InstanceNorm2d(2), nn.Flatten(), nn.Linear(72, 2)),
        IMAGE,
        "instance_norm",
        LISTED,
        "as many groups as channels",
    ),
    "layer norm of images": (
        lambda: nn.Sequential(nn.LayerNorm(IMAGE), nn.Flatten(), nn.Linear(72, 2)),
        IMAGE,
        "layer_norm",
        "more than one token's",
        "nn.GroupNorm for images",
    ),
    "transposed convolution": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 2, 3), nn.Flatten(), nn.Linear(128, 2)),
        IMAGE,
        "conv_transpose2d",
        LISTED,
        "use linear",
    ),
    "one-dimensional convolution": (
        lambda: nn.Sequential(nn.Conv1d(6, 4, 3), nn.Flatten(), nn.Linear(24, 2)),
        SEQUENCE,
        "conv1d",
        LISTED,
        "height 1",
    ),
    "weight normalisation": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)),
        VECTOR,
        "_weight_norm",
        LISTED,
        "remove_parametrizations",
    ),
    "another weight than the parameter": (
        lambda: Composed(lambda m, x: functional.linear(x, 2 * m.a.weight), a=nn.Linear(3, 2)),
        VECTOR,
        "mul",
        "not a value of the network",
        "parameters in layers",
    ),
    "a transposed weight": (
        lambda: Composed(lambda m, x: functional.linear(x, m.a.weight.t()), a=nn.Linear(2, 3)),
        VECTOR,
        "t",
        LISTED,
        "form in which it is used",
    ),
    "a cut gradient": (
        lambda: Composed(
            lambda m, x: m.b(m.a(x).detach()) + m.a(x), a=nn.Linear(3, 3), b=nn.Linear(3, 3)
        ),
        VECTOR,
        "detach",
        LISTED,
        "requires_grad_(False)",
    ),
    "no gradient": (
        lambda: Composed(without_gradient, first=nn.Linear(3, 3), head=nn.Linear(3, 2)),
        VECTOR,
        "submod",
        "not an operation on the list",
        "torch.no_grad()",
    ),
    # attention
    "queries in groups": (
        lambda: grouped_queries(by_hand=False),
        SEQUENCE,
        "scaled_dot_product_attention",
        "has enable_gqa=True",
        "as many heads",
    ),
    "queries in groups by hand": (
        lambda: grouped_queries(by_hand=True),
        SEQUENCE,
        "repeat_interleave",
        LISTED,
        "as many heads",
    ),
    "attention with dropout": (
        lambda: nn.TransformerEncoderLayer(8, HEADS, 16, batch_first=True),
        SEQUENCE,
        "scaled_dot_product_attention",
        "has dropout_p=0.1",
        "attention without dropout",
    ),
    "another scale": (
        lambda: of_heads(lambda q, k, v: attend(q, k, v, scale=1.0)),
        SEQUENCE,
        "scaled_dot_product_attention",
        "another scale",
        "1 / sqrt",
    ),
    "a mask": (
        lambda: of_heads(lambda q, k, v: attend(q, k, v, attn_mask=BANDS)),
        SEQUENCE,
        "scaled_dot_product_attention",
        "a mask of its own",
        "is_causal=True",
    ),
    # tokens
    "padding tokens": (
        lambda: nn.Sequential(nn.Embedding(7, 4, padding_idx=0), nn.Linear(4, 2)),
        WORDS,
        "embedding",
        "has padding_idx=0",
        "without padding_idx",
    ),
    "other constants looked up": (
        lambda: Composed(
            lambda m, x: m.head(m.table(x) + m.table(torch.tensor([1, 0, 2, 3, 4]))),
            table=nn.Embedding(5, 4),
            head=nn.Linear(4, 2),
        ),
        WORDS,
        "embedding",
        "looks up constants",
        "positions 0, 1, 2",
    ),
}


def kind_of(shape: tuple[int, ...]) -> InputKind:
    return InputKind.TOKENS if shape == WORDS else InputKind.NUMBERS


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_names_node_operation_reason_and_way_out(name: str) -> None:
    build, shape, operation, why, hint = REFUSALS[name]
    with pytest.raises(ModelError, match="cannot be carried") as caught:
        trace_module(build(), shape, input_kind=kind_of(shape))
    error = caught.value
    assert str(error.ids["operation"]).removeprefix("aten.").startswith(operation)
    assert str(error.ids["node"]) in error.message
    assert why in error.message
    assert hint in str(error.hint)


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is reversed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1.0

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


def reversed_gradient(m: Any, x: Tensor) -> Any:
    return m.head(Reversed.apply(m.first(x)))  # type: ignore[no-untyped-call]


def overwritten_for_backward(m: Any, x: Tensor) -> Any:
    y = m.first(x).sigmoid()
    y += y
    return m.head(y)


def sign_by_data(m: Any, x: Tensor) -> Any:
    return m.first(x if x.sum() > 0 else -x)


@pytest.mark.parametrize(
    ("function", "words", "hint"),
    [
        (sign_by_data, "cannot trace", "no branches on data"),
        (lambda m, x: (m.first(x), m.head(x)), "does not return one value", "one tensor"),
        (lambda m, x: m.first(x), "takes no part in the output", "remove the unused layer"),
        (lambda m, x: m.first(x) + m.head(x) / x.shape[0], "does not compute what", "state"),
        (lambda m, x: m.first(x) + m.head(x) * x.shape[0], "does not compute what", "state"),
        (reversed_gradient, "another gradient than the module", "backward pass"),
        (overwritten_for_backward, "has no gradient", "inplace=False"),
    ],
)
def test_functions_that_cannot_travel(
    function: Callable[[Any, Tensor], Any], words: str, hint: str
) -> None:
    module = Composed(function, first=nn.Linear(3, 3), head=nn.Linear(3, 3))
    with pytest.raises(ModelError, match=words) as caught:
        trace_module(module, VECTOR)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("module", "shape", "words"),
    [
        (nn.Linear(4, 2), (3,), "cannot trace"),
        (nn.Linear(3, 2).double(), (3,), "not float32"),
        (nn.Linear(3, 2).requires_grad_(False), (3,), "no tensor is trained"),
        (nn.Conv2d(2, 2, 3), IMAGE, "one vector per sample"),
        (nn.Linear(6, 2), IMAGE, "dimensions"),
        (nn.ReLU(), (3,), "no tensors"),
        (nn.Identity(), (3,), "returns the input as it is"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), (2, 2, 2, 2), "number of dimensions"),
    ],
)
def test_unsuitable_modules(module: nn.Module, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        trace_module(module, shape)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_lopsided_padding() -> None:
    with pytest.raises(ModelError, match="one side more"):
        trace_module(nn.Conv2d(2, 2, 2, padding="same"), IMAGE)


def test_hooks_that_change_the_function_are_noticed() -> None:
    module = nn.Linear(3, 2)
    calls = []

    def hook(part: nn.Module, inputs: object, output: Tensor) -> Tensor:
        calls.append(1)
        return output if torch.compiler.is_exporting() else output * 3

    module.register_forward_hook(hook)
    with pytest.raises(ModelError, match="does not compute what the module"):
        trace_module(module, (3,))
    assert calls
