"""The form of an artefact, written down a second time: graph, weights, prefix, and edits of them.

It follows docs/perturbation.md and imports nothing of the implementation: a graph as canonical
JSON, weights with a safetensors header, a prefix with both lengths and the hash of frozen weights.
"""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

MAGIC, FROZEN_MAGIC = b"OMNIART2", b"OMNIFRZ2"
NOTHING = bytes(32)

Document = Any
Edit = Callable[[Document], None]


@dataclass(frozen=True)
class Case:
    """One artefact, the frozen weights that come with it if any, and how it is refused."""

    name: str
    about: str
    data: bytes
    code: str
    words: str
    frozen: bytes | None = None


def canonical(document: Document) -> bytes:
    """The graph's bytes: sorted keys, no spaces, ASCII."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def tensor(name: str, *shape: int, role: str = "trained") -> Document:
    """A tensor of the graph."""
    return {"name": name, "shape": list(shape), "role": role}


def node(
    name: str, operation: str, inputs: list[str], tensors: tuple[str, ...] = (), **attributes: Any
) -> Document:
    """A node of the graph."""
    return {
        "name": name,
        "operation": operation,
        "inputs": inputs,
        "tensors": list(tensors),
        "attributes": attributes,
    }


def graph(
    shape: list[int], tensors: list[Document], nodes: list[Document], *, kind: str = "numbers"
) -> Document:
    """A whole graph."""
    return {
        "format": "omnilytics/graph",
        "version": 2,
        "dtype": "float32",
        "input": {"kind": kind, "shape": shape},
        "tensors": tensors,
        "nodes": nodes,
    }


def sound() -> Document:
    """The graph that most cases spoil: a convolution with normalisation, and an output layer."""
    window: Document = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1}
    pool: Document = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "dilation": [1, 1]}
    statistics = ("norm.running_mean", "norm.running_var")
    return graph(
        [1, 4, 4],
        [
            tensor("conv.weight", 2, 1, 3, 3),
            tensor("norm.weight", 2),
            tensor("norm.bias", 2),
            tensor("norm.running_mean", 2, role="statistic"),
            tensor("norm.running_var", 2, role="statistic"),
            tensor("head.weight", 3, 8),
            tensor("head.bias", 3),
        ],
        [
            node("conv", "conv2d", ["input"], ("conv.weight",), **window),
            node(
                "norm",
                "batch_norm",
                ["conv"],
                ("norm.weight", "norm.bias", *statistics),
                epsilon=1e-5,
            ),
            node("relu", "relu", ["norm"]),
            node("pool", "max_pool2d", ["relu"], **pool),
            node("flatten", "flatten", ["pool"]),
            node("head", "linear", ["flatten"], ("head.weight", "head.bias")),
        ],
    )


def sequence(tokens: int = 4) -> Document:
    """A small graph of tokens with attention."""
    return graph(
        [tokens],
        [tensor("table", 10, 4), tensor("up", 4, 4), tensor("head", 10, 4)],
        [
            node("embedding", "embedding", ["input"], ("table",)),
            node("up", "linear", ["embedding"], ("up",)),
            node("attention", "attention", ["up", "up", "up"], heads=2, causal=True),
            node("head", "linear", ["attention"], ("head",)),
        ],
        kind="tokens",
    )


def header(tensors: list[Document]) -> bytes:
    """The safetensors header of these tensors."""
    entries, offset = {}, 0
    for each in tensors:
        end = offset + 4 * prod(each["shape"])
        entries[each["name"]] = {
            "dtype": "F32",
            "shape": each["shape"],
            "data_offsets": [offset, end],
        }
        offset = end
    return framed(entries)


def framed(entries: Document) -> bytes:
    """A safetensors header of any entries, aligned as it must be."""
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def values(tensors: list[Document]) -> bytes:
    """Weights: 0.5 each."""
    count: int = sum(prod(each["shape"]) for each in tensors)
    return struct.pack("<f", 0.5) * count


def published(document: Document) -> list[Document]:
    """The tensors that travel with every artefact."""
    return [each for each in document["tensors"] if each["role"] != "frozen"]


def joined(text: bytes, body: bytes, *, magic: bytes = MAGIC, frozen: bytes = NOTHING) -> bytes:
    """An artefact of these parts."""
    return struct.pack("<8sQQ32s", magic, len(text), len(body), frozen) + text + body


def artefact(document: Document, frozen: bytes = NOTHING) -> bytes:
    """The artefact of a graph that may be spoiled, with weights for what it claims if they fit."""
    tensors = published(document)
    return joined(canonical(document), header(tensors) + values(tensors), frozen=frozen)


def claimed(document: Document) -> bytes:
    """An artefact whose graph claims more than travels with it: no weights at all."""
    return joined(canonical(document), framed({}))


def edited(edit: Edit, start: Callable[[], Document] = sound) -> Document:
    """A sound graph with one edit."""
    document = copy.deepcopy(start())
    edit(document)
    return document


def put(*path: Any) -> Edit:
    """Sets path[:-1] to path[-1]."""

    def edit(document: Document) -> None:
        for key in path[:-2]:
            document = document[key]
        document[path[-2]] = path[-1]

    return edit
