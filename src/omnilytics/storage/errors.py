"""When the store cannot serve now: busy, gone, full, or restored and not reconciled.

Nothing of what was asked was done. The same request succeeds once the cause is away, without any
work by hand on the stored data: a caller over HTTP gets 503 and Retry-After.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from omnilytics.foundation.errors import ConfigError, OmniLyticsError


class StorageUnavailableError(OmniLyticsError):
    """A database or a disk that cannot serve now; what was asked was not done."""

    code = "storage-unavailable"
    exit_code = 3


_FULL = ("disk is full", "No space left on device", "could not extend file")
_BUSY = ("database is locked", "database table is locked", "deadlock detected", "lock timeout")
_DAMAGED = ("file is not a database", "database disk image is malformed")
_FULL_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def database_errors(place: str) -> Iterator[None]:
    """Turn a driver's report that the database cannot serve now into StorageUnavailableError.

    A damaged file is a ConfigError. Errors that only a mistake in this program explains (a
    constraint, a syntax error) pass.

    Args:
        place: Where the database is, without a password.
    """
    try:
        yield
    except PoolTimeoutError as error:
        raise database_busy(place) from error
    except DBAPIError as error:
        text = str(error.orig)
        if any(phrase in text for phrase in _FULL):
            raise disk_full(place) from error
        if any(phrase in text for phrase in _BUSY):
            raise database_busy(place) from error
        if any(phrase in text for phrase in _DAMAGED):
            raise ConfigError(
                "the database is damaged, or no database",
                hint="restore a back-up: `omnilytics server restore`",
                database=place,
            ) from error
        if error.connection_invalidated or type(error).__name__ == "OperationalError":
            raise StorageUnavailableError(
                "the database does not answer",
                hint="see that it runs and may be written; nothing else is needed",
                got=text.strip().splitlines()[0] if text.strip() else type(error.orig).__name__,
                database=place,
            ) from error
        raise


@contextmanager
def disk_errors(place: object) -> Iterator[None]:
    """Turn a full disk into StorageUnavailableError; other errors of the system pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL_ERRNO:
            raise disk_full(place) from error
        raise


def disk_full(place: object) -> StorageUnavailableError:
    """Return the error that says so."""
    return StorageUnavailableError(
        "the disk is full", hint="free space on it; nothing else is needed", place=place
    )


def database_busy(place: str) -> StorageUnavailableError:
    """Return the error of a database that another writer held for too long."""
    return StorageUnavailableError(
        "the database is busy", hint="try again; is another program holding it?", database=place
    )
