"""`omnilytics config` and the light commands of `omnilytics server`."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from omnilytics.cli import config, server

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OMNILYTICS_"):
            monkeypatch.delenv(name)


def test_show_tells_values_and_origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "server.toml"
    file.write_text('[chain]\nurl = "https://u:hunter2@node.example/KEY"\n')
    monkeypatch.setenv("OMNILYTICS_HTTP__WORKERS", "3")
    arguments = ["show", "--config", str(file), "--set", "log.level=debug", "--origin"]
    found = json.loads(RUNNER.invoke(config.application, [*arguments, "--json"]).stdout)
    assert found["chain.url"] == {"value": "https://node.example", "origin": str(file)}
    assert found["http.workers"] == {"value": 3, "origin": "OMNILYTICS_HTTP__WORKERS"}
    assert found["log.level"] == {"value": "debug", "origin": "flag"}
    assert found["log.format"] == {"value": "json", "origin": "default"}
    text = RUNNER.invoke(config.application, arguments).stdout
    assert "hunter2" not in text
    assert "KEY" not in text
    assert "# default" in text
    plain = json.loads(RUNNER.invoke(config.application, ["show", "--json"]).stdout)
    assert plain["chain.url"] == "http://127.0.0.1:8545"


@pytest.mark.parametrize(
    ("assignment", "code"), [("log.level", 2), ("log.levle=info", 3), ("http.workers=0", 3)]
)
def test_what_is_wrong_ends_with_its_exit_code(assignment: str, code: int) -> None:
    done = RUNNER.invoke(config.application, ["show", "--set", assignment, "--json"])
    assert done.exit_code == code
    assert json.loads(done.stdout)["error"]["code"] in ("usage", "config")


def test_init_writes_a_file_that_loads_and_replaces_none(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    assert RUNNER.invoke(config.application, ["init", str(file)]).exit_code == 0
    before = file.read_text()
    done = RUNNER.invoke(config.application, ["show", "--config", str(file), "--origin"])
    assert done.exit_code == 0
    assert str(file) not in done.stdout
    assert RUNNER.invoke(config.application, ["init", str(file)]).exit_code == 3
    assert file.read_text() == before
    assert RUNNER.invoke(config.application, ["init", str(tmp_path / "a/b")]).exit_code == 3


def test_keygen_shows_the_public_key_alone(tmp_path: Path) -> None:
    path = tmp_path / "hpke"
    done = RUNNER.invoke(server.application, ["keygen", str(path), "--json"])
    assert done.exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(json.loads(done.stdout)["public_key"]) == 66
    assert path.read_text().strip() not in done.output
    again = RUNNER.invoke(server.application, ["keygen", str(path)])
    assert again.exit_code == 4


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--withdraw", "--min-fee", "1"],
        ["--min-fee", "1"],
        ["--min-fee", "1", "--max-stake", "2", "--withdraw"],
    ],
)
def test_an_offer_is_given_or_withdrawn(arguments: list[str]) -> None:
    assert RUNNER.invoke(server.application, ["offer", *arguments]).exit_code == 2


def test_a_missing_market_is_named() -> None:
    done = RUNNER.invoke(server.application, ["status", "--set", "keys.keystore=/none", "--json"])
    assert done.exit_code in (3, 4)
    done = RUNNER.invoke(server.application, ["leave", "--yes", "--json"])
    assert done.exit_code == 3
    assert json.loads(done.stdout)["error"]["want"] == "chain.market"


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; import omnilytics.cli.server, omnilytics.cli.config; "
        "heavy = {'torch', 'numba', 'web3', 'sqlalchemy', 'fastapi', 'structlog', 'pydantic'}; "
        "sys.exit(', '.join(heavy & sys.modules.keys()) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
