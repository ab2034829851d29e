"""A server's HPKE key, which packages are sealed to, in a file.

Not guaranteed: protection from whoever can read the file; the key lies in clear, under mode 0600,
because the server must open packages unattended.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from omnilytics.chain.account_files import named_file
from omnilytics.foundation.errors import KeyMaterialError
from omnilytics.foundation.logging import register_secrets
from omnilytics.foundation.randomness import Randomness
from omnilytics.service.settings import KeysSection
from omnilytics.transport.hpke import HpkeKey


def open_hpke_key(keys: KeysSection) -> HpkeKey:
    """Return the server's HPKE key; raises KeyMaterialError, also where others could read it."""
    path = named_file(keys.hpke_key, "keys.hpke_key", "omnilytics server keygen FILE")
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
