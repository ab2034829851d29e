"""Keeps garbage collection and back-ups of one folder of files apart, across processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.storage.files import ContentFiles


@contextmanager
def guarded(files: ContentFiles, *, exclusive: bool) -> Iterator[None]:
    """Keep files from being deleted (shared), or delete some (exclusive).

    The operating system lets go when the process ends, however it ends.

    Raises:
        StorageUnavailableError: The other side is at work; nothing is waited for.
    """
    descriptor = os.open(files.folder / "guard", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        other = "a back-up or a collection" if exclusive else "a garbage collection"
        raise StorageUnavailableError(
            f"{other} is under way", hint="try again once it is done", folder=files.folder
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)
