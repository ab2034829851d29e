"""Checks of `omnilytics doctor` that concern this machine: program, disk, database, ports."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omnilytics.cli.findings import Finding, Noted, examine
from omnilytics.foundation.errors import ConfigError, VerificationError

if TYPE_CHECKING:
    from omnilytics.service.settings import ServerSettings

LEAST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 1 << 30
_ANSWER_SECONDS = 5.0


def check_program() -> Iterator[Finding]:
    """Check the program itself."""
    yield examine("python", _python)
    yield examine("kernels", _kernels)
    yield examine("contracts", _contracts)
    yield examine("anvil", _anvil)


def check_server_machine(settings: ServerSettings) -> Iterator[Finding]:
    """Check what a server needs of this machine."""
    data, least = settings.server.data, settings.operations.least_free_bytes
    yield examine("disk", lambda: disk(data, least, "server.data"))
    yield examine("database", lambda: _database(settings))
    yield examine("port", lambda: _port(settings))


def disk(folder: Path, least_bytes: int, setting: str) -> str:
    """Tell how much is free where `folder` is or would be made."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK) or not place.is_dir():
        raise ConfigError("the folder cannot be written to", got=place, hint=f"set {setting}")
    free = shutil.disk_usage(place).free
    if free < least_bytes:
        raise ConfigError(
            "too little is free on the disk",
            got=f"{free:,} bytes at {place}",
            want=f"{least_bytes:,}",
            hint=f"make room, or set {setting} to a folder on another disk",
        )
    return f"{free / 1e9:,.1f} GB free at {place}"


def _python() -> str:
    shown = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < LEAST_PYTHON:
        raise ConfigError("Python is too old", got=shown, want=">= 3.11", hint="install Python")
    return shown


def _kernels() -> str:
    """Compare every kernel that answers with a vector or a number with the readable one."""
    import numpy as np

    from omnilytics.algebra import kernels
    from omnilytics.algebra.extension import ExtensionElement
    from omnilytics.algebra.field import MODULUS

    edges = [0, 1, MODULUS - 1, MODULUS - 2, 1 << 32, (1 << 32) - 1, 1 << 63, 7]
    left = np.array(edges * 8, dtype=np.uint64)
    right = np.array([pow(7, power, MODULUS) for power in range(len(left))], dtype=np.uint64)
    found = []
    for name in ("numba", "reference"):
        kernel = kernels.load(name)
        vectors = [np.empty_like(left) for _ in range(3)]
        kernel.add(left, right, vectors[0])
        kernel.subtract(left, right, vectors[1])
        kernel.multiply(left, right, vectors[2])
        powers = kernel.extension_powers(ExtensionElement(3, 5), 1, len(left))
        numbers = (
            kernel.inner_product(left, right),
            kernel.sum_of_squares(right),
            kernel.extension_inner_product(powers, left),
        )
        found.append((np.concatenate([*vectors, *powers]).tolist(), numbers))
    if found[0] != found[1]:
        raise VerificationError(
            "the compiled kernels give wrong values",
            hint="delete the folders __pycache__ of omnilytics/algebra/kernels and try again",
        )
    return "compiled, and right on edge values"


def _contracts() -> str:
    from omnilytics.chain.artefact import DEPLOYED, load_artefact

    sizes = [f"{name} {len(load_artefact(name).runtime_bytecode):,} bytes" for name in DEPLOYED]
    return ", ".join(sizes)


def _anvil() -> str:
    from omnilytics.devnet.anvil import require_anvil

    try:
        return str(require_anvil())
    except ConfigError as error:
        raise Noted("not found; only `omnilytics devnet` needs it", error.hint or "") from None


def _database(settings: ServerSettings) -> str:
    from omnilytics.service.settings import secret_text
    from omnilytics.storage.database import default_url
    from omnilytics.storage.migration import Schema, schema_state

    url = secret_text(settings.storage.database_url) or default_url(settings.server.data)
    state = schema_state(url)
    if state.schema == Schema.EMPTY:
        return "empty: the server makes it when it starts"
    if state.schema == Schema.OLDER:
        raise ConfigError(
            "the schema is of an earlier version",
            got=state.revision,
            want=state.want,
            hint="stop the server, omnilytics server backup, then omnilytics server migrate",
        )
    if state.schema != Schema.CURRENT:
        raise ConfigError(
            "the schema is not one that this version knows",
            got=state.revision or "tables of another program",
            want=state.want,
            hint="install the version that made it, or name another database",
        )
    return f"schema {state.revision}"


def _port(settings: ServerSettings) -> str:
    """Tell whether the port is free, or the server of this very folder has it."""
    from omnilytics.service.folder import bind

    listen = settings.server.listen
    if _runs(settings.server.data):
        _health(f"http://{listen}", "the folder's server runs, but does not answer")
        return f"the folder's own server answers at {listen}"
    bind(listen, "server.listen").close()
    return f"{listen} is free"


def _runs(folder: Path) -> bool:
    """Tell whether a process holds the data folder; makes nothing."""
    import fcntl

    from omnilytics.service.folder import LOCK_NAME

    try:
        with (folder / LOCK_NAME).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _health(base: str, problem: str) -> None:
    import httpx

    from omnilytics.foundation.errors import PeerError

    try:
        answer = httpx.get(base + "/healthz", timeout=_ANSWER_SECONDS)
    except httpx.HTTPError as error:
        raise PeerError(problem, got=type(error).__name__, hint="read its log") from None
    if answer.status_code != 200:
        raise PeerError(problem, got=answer.status_code, hint="read its log")
