"""Where output goes and how errors end: stdout is data, stderr is narration."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from omnilytics.foundation.errors import OmniLyticsError


def print_json(value: Any) -> None:
    """Print one JSON value on stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def narrate(text: str) -> None:
    """Print a line of narration on stderr."""
    sys.stderr.write(text + "\n")


@contextmanager
def reported_errors(*, as_json: bool = False) -> Iterator[None]:
    """Turn errors of the tree into a short message and their exit code, without a traceback."""
    try:
        yield
    except OmniLyticsError as error:
        if as_json:
            print_json({"error": error.as_dict()})
        narrate(f"error [{error.code}]: {error}")
        if error.hint:
            narrate(f"hint: {error.hint}")
        raise typer.Exit(error.exit_code) from None
