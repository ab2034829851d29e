"""What `omnilytics doctor` finds: one line each, with the command that fixes a problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from omnilytics.foundation.errors import OmniLyticsError


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; wrong only if it was meant to be otherwise."""
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check."""

    check: str
    state: State
    said: str
    fix: str | None = None
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        return {
            "check": self.check,
            "state": str(self.state),
            "said": self.said,
            "fix": self.fix,
            "exit_code": self.exit_code,
        }


class Noted(Exception):  # noqa: N818 - no error: it ends a check with a note
    """Ends a check with a note instead of its text."""

    def __init__(self, said: str, fix: str | None = None) -> None:
        super().__init__(said)
        self.fix = fix


SHOW_SETTINGS = "omnilytics config show --origin"


def examine(check: str, look: Callable[[], str], fix: str = SHOW_SETTINGS) -> Finding:
    """Run a check, which returns what it saw, raises `Noted`, or raises the problem.

    Args:
        check: Its name.
        look: Looks.
        fix: What to do about a problem that has no hint of its own.
    """
    try:
        return Finding(check=check, state=State.OK, said=look())
    except Noted as note:
        return Finding(check=check, state=State.NOTE, said=str(note), fix=note.fix)
    except OmniLyticsError as error:
        return problem(check, error, fix)
    except Exception as error:  # a check must not hide the others
        return Finding(
            check=check,
            state=State.PROBLEM,
            said=f"{type(error).__name__}: {error}",
            fix="this is a defect; please report it",
            exit_code=1,
        )


def problem(check: str, error: OmniLyticsError, fix: str = SHOW_SETTINGS) -> Finding:
    """Return what an error means for a check."""
    return Finding(
        check=check,
        state=State.PROBLEM,
        said=str(error),
        fix=error.hint or fix,
        exit_code=error.exit_code,
    )
