"""A server's two keys in files: the account's keystore, and the HPKE key packages are sealed to.

Not guaranteed: protection from whoever can read the files and the password file; the HPKE key lies
in clear, under mode 0600, because the server must open packages unattended.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from omnilytics.chain.keystore import open_account
from omnilytics.foundation.errors import ConfigError, KeyMaterialError
from omnilytics.foundation.logging import register_secrets
from omnilytics.foundation.randomness import Randomness
from omnilytics.service.settings import KeysSection
from omnilytics.transport.hpke import HpkeKey
from omnilytics.wire.signatures import SigningKey

_MAX_PASSWORD_BYTES = 4_096


def open_signing_key(keys: KeysSection, *, ask: Callable[[], str] | None = None) -> SigningKey:
    """Return the server's account key.

    Args:
        keys: The settings of keys.
        ask: Asks for the password where the settings name no file of it.

    Raises:
        ConfigError: The settings name no keystore or no password file.
        KeyMaterialError: A file cannot be read, or the password does not open the keystore.
    """
    keystore = _named(keys.keystore, "keys.keystore", "omnilytics account new NAME")
    if keys.password_file is None and ask is not None:
        password = ask()
    else:
        place = _named(keys.password_file, "keys.password_file", "name a file of mode 0600")
        password = read_password_file(place)
    register_secrets(password)
    key = open_account(keystore, password)
    register_secrets(key.secret)
    return key


def read_password_file(path: Path) -> str:
    """Return the first line of a password file."""
    try:
        with path.open("rb") as file:
            line = file.readline(_MAX_PASSWORD_BYTES)
        return line.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise KeyMaterialError(
            "the password file cannot be read", got=f"{path}: {reason}"
        ) from None


def open_hpke_key(keys: KeysSection) -> HpkeKey:
    """Return the server's HPKE key; raises KeyMaterialError, also where others could read it."""
    path = _named(keys.hpke_key, "keys.hpke_key", "omnilytics server keygen FILE")
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(128)
    except OSError as error:
        raise KeyMaterialError(
            "the HPKE key cannot be read",
            got=f"{path}: {error.strerror}",
            hint=f"omnilytics server keygen {path}",
        ) from None
    if stat.S_IMODE(mode) & 0o077:
        raise KeyMaterialError(
            "others may read the HPKE key",
            got=f"{path}: mode {stat.S_IMODE(mode):04o}",
            want="0600",
            hint=f"chmod 600 {path}",
        )
    try:
        secret = bytes.fromhex(content.decode().strip())
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise KeyMaterialError("no HPKE key", got=path, want="64 hexadecimal digits")
    register_secrets(secret)
    return HpkeKey(secret)


def write_hpke_key(path: Path, randomness: Randomness) -> HpkeKey:
    """Make a key in a new file that only its user can read; an existing file is never replaced."""
    key = HpkeKey.generate(randomness)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyMaterialError(
            "there is a file of that name",
            got=path,
            hint="packages of tasks under way are sealed to the old key: keep it, name another",
        ) from None
    except OSError as error:
        raise KeyMaterialError("cannot write the key", got=f"{path}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.secret.hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def _named(path: Path | None, setting: str, hint: str) -> Path:
    if path is None:
        raise ConfigError("a setting is missing", want=setting, hint=hint)
    return path
