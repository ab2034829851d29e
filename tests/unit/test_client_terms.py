"""Terms of a task, the names that the package gives, and files of state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import omnilytics
from omnilytics.client import files
from omnilytics.client.drafting import COMMITTEES, DEFAULTS, WINDOWS, _windows, complete
from omnilytics.client.settings import ClientSettings
from omnilytics.foundation.errors import ConfigError, UsageError
from omnilytics.foundation.settings import load_settings
from omnilytics.sharing.committee import Committee


def test_defaults_can_be() -> None:
    for servers, (privacy, errors) in COMMITTEES.items():
        Committee(servers, privacy, errors)
        for name in WINDOWS:
            windows = _windows(complete({"windows": name}), errors)
            assert windows.submission_seconds == WINDOWS[name]["submission_seconds"]
    longer = _windows(complete({"window": {"submission_seconds": 900}}), 1)
    assert longer.submission_seconds == 900
    assert complete({"rounds": 3})["rounds"] == 3
    assert DEFAULTS["rounds"] == 40
    with pytest.raises(UsageError) as caught:
        complete({"reward_wei": 1})
    assert caught.value.hint == "did you mean reward?"


def test_the_package_is_light_and_names_its_roles() -> None:
    code = "import sys, omnilytics; sys.exit('torch' in sys.modules or 'web3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert omnilytics.ModelOwner.__name__ == "ModelOwner"
    assert omnilytics.DataOwner.__name__ == "DataOwner"
    with pytest.raises(AttributeError):
        omnilytics.Nobody  # noqa: B018


def test_settings(tmp_path: Path) -> None:
    place = tmp_path / "client.toml"
    place.write_text('[keys]\nkeystore = "account"\n[client]\ndata = "state"\n')
    settings = load_settings(ClientSettings, file=place).settings
    assert settings.client.data == tmp_path / "state"
    place.write_text('[client]\nfolder = "state"\n')
    with pytest.raises(ConfigError, match="unknown setting"):
        load_settings(ClientSettings, file=place)


def test_files_are_private_whole_and_held_once(tmp_path: Path) -> None:
    place = tmp_path / "state" / "task" / "model"
    assert files.read_file(place) is None
    files.write_file(place, b"one")
    files.write_file(place, b"two")
    assert files.read_file(place) == b"two"
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in place.parent.iterdir()] == ["model"]
    (place.parent / "folder").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        files.write_file(place.parent / "folder", b"three")
    assert sorted(path.name for path in place.parent.iterdir()) == ["folder", "model"]
    lock = files.FolderLock(place.parent)
    with pytest.raises(ConfigError, match="in use"):
        files.FolderLock(place.parent)
    lock.release()
    files.FolderLock(place.parent).release()
