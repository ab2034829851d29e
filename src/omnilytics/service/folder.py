"""What one process of a server holds alone: its data folder and its addresses to listen at."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omnilytics.foundation.errors import ConfigError

LOCK_NAME = "lock"


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the data folder; raises ConfigError while another process does.

    Two processes of one server could answer one challenge twice, or send two transactions with one
    nonce. The lock ends with the process, however that ends.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            "the data folder cannot be used", got=f"{folder}: {error.strerror}"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            raise ConfigError(
                "another process runs on this data folder",
                got=f"{folder}, process {holder or 'unknown'}",
                hint="stop it, or name another folder (server.data)",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def bind(listen: str, setting: str) -> socket.socket:
    """Return a socket bound to HOST:PORT; raises ConfigError where that is taken or refused."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        places = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = places[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError("cannot listen", got=f"{listen}: {error}", want=setting) from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
        bound.listen(1)  # also finds another socket that listens already
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                "the port is in use",
                got=listen,
                hint=f"stop what listens there (ss -ltnp), or set {setting}",
            ) from None
        raise ConfigError("cannot listen", got=f"{listen}: {error.strerror}") from None
    bound.setblocking(False)
    return bound
