"""The model artefact: a graph and its (perturbed) weights as one deterministic byte string.

Layout, version 2, integers little-endian: 8 bytes `OMNIART2`; graph length (u64); weights length
(u64); content hash of the frozen weights, or 32 zero bytes where there are none; the graph's
canonical JSON; trained weights and statistics in safetensors form, in the graph's order. Frozen
weights travel once for a task, as a byte string of their own: `OMNIFRZ2` and the safetensors form.
One artefact has exactly one encoding, so the hash that `open_round` records stands for the model
and nothing else. Reading one executes nothing: the safetensors header is never interpreted, it is
compared with the one that the graph implies.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from omnilytics.foundation.errors import MalformedError, ModelError
from omnilytics.perturbation.graph import Dtype, Graph, TensorRole, TensorSpec
from omnilytics.perturbation.graph_json import decode_graph, encode_graph
from omnilytics.perturbation.limits import DEFAULT_LIMITS, Limits

Array = NDArray[np.floating[Any]]
Tensors = dict[str, Array]

MAGIC = b"OMNIART2"
FROZEN_MAGIC = b"OMNIFRZ2"
NOTHING_FROZEN = bytes(32)

_PREFIX = struct.Struct("<8sQQ32s")
_HEADER_LENGTH = struct.Struct("<Q")
_SAFETENSORS = {Dtype.FLOAT32: ("F32", "<f4", 4), Dtype.FLOAT64: ("F64", "<f8", 8)}


@dataclass(frozen=True)
class Artefact:
    """A graph with finite weights of its type and exactly its shapes.

    Attributes:
        graph: The network.
        weights: All tensors by name, frozen ones too.
        frozen_hash: Content hash of `encode_frozen`'s bytes; zeros where nothing is frozen.

    Raises:
        ModelError: A weight does not fit, or is NaN or infinite; it names the tensor.
    """

    graph: Graph
    weights: Mapping[str, Array]
    frozen_hash: bytes = NOTHING_FROZEN

    def __post_init__(self) -> None:
        check_tensors(self.graph, self.weights)
        for name, tensor in self.weights.items():
            if tensor.dtype != np.dtype(self.graph.dtype):
                raise ModelError(
                    "a weight has another type",
                    got=tensor.dtype,
                    want=self.graph.dtype,
                    tensor=name,
                )
            if not np.isfinite(tensor).all():
                raise ModelError("a weight is NaN or infinite", tensor=name)
        if bool(self.graph.frozen) != (self.frozen_hash != NOTHING_FROZEN):
            raise ModelError("frozen weights need their content's hash, and only they")


def check_tensors(graph: Graph, tensors: Mapping[str, NDArray[np.floating[Any]]]) -> None:
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
    body = _encode_tensors(artefact.graph, _published(artefact.graph), artefact.weights)
    prefix = _PREFIX.pack(MAGIC, len(graph), len(body), artefact.frozen_hash)
    return b"".join([prefix, graph, body])


def encode_frozen(graph: Graph, weights: Mapping[str, Array]) -> bytes:
    """Return the frozen weights as the byte string that is published once."""
    return FROZEN_MAGIC + _encode_tensors(graph, graph.frozen, weights)


def frozen_hash_of(data: bytes) -> bytes | None:
    """Return the content hash of the frozen weights that an artefact refers to, or None.

    Raises:
        MalformedError: If `data` cannot be an artefact.
    """
    if len(data) < _PREFIX.size or not data.startswith(MAGIC):
        raise MalformedError("not a model artefact of a known version", got=data[:8], want=MAGIC)
    found: bytes = _PREFIX.unpack_from(data)[3]
    return None if found == NOTHING_FROZEN else found


def decode_artefact(
    data: bytes, limits: Limits = DEFAULT_LIMITS, *, frozen: bytes | None = None
) -> Artefact:
    """Return the artefact that `data` encodes.

    Args:
        data: What another party published, its hash already checked by the caller.
        limits: Bounds on size and cost, checked before anything of that size is allocated.
        frozen: The frozen weights that it refers to (`frozen_hash_of`), hash checked as well.

    Raises:
        MalformedError: If lengths, header or order are not those of the one valid encoding.
        ModelError: If the graph or a weight is unsound; it names the node or tensor.
    """
    graph_bytes, body, frozen_hash = _split(data, limits)
    graph = decode_graph(bytes(graph_bytes), limits)
    weights = _decode_tensors(graph, _published(graph), body)
    if graph.frozen:
        weights |= _decode_frozen(graph, frozen, limits)
    return Artefact(graph, weights, frozen_hash)


def _published(graph: Graph) -> tuple[TensorSpec, ...]:
    return tuple(each for each in graph.tensors if each.role is not TensorRole.FROZEN)


def _split(data: bytes, limits: Limits) -> tuple[memoryview, memoryview, bytes]:
    _check_length(data, limits, "the artefact")
    if len(data) < _PREFIX.size:
        raise MalformedError("the artefact is cut short", got=len(data), want=f">= {_PREFIX.size}")
    magic, graph_length, weights_length, frozen_hash = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise MalformedError("not a model artefact of a known version", got=magic, want=MAGIC)
    want = _PREFIX.size + graph_length + weights_length
    if len(data) != want:
        raise MalformedError("the artefact's lengths do not add up", got=len(data), want=want)
    body = memoryview(data)[_PREFIX.size :]
    return body[:graph_length], body[graph_length:], frozen_hash


def _decode_frozen(graph: Graph, data: bytes | None, limits: Limits) -> Tensors:
    if data is None:
        raise MalformedError("the artefact needs frozen weights that are not here")
    _check_length(data, limits, "the frozen weights")
    if not data.startswith(FROZEN_MAGIC):
        raise MalformedError(
            "not frozen weights of a known version", got=data[:8], want=FROZEN_MAGIC
        )
    return _decode_tensors(graph, graph.frozen, memoryview(data)[len(FROZEN_MAGIC) :])


def _check_length(data: bytes, limits: Limits, what: str) -> None:
    if len(data) > limits.max_artefact_bytes:
        raise MalformedError(
            f"{what}: too long", got=len(data), want=f"<= {limits.max_artefact_bytes} bytes"
        )


def _encode_tensors(
    graph: Graph, specs: Sequence[TensorSpec], weights: Mapping[str, Array]
) -> bytes:
    _, code, _ = _SAFETENSORS[graph.dtype]
    parts = [np.ascontiguousarray(weights[spec.name], dtype=code).tobytes() for spec in specs]
    return b"".join([_header(graph, specs), *parts])


def _decode_tensors(graph: Graph, specs: Sequence[TensorSpec], data: memoryview) -> Tensors:
    header = _header(graph, specs)
    if bytes(data[: len(header)]) != header:
        _refuse_header(graph, specs, data)
    _, code, size = _SAFETENSORS[graph.dtype]
    want = len(header) + sum(prod(spec.shape) for spec in specs) * size
    if len(data) != want:
        raise MalformedError("the weights have another length", got=len(data), want=want)
    weights: Tensors = {}
    offset = len(header)
    for spec in specs:
        count = prod(spec.shape)
        flat = np.frombuffer(data, dtype=code, count=count, offset=offset)
        weights[spec.name] = flat.astype(graph.dtype.value).reshape(spec.shape)
        offset += count * size
    return weights


def _header_entries(graph: Graph, specs: Sequence[TensorSpec]) -> list[str]:
    name, _, size = _SAFETENSORS[graph.dtype]
    entries = []
    offset = 0
    for spec in specs:
        end = offset + prod(spec.shape) * size
        entry = {"dtype": name, "shape": list(spec.shape), "data_offsets": [offset, end]}
        entries.append(f"{json.dumps(spec.name)}:{json.dumps(entry, separators=(',', ':'))}")
        offset = end
    return entries


def _header(graph: Graph, specs: Sequence[TensorSpec]) -> bytes:
    text = ("{" + ",".join(_header_entries(graph, specs)) + "}").encode("ascii")
    text += b" " * (-len(text) % 8)  # safetensors aligns the data to 8 bytes
    return _HEADER_LENGTH.pack(len(text)) + text


def _refuse_header(graph: Graph, specs: Sequence[TensorSpec], data: memoryview) -> NoReturn:
    """Raise `MalformedError`, naming the first tensor whose entry is not as the graph says."""
    start = _HEADER_LENGTH.size + 1
    culprit = None
    for spec, entry in zip(specs, _header_entries(graph, specs), strict=True):
        if bytes(data[start : start + len(entry)]) != entry.encode("ascii"):
            culprit = spec.name
            break
        start += len(entry) + 1
    raise MalformedError(
        "the weights' header is not the one that the graph implies",
        hint="names, order, dtypes, shapes and offsets must be exactly the graph's",
        **({"tensor": culprit} if culprit else {}),
    )
