"""Artefacts: one encoding each, and hostile bytes refused with a reason."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from graphs import frozen_cnn, random_weights, small_cnn
from safetensors.numpy import load as load_safetensors

from omnilytics.foundation.errors import MalformedError, ModelError
from omnilytics.perturbation.artefact import (
    NOTHING_FROZEN,
    Artefact,
    decode_artefact,
    encode_artefact,
    encode_frozen,
    frozen_hash_of,
)
from omnilytics.perturbation.graph import Dtype
from omnilytics.perturbation.limits import Limits
from omnilytics.wire.hashing import content_hash

PREFIX = struct.Struct("<8sQQ32s")
MAGIC = b"OMNIART2"


def sample_artefact() -> Artefact:
    graph = small_cnn()
    return Artefact(graph, random_weights(graph, seed=1))


def split(data: bytes) -> tuple[bytes, bytes]:
    _, graph_length, _, _ = PREFIX.unpack_from(data)
    body = data[PREFIX.size :]
    return body[:graph_length], body[graph_length:]


def join(graph: bytes, weights: bytes, frozen_hash: bytes = NOTHING_FROZEN) -> bytes:
    return PREFIX.pack(MAGIC, len(graph), len(weights), frozen_hash) + graph + weights


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
    assert len(data) == 1461
    assert hashlib.sha256(data).hexdigest() == (
        "c5de298cf8987fcdd0dcd3cc0cb3d7e8028c072ee96fd6b09ab5c0189d280750"
    )


def test_order_of_the_dictionary_does_not_matter() -> None:
    artefact = sample_artefact()
    backwards = Artefact(artefact.graph, dict(reversed(list(artefact.weights.items()))))
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
            decode_artefact(PREFIX.pack(MAGIC, *lengths, NOTHING_FROZEN) + body)
    with pytest.raises(MalformedError, match="too long"):
        decode_artefact(data, Limits(max_artefact_bytes=len(data) - 1))
    with pytest.raises(MalformedError, match="graph is too long"):
        decode_artefact(data, Limits(max_graph_bytes=100))
    with pytest.raises(MalformedError, match="known version"):
        decode_artefact(b"OMNIART1" + data[8:])


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
        ({**weights, "conv.bias": np.zeros(2)}, "another type"),
    )
    for changed, words in cases:
        with pytest.raises(ModelError, match=words):
            Artefact(artefact.graph, changed)


def frozen_artefact() -> tuple[Artefact, bytes]:
    graph = frozen_cnn()
    weights = random_weights(graph)
    frozen = encode_frozen(graph, weights)
    return Artefact(graph, weights, content_hash(frozen)), frozen


def test_frozen_weights_travel_apart() -> None:
    artefact, frozen = frozen_artefact()
    data = encode_artefact(artefact)
    assert frozen_hash_of(data) == content_hash(frozen)
    assert artefact.weights["conv.weight"].tobytes() not in data
    decoded = decode_artefact(data, frozen=frozen)
    assert decoded.graph == artefact.graph
    for name, tensor in artefact.weights.items():
        np.testing.assert_array_equal(decoded.weights[name], tensor)
    assert encode_artefact(decoded) == data
    assert encode_frozen(decoded.graph, decoded.weights) == frozen
    assert frozen_hash_of(encode_artefact(sample_artefact())) is None


def test_frozen_weights_must_be_there_and_whole() -> None:
    artefact, frozen = frozen_artefact()
    data = encode_artefact(artefact)
    broken = bytearray(frozen)
    broken[-4:] = struct.pack("<f", np.nan)
    for given, words in (
        (None, "needs frozen weights"),
        (b"OMNIFRZ1" + frozen[8:], "known version"),
        (frozen[:-1], "another length"),
        (frozen + bytes(4), "another length"),
        (frozen.replace(b"conv.weight", b"conv.wEight"), "header is not the one"),
        (bytes(broken), "NaN or infinite"),
    ):
        with pytest.raises((MalformedError, ModelError), match=words):
            decode_artefact(data, frozen=given)
    with pytest.raises(MalformedError, match="the frozen weights: too long"):
        decode_artefact(data, Limits(max_artefact_bytes=len(data)), frozen=frozen + bytes(10_000))
    with pytest.raises(MalformedError, match="known version"):
        frozen_hash_of(data[:40])


def test_a_hash_stands_for_frozen_weights_and_only_for_them() -> None:
    artefact, _ = frozen_artefact()
    with pytest.raises(ModelError, match="need their content's hash"):
        replace(artefact, frozen_hash=NOTHING_FROZEN)
    with pytest.raises(ModelError, match="need their content's hash"):
        replace(sample_artefact(), frozen_hash=b"\x01" * 32)


def test_float64_is_carried_to_the_last_bit() -> None:
    graph = replace(small_cnn(), dtype=Dtype.FLOAT64)
    weights = random_weights(graph, dtype="float64")
    data = encode_artefact(Artefact(graph, weights))
    decoded = decode_artefact(data)
    for name, tensor in weights.items():
        assert decoded.weights[name].dtype == np.float64
        np.testing.assert_array_equal(decoded.weights[name], tensor)
    with pytest.raises(ModelError, match="another type"):
        Artefact(graph, random_weights(graph))
