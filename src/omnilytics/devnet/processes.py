"""Processes in the background, found again by other processes through files.

A file holds the process's id and when it started. Ids are used again, after a restart of the
machine too: a process of the same id that started at another time is never taken for the one that
was started here, and never sent a signal.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from omnilytics.foundation.errors import ConfigError

POLL_SECONDS = 0.05
_MAX_FILE_BYTES = 1_024
_TAIL_BYTES = 2_000
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class BackgroundProcess:
    """One process that outlives whoever starts it, with its log."""

    def __init__(self, name: str, pid_file: Path, log: Path) -> None:
        self.name = name
        self.log = log
        self._pid_file = pid_file
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str]) -> None:
        """Start it in a session of its own; settings of the environment are not passed on."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("OMNILYTICS_")
        }
        try:
            with self.log.open("ab") as log:
                self._child = subprocess.Popen(  # noqa: S603 - our own command
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise ConfigError("cannot start", got=f"{command[0]}: {error.strerror}") from None
        pid = self._child.pid
        self._pid_file.write_text(json.dumps({"pid": pid, "started": started_at(pid)}))

    def pid(self) -> int | None:
        """Return its id while it runs."""
        if self._child is not None:
            return self._child.pid if self._child.poll() is None else None
        try:
            with self._pid_file.open("rb") as file:
                fields = json.loads(file.read(_MAX_FILE_BYTES))
            pid, started = int(fields["pid"]), str(fields["started"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None
        return pid if pid > 1 and started_at(pid) == started else None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal if it runs."""
        pid = self.pid()
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return

    def forget(self) -> None:
        """Remove the file of a process that has ended."""
        self._pid_file.unlink(missing_ok=True)

    def tail(self) -> str:
        """Return the end of its log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""


def stop(processes: Sequence[BackgroundProcess], timeout_seconds: float) -> list[str]:
    """End processes by SIGTERM, all at once; return the names of those that had to be killed."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    late = _wait(processes, timeout_seconds)
    for process in late:
        process.send_signal(signal.SIGKILL)
    _wait(late, timeout_seconds)
    for process in processes:
        process.forget()
    return [process.name for process in late]


def started_at(pid: int) -> str | None:
    """Return when a process started, in words that no other process of that id has; None if ended.

    A zombie has ended. Where there is no /proc, `ps` is asked, to the second.
    """
    return _by_proc(pid) if _BOOT.is_file() else _by_ps(pid)


def _by_proc(pid: int) -> str | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{_BOOT.read_text().strip()} {ticks}"


def _by_ps(pid: int) -> str | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    state, _, started = done.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else " ".join(started.split())


def _wait(processes: Sequence[BackgroundProcess], seconds: float) -> list[BackgroundProcess]:
    """Return those that still run after that time."""
    deadline = time.monotonic() + seconds
    running = list(processes)
    while running := [process for process in running if process.pid() is not None]:
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    return running


def server_command(config: Path) -> list[str]:
    """Return `omnilytics server run` for this interpreter, whatever lies in the current folder."""
    program = "from omnilytics.cli.main import main; main()"
    return [sys.executable, "-P", "-c", program, "server", "run", "--config", str(config)]
