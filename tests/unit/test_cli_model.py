"""`omnilytics model check`: what a network hides, and refusals that say what to change."""

from __future__ import annotations

import json
from math import factorial, log2
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from omnilytics.cli.main import application

NETWORKS = """
import torch
from torch import nn


def images():
    first = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(16, 10))


def line():
    return nn.Linear(3, 2)


def frozen():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    net[0].requires_grad_(False)
    return net


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.norm, self.head = nn.Embedding(50, 16), nn.LayerNorm(16), nn.Linear(16, 9)
        self.up, self.down = nn.Linear(16, 12), nn.Linear(12, 16)

    def forward(self, tokens):
        stream = self.table(tokens)
        stream = stream + self.down(nn.functional.gelu(self.up(self.norm(stream))))
        return self.head(stream)


def sorted_layer():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, values):
            return self.layer(values.sort(dim=1).values)

    return Sorted()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets_to_check.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def check(name: str, *options: str) -> Result:
    asked = ("model", "check", f"nets_to_check:{name}", *options)
    return CliRunner().invoke(application, asked)


def found(name: str, *options: str) -> Any:
    done = check(name, *options, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_network_of_images_hides_orders_and_signs() -> None:
    report = found("images", "--input", "1,8,8")
    nodes = {node["operation"]: node for node in report["nodes"]}
    groups = {group["label"]: group for group in report["groups"]}
    assert report["parameters"] == sum(node["parameters"] for node in report["nodes"])
    assert nodes["max_pool2d"]["shape"] == [6, 4, 4]
    assert nodes["batch_norm"]["parameters"] == 12
    order, scale = (groups[label] for label in nodes["relu"]["groups"])
    assert (order["channels"], order["hidden"], order["why"]) == (6, "any order", None)
    assert scale["hidden"] is None
    assert scale["why"].startswith("relu")
    assert groups[nodes["linear"]["groups"][0]]["why"] == "the network's output"
    # 6 channels before the normalisation have orders and signs, 4 after it too.
    assert report["secret_bits"] == pytest.approx(log2(factorial(6) * factorial(4)) + 6 + 4)
    assert report["secret_angles"] == 0
    assert "no security level" in report["remark"]
    errors = (report[f"{name}_error"] for name in ("output", "gradient", "statistics"))
    assert all(error < 1e-12 for error in errors)


def test_a_sequence_is_mixed_by_a_rotation() -> None:
    report = found("Block", "--input", "6", "--tokens")
    assert report["input"] == {"kind": "tokens", "shape": [6]}
    groups = {group["label"]: group for group in report["groups"]}
    assert groups["R1"]["channels"] == 16
    assert groups["R1"]["angles"] == report["secret_angles"] == 15 * 14 // 2
    assert report["nodes"][0]["groups"] == ["R1"]
    assert report["gradient_error"] < 1e-12
    text = check("Block", "--input", "6", "--tokens").stdout
    assert "keeps the mean" in text
    assert "and 105 angles" in text


def test_what_is_pinned_says_why() -> None:
    report = found("frozen", "--input", "4")
    whys = [group["why"] for group in report["groups"]]
    assert any(why and why.startswith("frozen ") for why in whys)
    assert report["nodes"][0]["frozen"] == 40
    assert report["nodes"][0]["parameters"] == 0
    text = check("frozen", "--input", "4").stdout
    assert "frozen 0.weight" in text
    assert "secret: 15 bits" in text
    bare = check("line", "--input", "3")
    assert bare.exit_code == 0
    assert "nothing is hidden" in bare.stderr


def test_a_refusal_names_the_node_and_a_way_out() -> None:
    done = check("sorted_layer", "--input", "4", "--json")
    assert done.exit_code == 3
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "model"
    assert error["node"] == "sort"
    assert error["operation"].startswith("aten.sort")
    assert "not on the list" in error["message"]
    assert "linear" in error["hint"]


@pytest.mark.parametrize("shape", ["", "a", "0", "3,-1", "1,,2", "1.5"])
def test_shapes_are_read_strictly(shape: str) -> None:
    done = check("line", "--input", shape)
    assert done.exit_code == 2
    assert "not a shape" in done.stderr


def test_shapes_may_be_written_with_an_x() -> None:
    assert found("images", "--input", "1x8x8")["input"]["shape"] == [1, 8, 8]
