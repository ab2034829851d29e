"""The same command on a chain of its own process: the same outcome, the same gas."""

from __future__ import annotations

from pathlib import Path

import pytest
from devnet import anvil_binary, running_anvil
from test_demo_command import _check_outcome, _demo

TOLERANCE = 0.005
OPTIONS = ("--dataset", "breast-cancer", "--owners", "5", "--rounds", "3")


@pytest.mark.slow
@pytest.mark.skipif(anvil_binary() is None, reason="no anvil: make devnet-tools")
def test_the_demo_costs_the_same_on_anvil(tmp_path: Path) -> None:
    embedded = _demo(tmp_path, *OPTIONS)
    with running_anvil() as url:
        anvil = _demo(tmp_path, *OPTIONS, "--chain", url)
    for result in (embedded, anvil):
        _check_outcome(result, rounds=3, honest=2, servers=5)
    assert anvil["gas"].keys() == embedded["gas"].keys()
    off = {
        call: (gas, embedded["gas"][call])
        for call, gas in anvil["gas"].items()
        if abs(gas - embedded["gas"][call]) > TOLERANCE * embedded["gas"][call]
    }
    assert not off
