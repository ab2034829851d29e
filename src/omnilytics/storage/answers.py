"""A server's sealed answers to model owners, kept so that a download can go on where it broke off.

Sealing again would give other bytes, so an answer is made once for each accepted set and served in
parts. It is sealed; it is deleted with the shares of its round, and made again if it is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.storage.errors import disk_errors


class Answers:
    """The answers of one server."""

    def __init__(self, folder: Path) -> None:
        with disk_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder

    def find(self, task: TaskId, round_number: Round, accepted_root: Hash32) -> Path | None:
        """Return the file of an answer, if it was made."""
        path = self._path(task, round_number, accepted_root)
        return path if path.exists() else None

    def make(
        self, task: TaskId, round_number: Round, accepted_root: Hash32, pieces: Iterable[bytes]
    ) -> Path:
        """Write an answer and return its file; of two that are made at once the first stays.

        Raises:
            StorageUnavailableError: The disk is full.
        """
        path = self._path(task, round_number, accepted_root)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        with disk_errors(self.folder):
            try:
                with temporary.open("xb") as file:
                    file.writelines(pieces)
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(FileExistsError):
                    os.link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        return path

    def drop_round(self, task: TaskId, round_number: Round) -> int:
        """Delete the answers of a round; return how many bytes that frees."""
        freed = 0
        for path in self.folder.glob(f"{task}.{round_number}.*"):
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
        return freed

    def _path(self, task: TaskId, round_number: Round, accepted_root: Hash32) -> Path:
        return self.folder / f"{task}.{round_number}.{accepted_root.hex()}"
