"""`omnilytics account`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from omnilytics.chain.keystore import open_account
from omnilytics.cli.main import application

SECRET = "11" * 32
ADDRESS = "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    return path


def run(folder: Path, *arguments: str, text: str | None = None) -> Result:
    command = ["account", *arguments, "--keystore-dir", str(folder / "keys")]
    return CliRunner().invoke(application, command, input=text)


def test_a_new_account_is_listed_and_opens(tmp_path: Path, password_file: Path) -> None:
    made = run(tmp_path, "new", "alice", "--password-file", str(password_file), "--json")
    assert made.exit_code == 0
    fields = json.loads(made.stdout)
    assert open_account(Path(fields["path"]), "correct horse").address.hex() in fields["address"]
    listed = json.loads(run(tmp_path, "list", "--json").stdout)
    assert listed["accounts"] == [fields]


def test_importing_a_key(tmp_path: Path, password_file: Path) -> None:
    arguments = ("import", "bob", "--password-file", str(password_file))
    done = run(tmp_path, *arguments, text=f"0x{SECRET}\n")
    assert (done.exit_code, done.stdout.split()) == (0, ["bob", ADDRESS])
    assert SECRET not in done.output


@pytest.mark.parametrize("text", ["", "no hex\n", "11\n", "00" * 32 + "\n"])
def test_importing_what_is_no_key(tmp_path: Path, password_file: Path, text: str) -> None:
    done = run(tmp_path, "import", "bob", "--password-file", str(password_file), text=text)
    assert done.exit_code == 4
    assert "error [key]" in done.stderr
    assert not (tmp_path / "keys" / "bob").exists()


def test_nobody_to_ask_for_the_password(tmp_path: Path) -> None:
    done = run(tmp_path, "new", "alice", "--json")
    assert done.exit_code == 4
    assert json.loads(done.stdout)["error"]["code"] == "key"
    assert "--password-file" in done.stderr


def test_a_password_file_that_is_not_there(tmp_path: Path) -> None:
    done = run(tmp_path, "new", "alice", "--password-file", str(tmp_path / "missing"))
    assert done.exit_code == 4
    assert "cannot be read" in done.stderr


def test_an_empty_folder_says_how_to_make_an_account(tmp_path: Path) -> None:
    done = run(tmp_path, "list")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "omnilytics account new" in done.stderr
