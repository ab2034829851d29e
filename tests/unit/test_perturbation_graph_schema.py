"""docs/graph.schema.json is the schema of the code, and agrees with what the decoder takes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from graphs import GRAPHS

from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.perturbation.graph_json import decode_graph, encode_graph
from omnilytics.perturbation.graph_schema import graph_schema

PAGE = Path(__file__).resolve().parents[2] / "docs" / "graph.schema.json"
VALIDATOR = jsonschema_rs.validator_for(graph_schema())
Document = dict[str, Any]


def test_page_is_the_schema() -> None:
    want = json.dumps(graph_schema(), indent=2, sort_keys=True) + "\n"
    assert PAGE.read_text(encoding="utf-8") == want


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_fits(name: str) -> None:
    VALIDATOR.validate(json.loads(encode_graph(GRAPHS[name])))


EDITS: dict[str, Callable[[Document], object]] = {
    "format": lambda d: d.update(format="other"),
    "version": lambda d: d.update(version=1),
    "dtype": lambda d: d.update(dtype="float16"),
    "more": lambda d: d.update(more=1),
    "less": lambda d: d.pop("nodes"),
    "no nodes": lambda d: d.update(nodes=[]),
    "input": lambda d: d["input"].update(kind="words"),
    "role": lambda d: d["tensors"][0].update(role="secret"),
    "shape": lambda d: d["tensors"][0].update(shape=[0]),
    "long shape": lambda d: d["tensors"][0].update(shape=[1] * 5),
    "path": lambda d: d["tensors"][0].update(name="../../etc/passwd"),
    "operation": lambda d: d["nodes"][0].update(operation="system"),
    "attribute": lambda d: d["nodes"][0]["attributes"].update(stride=[0, 1]),
    "other attribute": lambda d: d["nodes"][0]["attributes"].update(command="rm"),
    "inputs": lambda d: d["nodes"][0].update(inputs=[]),
    "number": lambda d: d["nodes"][0]["attributes"].update(groups=1.5),
}


@pytest.mark.parametrize("why", EDITS)
def test_what_the_decoder_refuses_for_its_form_the_schema_refuses(why: str) -> None:
    document = copy.deepcopy(json.loads(encode_graph(GRAPHS["residual cnn"])))
    assert VALIDATOR.is_valid(document)
    EDITS[why](document)
    assert not VALIDATOR.is_valid(document)
    data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(OmniLyticsError):
        decode_graph(data)
