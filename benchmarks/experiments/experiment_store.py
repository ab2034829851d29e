"""Rows of the experiments in a JSON file: one that is there is not computed again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Store:
    """Rows by key; each is on disk as soon as it is added.

    Args:
        path: The file; made with its folder at the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, Any] = {}
        if path.exists():
            self._rows = json.loads(path.read_text(encoding="utf-8"))

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Keep a row; the file is replaced as a whole, so a stop leaves it as it was or is."""
        self._rows[key] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(
            f"{json.dumps(key)}: {json.dumps(self._rows[key])}" for key in sorted(self._rows)
        )
        scratch = self.path.with_suffix(".new")
        scratch.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
        scratch.replace(self.path)

    def rows(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """Return the rows of these keys that are there."""
        return [self._rows[key] for key in keys if key in self._rows]
