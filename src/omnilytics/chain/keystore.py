"""Accounts in encrypted files: keystore V3 (scrypt, AES-128-CTR) in Foundry's folder.

The files are those that `cast wallet` writes and reads, one per account, named as the account.
What protects a key is the password: the file can be tried off line.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnilytics.foundation.errors import KeyMaterialError
from omnilytics.foundation.units import Address, show_address
from omnilytics.wire.signatures import SigningKey

MAX_FILE_BYTES = 64 << 10
MIN_PASSWORD_CHARACTERS = 8
LIGHT_SCRYPT_N = 1 << 12
"""Milliseconds and 4 MiB a guess, instead of half a second and 256 MiB."""
_MAX_SCRYPT_MEMORY_BYTES = 1 << 30
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class StoredAccount:
    """An account in a keystore folder; None where the file does not say its address."""

    name: str
    path: Path
    address: Address | None


def default_folder() -> Path:
    """Return the folder that Foundry uses."""
    return Path.home() / ".foundry" / "keystores"


def list_accounts(folder: Path) -> tuple[StoredAccount, ...]:
    """Return the accounts of a folder by name; files that are no keystores are left out."""
    if not folder.is_dir():
        return ()
    found = []
    for path in sorted(folder.iterdir()):
        try:
            fields = _read(path)
        except KeyMaterialError:
            continue
        found.append(StoredAccount(path.name, path, _stated_address(fields)))
    return tuple(found)


def find_account(name: str, folder: Path) -> Path:
    """Return the file of an account by its name; raises KeyMaterialError if there is none."""
    path = folder / _checked_name(name)
    if not path.is_file():
        names = ", ".join(account.name for account in list_accounts(folder)) or "none"
        raise KeyMaterialError(
            "no such account",
            got=name,
            want=f"one in {folder}: {names}",
            hint=f"omnilytics account new {name}",
        )
    return path


def save_account(
    key: SigningKey, name: str, password: str, folder: Path, *, scrypt_n: int | None = None
) -> StoredAccount:
    """Encrypt a key into a new file that only its user can read.

    Args:
        key: What to encrypt.
        name: Name of the file.
        password: What the file opens with.
        folder: Where to.
        scrypt_n: Cost of one guess at the password; by default what suits passwords that people
            choose. `LIGHT_SCRYPT_N` is for random ones of 128 bits or more alone.

    Raises:
        KeyMaterialError: The name is taken or is no file name, or the password is too short.
    """
    path = folder / _checked_name(name)
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise KeyMaterialError(
            "the password is too short", want=f"{MIN_PASSWORD_CHARACTERS} characters"
        )
    from eth_account import Account  # takes longer than all the rest of a command's start

    content = json.dumps(Account.encrypt(key.secret, password, "scrypt", scrypt_n)).encode()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyMaterialError(
            "there is an account of that name", got=path, hint="choose another name"
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return StoredAccount(name, path, key.address)


def open_account(path: Path, password: str) -> SigningKey:
    """Return the key in a keystore file.

    Raises:
        KeyMaterialError: The file is missing or no keystore V3, or the password is wrong.
    """
    from eth_account import Account

    fields = _read(path)
    try:
        secret = bytes(Account.decrypt(fields, password))
    except (ValueError, KeyError, TypeError) as error:
        raise KeyMaterialError(
            "the key does not open: wrong password, or a damaged file",
            got=f"{path} ({type(error).__name__})",
            hint="check the password (--password-file)",
        ) from None
    key = SigningKey(secret)
    stated = _stated_address(fields)
    if stated is not None and stated != key.address:
        raise KeyMaterialError(
            "the file states another account than its key's",
            got=show_address(stated),
            want=show_address(key.address),
        )
    return key


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise KeyMaterialError(
            "no name for an account", got=name[:80], want="letters, digits, '_', '-', '.'; up to 64"
        )
    return name


def _read(path: Path) -> dict[str, Any]:
    """Return a keystore's fields, with bounded work for whoever opens it."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyMaterialError(
            "the keystore cannot be read", got=f"{path}: {error.strerror}"
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise KeyMaterialError("no keystore: the file is too large", got=path)
    try:
        fields = json.loads(content)
        crypto = {key.lower(): value for key, value in fields.items()}["crypto"]
        usable = fields["version"] == 3 and _is_bounded(crypto["kdf"], crypto["kdfparams"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        usable = False
    if not usable:
        raise KeyMaterialError("no keystore V3", got=path, hint="omnilytics account list")
    return dict(fields)


def _is_bounded(function: object, parameters: dict[str, Any]) -> bool:
    """Tell whether deriving the key takes memory and time that a file may ask for."""
    if function == "scrypt":
        memory_bytes = 128 * int(parameters["n"]) * int(parameters["r"])
        return 0 < memory_bytes <= _MAX_SCRYPT_MEMORY_BYTES and int(parameters["p"]) <= 16
    return function == "pbkdf2" and int(parameters["c"]) <= 10_000_000


def _stated_address(fields: dict[str, Any]) -> Address | None:
    text = fields.get("address")
    if not isinstance(text, str):
        return None
    try:
        address = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return None
    return Address(address) if len(address) == 20 else None
