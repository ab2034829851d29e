"""The account key of a role, from its keystore and password file.

Not guaranteed: protection from whoever can read both files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omnilytics.chain.keystore import open_account
from omnilytics.chain.settings import AccountSection
from omnilytics.foundation.errors import ConfigError, KeyMaterialError
from omnilytics.foundation.logging import register_secrets
from omnilytics.wire.signatures import SigningKey

_MAX_PASSWORD_BYTES = 4_096


def open_signing_key(keys: AccountSection, *, ask: Callable[[], str] | None = None) -> SigningKey:
    """Return the account's key.

    Args:
        keys: The settings of keys.
        ask: Asks for the password where the settings name no file of it.

    Raises:
        ConfigError: The settings name no keystore or no password file.
        KeyMaterialError: A file cannot be read, or the password does not open the keystore.
    """
    keystore = named_file(keys.keystore, "keys.keystore", "omnilytics account new NAME")
    if keys.password_file is None and ask is not None:
        password = ask()
    else:
        place = named_file(keys.password_file, "keys.password_file", "name a file of mode 0600")
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


def named_file(path: Path | None, setting: str, hint: str) -> Path:
    """Return the path that a setting names; raises ConfigError where it names none."""
    if path is None:
        raise ConfigError("a setting is missing", want=setting, hint=hint)
    return path
