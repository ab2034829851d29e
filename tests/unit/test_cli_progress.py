"""What a long command shows: a bar on a terminal, plain lines elsewhere, never on stdout."""

from __future__ import annotations

import io

import pytest

from omnilytics.cli.progress import Told
from omnilytics.client.events import Event


def tell(told: Told) -> None:
    with told.on_bar("rounds", 3, done=1):
        told.happened(Event(kind="waiting", message="waiting for [round] 2"))
        told.happened(Event(kind="settled", message="[round] 2 is settled"))
        told.reached(2)


def test_without_a_terminal_there_are_plain_lines_and_no_waiting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell(Told())
    out, err = capsys.readouterr()
    assert (out, err) == ("", "[round] 2 is settled\n")


def test_on_a_terminal_there_is_a_bar_that_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    tell(Told())
    text = terminal.getvalue()
    assert "rounds" in text
    assert "2/3" in text
    assert text.rstrip().endswith("\x1b[2K")  # the line is cleared at the end
