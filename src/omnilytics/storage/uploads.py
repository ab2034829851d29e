"""Uploads that arrive in parts: a durable partial file each, until it is whole.

A part is on the device before it is acknowledged, so a crash of the server, or of the network,
costs at most the part under way. What a file holds is not checked before it is whole: a hole that a
power cut left, or another owner of the name, is found by the hash of the whole, and the file is
dropped. Files are named by what they are for, so nothing else need be stored, and their number is
bounded, for each owner and in all.

What is not promised: room. Strangers that a task admits can fill all places for `idle_seconds`;
then there is 503 for uploads in parts, and not for uploads in one request.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from omnilytics.foundation.errors import ConflictError
from omnilytics.foundation.mapping import mapped
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.storage.errors import StorageUnavailableError, disk_errors
from omnilytics.storage.files import sync

UPLOADS_IN_ALL = 256
UPLOADS_PER_OWNER = 26
"""Two for each server of the largest committee: an owner that starts afresh has new bodies."""
IDLE_SECONDS = 3_600


@dataclass(frozen=True, kw_only=True)
class UploadKey:
    """What an upload is: whose, of which round, to which route, and the hash of its whole body."""

    task: TaskId
    round: Round
    owner: Address
    server: int
    """Whose package it is by its route: a place in the committee, 0 for the receiver's own."""
    body_hash: Hash32

    @property
    def file_name(self) -> str:
        """Return the name of its partial file."""
        place = f"{self.task}.{self.round}.{self.owner.hex()}.{self.server}"
        return f"{place}.{self.body_hash.hex()}"


class Uploads:
    """The partial files of one server; many threads may use it."""

    def __init__(self, folder: Path) -> None:
        with disk_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync(folder.parent)
        self.folder = folder

    def offset(self, key: UploadKey) -> int:
        """Return how many bytes of the body are here, durably."""
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, key: UploadKey, first: int, part: bytes) -> int:
        """Add a part that begins at byte `first`; return how many bytes are here then.

        Raises:
            ConflictError: The part does not begin where the stored bytes end; says where that is.
            StorageUnavailableError: No place for one more upload, or the disk is full.
        """
        if first == 0:
            self._make_room(key)
        with disk_errors(self.folder), self._locked(key, first) as (file, size):
            if size != first:
                raise _misplaced(first, size)
            try:
                _write_at(file, first, part)
            except BaseException:
                os.ftruncate(file, size)
                raise
            if size == 0:
                sync(self.folder)
            return size + len(part)

    def content(self, key: UploadKey) -> bytes | memoryview:
        """Return the bytes that are here, read as they are used; the caller checks their hash.

        The file only grows while it is read, and lives on until it was read if it is dropped.
        """
        try:
            return mapped(self._path(key))
        except (FileNotFoundError, ValueError):  # ValueError: it is empty
            return b""

    def drop(self, key: UploadKey) -> None:
        """Forget an upload."""
        self._path(key).unlink(missing_ok=True)

    def drop_round(self, task: TaskId, round_number: Round) -> int:
        """Forget all uploads of a round that takes no more; return how many there were."""
        return sum(_remove(path) for path in self.folder.glob(f"{task}.{round_number}.*"))

    def drop_idle(self, idle_seconds: float = IDLE_SECONDS) -> int:
        """Forget uploads that got nothing for so long; return how many there were."""
        oldest = time.time() - idle_seconds  # the file system's clock is the system's
        count = 0
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    count += _remove(path)
        return count

    def _make_room(self, key: UploadKey) -> None:
        self.drop_idle()
        names = [path.name for path in self.folder.iterdir()]
        if key.file_name in names:
            return
        of_owner = sum(f".{key.owner.hex()}." in name for name in names)
        if len(names) >= UPLOADS_IN_ALL or of_owner >= UPLOADS_PER_OWNER:
            raise StorageUnavailableError(
                "too many uploads in parts at a time",
                want=f"<= {UPLOADS_PER_OWNER} of one owner, {UPLOADS_IN_ALL} in all",
                hint="finish one, wait, or send the body in one request",
            )

    @contextmanager
    def _locked(self, key: UploadKey, first: int) -> Iterator[tuple[int, int]]:
        """Open the file, alone, and make it for a first part; give it and its size."""
        flags = os.O_RDWR | (os.O_CREAT if first == 0 else 0)
        try:
            file = os.open(self._path(key), flags, 0o600)
        except FileNotFoundError:
            raise _misplaced(first, 0) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file, os.fstat(file).st_size
        finally:
            os.close(file)

    def _path(self, key: UploadKey) -> Path:
        return self.folder / key.file_name


def _misplaced(first: int, size: int) -> ConflictError:
    return ConflictError(
        "the part does not begin where the upload ends",
        got=first,
        want=size,
        hint="send the part that begins at upload_offset",
        upload_offset=size,
    )


def _write_at(file: int, first: int, part: bytes) -> None:
    view = memoryview(part)
    while view:
        written = os.pwrite(file, view, first)
        first, view = first + written, view[written:]
    os.fsync(file)


def _remove(path: Path) -> int:
    with suppress(FileNotFoundError):
        path.unlink()
        return 1
    return 0
