"""What to write instead of a call that no listed operation stands for."""

from __future__ import annotations

from omnilytics.perturbation.operations import OPERATIONS

_ATTENTION = "torch.nn.functional.scaled_dot_product_attention; nn.Linear for products with weights"
_ACTIVATIONS = (
    "relu, leaky_relu, prelu, gelu, silu, sigmoid, tanh, hardtanh, hardswish or hardsigmoid"
)
_RECURRENT = "attention or convolutions over the sequence"
_HEADS = "as many heads of keys and values as of queries"
_BROADCAST = "values of one shape; a mean of tokens in place of a class token"
_WHOLE_MAXIMUM = "nn.MaxPool2d with the whole image as its window"
_GRADIENT = "no gradient may be cut or changed: freeze parameters instead (requires_grad_(False))"

_INSTEAD = {
    "matmul": _ATTENTION,
    "bmm": _ATTENTION,
    "baddbmm": _ATTENTION,
    "einsum": _ATTENTION,
    "softmax": f"{_ATTENTION}; an output needs none, the task's loss has it",
    "log_softmax": "return the numbers before it: the task's loss has it",
    "elu": _ACTIVATIONS,
    "selu": _ACTIVATIONS,
    "celu": _ACTIVATIONS,
    "mish": _ACTIVATIONS,
    "softplus": _ACTIVATIONS,
    "log_sigmoid": _ACTIVATIONS,
    "feature_dropout": "nn.Dropout",
    "alpha_dropout": "nn.Dropout",
    "instance_norm": "nn.GroupNorm with as many groups as channels",
    "_weight_norm": "torch.nn.utils.parametrize.remove_parametrizations before tracing",
    "conv1d": "nn.Conv2d over images of height 1",
    "lstm": _RECURRENT,
    "gru": _RECURRENT,
    "rnn_tanh": _RECURRENT,
    "rnn_relu": _RECURRENT,
    "repeat_interleave": _HEADS,
    "expand": _BROADCAST,
    "repeat": _BROADCAST,
    "amax": _WHOLE_MAXIMUM,
    "max": _WHOLE_MAXIMUM,
    "adaptive_max_pool2d": _WHOLE_MAXIMUM,
    "sum": "a mean, times the number of entries",
    "sub": "x + -1.0 * y",
    "t": "the weight in the form in which it is used",
    "detach": _GRADIENT,
    "_assert_tensor_metadata": "float32 throughout, without conversions",
}


def way_out(target: str) -> str:
    """Return what to use instead of a call, such as `aten.softmax.int`."""
    name = target.removeprefix("aten.").split(".")[0].removesuffix("_")
    return _INSTEAD.get(name, f"use {', '.join(OPERATIONS)}")
