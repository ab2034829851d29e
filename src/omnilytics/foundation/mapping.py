"""Files that are read where they lie: their pages come in as they are touched, and may go again."""

from __future__ import annotations

import mmap
from pathlib import Path


def mapped(path: Path) -> memoryview:
    """Return a file's content, read-only; it lives on if the file is deleted meanwhile.

    The file must not become shorter while the content is in use.

    Raises:
        OSError: The file is gone or cannot be read.
        ValueError: It is empty.
    """
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
