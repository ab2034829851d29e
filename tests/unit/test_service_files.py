"""Keys in files, the lock of the data folder, and bound ports."""

from __future__ import annotations

import multiprocessing
import socket
import stat
from pathlib import Path

import pytest

from omnilytics.chain.account_files import open_signing_key
from omnilytics.chain.keystore import save_account
from omnilytics.foundation import logging as logs
from omnilytics.foundation.errors import ConfigError, KeyMaterialError
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.service.folder import bind, locked_folder
from omnilytics.service.keys import open_hpke_key, write_hpke_key
from omnilytics.service.settings import KeysSection
from omnilytics.wire.signatures import SigningKey

PASSWORD = "battery staple"  # noqa: S105 - of a key made for one test


@pytest.fixture(autouse=True)
def _no_registered_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_registered", set())


def test_the_account_opens_and_its_secrets_are_kept_out_of_logs(tmp_path: Path) -> None:
    key = SigningKey.generate(SystemRandomness())
    save_account(key, "server", PASSWORD, tmp_path)
    (tmp_path / "password").write_text(PASSWORD + "\nignored\n")
    keys = KeysSection(keystore=tmp_path / "server", password_file=tmp_path / "password")
    assert open_signing_key(keys).address == key.address
    assert {PASSWORD, key.secret.hex()} <= logs._registered
    asked = KeysSection(keystore=tmp_path / "server")
    assert open_signing_key(asked, ask=lambda: PASSWORD).address == key.address
    with pytest.raises(KeyMaterialError, match="wrong password"):
        open_signing_key(asked, ask=lambda: "another one")


def test_missing_key_settings_and_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing") as caught:
        open_signing_key(KeysSection())
    assert caught.value.want == "keys.keystore"
    keystore = tmp_path / "server"
    with pytest.raises(ConfigError) as caught:
        open_signing_key(KeysSection(keystore=keystore))
    assert caught.value.want == "keys.password_file"
    with pytest.raises(KeyMaterialError, match="password file"):
        open_signing_key(KeysSection(keystore=keystore, password_file=tmp_path / "none"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(KeyMaterialError, match="UTF-8"):
        open_signing_key(KeysSection(keystore=keystore, password_file=tmp_path / "bytes"))


def test_a_new_hpke_key_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "hpke"
    key = write_hpke_key(path, SystemRandomness())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_hpke_key(KeysSection(hpke_key=path)).public == key.public
    assert key.secret.hex() in logs._registered
    with pytest.raises(KeyMaterialError, match="of that name"):
        write_hpke_key(path, SystemRandomness())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_an_hpke_key_that_others_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "hpke"
    write_hpke_key(path, SystemRandomness())
    path.chmod(mode)
    with pytest.raises(KeyMaterialError, match="others may read") as caught:
        open_hpke_key(KeysSection(hpke_key=path))
    assert str(path) in str(caught.value.hint)


@pytest.mark.parametrize("content", ["", "zz" * 32, "11" * 31, "11" * 33, "\u00e4" * 64])
def test_what_is_no_hpke_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "hpke"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyMaterialError, match="no HPKE key") as caught:
        open_hpke_key(KeysSection(hpke_key=path))
    assert not content or content not in str(caught.value.as_dict())


def _try_lock(folder: Path, outcome: multiprocessing.Queue[str]) -> None:
    try:
        with locked_folder(folder):
            outcome.put("held")
    except ConfigError as error:
        outcome.put(str(error))


def test_a_folder_is_locked_by_one_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    outcome: multiprocessing.Queue[str] = context.Queue()

    def other() -> str:
        process = context.Process(target=_try_lock, args=(tmp_path / "data", outcome))
        process.start()
        found = outcome.get(timeout=60)
        process.join(60)
        return found

    with locked_folder(tmp_path / "data"):
        assert "another process runs on this data folder" in other()
    assert other() == "held"
    outcome.close()
    outcome.join_thread()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"), locked_folder(tmp_path / "file" / "x"):
        pass


def test_a_port_in_use() -> None:
    with bind("127.0.0.1:0", "server.listen") as bound:
        port = bound.getsockname()[1]
        with pytest.raises(ConfigError, match="in use") as caught:
            bind(f"127.0.0.1:{port}", "server.listen")
        assert "server.listen" in str(caught.value.hint)


def test_addresses_that_are_not_here() -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        bind("203.0.113.7:1", "server.listen")
    with pytest.raises(ConfigError, match="cannot listen"):
        bind("name.invalid:1", "server.listen")


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_brackets_of_ipv6() -> None:
    try:
        bound = bind("[::1]:0", "server.listen")
    except ConfigError as error:
        pytest.skip(str(error))
    with bound:
        assert bound.family == socket.AF_INET6
