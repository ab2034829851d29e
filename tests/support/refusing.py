"""Reads every hostile artefact in a process of its own, which the operating system limits.

Run as a program: prints a JSON object that says how each process ended. The processes are forks of
one that has the reader imported, so that a limit is on what reading asks for, and on nothing else.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.perturbation.artefact import decode_artefact

FOLDER = Path(__file__).parent.parent / "vectors" / "hostile_artefacts"
MEMORY_BYTES = 200 << 20
"""Address space beyond that of the process before it reads."""
SLACK_BYTES = 16 << 20
"""What the process may have free before it reads."""
SECONDS = 1
"""Of processor time."""

ACCEPTED, REFUSED, NO_MEMORY, DEFECT = 0, 1, 2, 3
ENDS = {ACCEPTED: "accepted", REFUSED: "refused", NO_MEMORY: "no memory", DEFECT: "defect"}


def read_case(name: str) -> tuple[bytes, bytes | None]:
    """Return an artefact of the corpus, and the frozen weights that come with it."""
    frozen = FOLDER / f"{name}.frozen.gz"
    content = gzip.decompress((FOLDER / f"{name}.artefact.gz").read_bytes())
    return content, gzip.decompress(frozen.read_bytes()) if frozen.exists() else None


def limited(work: Callable[[], object]) -> str:
    """Do work in a fork with limits; return how it ended."""
    child = os.fork()
    if child == 0:
        end = DEFECT
        try:
            _set_limits()
            end = _outcome(work)
        finally:
            os._exit(end)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"killed by signal {os.WTERMSIG(status)}"
    return ENDS[os.WEXITSTATUS(status)]


def _set_limits() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))


def _outcome(work: Callable[[], object]) -> int:
    try:
        work()
    except OmniLyticsError:
        return REFUSED
    except MemoryError:
        return NO_MEMORY
    return ACCEPTED


def _spin() -> None:
    while True:
        pass


def _decode(content: bytes, frozen: bytes | None) -> None:
    decode_artefact(content, frozen=frozen)


def main() -> None:
    """Print how reading each case ended, and what ends that is too much (controls)."""
    ends = {
        "control: too much memory": limited(lambda: bytearray(MEMORY_BYTES + SLACK_BYTES)),
        "control: too much time": limited(_spin),
    }
    for case in json.loads((FOLDER / "index.json").read_text()):
        ends[case["name"]] = limited(partial(_decode, *read_case(case["name"])))
    json.dump(ends, sys.stdout)


if __name__ == "__main__":
    main()
