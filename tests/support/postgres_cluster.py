"""PostgreSQL for tests, from Debian's package: one cluster for each test process, on a socket."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import cache
from itertools import count
from pathlib import Path

import psycopg

from omnilytics.storage.database import POSTGRESQL

INSTALL = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
ROOM_BYTES = 4 << 30
_numbers = count(1)


def binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL (OMNILYTICS_POSTGRESQL names another), if any."""
    named = os.environ.get("OMNILYTICS_POSTGRESQL")
    if named:
        return Path(named)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: path.parts[4])
    return found[-1].parent if found else None


def why_not() -> str | None:
    """Return why PostgreSQL cannot be started here, or None."""
    if binaries() is None:
        return INSTALL
    if os.getuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL refuses root, and there is no runuser to become postgres"
    return None


class Cluster:
    """A running PostgreSQL with durable writes and a locale that does not sort by bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        folder.chmod(0o755)
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        locale = ("--locale-provider=icu", "--icu-locale=en", "--encoding=UTF8")
        self._run(
            "initdb", "-D", str(self._data), "--auth=trust", "-U", "test", "--no-sync", *locale
        )
        self.start()

    def start(self) -> None:
        """Start it."""
        settings = ("listen_addresses=''", "max_connections=60", "recovery_init_sync_method=syncfs")
        options = f"-k {self._folder} " + " ".join(f"-c {setting}" for setting in settings)
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stop it as a power cut would: no shutdown, no flush."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        """Stop it and delete everything."""
        self.stop()
        shutil.rmtree(self._folder)

    def new_database(self) -> str:
        """Return the URL of a fresh database."""
        name = f"test_{next(_numbers)}"
        with psycopg.connect(
            host=str(self._folder), user="test", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"{POSTGRESQL}://test@/{name}?host={self._folder}"

    def _run(self, program: str, *arguments: str) -> None:
        folder = binaries()
        assert folder is not None
        # The server must not keep this process's pipes open.
        command = [str(folder / program), *arguments]
        if os.getuid() == 0:  # it refuses root
            command = ["runuser", "-u", "postgres", "--", *command]
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command,
                cwd="/",
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            output.seek(0)
            assert done.returncode == 0, output.read().decode()


def new_cluster() -> Cluster:
    """Start another cluster, in memory where there is room; the caller removes it."""
    memory = Path("/dev/shm")  # noqa: S108  # a folder of its own is made in it
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES
    folder = tempfile.mkdtemp(prefix="omnilytics-pg-", dir=memory if roomy else None)
    return Cluster(Path(folder))


@cache
def cluster() -> Cluster:
    """Return this process's cluster, started at the first call."""
    started = new_cluster()
    atexit.register(started.remove)
    return started
