"""Content-addressed files, on disk before they are acknowledged.

A file is written under a temporary name, flushed to the device, and then renamed to its hash, so a
crash leaves either the whole content or nothing. Contents are shares and artefacts: the folder is
readable by its owner only.
"""

from __future__ import annotations

import os
from pathlib import Path

from omnilytics.foundation.errors import ConfigError
from omnilytics.foundation.units import Hash32
from omnilytics.wire.hashing import content_hash


class ContentFiles:
    """A folder of files named by the BLAKE3 hash of their content."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        for leftover in folder.glob("*/*.*"):  # of a crash before the rename
            leftover.unlink()

    def put(self, content: bytes) -> Hash32:
        """Store `content` durably and return its hash."""
        name = content_hash(content)
        path = self._path(name)
        if path.exists() and content_hash(path.read_bytes()) == name:
            return name  # a damaged file is written again
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(self._folder)
        temporary = path.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}")
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
        return name

    def get(self, name: Hash32) -> bytes | None:
        """Return the content, or None; raises ConfigError where the file no longer matches."""
        try:
            content = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        if content_hash(content) != name:
            raise ConfigError("a stored file is damaged", file=self._path(name))
        return content

    def has(self, name: Hash32) -> bool:
        """Tell whether there is a file of this name; `get` checks its content."""
        return self._path(name).exists()

    def delete(self, name: Hash32) -> None:
        """Delete the content if it is there."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: Hash32) -> Path:
        return self._folder / name.hex()[:2] / name.hex()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
