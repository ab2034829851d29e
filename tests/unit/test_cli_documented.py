"""docs/commands.md names every command, and nothing that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from omnilytics.cli.main import application

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
EVERYWHERE = {"--help", "--version"}


def commands() -> dict[str, set[str]]:
    """Return the options of every command."""
    return dict(_below(get_command(application), "omnilytics"))


def _below(command: Any, path: str) -> Iterator[tuple[str, set[str]]]:
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from _below(each, f"{path} {name}")
    else:
        options = {name for one in command.params for name in one.opts if name.startswith("-")}
        yield path, options | EVERYWHERE


def test_every_command_has_its_row_with_an_example() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| .+ \|$", PAGE.read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(dict.fromkeys(name for name, _ in rows))
    assert {name for name, _ in rows} == set(commands())
    for name, example in rows:
        assert example == name or example.startswith(name + " ")


def test_every_option_that_is_named_exists() -> None:
    known = commands()
    text = PAGE.read_text()
    everything = set.union(*known.values())
    mentioned = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", text))
    assert mentioned
    assert mentioned - everything == set()
    for line in text.splitlines():
        row = re.match(r"\| `(omnilytics [^`]+)` \|", line)
        if row:
            options = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", line))
            assert options <= known[row[1]], row[1]


def test_every_command_says_what_it_does() -> None:
    for path, command in _leaves(get_command(application), "omnilytics"):
        assert command.help, path
        for one in command.params:
            if one.name != "help" and one.param_type_name == "option":
                assert one.help, (path, one.name)


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from _leaves(each, f"{path} {name}")
    else:
        yield path, command
