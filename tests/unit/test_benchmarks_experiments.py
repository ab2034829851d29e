"""The papers' experiments: what is rejected is rejected by the proof, and a stopped run goes on."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.learning.threads import pin_threads
from omnilytics.wire.signatures import SigningKey

EXPERIMENTS = Path(__file__).parents[2] / "benchmarks" / "experiments"
BOUND = 1 << 16


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    pin_threads()
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module


def vector(norm: float, dimension: int = 200) -> np.ndarray:
    drawn = np.random.default_rng(1).normal(size=dimension)
    return norm * drawn / np.linalg.norm(drawn)


def test_only_vectors_within_the_bound_are_summed(load: Any) -> None:
    rounds, attacks = load("experiment_round"), load("experiment_attacks")
    parameters = rounds.task_parameters([200], owners=5)
    protected = rounds.ProtectedRound.open(parameters, 1)
    sent = {}
    for norm, mode in (
        (0.9, attacks.Mode.WITHIN),
        (30.0, attacks.Mode.WITHIN),  # clipped
        (0.9, attacks.Mode.FORGED),  # nothing to forge: it is within
        (1.01, attacks.Mode.FORGED),
        (30.0, attacks.Mode.FORGED),
    ):
        key = SigningKey.generate(SystemRandomness())
        values = attacks.encode(vector(norm), parameters.statement, mode, SystemRandomness())
        assert (np.linalg.norm(values) > BOUND) == (norm > 1 and mode is attacks.Mode.FORGED)
        protected.submit(key, values, attacks.ForgingBuilder)
        sent[key.address] = values
    resolution = protected.judge()
    owners = list(sent)
    assert set(resolution.accepted) == set(owners[:3])
    assert set(resolution.rejected) == set(owners[3:])
    assert all("constraint of the norm" in why for why in resolution.rejected.values())
    assert (resolution.standing, resolution.faults) == ((1, 2, 3, 4, 5), {})
    for summed in (resolution.accepted, tuple(owners)):  # without validation, everyone's
        total = np.sum([sent[owner] for owner in summed], axis=0)
        np.testing.assert_array_equal(protected.recover(summed), total)


def test_what_malicious_owners_send(load: Any) -> None:
    attacks = load("experiment_attacks")
    honest, generator = vector(0.5), np.random.default_rng(2)
    poisoned = {
        attack: attacks.poisoned_vector(attack, honest, generator) for attack in attacks.Attack
    }
    norms = {attack: float(np.linalg.norm(each)) for attack, each in poisoned.items()}
    assert norms[attacks.Attack.SCALING] == pytest.approx(0.5 * attacks.BOOST)
    assert norms[attacks.Attack.NOISE] == pytest.approx(attacks.NOISE_NORM, rel=0.2)
    np.testing.assert_array_equal(poisoned[attacks.Attack.SIGN_FLIP], -honest)
    np.testing.assert_array_equal(poisoned[attacks.Attack.LABEL_FLIP], honest)
    for attack in (attacks.Attack.SIGN_FLIP, attacks.Attack.LABEL_FLIP):
        assert attacks.Mode.FORGED not in attacks.modes_of(attack)


def test_boosted_gradients_ruin_only_what_is_not_validated(load: Any) -> None:
    settings, training = load("experiment_settings"), load("experiment_training")
    attacks = load("experiment_attacks")
    rows = {
        mode: training.train(
            settings.Run("digits", "mlp", attacks.Attack.SCALING, 30, mode, seed=1, rounds=6)
        )
        for mode in (attacks.Mode.UNVALIDATED, attacks.Mode.FORGED)
    }
    unvalidated, forged = rows.values()
    assert unvalidated["verdicts"] == {}
    assert forged["verdicts"] == {"honest accepted": 42, "malicious rejected": 18}
    assert len(forged["accuracies"]) == 6
    assert unvalidated["accuracies"][-1] < 0.3
    assert forged["accuracies"][-1] > 0.5
    assert json.loads(json.dumps(forged)) == forged


def test_a_stopped_run_goes_on(load: Any, tmp_path: Path) -> None:
    store, path = load("experiment_store"), tmp_path / "rows" / "rows.json"
    store.Store(path).add("a", {"accuracies": [0.5]})
    again = store.Store(path)
    assert "a" in again
    assert "b" not in again
    again.add("b", {"accuracies": [0.75]})
    assert store.Store(path).rows(["b", "c", "a"]) == [{"accuracies": [x]} for x in (0.75, 0.5)]


def test_every_run_is_made_once_and_shown(load: Any, tmp_path: Path) -> None:
    settings, report = load("experiment_settings"), load("experiment_report")
    runs = settings.all_runs("digits", ("mlp", "lenet"))
    assert len({run.key for run in runs}) == len(runs) == 4 * 32
    assert len(settings.all_runs("digits", quick=True)) < len(runs)
    rows = [
        {
            "model": run.model,
            "dimension": 1_000,
            "attack": run.attack.value,
            "percentage": run.percentage,
            "mode": run.mode.value,
            "accuracies": [0.25, 0.75] if run.percentage else [0.5],
            "verdicts": {"malicious rejected": 2} if "forged" in run.mode else {},
        }
        for run in runs
    ]
    lines = report.table(rows).splitlines()
    assert len(lines) == 2 + 2 * 13
    assert "| mlp | 1,000 | none | 0% | 0.500 |  | 0.500 |  |  |" in lines
    assert "| mlp | 1,000 | scaling | 20% | 0.500 | 0.500 | 0.500 | 6 of 6 |  |" in lines
    report.plot(rows, "mlp", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    document = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    written = report.with_section(document, "x", "new")
    assert written == "a\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nb\n"
    assert report.with_section(written, "x", "new") == written
