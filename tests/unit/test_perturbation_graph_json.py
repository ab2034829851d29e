"""The graph as JSON: one encoding each, and hostile documents refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
from graphs import small_cnn

from omnilytics.foundation.errors import MalformedError, ModelError, OmniLyticsError
from omnilytics.perturbation.graph_json import decode_graph, encode_graph
from omnilytics.perturbation.graph_schema import graph_schema

VALIDATOR = jsonschema_rs.validator_for(graph_schema())


def edited_graph(edit: Callable[[Any], object]) -> bytes:
    document = json.loads(encode_graph(small_cnn()))
    edit(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def set_item(*path: object) -> Callable[[Any], object]:
    """Return an edit that sets path[:-1] to path[-1]."""

    def edit(document: Any) -> None:
        for key in path[:-2]:
            document = document[key]
        document[path[-2]] = path[-1]

    return edit


MEANING = {
    "weight does not fit",
    "not made before",
    "one name",
    "another role",
    "wrong number of dimensions",
    "output has an impossible shape",
    # To JSON Schema 2.0 is an integer like 2.
    "canonical",
    "not made of int.* 3.0",
}
"""Refusals of documents that are well formed."""


@pytest.mark.parametrize(
    ("edit", "kind", "words"),
    [
        (set_item("version", 1), MalformedError, "known version"),
        (set_item("version", True), MalformedError, "known version"),
        (set_item("version", 2.0), MalformedError, "canonical"),
        (set_item("format", "other"), MalformedError, "known version"),
        (set_item("extra", 1), MalformedError, "unknown field"),
        (set_item("nodes", {}), MalformedError, "not a list"),
        (set_item("nodes", 0, 5), MalformedError, "not an object"),
        (set_item("nodes", 0, "code", "import os"), MalformedError, "node conv has an unknown"),
        (set_item("nodes", 0, "operation", "exec"), ModelError, "unknown operation"),
        (set_item("nodes", 0, "operation", ["conv2d"]), ModelError, "unknown operation"),
        (set_item("nodes", 0, "attributes", []), MalformedError, "not an object"),
        (set_item("nodes", 0, "attributes", "code", [1, 1]), MalformedError, "unknown field"),
        (set_item("nodes", 0, "attributes", "groups", [1, 1]), ModelError, "attribute groups"),
        (set_item("nodes", 0, "attributes", "groups", 2), ModelError, "weight does not fit"),
        (set_item("nodes", 0, "attributes", {}), MalformedError, "lacks a field"),
        (set_item("nodes", 0, "attributes", "stride", [0, 1]), ModelError, "attribute stride"),
        (set_item("nodes", 0, "attributes", "stride", [1, 1 << 70]), ModelError, "attribute"),
        (set_item("nodes", 0, "attributes", "stride", [True, 1]), ModelError, "attribute"),
        (set_item("nodes", 0, "attributes", "stride", 1), ModelError, "attribute stride"),
        (set_item("nodes", 0, "inputs", ["head"]), ModelError, "not made before"),
        (set_item("nodes", 0, "inputs", [0]), MalformedError, ": not a string"),
        (set_item("nodes", 0, "inputs", ["input"] * 65), MalformedError, "too many entries"),
        (set_item("nodes", 1, "name", "conv"), ModelError, "one name"),
        (set_item("nodes", 1, "name", "a\nb"), ModelError, "malformed name"),
        (set_item("nodes", 1, "name", None), MalformedError, ": not a string"),
        (set_item("tensors", 0, "shape", [2, 1, 3, 4]), ModelError, "weight does not fit"),
        (set_item("tensors", 0, "shape", [2, 9, 3, 3]), ModelError, "weight does not fit"),
        (set_item("tensors", 0, "shape", [2, 1, 3, -3]), ModelError, "impossible shape"),
        (set_item("tensors", 0, "shape", [2, 1, 3, 3.0]), MalformedError, "not made of int.* 3.0"),
        (set_item("tensors", 0, "shape", ["2"]), MalformedError, "not made of integers"),
        (set_item("tensors", 0, "dtype", "float16"), MalformedError, "unknown field"),
        (set_item("tensors", 0, "role", "secret"), MalformedError, "role of tensor conv.weight"),
        (set_item("tensors", 0, "role", ["frozen"]), MalformedError, "role of tensor"),
        (set_item("tensors", 0, "role", "statistic"), ModelError, "another role"),
        (set_item("dtype", "float16"), MalformedError, "dtype is unknown"),
        (set_item("tensors", 0, "name", "conv.bias"), ModelError, "one name"),
        (
            set_item("input", "shape", [1, 1 << 24, 1 << 24]),
            ModelError,
            "output has an impossible shape",
        ),
        (set_item("input", "shape", [1] * 100), MalformedError, "too many entries"),
        (set_item("input", "kind", "words"), MalformedError, "kind is unknown"),
        (set_item("input", "kind", "tokens"), ModelError, "wrong number of dimensions"),
        (set_item("input", [1, 4, 4]), MalformedError, "the input is not an object"),
    ],
)
def test_hostile_graph(
    edit: Callable[[Any], object], kind: type[OmniLyticsError], words: str
) -> None:
    data = edited_graph(edit)
    with pytest.raises(kind, match=words):
        decode_graph(data)
    # What is wrong in itself the schema refuses as well; what does not fit the rest it cannot see.
    assert VALIDATOR.is_valid(json.loads(data)) == (words in MEANING)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"version":NaN}', "not finite"),
        (b'{"version":1e999}', "lacks a field"),
        (b'{"version":1,"version":1}', "twice"),
        (b'{"version":' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 50_000, "nested too deep"),
    ],
)
def test_hostile_json(data: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        decode_graph(data)


def test_json_must_be_canonical() -> None:
    graph = small_cnn()
    data = encode_graph(graph)
    document = json.loads(data)
    assert decode_graph(data) == graph
    for other in (data + b" ", json.dumps(document).encode(), data.replace(b"conv", rb"\u0063onv")):
        with pytest.raises(MalformedError, match="canonical"):
            decode_graph(other)


def test_counts_are_bounded_before_nodes_are_read() -> None:
    data = edited_graph(set_item("nodes", [7] * 3000))
    with pytest.raises(MalformedError, match="nodes: too many entries"):
        decode_graph(data)


def test_costly_graph_is_refused() -> None:
    # 60 bytes of attributes must not make a data owner allocate gigabytes.
    def grow(document: Any) -> None:
        document["nodes"][0]["attributes"]["padding"] = [4096, 4096]
        document["tensors"][2]["shape"] = [3, 2 * 8194 * 8194]

    with pytest.raises(ModelError, match=r"impossible shape|too many"):
        decode_graph(edited_graph(grow))


@pytest.mark.parametrize("where", ["nodes", "tensors"])
def test_hostile_names_do_not_reach_the_terminal(where: str) -> None:
    with pytest.raises(ModelError, match="malformed name") as caught:
        decode_graph(edited_graph(set_item(where, 0, "name", "\x1b[2J\n" + "x" * 10_000)))
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 300
