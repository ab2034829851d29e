"""Seeing to it that an SQLite database is still the file that was opened.

A process that has the file open goes on writing to it after it was deleted, moved or replaced: what
it acknowledges then is lost with the process. So every use of a connection is refused until the
very same file is back in its place. Another file there is refused too: it may be an older copy,
which has forgotten answers (protocol.md section 7); `server restore` and a restart take up one.

Not guaranteed: a file that is deleted between this look and the end of the transaction.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, event

from omnilytics.storage.errors import StorageUnavailableError


class SameFile:
    """Watches the file behind an engine's connections."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def watch(self, engine: Engine) -> None:
        """Check before the engine opens a connection, which would create the file, and uses one."""
        event.listen(engine, "do_connect", self._check)
        event.listen(engine, "connect", self._remember)
        event.listen(engine, "checkout", self._check)

    def _remember(self, *_: object) -> None:
        self._opened = self._opened or self._present()

    def _check(self, *_: object) -> None:
        if self._opened is not None and self._present() != self._opened:
            raise StorageUnavailableError(
                "the database file is gone or was replaced",
                hint="put it back, or stop the server and restore a back-up: "
                "`omnilytics server restore`",
                database=self._path,
            )

    def _present(self) -> tuple[int, int] | None:
        """Return what tells the file in this place from all others, None where there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
