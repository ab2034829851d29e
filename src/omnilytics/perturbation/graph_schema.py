"""The JSON schema of a graph, made from the operations themselves (JSON Schema, draft 2020-12).

For readers and other implementations: docs/graph.schema.json is its text. It says what a document
may hold; that shapes fit, names are unique and nodes are in order is `Graph`'s to check.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from omnilytics.perturbation.graph import (
    MAX_DIMENSION,
    MAX_RANK,
    NAME_PATTERN,
    Dtype,
    InputKind,
    TensorRole,
)
from omnilytics.perturbation.graph_json import FORMAT, MAX_NAMES, VERSION
from omnilytics.perturbation.limits import DEFAULT_LIMITS
from omnilytics.perturbation.operations import OPERATIONS, Operation
from omnilytics.perturbation.operations.base import MAX_INTEGER, MAX_NUMBER, MAX_WINDOW, minimum

Schema = dict[str, Any]


def graph_schema() -> Schema:
    """Return the schema of version 2."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OmniLytics graph, version 2",
        **_object(
            {
                "format": {"const": FORMAT},
                "version": {"const": VERSION},
                "dtype": {"enum": [each.value for each in Dtype]},
                "input": _object(
                    {"kind": {"enum": [each.value for each in InputKind]}, "shape": _shape(3)}
                ),
                "tensors": _array(
                    _object(
                        {
                            "name": {"$ref": "#/$defs/name"},
                            "shape": _shape(MAX_RANK),
                            "role": {"enum": [each.value for each in TensorRole]},
                        }
                    ),
                    1,
                    DEFAULT_LIMITS.max_tensors,
                ),
                "nodes": _array({"$ref": "#/$defs/node"}, 1, DEFAULT_LIMITS.max_nodes),
            }
        ),
        "$defs": {
            "name": {"type": "string", "pattern": f"^{NAME_PATTERN}$"},
            "node": {"oneOf": [_node(each) for each in OPERATIONS.values()]},
        },
    }


def _node(operation: type[Operation]) -> Schema:
    attributes = {each.name: _attribute(each.name, str(each.type)) for each in fields(operation)}
    least, most = operation.input_counts
    counts = operation.tensor_counts
    return _object(
        {
            "name": {"$ref": "#/$defs/name"},
            "operation": {"const": operation.name},
            "inputs": _array({"$ref": "#/$defs/name"}, least, min(most, MAX_NAMES)),
            "tensors": _array({"$ref": "#/$defs/name"}, min(counts), max(counts)),
            "attributes": _object(attributes),
        }
    )


def _attribute(name: str, kind: str) -> Schema:
    match kind:
        case "Pair":
            item = {"type": "integer", "minimum": minimum(name), "maximum": MAX_WINDOW}
            return _array(item, 2, 2)
        case "int":
            return {"type": "integer", "minimum": minimum(name), "maximum": MAX_INTEGER}
        case "float":
            return {"type": "number", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}
        case _:
            return {"type": "boolean"}


def _shape(rank: int) -> Schema:
    return _array({"type": "integer", "minimum": 1, "maximum": MAX_DIMENSION}, 1, rank)


def _array(items: Schema, least: int, most: int) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }
