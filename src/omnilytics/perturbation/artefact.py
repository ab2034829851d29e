"""The model artefact: a graph and its (perturbed) weights as one deterministic byte string.

Layout, version 1, integers little-endian: 8 bytes `OMNIART1`; graph length (u64); weights length
(u64); the graph's canonical JSON; the weights in safetensors form, tensors in the graph's order.
One artefact has exactly one encoding, so the hash that `open_round` records stands for the model
and nothing else. Reading one executes nothing: the safetensors header is never interpreted, it is
compared with the one that the graph implies.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from omnilytics.foundation.errors import MalformedError, ModelError
from omnilytics.perturbation.graph import Graph
from omnilytics.perturbation.graph_json import decode_graph, encode_graph
from omnilytics.perturbation.limits import DEFAULT_LIMITS, Limits

Array = NDArray[np.float32]
Tensors = dict[str, Array]

MAGIC = b"OMNIART1"

_PREFIX = struct.Struct("<8sQQ")
_HEADER_LENGTH = struct.Struct("<Q")
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Artefact:
    """A graph with finite float32 weights of exactly its shapes; `ModelError` names the tensor."""

    graph: Graph
    weights: Tensors

    def __post_init__(self) -> None:
        check_tensors(self.graph, self.weights)
        for name, tensor in self.weights.items():
            if tensor.dtype != np.float32:
                raise ModelError("a weight is not float32", got=tensor.dtype, tensor=name)
            if not np.isfinite(tensor).all():
                raise ModelError("a weight is NaN or infinite", tensor=name)


def check_tensors(graph: Graph, tensors: Mapping[str, NDArray[np.floating]]) -> None:
    """Raise `ModelError` unless `tensors` has exactly the graph's names and shapes."""
    wanted = {tensor.name: tensor.shape for tensor in graph.tensors}
    for name in tensors.keys() - wanted.keys():
        raise ModelError("the graph has no such tensor", tensor=str(name)[:80])
    for name, shape in wanted.items():
        if name not in tensors:
            raise ModelError("a tensor is missing", tensor=name)
        if tensors[name].shape != shape:
            raise ModelError(
                "a tensor has another shape", got=tensors[name].shape, want=shape, tensor=name
            )


def encode_artefact(artefact: Artefact) -> bytes:
    """Return the one encoding of `artefact` (about 4 bytes per parameter)."""
    graph = encode_graph(artefact.graph)
    header = _weights_header(artefact.graph)
    weights = [
        np.ascontiguousarray(artefact.weights[tensor.name], dtype="<f4").tobytes()
        for tensor in artefact.graph.tensors
    ]
    length = len(header) + artefact.graph.parameter_count * _FLOAT_BYTES
    return b"".join([_PREFIX.pack(MAGIC, len(graph), length), graph, header, *weights])


def decode_artefact(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Artefact:
    """Return the artefact that `data` encodes.

    Args:
        data: What another party published, its hash already checked by the caller.
        limits: Bounds on size and cost, checked before anything of that size is allocated.

    Raises:
        MalformedError: If lengths, header or order are not those of the one valid encoding.
        ModelError: If the graph or a weight is unsound; it names the node or tensor.
    """
    graph_bytes, weights = _split(data, limits)
    graph = decode_graph(bytes(graph_bytes), limits)
    header = _weights_header(graph)
    if bytes(weights[: len(header)]) != header:
        _refuse_header(graph, weights)
    want = len(header) + graph.parameter_count * _FLOAT_BYTES
    if len(weights) != want:
        raise MalformedError("the weights have another length", got=len(weights), want=want)
    return Artefact(graph, _read_weights(graph, weights[len(header) :]))


def _split(data: bytes, limits: Limits) -> tuple[memoryview, memoryview]:
    if len(data) > limits.max_artefact_bytes:
        raise MalformedError(
            "the artefact is too long", got=len(data), want=f"<= {limits.max_artefact_bytes} bytes"
        )
    if len(data) < _PREFIX.size:
        raise MalformedError("the artefact is cut short", got=len(data), want=f">= {_PREFIX.size}")
    magic, graph_length, weights_length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise MalformedError("not a model artefact of a known version", got=magic, want=MAGIC)
    want = _PREFIX.size + graph_length + weights_length
    if len(data) != want:
        raise MalformedError("the artefact's lengths do not add up", got=len(data), want=want)
    body = memoryview(data)[_PREFIX.size :]
    return body[:graph_length], body[graph_length:]


def _header_entries(graph: Graph) -> list[str]:
    entries = []
    offset = 0
    for tensor in graph.tensors:
        end = offset + prod(tensor.shape) * _FLOAT_BYTES
        entry = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        entries.append(f"{json.dumps(tensor.name)}:{json.dumps(entry, separators=(',', ':'))}")
        offset = end
    return entries


def _weights_header(graph: Graph) -> bytes:
    text = ("{" + ",".join(_header_entries(graph)) + "}").encode("ascii")
    text += b" " * (-len(text) % 8)  # safetensors aligns the data to 8 bytes
    return _HEADER_LENGTH.pack(len(text)) + text


def _refuse_header(graph: Graph, weights: memoryview) -> NoReturn:
    """Raise `MalformedError`, naming the first tensor whose entry is not as the graph says."""
    start = _HEADER_LENGTH.size + 1
    culprit = None
    for tensor, entry in zip(graph.tensors, _header_entries(graph), strict=True):
        if bytes(weights[start : start + len(entry)]) != entry.encode("ascii"):
            culprit = tensor.name
            break
        start += len(entry) + 1
    raise MalformedError(
        "the weights' header is not the one that the graph implies",
        hint="names, order, dtypes, shapes and offsets must be exactly the graph's",
        **({"tensor": culprit} if culprit else {}),
    )


def _read_weights(graph: Graph, data: memoryview) -> Tensors:
    weights: Tensors = {}
    offset = 0
    for tensor in graph.tensors:
        count = prod(tensor.shape)
        flat = np.frombuffer(data, dtype="<f4", count=count, offset=offset)
        weights[tensor.name] = flat.astype(np.float32).reshape(tensor.shape)
        offset += count * _FLOAT_BYTES
    return weights
