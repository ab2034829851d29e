"""Content-addressed files, on disk before they are acknowledged.

A file is written under a temporary name, flushed to the device, and then renamed to its hash, so a
crash leaves either the whole content or nothing, and a full disk leaves nothing. `put` returns only
once the file and every folder on the way to it are flushed. Contents are shares and artefacts: the
folder is readable by its owner only.

What is not promised: deleting a file frees its blocks and does not overwrite them. Journals,
copy-on-write file systems, SSDs and snapshots keep what was written. Whoever needs shares to be
gone for good puts the folder on an encrypted volume and destroys its key (docs: retention).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from omnilytics.foundation.errors import ConfigError
from omnilytics.foundation.units import Hash32
from omnilytics.storage.errors import disk_errors
from omnilytics.wire.hashing import content_hash

LEFTOVER_SECONDS = 3_600
"""A temporary file is another process's until it is so old that the process must have crashed."""
_NAME_LENGTH = 64


class ContentFiles:
    """A folder of files named by the BLAKE3 hash of their content."""

    def __init__(self, folder: Path) -> None:
        with disk_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(folder.parent)
        self.folder = folder
        self._flushed: set[Path] = set()
        self.sweep_leftovers()

    def put(self, content: bytes) -> Hash32:
        """Store `content` durably and return its hash.

        Raises:
            StorageUnavailableError: The disk is full; nothing of the content is left on it.
        """
        name = content_hash(content)
        path = self._path(name)
        with disk_errors(self.folder):
            self._make_shard(path.parent)
            if not (path.exists() and content_hash(path.read_bytes()) == name):
                _write(path, content)  # a damaged file is written again
            # Also for a file that was there: who wrote it may not have come this far yet.
            sync_folder(path.parent)
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

    def delete(self, name: Hash32) -> int:
        """Delete the content if it is there; return how many bytes that frees."""
        path = self._path(name)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def names(self) -> Iterator[Hash32]:
        """Yield the names of all files, in no order; files may come and go meanwhile."""
        for path in self.folder.glob("??/*"):
            if len(path.name) == _NAME_LENGTH:
                yield Hash32(bytes.fromhex(path.name))

    def sweep_leftovers(self) -> None:
        """Delete temporary files of processes that crashed while they wrote."""
        oldest = time.time() - LEFTOVER_SECONDS  # the file system's clock is the system's
        for leftover in self.folder.glob("??/*.*"):
            try:
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()
            except FileNotFoundError:
                continue

    def free_bytes(self) -> int:
        """Return how much room the disk has for this user."""
        return shutil.disk_usage(self.folder).free

    def _make_shard(self, shard: Path) -> None:
        if shard in self._flushed:
            return
        shard.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self.folder)  # even if it was there: its maker may not have come this far
        self._flushed.add(shard)

    def _path(self, name: Hash32) -> Path:
        return self.folder / name.hex()[:2] / name.hex()


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the device."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
