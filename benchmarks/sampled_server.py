"""A server process that writes down where its processor time went (Linux).

Used as the command of a server by `scale.py --profile`. A thread of its own looks at the stacks of
all others a hundred times a second and adds to each stack the processor time that its thread took
since the last look. Not exact: a stack seen stands for all that its thread did between two looks.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from omnilytics.cli.server import application

LOOK_SECONDS = 0.01
WRITE_SECONDS = 5.0
VARIABLE = "OMNI_SAMPLES"
_DEEPEST = 60


class Sampler(threading.Thread):
    """Counts nanoseconds of processor time by stack."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="sampler")
        self.spent: Counter[tuple[str, ...]] = Counter()
        self._before: dict[int, int] = {}

    def run(self) -> None:
        """Look for ever; the server's end needs no goodbye, so what was seen is written often."""
        path = Path(os.environ[VARIABLE]) / f"samples-{os.getpid()}.txt"
        written = time.monotonic()
        while True:
            time.sleep(LOOK_SECONDS)
            self._look()
            if time.monotonic() - written > WRITE_SECONDS:
                self.write(path)
                written = time.monotonic()

    def _look(self) -> None:
        frames = sys._current_frames()
        for thread in threading.enumerate():
            native, frame = thread.native_id, frames.get(thread.ident or 0)
            if thread is self or native is None or frame is None:
                continue
            now = _nanoseconds(native)
            spent = now - self._before.get(native, now)
            self._before[native] = now
            if spent:
                self.spent[_stack(frame)] += spent

    def write(self, path: Path) -> None:
        """Write lines of 'caller;callee;... microseconds', which flame graphs are made of."""
        lines = [f"{';'.join(stack)} {spent // 1000}" for stack, spent in self.spent.items()]
        path.write_text("\n".join(lines) + "\n")


def _nanoseconds(native: int) -> int:
    try:
        return int(Path(f"/proc/self/task/{native}/schedstat").read_text().split()[0])
    except OSError:  # it ended
        return 0


def _stack(frame: FrameType | None) -> tuple[str, ...]:
    found = []
    while frame is not None and len(found) < _DEEPEST:
        code = frame.f_code
        found.append(f"{Path(code.co_filename).stem}.{code.co_name}")
        frame = frame.f_back
    return tuple(reversed(found))


def main() -> None:
    """Run the server's command line, sampled."""
    Sampler().start()
    application()


if __name__ == "__main__":
    main()
