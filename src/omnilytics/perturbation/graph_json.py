"""The graph as canonical JSON, version 2: one graph, one byte string.

Parsing treats the bytes as hostile: length and nesting are bounded before the parser runs, no
number is NaN or infinite, unknown or missing fields and operations are refused by name, and the
result must encode to the very same bytes.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

from omnilytics.foundation.errors import MalformedError, ModelError
from omnilytics.perturbation.graph import (
    Dtype,
    Graph,
    InputKind,
    Node,
    TensorRole,
    TensorSpec,
    check_name,
)
from omnilytics.perturbation.limits import DEFAULT_LIMITS, Limits
from omnilytics.perturbation.operations import OPERATIONS, Operation, Shape

FORMAT = "omnilytics/graph"
VERSION = 2

_Choice = TypeVar("_Choice", bound=StrEnum)

_MAX_DEPTH = 8
MAX_NAMES = 64
_BRACKETS = re.compile(rb"[\[\]{}]")


def encode_graph(graph: Graph) -> bytes:
    """Return the canonical JSON of `graph`: sorted keys, no spaces, ASCII."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "dtype": graph.dtype.value,
        "input": {"kind": graph.input_kind.value, "shape": list(graph.input_shape)},
        "tensors": [
            {"name": tensor.name, "shape": list(tensor.shape), "role": tensor.role.value}
            for tensor in graph.tensors
        ],
        "nodes": [_node_fields(node) for node in graph.nodes],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def decode_graph(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Graph:
    """Return the graph that `data` encodes.

    Args:
        data: What another party sent.
        limits: Bounds on its size and cost.

    Raises:
        MalformedError: If the bytes are too long, nested too deep, not JSON or not canonical.
        ModelError: If the graph is unsound or over a limit; it names the node.
    """
    document = _load(data, limits)
    fields_wanted = {"format", "version", "dtype", "input", "tensors", "nodes"}
    _want_fields(document, fields_wanted, "the graph")
    if document["format"] != FORMAT or document["version"] != VERSION:
        raise MalformedError(
            "not a graph of a known version",
            got=repr((document["format"], document["version"]))[:80],
            want=(FORMAT, VERSION),
            hint="another version of omnilytics may read it",
        )
    tensors = _want_list(document["tensors"], limits.max_tensors, "tensors")
    nodes = _want_list(document["nodes"], limits.max_nodes, "nodes")
    read = _want_object(document["input"], "the input")
    _want_fields(read, {"kind", "shape"}, "the input")
    graph = Graph(
        input_shape=_read_shape(read["shape"], "the input"),
        tensors=tuple(_read_tensor(tensor) for tensor in tensors),
        nodes=tuple(_read_node(node) for node in nodes),
        input_kind=_read_choice(InputKind, read["kind"], "the input's kind"),
        dtype=_read_choice(Dtype, document["dtype"], "the graph's dtype"),
    )
    graph.check_limits(limits)
    if encode_graph(graph) != data:
        raise MalformedError("the graph's JSON is not in canonical form")
    return graph


def _node_fields(node: Node) -> dict[str, object]:
    values = {field.name: getattr(node.operation, field.name) for field in fields(node.operation)}
    attributes = {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }
    return {
        "name": node.name,
        "operation": node.operation.name,
        "inputs": list(node.inputs),
        "tensors": list(node.tensors),
        "attributes": attributes,
    }


def _load(data: bytes, limits: Limits) -> dict[str, Any]:
    if len(data) > limits.max_graph_bytes:
        raise MalformedError(
            "the graph is too long", got=len(data), want=f"<= {limits.max_graph_bytes} bytes"
        )
    _check_depth(data)
    try:
        document = json.loads(
            data.decode("ascii"),
            object_pairs_hook=_unique_fields,
            parse_constant=_refuse_number,
        )
    except ValueError as error:  # covers bad UTF-8, bad JSON and integers of thousands of digits
        raise MalformedError("the graph is not JSON", got=str(error)[:120]) from None
    return _want_object(document, "the graph")


def _check_depth(data: bytes) -> None:
    # No name may contain a bracket, so counting them inside strings too refuses nothing valid.
    depth = 0
    for bracket in _BRACKETS.finditer(data):
        depth += 1 if bracket.group() in b"[{" else -1
        if depth > _MAX_DEPTH:
            raise MalformedError("the graph is nested too deep", want=f"<= {_MAX_DEPTH} levels")


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise MalformedError("a field appears twice", got=repr([name for name, _ in pairs])[:120])
    return document


def _refuse_number(text: str) -> NoReturn:
    raise MalformedError("the graph holds a number that is not finite", got=text[:40])


def _want_object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is not an object", got=repr(value)[:80])
    return value


def _want_fields(document: dict[str, Any], names: set[str], what: str) -> None:
    for name in sorted(document.keys() - names):
        raise MalformedError(f"{what} has an unknown field", got=repr(name)[:80])
    for name in sorted(names - document.keys()):
        raise MalformedError(f"{what} lacks a field", want=name)


def _want_list(value: object, maximum: int, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedError(f"{what} is not a list", got=repr(value)[:80])
    if len(value) > maximum:
        raise MalformedError(f"{what}: too many entries", got=len(value), want=f"<= {maximum}")
    return value


def _read_shape(value: object, what: str) -> Shape:
    sizes = _want_list(value, 8, f"shape of {what}")
    if not all(type(size) is int for size in sizes):
        raise MalformedError(f"shape of {what} is not made of integers", got=repr(sizes)[:80])
    return tuple(sizes)


def _read_name(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{what}: not a string", got=repr(value)[:80])
    check_name(value, what)  # now: the name goes into messages
    return value


def _read_tensor(value: object) -> TensorSpec:
    document = _want_object(value, "a tensor")
    _want_fields(document, {"name", "shape", "role"}, "a tensor")
    name = _read_name(document["name"], "a tensor")
    role = _read_choice(TensorRole, document["role"], f"role of tensor {name}")
    return TensorSpec(name, _read_shape(document["shape"], f"tensor {name}"), role)


def _read_choice(kind: type[_Choice], value: object, what: str) -> _Choice:
    if not isinstance(value, str) or value not in list(kind):
        raise MalformedError(f"{what} is unknown", got=repr(value)[:40], want=" or ".join(kind))
    return kind(value)


def _read_node(value: object) -> Node:
    document = _want_object(value, "a node")
    name = _read_name(document.get("name"), "a node")
    _want_fields(document, {"name", "operation", "inputs", "tensors", "attributes"}, f"node {name}")
    return Node(
        name=name,
        operation=_read_operation(name, document["operation"], document["attributes"]),
        inputs=_read_names(document["inputs"], f"inputs of node {name}"),
        tensors=_read_names(document["tensors"], f"tensors of node {name}"),
    )


def _read_names(value: object, what: str) -> tuple[str, ...]:
    return tuple(_read_name(item, what) for item in _want_list(value, MAX_NAMES, what))


def _read_operation(node: str, name: object, attributes: object) -> Operation:
    kind = OPERATIONS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ModelError(
            "unknown operation",
            got=repr(name)[:80],
            want=", ".join(OPERATIONS),
            node=node,
        )
    document = _want_object(attributes, f"attributes of node {node}")
    names = {field.name for field in fields(kind)}
    _want_fields(document, names, f"node {node} ({kind.name})")
    values = {
        key: tuple(value) if isinstance(value := document[key], list) else value
        for key in sorted(names)
    }
    try:
        return kind(**values)
    except ModelError as error:
        raise ModelError(
            error.message, got=error.got, want=error.want, node=node, operation=kind.name
        ) from None
