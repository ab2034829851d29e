"""Options that many commands share, each defined once, and groups of them.

A command names a group as the type of a parameter and is decorated with `grouped`; on the command
line the group's fields stand as options of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--keystore-dir",
        envvar="ETH_KEYSTORE_DIR",
        help="Folder of keystores.",
        show_default="~/.foundry/keystores",
    ),
]
TaskNumber = Annotated[int, typer.Argument(help="Number of the task.", min=1)]


class OptionGroup:
    """Base of the groups: frozen dataclasses whose fields are options."""


@dataclass(frozen=True, kw_only=True)
class SettingsOptions(OptionGroup):
    """Where settings come from; see `cli.settings`."""

    config: Annotated[
        Path | None,
        typer.Option("--config", envvar="OMNILYTICS_CONFIG", help="TOML file of settings."),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting; may be repeated."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class AccountOptions(SettingsOptions):
    """Which account acts; by default the one that the settings name."""

    account: Annotated[
        str | None, typer.Option("--account", help="Its name in the folder of keystores.")
    ] = None
    keystore: Annotated[
        Path | None, typer.Option("--keystore", help="Its keystore file, instead of a name.")
    ] = None
    folder: Folder = None
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="File with its password; default: ask for it."),
    ] = None
    sender: Annotated[
        str | None,
        typer.Option("--from", metavar="ADDRESS", help="Its address; --unsigned needs no more."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Asking(OptionGroup):
    """How a command was told to behave before it sends."""

    yes: Annotated[bool, typer.Option("--yes", "-y", help="Send without asking.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show it, try it on the node, send nothing.")
    ] = False
    unsigned: Annotated[
        bool,
        typer.Option("--unsigned", help="Print the unsigned transaction as JSON, send nothing."),
    ] = False
    as_json: Json = False


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its groups as options of their own."""
    hints = get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    groups = {name: hints[name] for name in signature.parameters if _is_group(hints[name])}

    def command(**values: Any) -> None:
        for name, group in groups.items():
            taken = {each.name: values.pop(each.name) for each in fields(group)}
            values[name] = group(**taken)
        function(**values)

    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name not in groups
    ]
    shared = [each for group in groups.values() for each in _options(group)]
    parameters = own + shared
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__module__ = function.__module__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def set_flags(flags: Mapping[str, object]) -> dict[str, str]:
    """Return the settings that flags of their own give, by dotted key; unset ones are left out."""
    return {key: str(value) for key, value in flags.items() if value is not None}


def _is_group(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, OptionGroup)


def _options(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=hints[each.name],
        )
        for each in fields(group)
    ]
