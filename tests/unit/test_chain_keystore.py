"""Keystore files: written once, opened with the password alone, bounded work."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from omnilytics.chain.keystore import (
    LIGHT_SCRYPT_N,
    MAX_FILE_BYTES,
    find_account,
    list_accounts,
    open_account,
    save_account,
)
from omnilytics.foundation.errors import KeyMaterialError
from omnilytics.wire.signatures import SigningKey

KEY = SigningKey(b"\x11" * 32)
PASSWORD = "correct horse"  # noqa: S105

# The test vectors of the Web3 Secret Storage definition: one key, both derivation functions.
VECTOR_SECRET = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"  # noqa: S105
VECTOR: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("keys") / "new" / "folder"
    save_account(KEY, "alice", PASSWORD, place)
    return place


def test_a_saved_key_opens_with_its_password(folder: Path) -> None:
    assert open_account(find_account("alice", folder), PASSWORD).secret == KEY.secret


def test_a_file_of_another_program_opens(tmp_path: Path) -> None:
    path = tmp_path / "vector"
    path.write_text(json.dumps(VECTOR))
    assert open_account(path, "testpassword").secret.hex() == VECTOR_SECRET


def test_another_password_opens_nothing(folder: Path) -> None:
    with pytest.raises(KeyMaterialError, match="wrong password") as caught:
        open_account(find_account("alice", folder), PASSWORD + "!")
    assert PASSWORD not in str(caught.value)


def test_nobody_else_can_read_the_file(folder: Path) -> None:
    assert stat.S_IMODE(find_account("alice", folder).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_name_is_taken_once(folder: Path) -> None:
    before = find_account("alice", folder).read_bytes()
    with pytest.raises(KeyMaterialError, match="of that name"):
        save_account(SigningKey(b"\x12" * 32), "alice", PASSWORD, folder)
    assert find_account("alice", folder).read_bytes() == before


@pytest.mark.parametrize("name", ["", "../alice", "a/b", ".hidden", "a" * 65, "a b", "ä"])
def test_what_is_no_name(folder: Path, name: str) -> None:
    with pytest.raises(KeyMaterialError, match="no name"):
        save_account(KEY, name, PASSWORD, folder)


def test_a_short_password_is_refused(folder: Path) -> None:
    with pytest.raises(KeyMaterialError, match="too short"):
        save_account(KEY, "short", "1234567", folder)
    assert not (folder / "short").exists()


def test_listing_leaves_out_what_is_no_keystore(tmp_path: Path) -> None:
    assert list_accounts(tmp_path / "missing") == ()
    (tmp_path / "notes.txt").write_text("no key")
    (tmp_path / "folder").mkdir()
    (tmp_path / "vector").write_text(json.dumps(VECTOR))
    save_account(KEY, "alice", PASSWORD, tmp_path)
    listed = {account.name: account.address for account in list_accounts(tmp_path)}
    assert listed == {"alice": KEY.address, "vector": None}


def test_a_missing_account_says_which_there_are(folder: Path) -> None:
    with pytest.raises(KeyMaterialError, match="alice"):
        find_account("bob", folder)


def changed(**crypto: object) -> bytes:
    return json.dumps({**VECTOR, "crypto": {**VECTOR["crypto"], **crypto}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b"[" * 50_000,
        json.dumps({**VECTOR, "version": 1}).encode(),
        changed(kdf="argon2"),
        changed(kdf="scrypt", kdfparams={"n": 1 << 24, "r": 8, "p": 1, "dklen": 32, "salt": "00"}),
        changed(kdf="scrypt", kdfparams={"n": 1 << 13, "r": 8, "p": 99, "dklen": 32, "salt": "00"}),
        changed(kdfparams={**VECTOR["crypto"]["kdfparams"], "c": 1 << 40}),
        b" " * (MAX_FILE_BYTES + 1),
    ],
)
def test_what_is_no_keystore_is_refused_before_any_work(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(KeyMaterialError, match="no keystore"):
        open_account(path, PASSWORD)


def test_a_damaged_or_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(KeyMaterialError, match="cannot be read"):
        open_account(path, PASSWORD)
    path.write_bytes(changed(mac="00" * 32))
    with pytest.raises(KeyMaterialError, match="damaged"):
        open_account(path, "testpassword")


def test_a_file_that_states_another_account(folder: Path, tmp_path: Path) -> None:
    fields = json.loads(find_account("alice", folder).read_text())
    path = tmp_path / "file"
    path.write_text(json.dumps({**fields, "address": "00" * 20}))
    with pytest.raises(KeyMaterialError, match="another account"):
        open_account(path, PASSWORD)


def test_a_light_cost_is_quick_and_opens_like_any_other(tmp_path: Path) -> None:
    light = save_account(KEY, "light", PASSWORD, tmp_path, scrypt_n=LIGHT_SCRYPT_N)
    parameters = json.loads(light.path.read_text())["crypto"]["kdfparams"]
    assert parameters["n"] == LIGHT_SCRYPT_N
    assert open_account(light.path, PASSWORD).address == KEY.address
