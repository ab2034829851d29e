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
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from omnilytics.foundation.errors import ConfigError
from omnilytics.foundation.units import Hash32
from omnilytics.storage.errors import disk_errors
from omnilytics.wire.hashing import content_hash

LEFTOVER_SECONDS = 3_600
"""A temporary file is another process's until it is so old that the process must have crashed."""
_NAME_LENGTH = 64
_DRAFTS = "in"
_PIECE_BYTES = 1 << 20


class ContentFiles:
    """A folder of files named by the BLAKE3 hash of their content."""

    def __init__(self, folder: Path) -> None:
        with disk_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync(folder.parent)
        self.folder = folder
        self._flushed: set[Path] = set()
        self.sweep_leftovers()

    def put(self, content: bytes | memoryview) -> Hash32:
        """Store `content` durably and return its hash.

        Raises:
            StorageUnavailableError: The disk is full; nothing of the content is left on it.
        """
        with self.draft() as draft:
            draft.write(content)
            return draft.keep()

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """Give a file to be written piece by piece; it is gone afterwards unless it was kept."""
        with disk_errors(self.folder):
            self._make_shard(self.folder / _DRAFTS)
            draft = Draft(self, self.folder / _DRAFTS)
        try:
            yield draft
        finally:
            draft.drop()

    def verify(self, name: Hash32) -> None:
        """Raise ConfigError where the content is gone or damaged."""
        if not self._is_whole(name):
            raise ConfigError("a stored file is damaged", file=self.path(name))

    def get(self, name: Hash32) -> bytes | None:
        """Return the content, or None; raises ConfigError where the file no longer matches."""
        try:
            content = self.path(name).read_bytes()
        except FileNotFoundError:
            return None
        if content_hash(content) != name:
            raise ConfigError("a stored file is damaged", file=self.path(name))
        return content

    def part(self, name: Hash32, first: int, count: int) -> tuple[int, bytes] | None:
        """Return how many bytes the content has and up to `count` of them, or None.

        Not guaranteed: that the file is what was stored; whoever has all parts compares the hash.
        """
        try:
            return read_part(self.path(name), first, count)
        except FileNotFoundError:
            return None

    def has(self, name: Hash32) -> bool:
        """Tell whether there is a file of this name; `get` checks its content."""
        return self.path(name).exists()

    def delete(self, name: Hash32) -> int:
        """Delete the content if it is there; return how many bytes that frees."""
        path = self.path(name)
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

    def take(self, draft: Path, descriptor: int, name: Hash32) -> None:
        """Flush a draft that was written and give it its name, unless the content is here."""
        path = self.path(name)
        self._make_shard(path.parent)
        if not self._is_whole(name):
            os.fsync(descriptor)
            draft.replace(path)  # a damaged file is written again
        # Also for a file that was there: who wrote it may not have come this far yet.
        sync(path.parent)

    def _is_whole(self, name: Hash32) -> bool:
        path = self.path(name)
        return path.exists() and _hash_of(path) == name

    def _make_shard(self, shard: Path) -> None:
        if shard in self._flushed:
            return
        shard.mkdir(mode=0o700, exist_ok=True)
        sync(self.folder)  # even if it was there: its maker may not have come this far
        self._flushed.add(shard)

    def path(self, name: Hash32) -> Path:
        """Return where the content of this name is, if it is there."""
        return self.folder / name.hex()[:2] / name.hex()


class Draft:
    """A file in the making."""

    def __init__(self, files: ContentFiles, folder: Path) -> None:
        self._files = files
        self._path = folder / f"{os.getpid()}.{os.urandom(8).hex()}"
        self._file = self._path.open("xb")
        self._digest = blake3()

    def write(self, piece: bytes | memoryview) -> None:
        """Add a piece.

        Raises:
            StorageUnavailableError: The disk is full.
        """
        with disk_errors(self._files.folder):
            self._file.write(piece)
        self._digest.update(piece)

    def keep(self) -> Hash32:
        """Make what was written durable under its hash, which is returned.

        Raises:
            StorageUnavailableError: The disk is full.
        """
        name = Hash32(self._digest.digest())
        with disk_errors(self._files.folder):
            self._file.flush()
            self._files.take(self._path, self._file.fileno(), name)
        return name

    def drop(self) -> None:
        """Delete the file unless it was kept."""
        with suppress(OSError):  # a full disk: what could not be flushed is dropped
            self._file.close()
        self._path.unlink(missing_ok=True)


def _hash_of(path: Path) -> Hash32:
    digest = blake3()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return Hash32(digest.digest())


def read_part(path: Path, first: int, count: int) -> tuple[int, bytes]:
    """Return how many bytes a file has, and up to `count` of them from byte `first` on."""
    with path.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        return os.fstat(descriptor).st_size, os.pread(descriptor, count, first)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the device."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
