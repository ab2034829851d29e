"""`omnilytics data inspect-task`, and owners that refuse to compute on what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_world import AccountFiles, CommandWorld, settled_world
from market_world import MarketWorld

from omnilytics.foundation.errors import VerificationError
from omnilytics.perturbation.artefact import Artefact, encode_artefact
from omnilytics.roles.data_owner.inspecting import fetch_artefact, refuse_risky
from omnilytics.roles.task_view import round_context

Settled = tuple[CommandWorld, MarketWorld]


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settled]:
    with settled_world(tmp_path_factory.mktemp("inspected")) as found:
        yield found


@pytest.fixture(scope="module")
def anybody(settled: Settled) -> AccountFiles:
    return settled[0].account("anybody", ether=0)


def by_check(found: Any) -> dict[str, Any]:
    return {each["check"]: each for each in found["findings"]}


def test_an_honest_task_is_looked_at_without_a_key(
    settled: Settled, anybody: AccountFiles, tmp_path: Path
) -> None:
    commands, _ = settled
    inputs = np.random.default_rng(0).normal(size=(200, 30)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", inputs=inputs, labels=np.zeros(200, dtype=np.int64))
    asked = ("data", "inspect-task", "1", "--npz", str(tmp_path / "mine.npz"), "--batch-size", "32")
    found = commands.data(anybody, *asked)
    assert (found["task"], found["round"], found["level"]) == (1, 1, "warn")
    checks = by_check(found)
    warned = {name for name, each in checks.items() if each["level"] != "ok"}
    assert warned == {"owners"}  # a market of a test has few
    assert "parameters" in checks["artefact"]["said"]
    assert "of 200 samples" in checks["lonely-samples"]["said"]
    text = commands.run(anybody, "data", "inspect-task", "1").stdout
    assert text.startswith("warn    owners ")
    assert "[min_owners]" in text
    assert "lonely" not in text


def test_what_is_refused_ends_with_code_8(settled: Settled, anybody: AccountFiles) -> None:
    commands, _ = settled
    asked = ("data", "inspect-task", "1", "--batch-size", "1", "--json")
    done = commands.run(anybody, *asked)
    assert done.exit_code == 8
    assert '"level": "refuse"' in done.stdout
    assert commands.run(anybody, "data", "inspect-task", "1", "--fewest-owners", "9").exit_code == 8
    gone = commands.run(anybody, "data", "inspect-task", "99")
    assert gone.exit_code != 0


def hostile(artefact: Artefact) -> Artefact:
    """Return a model whose first layer sorts samples into bins."""
    first, bias = (artefact.graph.nodes[0].tensors[index] for index in range(2))
    weights = {name: tensor.copy() for name, tensor in artefact.weights.items()}
    weights[first][:] = 1.0
    weights[bias][:] = np.linspace(-20, 20, len(weights[bias]))
    return Artefact(artefact.graph, weights)


def test_an_owner_computes_on_no_model_that_sorts_samples(
    settled: Settled, anybody: AccountFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands, world = settled
    owner, task = world.market.owners[0], world.view.task

    async def check() -> None:
        view = await owner.view(task)
        context = round_context(
            world.market.reader, task, world.market.reader.round_state(task).round
        )
        honest = await fetch_artefact(view, context, world.market.network.connect)
        refuse_risky(view, honest)
        content = encode_artefact(hostile(honest))

        async def fetch(*_: object) -> bytes:
            return content

        monkeypatch.setattr("omnilytics.roles.data_owner.inspecting.fetch_blob", fetch)
        with pytest.raises(VerificationError, match="different thresholds") as caught:
            await owner._artefact(view, context)
        assert caught.value.ids["task"] == task

    asyncio.run(check())
    done = commands.run(anybody, "data", "inspect-task", "1")
    assert done.exit_code == 8
    assert "refuse  graded-rows" in done.stdout

    async def cut_short(*_: object) -> bytes:
        return b"OMNIART2"

    monkeypatch.setattr("omnilytics.roles.data_owner.inspecting.fetch_blob", cut_short)
    done = commands.run(anybody, "data", "inspect-task", "1")
    assert done.exit_code == 8
    assert "refuse  artefact             the model is refused" in done.stdout
