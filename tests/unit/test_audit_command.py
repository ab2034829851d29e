"""The audit as a whole: a row for every attack, sentences that follow figures, the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from audit_subjects import images, linear_alone, of_module, subject
from torch import nn
from typer.testing import CliRunner

from omnilytics.algebra.fixed_point import to_field
from omnilytics.cli.main import application
from omnilytics.foundation.errors import ConfigError
from omnilytics.learning.audit.data_rows import invert_one_message
from omnilytics.learning.audit.findings import Audit
from omnilytics.learning.audit.plots import write_plots
from omnilytics.learning.audit.run import ATTACKS, run_audit
from omnilytics.learning.audit.shares import guess_entries, guess_from_shares
from omnilytics.learning.audit.subject import own_subject
from omnilytics.learning.audit.task import Task
from omnilytics.learning.datasets import Batch
from omnilytics.perturbation.losses import Loss

NETWORK = """
import numpy, torch
def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
def data():
    draw = numpy.random.default_rng(0)
    return draw.normal(size=(40, 5)).astype("float32"), draw.integers(0, 3, 40)
"""


class Tokens(nn.Module):
    """Reads tokens, predicts one for each."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.up = nn.Linear(6, 9)
        self.head = nn.Linear(9, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(torch.relu(self.up(self.embedding(x))))
        return outputs


def by_name(audit: Audit) -> dict[str, str]:
    return {finding.attack: finding.learns for finding in audit.findings}


def test_every_attack_has_a_row_and_an_audit_repeats(tmp_path: Path) -> None:
    one = subject()
    first, second = (run_audit(one, rounds=3, steps=2) for _ in range(2))
    assert json.dumps(first.as_dict(), allow_nan=False) == json.dumps(second.as_dict())
    assert [finding.attack for finding in first.findings] == [attack.name for attack in ATTACKS]
    assert all(finding.applies and finding.figures for finding in first.findings)
    names = {path.name for path in write_plots(first, tmp_path)}
    assert names == {"sums.svg", "reconstructions.svg", "imprint.svg", "scales.svg"}
    assert all((tmp_path / name).read_text().startswith("<?xml") for name in names)


def test_another_seed_is_another_audit() -> None:
    one = subject()
    texts = [
        json.dumps(run_audit(replace(one, seed=seed), rounds=0, steps=1).as_dict())
        for seed in (1, 2)
    ]
    assert texts[0] != texts[1]


@pytest.mark.parametrize(
    ("steps", "learns"), [(1, "less than one could guess"), (50, "its samples")]
)
def test_words_follow_figures(steps: int, learns: str) -> None:
    one = subject()
    assert invert_one_message(Task(one, one, 0, steps))[0] == learns


def test_what_does_not_apply_says_why() -> None:
    audit = run_audit(linear_alone(), rounds=1, steps=1)
    refused = {each.attack: each.measured for each in audit.findings if not each.applies}
    assert set(refused) == {
        "match rounds",
        "balance norms",
        "use a noisy model",
        "remove noise by labels",
        "remove noise by weights",
        "stretch messages",
    }
    assert all(refused.values())
    assert audit.scales is None


def test_networks_of_tokens_and_with_batch_norm_are_audited() -> None:
    draw = np.random.default_rng(0)
    tokens = Batch(draw.integers(0, 7, (20, 4)), draw.integers(0, 7, (20, 4)))
    audit = run_audit(
        own_subject(Tokens(), tokens, loss=Loss.CROSS_ENTROPY, seed=1), rounds=1, steps=1
    )
    refused = {each.attack for each in audit.findings if not each.applies}
    assert {"invert one message", "invert sums", "imprint layer"} <= refused
    assert by_name(audit)["match rounds"] == "which unit became which"
    normalised = run_audit(subject("normalised"), rounds=1, steps=1)
    assert all(finding.applies for finding in normalised.findings)
    assert min(each.samples for each in next(iter(normalised.inversions.values()))) == 2


def test_dropout_is_left_out_of_what_is_measured() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.ReLU(), nn.Dropout(0.5))
    one = own_subject(nn.Sequential(module, nn.Linear(9, 3)), images(), loss=Loss.MSE, seed=1)
    seen = run_audit(one, rounds=0, steps=1).findings[0]
    assert seen.figures["agreement"] == 1


def test_few_servers_guess_nothing_and_one_more_reads_all() -> None:
    seen = guess_from_shares(subject())
    assert abs(seen.correlation) < 0.15
    assert seen.recovered == 1


def test_a_guess_finds_shares_that_follow_the_entries() -> None:
    entries = np.random.default_rng(0).integers(-1000, 1000, 400)
    honest, leaking = to_field(entries * 0), to_field(7 * entries)
    assert guess_entries([leaking], entries.astype(float)) == pytest.approx(1)
    assert guess_entries([honest], entries.astype(float)) == 0


def test_plots_need_a_folder_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="plots"):
        write_plots(Audit((), {}, (), None), tmp_path / "file")


def test_the_command_audits_ones_own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "audited_network.py").write_text(NETWORK)
    own = ["--model", "audited_network:make", "--dataset", "audited_network:data"]
    short = ["--rounds", "1", "--steps", "1", "-o", "plots"]
    told = CliRunner().invoke(application, ["audit", "model", *own, *short, "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)["findings"]
    assert len(found) == len(ATTACKS)
    shown = CliRunner().invoke(application, ["audit", "model", *own, *short])
    assert "a hostile model owner" in shown.stdout
    assert f"{len(ATTACKS)}. imprint layer: " in shown.stdout
    assert (tmp_path / "plots" / "imprint.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--dataset", "some:data"], 2),
        (["--model", "some:net"], 3),
        (["--model", "math:sqrt", "--loss", "hinge"], 2),
    ],
)
def test_the_command_says_what_is_missing(arguments: list[str], exit_code: int) -> None:
    told = CliRunner().invoke(application, ["audit", "model", *arguments])
    assert told.exit_code == exit_code
    assert "error [" in told.output


def test_a_module_and_data_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError):
        of_module(nn.Linear(4, 3), images(), loss=Loss.CROSS_ENTROPY)
