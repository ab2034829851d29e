"""Artefacts: one encoding each, and hostile bytes refused with a reason."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors

from omnilytics.foundation.errors import MalformedError, ModelError, OmniLyticsError
from omnilytics.perturbation.artefact import Artefact, decode_artefact, encode_artefact
from omnilytics.perturbation.graph import GRAPH_INPUT, Graph, Node, TensorSpec
from omnilytics.perturbation.graph_json import decode_graph, encode_graph
from omnilytics.perturbation.limits import Limits
from omnilytics.perturbation.operations import Conv2d, Flatten, Linear, Relu

PREFIX = struct.Struct("<8sQQ")


def sample_artefact() -> Artefact:
    graph = Graph(
        input_shape=(1, 4, 4),
        tensors=(
            TensorSpec("conv.weight", (2, 1, 3, 3)),
            TensorSpec("conv.bias", (2,)),
            TensorSpec("head.weight", (3, 32)),
        ),
        nodes=(
            Node(
                "conv",
                Conv2d((1, 1), (1, 1), (1, 1)),
                (GRAPH_INPUT,),
                ("conv.weight", "conv.bias"),
            ),
            Node("relu", Relu(), ("conv",)),
            Node("flatten", Flatten(), ("relu",)),
            Node("head", Linear(), ("flatten",), ("head.weight",)),
        ),
    )
    draw = np.random.default_rng(1)
    weights = {t.name: draw.normal(size=t.shape).astype(np.float32) for t in graph.tensors}
    return Artefact(graph, weights)


def split(data: bytes) -> tuple[bytes, bytes]:
    _, graph_length, _ = PREFIX.unpack_from(data)
    body = data[PREFIX.size :]
    return body[:graph_length], body[graph_length:]


def join(graph: bytes, weights: bytes) -> bytes:
    return PREFIX.pack(b"OMNIART1", len(graph), len(weights)) + graph + weights


def canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def edited_graph(edit: Callable[[Any], object]) -> bytes:
    document = json.loads(encode_graph(sample_artefact().graph))
    edit(document)
    return canonical(document)


def test_round_trip() -> None:
    artefact = sample_artefact()
    data = encode_artefact(artefact)
    decoded = decode_artefact(data)
    assert decoded.graph == artefact.graph
    assert list(decoded.weights) == [tensor.name for tensor in artefact.graph.tensors]
    for name, tensor in artefact.weights.items():
        np.testing.assert_array_equal(decoded.weights[name], tensor)
        assert decoded.weights[name].flags.writeable
    assert encode_artefact(decoded) == data


def test_bytes_are_pinned() -> None:
    # Changing this hash changes every task's artefact hash: raise the version with it.
    graph = sample_artefact().graph
    zeros = {t.name: np.zeros(t.shape, dtype=np.float32) for t in graph.tensors}
    data = encode_artefact(Artefact(graph, zeros))
    assert len(data) == 1376
    assert hashlib.sha256(data).hexdigest() == (
        "6622d3436937c8c8c5a987efc458371e84713ae81dbd0778ca98d85271e31894"
    )


def test_order_of_the_dictionary_does_not_matter() -> None:
    artefact = sample_artefact()
    backwards = Artefact(artefact.graph, dict(reversed(artefact.weights.items())))
    assert encode_artefact(backwards) == encode_artefact(artefact)


def test_weights_are_safetensors() -> None:
    artefact = sample_artefact()
    _, weights = split(encode_artefact(artefact))
    loaded = load_safetensors(weights)
    assert loaded.keys() == artefact.weights.keys()
    for name, tensor in loaded.items():
        np.testing.assert_array_equal(tensor, artefact.weights[name])


def test_every_truncation_is_refused() -> None:
    data = encode_artefact(sample_artefact())
    for length in range(len(data)):
        with pytest.raises(MalformedError):
            decode_artefact(data[:length])
    with pytest.raises(MalformedError, match="do not add up"):
        decode_artefact(data + b"\x00")


def test_every_changed_byte_before_the_data_is_refused() -> None:
    artefact = sample_artefact()
    data = encode_artefact(artefact)
    data_start = len(data) - 4 * artefact.graph.parameter_count
    for position in range(data_start):
        changed = bytearray(data)
        changed[position] ^= 0x01
        try:
            decoded = decode_artefact(bytes(changed))
        except (MalformedError, ModelError):
            continue
        # A name or attribute may change into another valid one; then it is another artefact.
        assert encode_artefact(decoded) == bytes(changed)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_must_be_finite(value: float) -> None:
    data = bytearray(encode_artefact(sample_artefact()))
    data[-4:] = struct.pack("<f", value)
    with pytest.raises(ModelError, match="NaN or infinite") as caught:
        decode_artefact(bytes(data))
    assert caught.value.ids["tensor"] == "head.weight"


def test_huge_lengths_allocate_nothing() -> None:
    data = encode_artefact(sample_artefact())
    body = data[PREFIX.size :]
    for lengths in ((1 << 63, 1 << 63), (0, len(body)), (len(body), 0), (1 << 62, 5)):
        with pytest.raises(MalformedError):
            decode_artefact(PREFIX.pack(b"OMNIART1", *lengths) + body)
    with pytest.raises(MalformedError, match="too long"):
        decode_artefact(data, Limits(max_artefact_bytes=len(data) - 1))
    with pytest.raises(MalformedError, match="graph is too long"):
        decode_artefact(data, Limits(max_graph_bytes=100))
    with pytest.raises(MalformedError, match="known version"):
        decode_artefact(b"OMNIART2" + data[8:])


def header(entries: dict[str, object], data: bytes) -> bytes:
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def test_header_must_be_the_graphs() -> None:
    artefact = sample_artefact()
    graph, weights = split(encode_artefact(artefact))
    length = struct.unpack_from("<Q", weights)[0]
    entries = json.loads(weights[8 : 8 + length])
    data = weights[8 + length :]
    assert header(entries, data) == weights

    def lie(name: str, **fields: object) -> dict[str, object]:
        return {**entries, name: {**entries[name], **fields}}

    for hostile, culprit in (
        (lie("head.weight", shape=[32, 3]), "head.weight"),
        (lie("conv.bias", dtype="F64"), "conv.bias"),
        (lie("conv.bias", data_offsets=[0, 8]), "conv.bias"),
        (lie("head.weight", data_offsets=[80, 1 << 60]), "head.weight"),
        (dict(reversed(entries.items())), "conv.weight"),
        ({"__metadata__": {"a": "b"}, **entries}, "conv.weight"),
        ({name: entries[name] for name in ("conv.weight", "head.weight")}, "conv.bias"),
    ):
        with pytest.raises(MalformedError, match="header is not the one") as caught:
            decode_artefact(join(graph, header(hostile, data)))
        assert caught.value.ids["tensor"] == culprit
    duplicated = weights[8 : 8 + length].rstrip().replace(b'"conv.bias"', b'"conv.weight"')
    with pytest.raises(MalformedError, match="header is not the one"):
        decode_artefact(join(graph, struct.pack("<Q", len(duplicated)) + duplicated + data))
    with pytest.raises(MalformedError, match="header is not the one"):
        decode_artefact(join(graph, struct.pack("<Q", 1 << 62) + weights[8:]))
    with pytest.raises(MalformedError, match="header is not the one"):
        decode_artefact(join(graph, b""))
    with pytest.raises(MalformedError, match="another length"):
        decode_artefact(join(graph, weights + b"\x00" * 4))


def test_artefact_must_fit_its_graph() -> None:
    artefact = sample_artefact()
    weights = artefact.weights
    cases: tuple[tuple[Any, str], ...] = (
        ({**weights, "more": weights["conv.bias"]}, "no such tensor"),
        ({"conv.bias": weights["conv.bias"]}, "missing"),
        ({**weights, "conv.bias": np.zeros(3, dtype=np.float32)}, "another shape"),
        ({**weights, "conv.bias": np.zeros(2)}, "not float32"),
    )
    for changed, words in cases:
        with pytest.raises(ModelError, match=words):
            Artefact(artefact.graph, changed)


def set_item(*path: object) -> Callable[[Any], object]:
    """Return an edit that sets path[:-1] to path[-1]."""

    def edit(document: Any) -> None:
        for key in path[:-2]:
            document = document[key]
        document[path[-2]] = path[-1]

    return edit


@pytest.mark.parametrize(
    ("edit", "kind", "words"),
    [
        (set_item("version", 2), MalformedError, "known version"),
        (set_item("version", True), MalformedError, "canonical|known version"),
        (set_item("format", "other"), MalformedError, "known version"),
        (set_item("extra", 1), MalformedError, "unknown field"),
        (set_item("nodes", {}), MalformedError, "not a list"),
        (set_item("nodes", 0, 5), MalformedError, "not an object"),
        (set_item("nodes", 0, "code", "import os"), MalformedError, "node conv has an unknown"),
        (set_item("nodes", 0, "operation", "exec"), ModelError, "unknown operation"),
        (set_item("nodes", 0, "operation", ["conv2d"]), ModelError, "unknown operation"),
        (set_item("nodes", 0, "attributes", []), MalformedError, "not an object"),
        (set_item("nodes", 0, "attributes", "groups", [1, 1]), MalformedError, "unknown field"),
        (set_item("nodes", 0, "attributes", {}), MalformedError, "lacks a field"),
        (set_item("nodes", 0, "attributes", "stride", [0, 1]), ModelError, "attribute stride"),
        (set_item("nodes", 0, "attributes", "stride", [1, 1 << 70]), ModelError, "attribute"),
        (set_item("nodes", 0, "attributes", "stride", [True, 1]), ModelError, "attribute"),
        (set_item("nodes", 0, "attributes", "stride", 1), MalformedError, "not a list"),
        (set_item("nodes", 0, "inputs", ["head"]), ModelError, "not made before"),
        (set_item("nodes", 0, "inputs", [0]), MalformedError, ": not a string"),
        (set_item("nodes", 0, "inputs", ["input"] * 9), MalformedError, "too many entries"),
        (set_item("nodes", 1, "name", "conv"), ModelError, "one name"),
        (set_item("nodes", 1, "name", "a\nb"), ModelError, "malformed name"),
        (set_item("nodes", 1, "name", None), MalformedError, ": not a string"),
        (set_item("tensors", 0, "shape", [2, 1, 3, 4]), ModelError, "weight does not fit"),
        (set_item("tensors", 0, "shape", [2, 9, 3, 3]), ModelError, "weight does not fit"),
        (set_item("tensors", 0, "shape", [2, 1, 3, -3]), ModelError, "impossible shape"),
        (set_item("tensors", 0, "shape", [2, 1, 3, 3.0]), MalformedError, "not an integer"),
        (set_item("tensors", 0, "shape", ["2"]), MalformedError, "not made of integers"),
        (set_item("tensors", 0, "dtype", "float16"), MalformedError, "another dtype"),
        (set_item("tensors", 0, "name", "conv.bias"), ModelError, "one name"),
        (set_item("input", [1, 1 << 24, 1 << 24]), ModelError, "."),
        (set_item("input", [1] * 100), MalformedError, "too many entries"),
    ],
)
def test_hostile_graph(
    edit: Callable[[Any], object], kind: type[OmniLyticsError], words: str
) -> None:
    _, weights = split(encode_artefact(sample_artefact()))
    with pytest.raises(kind, match=words):
        decode_artefact(join(edited_graph(edit), weights))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"version":NaN}', "not an integer"),
        (b'{"version":1e999}', "not an integer"),
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
    graph = sample_artefact().graph
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
