"""How each traced ATen call is read as a listed operation, or refused with its node's name.

The table `RULES` is the whole correspondence. A rule looks at the call's arguments and at the
shapes that the tracer recorded, and returns what the call becomes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, cast

from torch import fx

from omnilytics.foundation.errors import ModelError
from omnilytics.perturbation.operations import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Operation,
    Pair,
    Relu,
)


class Call:
    """The arguments of an ATen call by position or name, with the schema's defaults."""

    def __init__(self, node: fx.Node) -> None:
        self.node = node
        schema = cast("Any", node.target)._schema
        self._arguments: dict[str, Any] = {
            argument.name: argument.default_value
            for argument in schema.arguments
            if argument.has_default_value()
        }
        names = [argument.name for argument in schema.arguments]
        self._arguments.update(zip(names, node.args, strict=False))
        self._arguments.update(node.kwargs)

    def __getitem__(self, name: str) -> Any:
        return self._arguments[name]

    def pair(self, name: str) -> Pair:
        """Return two integers, from one or two."""
        value = self._arguments[name]
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        if len(items) not in {1, 2} or not all(type(item) is int for item in items):
            refuse(self.node, f"has an argument {name} that is not two integers")
        return items[0], items[-1]

    def want(self, name: str, value: object) -> None:
        """Refuse the call unless argument `name` is `value`."""
        if self._arguments[name] != value:
            refuse(self.node, f"has {name}={self._arguments[name]}", f"only {name}={value}")


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
        if str(overwritten.target) not in _VIEWS:
            return
        overwritten = overwritten.args[0]


Read = tuple[Operation | None, list[Any], list[Any]]
"""What a call becomes: an operation (None: its input unchanged), its values, its tensors."""


def _linear(call: Call) -> Read:
    return Linear(), [call["input"]], [call["weight"], call["bias"]]


def _conv2d(call: Call) -> Read:
    call.want("groups", 1)
    stride, dilation = call.pair("stride"), call.pair("dilation")
    named = isinstance(call["padding"], str)
    padding = _named_padding(call, dilation) if named else call.pair("padding")
    operation = Conv2d(stride=stride, padding=padding, dilation=dilation)
    return operation, [call["input"]], [call["weight"], call["bias"]]


def _named_padding(call: Call, dilation: Pair) -> Pair:
    if call["padding"] == "valid":
        return 0, 0
    kernel = call["weight"].meta["val"].shape[2:]
    total_height, total_width = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    if total_height % 2 or total_width % 2:
        refuse(call.node, "pads one side more than the other", "use kernels of odd size")
    return total_height // 2, total_width // 2


def _relu(call: Call) -> Read:
    return Relu(), [call["self"]], []


def _pool_stride(call: Call) -> Pair:
    return call.pair("stride") if call["stride"] else call.pair("kernel_size")


def _max_pool2d(call: Call) -> Read:
    call.want("ceil_mode", False)
    operation = MaxPool2d(
        kernel=call.pair("kernel_size"),
        stride=_pool_stride(call),
        padding=call.pair("padding"),
        dilation=call.pair("dilation"),
    )
    return operation, [call["self"]], []


def _avg_pool2d(call: Call) -> Read:
    call.want("ceil_mode", False)
    call.want("divisor_override", None)
    padding = call.pair("padding")
    if padding != (0, 0):
        call.want("count_include_pad", True)
    operation = AvgPool2d(
        kernel=call.pair("kernel_size"), stride=_pool_stride(call), padding=padding
    )
    return operation, [call["self"]], []


def _adaptive_avg_pool2d(call: Call) -> Read:
    return AdaptiveAvgPool2d(output_size=call.pair("output_size")), [call["self"]], []


def _flatten(call: Call) -> Read:
    # Also a view or reshape to (batch, everything else): only the shapes decide.
    source, result = call["self"].meta["val"].shape, call.node.meta["val"].shape
    if result[0] != source[0] or len(result) != 2:
        refuse(call.node, "does not flatten all but the batch", "use torch.flatten(x, 1)")
    return (Flatten() if len(source) != 2 else None), [call["self"]], []


def _add(call: Call) -> Read:
    call.want("alpha", 1)
    return Add(), [call["self"], call["other"]], []


BATCH_SIZE = "aten.sym_size.int"
"""Asks for a batch size; whoever uses the answer is checked by its own rule."""

_VIEWS = {"aten.flatten.using_ints", "aten.view.default", "aten.reshape.default"}
IN_PLACE = {"aten.relu_.default", "aten.add_.Tensor"}
RULES: dict[str, Callable[[Call], Read]] = {
    "aten.linear.default": _linear,
    "aten.conv2d.default": _conv2d,
    "aten.conv2d.padding": _conv2d,
    "aten.relu.default": _relu,
    "aten.relu_.default": _relu,
    "aten.max_pool2d.default": _max_pool2d,
    "aten.avg_pool2d.default": _avg_pool2d,
    "aten.adaptive_avg_pool2d.default": _adaptive_avg_pool2d,
    "aten.flatten.using_ints": _flatten,
    "aten.view.default": _flatten,
    "aten.reshape.default": _flatten,
    "aten.add.Tensor": _add,
    "aten.add_.Tensor": _add,
}
