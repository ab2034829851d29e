"""What must outlive a run, in files that only their user can read.

A file is written under another name, flushed and then renamed: a crash leaves the old content or
the new one. Nothing is encrypted: whoever can read the folder can read a round's secrets.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from omnilytics.foundation.errors import ConfigError
from omnilytics.storage.files import sync


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file durably, mode 0600; raises ConfigError where the disk does not take it."""
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        private_folder(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(
            "the task's state cannot be written",
            got=f"{path}: {error.strerror}",
            hint="make room or name another folder (client.data), then run it again",
        ) from None


def read_file(path: Path) -> bytes | None:
    """Return a file's content, or None where there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            "the task's state cannot be read", got=f"{path}: {error.strerror}"
        ) from None


def private_folder(path: Path) -> Path:
    """Make a folder and its parents where they are missing, mode 0700, durably."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        sync(folder.parent)
    return path


def delete_folder(path: Path) -> None:
    """Delete a folder with all it holds, if it is there."""
    shutil.rmtree(path, ignore_errors=True)


class FolderLock:
    """Holds a task's folder: two processes that train one task would spoil each other's rounds.

    Raises:
        ConfigError: Another process or another object of this one holds it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            place = private_folder(folder) / "lock"
            self._descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                "the task's folder cannot be used", got=f"{folder}: {error.strerror}"
            ) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise ConfigError(
                "the task is in use already", got=folder, hint="stop the other run first"
            ) from None

    def release(self) -> None:
        """Let others hold the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
