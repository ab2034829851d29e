"""How each traced ATen call is read as a listed operation, or refused with its node's name.

The table `RULES` is the whole correspondence; calls that only move entries (`LAYOUTS`) are followed
by `layouts`, and calls on constants are computed by the tracer. A rule looks at the call's
arguments and says what becomes of it, through the emitter that the tracer hands it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, cast

import torch
from torch import Tensor, fx

from omnilytics.foundation.errors import ModelError
from omnilytics.learning.layouts import View, by_heads, plain_numbers
from omnilytics.perturbation import operations as op
from omnilytics.perturbation.operations import Operation, Pair

_FLOAT32_EPSILON = float(torch.finfo(torch.float32).eps)


@dataclass(frozen=True)
class Parameter:
    """A parameter or buffer of the module, as an argument of a call."""

    name: str
    shape: tuple[int, ...]


class Emitter(Protocol):
    """What a rule may ask of the tracer."""

    def emit(
        self,
        operation: Operation,
        inputs: Sequence[View],
        tensors: Sequence[Parameter] = (),
        *,
        keep_layout: bool = False,
    ) -> View:
        """Add a node of the graph; with `keep_layout`, of the layout of its first input."""
        ...

    def plain(self, view: View) -> View:
        """Return the same tensor in a value's own layout, by nodes that move entries."""
        ...

    def heads(self, view: View) -> tuple[View, int]:
        """Return the value whose heads stand in a tensor (B, h, T, d), and h."""
        ...


class Call:
    """The arguments of an ATen call by position or name, with the schema's defaults."""

    def __init__(
        self, node: fx.Node, arguments: Sequence[Any], named: dict[str, Any], emitter: Emitter
    ) -> None:
        self.node = node
        self.emitter = emitter
        schema = cast("Any", node.target)._schema
        self._arguments: dict[str, Any] = {
            argument.name: argument.default_value
            for argument in schema.arguments
            if argument.has_default_value()
        }
        names = [argument.name for argument in schema.arguments]
        self._arguments.update(zip(names, arguments, strict=False))
        self._arguments.update(named)

    def __getitem__(self, name: str) -> Any:
        return self._arguments[name]

    def pair(self, name: str) -> Pair:
        """Return two integers, from one or two."""
        value = self._arguments[name]
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        if len(items) not in {1, 2} or not all(type(item) is int for item in items):
            refuse(
                self.node, f"has an argument {name} that is not two integers", "one or two numbers"
            )
        return items[0], items[-1]

    def want(self, name: str, *values: object, hint: str | None = None) -> None:
        """Refuse the call unless argument `name` is one of `values`."""
        if self._arguments[name] not in values:
            refuse(
                self.node, f"has {name}={self._arguments[name]}", hint or f"only {name}={values[0]}"
            )

    def view(self, name: str) -> View:
        """Return an argument that is a value of the network."""
        value = self._arguments[name]
        if not isinstance(value, View):
            refuse(
                self.node,
                f"has an input {name} that is not a value of the network",
                "values and numbers; parameters in layers, or one for every token and feature",
            )
        return value

    def plain(self, name: str) -> View:
        """Return an argument that is a value of the network, in that value's own layout."""
        return self.emitter.plain(self.view(name))

    def number(self, name: str) -> float | None:
        """Return an argument that is one constant number, or None."""
        value = self._arguments[name]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, Tensor) and value.numel() == 1:
            return float(value)
        return None

    def parameters(self, *names: str) -> list[Parameter]:
        """Return the arguments that are there; refuses what is not a parameter."""
        found = []
        for name in names:
            value = self._arguments[name]
            if value is None:
                continue
            if not isinstance(value, Parameter):
                refuse(
                    self.node,
                    f"has a {name} that is not a parameter",
                    "pass parameters unchanged",
                )
            found.append(value)
        return found


Rule = Callable[[Call], View | Parameter]


def refuse(node: fx.Node, why: str, hint: str | None = None) -> NoReturn:
    """Raise `ModelError`, naming the node and its operation."""
    raise ModelError(
        f"the model cannot be carried: {node.name} {why}",
        hint=hint,
        node=node.name,
        operation=str(node.target),
    )


def check_in_place(node: fx.Node) -> None:
    """Refuse an in-place operation on memory that is also read under another name."""
    # An in-place operation becomes a plain one. That is the same only if nobody else reads the
    # memory that it overwrites, under this name or as the source of a view.
    overwritten = node.args[0]
    while isinstance(overwritten, fx.Node):
        readers = [user for user in overwritten.users if str(user.target) != BATCH_SIZE]
        if len(readers) != 1:
            refuse(node, "overwrites a value that is also used elsewhere", "use inplace=False")
        if str(overwritten.target) not in LAYOUTS:
            return
        overwritten = overwritten.args[0]


def _simple(operation: Operation) -> Callable[[Call], View]:
    def rule(call: Call) -> View:
        return call.emitter.emit(operation, [call.view("self")], keep_layout=True)

    return rule


def _linear(call: Call) -> View:
    source = call.view("input")
    tokens = source if len(source.shape) == 2 and source.holds_tokens() else call.plain("input")
    parameters = call.parameters("weight", "bias")
    return call.emitter.emit(op.Linear(), [tokens], parameters, keep_layout=True)


def _conv2d(call: Call) -> View:
    stride, dilation = call.pair("stride"), call.pair("dilation")
    named = isinstance(call["padding"], str)
    parameters = call.parameters("weight", "bias")
    kernel = parameters[0].shape[2:]
    padding = _named_padding(call, kernel, dilation) if named else call.pair("padding")
    operation = op.Conv2d(stride=stride, padding=padding, dilation=dilation, groups=call["groups"])
    return call.emitter.emit(operation, [call.plain("input")], parameters)


def _named_padding(call: Call, kernel: Sequence[int], dilation: Pair) -> Pair:
    if call["padding"] == "valid":
        return 0, 0
    total_height, total_width = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    if total_height % 2 or total_width % 2:
        refuse(call.node, "pads one side more than the other", "use kernels of odd size")
    return total_height // 2, total_width // 2


def _pool_stride(call: Call) -> Pair:
    return call.pair("stride") if call["stride"] else call.pair("kernel_size")


def _max_pool2d(call: Call) -> View:
    call.want("ceil_mode", False)
    operation = op.MaxPool2d(
        kernel=call.pair("kernel_size"),
        stride=_pool_stride(call),
        padding=call.pair("padding"),
        dilation=call.pair("dilation"),
    )
    return call.emitter.emit(operation, [call.plain("self")])


def _avg_pool2d(call: Call) -> View:
    call.want("ceil_mode", False)
    call.want("divisor_override", None)
    padding = call.pair("padding")
    if padding != (0, 0):
        call.want("count_include_pad", True)
    operation = op.AvgPool2d(
        kernel=call.pair("kernel_size"), stride=_pool_stride(call), padding=padding
    )
    return call.emitter.emit(operation, [call.plain("self")])


def _adaptive_avg_pool2d(call: Call) -> View:
    operation = op.AdaptiveAvgPool2d(output_size=call.pair("output_size"))
    return call.emitter.emit(operation, [call.plain("self")])


def _mean(call: Call) -> View:
    value = call.plain("self")
    dims = call["dim"] if isinstance(call["dim"], (list, tuple)) else [call["dim"]]
    rank = len(value.shape) + 1
    axes = sorted(axis % rank for axis in dims if axis is not None)
    if len(value.shape) == 3 and axes == [2, 3]:
        pooled = call.emitter.emit(op.AdaptiveAvgPool2d(output_size=(1, 1)), [value])
        return pooled if call["keepdim"] else call.emitter.emit(op.Flatten(), [pooled])
    if len(value.shape) == 2 and axes == [1] and not call["keepdim"]:
        return call.emitter.emit(op.MeanTokens(), [value])
    refuse(call.node, "is a mean over other axes", "height and width together, or the tokens")


def _add(call: Call) -> View:
    call.want("alpha", 1)
    first, second = call["self"], call["other"]
    for value, other in ((first, second), (second, first)):
        if isinstance(value, View) and isinstance(other, Parameter):
            return call.emitter.emit(op.AddPositions(), [call.emitter.plain(value)], [other])
    return _pairwise(call, op.Add())


def _multiply(call: Call) -> View:
    for factor, value in (("other", "self"), ("self", "other")):
        number = call.number(factor)
        if number is not None:
            return _scaled(call, value, number)
    return _pairwise(call, op.Multiply())


def _divide(call: Call) -> View:
    number = call.number("other")
    if not number:
        refuse(call.node, "divides by more than a number", "x / 2.0")
    return _scaled(call, "self", 1.0 / number)


def _negate(call: Call) -> View:
    return _scaled(call, "self", -1.0)


def _scaled(call: Call, name: str, factor: float) -> View:
    return call.emitter.emit(op.Scale(factor=factor), [call.view(name)], keep_layout=True)


def _pairwise(call: Call, operation: Operation) -> View:
    first, second = call.view("self"), call.view("other")
    alike = first.shape == second.shape and first.sizes == second.sizes
    if not (alike and torch.equal(first.laid_out(), second.laid_out())):
        first, second = call.emitter.plain(first), call.emitter.plain(second)
    return call.emitter.emit(operation, [first, second], keep_layout=True)


def _concatenate(call: Call) -> View:
    values = call["tensors"]
    if not all(isinstance(value, View) for value in values):
        refuse(
            call.node,
            "joins something that is not a value of the network",
            "values computed from the input",
        )
    plain = [call.emitter.plain(value) for value in values]
    axis = call["dim"] % (len(plain[0].shape) + 1)
    if axis != 1 + op.channel_axis(plain[0].shape):
        refuse(
            call.node,
            "joins values along another axis than their channels",
            "dim=1 of vectors and images, dim=2 of sequences",
        )
    return call.emitter.emit(op.Concatenate(), plain)


def _pad(call: Call) -> View:
    call.want("mode", "constant")
    call.want("value", None, 0, 0.0)
    value = call.plain("self")
    pads = [*call["pad"], 0, 0, 0, 0, 0, 0][:6]
    if len(value.shape) != 3 or min(pads) < 0 or len(call["pad"]) > 6:
        refuse(
            call.node,
            "pads something other than images, or by less than nothing",
            "images, by zeros; slices to make them smaller",
        )
    width, height, channels = ((pads[at], pads[at + 1]) for at in (0, 2, 4))
    return call.emitter.emit(op.Pad2d(channels=channels, height=height, width=width), [value])


def _dropout(call: Call) -> View:
    if not call["p"] or not call["train"]:
        return call.view("input")
    operation = op.Dropout(probability=float(call["p"]))
    return call.emitter.emit(operation, [call.view("input")], keep_layout=True)


def _leaky_relu(call: Call) -> View:
    return _simple(op.LeakyRelu(slope=float(call["negative_slope"])))(call)


def _hardtanh(call: Call) -> View:
    return _simple(op.Hardtanh(low=float(call["min_val"]), high=float(call["max_val"])))(call)


def _gelu(call: Call) -> View:
    return _simple(op.Gelu(tanh=call["approximate"] == "tanh"))(call)


def _prelu(call: Call) -> View:
    return call.emitter.emit(op.Prelu(), [call.plain("self")], call.parameters("weight"))


def _batch_norm(call: Call) -> View:
    call.want("training", True)
    if call["running_mean"] is None:
        refuse(call.node, "keeps no running statistics", "use track_running_stats=True")
    names = ("weight", "bias", "running_mean", "running_var")
    operation = op.BatchNorm(epsilon=float(call["eps"]))
    return call.emitter.emit(operation, [call.plain("input")], call.parameters(*names))


def _group_norm(call: Call) -> View:
    operation = op.GroupNorm(epsilon=float(call["eps"]), groups=call["num_groups"])
    return call.emitter.emit(operation, [call.plain("input")], call.parameters("weight", "bias"))


def _layer_norm(call: Call) -> View:
    return _token_norm(call, op.LayerNorm(epsilon=float(call["eps"])), "weight", "bias")


def _rms_norm(call: Call) -> View:
    epsilon = _FLOAT32_EPSILON if call["eps"] is None else float(call["eps"])
    return _token_norm(call, op.RmsNorm(epsilon=epsilon), "weight")


def _token_norm(call: Call, operation: Operation, *names: str) -> View:
    value = call.plain("input")
    if list(call["normalized_shape"]) != [value.shape[-1]] or len(value.shape) == 3:
        refuse(
            call.node,
            "normalises over more than one token's or sample's features",
            "the last axis of vectors and sequences, all of it; nn.GroupNorm for images",
        )
    return call.emitter.emit(operation, [value], call.parameters(*names))


def _embedding(call: Call) -> View | Parameter:
    call.want("padding_idx", -1, hint="an embedding without padding_idx")
    indices = call["indices"]
    if isinstance(indices, Tensor):
        return _position_table(call, indices)
    return call.emitter.emit(op.Embedding(), [call.plain("indices")], call.parameters("weight"))


def _position_table(call: Call, indices: Tensor) -> Parameter:
    """Return the table of positions of which every row is looked up, one after another."""
    (table,) = call.parameters("weight")
    tokens = indices.shape[-1]
    if indices.numel() != tokens or not torch.equal(indices.reshape(-1), torch.arange(tokens)):
        refuse(call.node, "looks up constants", "positions 0, 1, 2, ... of all tokens")
    if table.shape[0] != tokens:
        refuse(
            call.node,
            f"has {table.shape[0]} positions for {tokens} tokens",
            f"a table of {tokens} positions, as many as an input has tokens",
        )
    return table


def _attention(call: Call) -> View:
    call.want("dropout_p", 0.0, hint="attention without dropout")
    call.want("enable_gqa", False, hint="as many heads of keys and values as of queries")
    (queries, heads), (keys, key_heads), (values, value_heads) = (
        call.emitter.heads(call.view(name)) for name in ("query", "key", "value")
    )
    features = queries.shape[1] // heads
    if call["scale"] is not None and abs(call["scale"] - features**-0.5) > 1e-9:
        refuse(call.node, "has another scale", "1 / sqrt(features of a head)")
    if not heads == key_heads == value_heads:
        refuse(
            call.node,
            "has queries, keys and values of different heads",
            "as many heads of keys and values as of queries",
        )
    causal = bool(call["is_causal"]) or _is_causal(call, queries.shape[0], keys.shape[0])
    operation = op.Attention(heads=heads, causal=causal)
    found = call.emitter.emit(operation, [queries, keys, values])
    numbers = by_heads(plain_numbers(found.shape), heads).transpose(1, 2)
    return View(found.source, found.shape, numbers)


def _is_causal(call: Call, queries: int, keys: int) -> bool:
    """Tell whether a constant mask hides exactly later tokens."""
    mask = call["attn_mask"]
    if mask is None:
        return False
    if isinstance(mask, Tensor) and mask.numel() == queries * keys:
        seen = mask if mask.dtype == torch.bool else mask == 0
        hidden = mask if mask.dtype == torch.bool else mask == -torch.inf
        later = torch.ones(queries, keys, dtype=torch.bool).tril()
        is_mask = mask.dtype == torch.bool or bool((seen | hidden).all())
        if is_mask and torch.equal(seen.reshape(queries, keys), later):
            return True
    refuse(call.node, "has a mask of its own", "only is_causal=True")


BATCH_SIZE = "aten.sym_size.int"
"""Asks for a batch size; whoever uses the answer is checked by its own rule."""

LAYOUTS = {
    f"aten.{name}"
    for name in (
        "alias.default",
        "chunk.default",
        "clone.default",
        "contiguous.default",
        "flatten.using_ints",
        "movedim.int",
        "permute.default",
        "reshape.default",
        "select.int",
        "slice.Tensor",
        "split.Tensor",
        "split_with_sizes.default",
        "squeeze.dim",
        "squeeze.dims",
        "swapaxes.default",
        "transpose.int",
        "unbind.int",
        "unflatten.int",
        "unsqueeze.default",
        "view.default",
    )
}
"""Calls that only move entries."""

RULES: dict[str, Rule] = {
    "aten.linear.default": _linear,
    "aten.conv2d.default": _conv2d,
    "aten.conv2d.padding": _conv2d,
    "aten.embedding.default": _embedding,
    "aten.relu.default": _simple(op.Relu()),
    "aten.leaky_relu.default": _leaky_relu,
    "aten.prelu.default": _prelu,
    "aten.gelu.default": _gelu,
    "aten.silu.default": _simple(op.Silu()),
    "aten.sigmoid.default": _simple(op.Sigmoid()),
    "aten.tanh.default": _simple(op.Tanh()),
    "aten.hardtanh.default": _hardtanh,
    "aten.relu6.default": _simple(op.Hardtanh(low=0.0, high=6.0)),
    "aten.hardswish.default": _simple(op.Hardswish()),
    "aten.hardsigmoid.default": _simple(op.Hardsigmoid()),
    "aten.dropout.default": _dropout,
    "aten.max_pool2d.default": _max_pool2d,
    "aten.avg_pool2d.default": _avg_pool2d,
    "aten.adaptive_avg_pool2d.default": _adaptive_avg_pool2d,
    "aten.mean.dim": _mean,
    "aten.add.Tensor": _add,
    "aten.mul.Tensor": _multiply,
    "aten.div.Tensor": _divide,
    "aten.neg.default": _negate,
    "aten.cat.default": _concatenate,
    "aten.pad.default": _pad,
    "aten.batch_norm.default": _batch_norm,
    "aten.group_norm.default": _group_norm,
    "aten.layer_norm.default": _layer_norm,
    "aten.rms_norm.default": _rms_norm,
    "aten.scaled_dot_product_attention.default": _attention,
}
