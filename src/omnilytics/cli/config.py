"""`omnilytics config`: what is set, by whom, and a file to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnilytics.cli.output import narrate, print_json, reported_errors

if TYPE_CHECKING:
    from omnilytics.foundation.settings import Loaded
    from omnilytics.service.settings import ServerSettings

application = typer.Typer(
    help="Settings: a TOML file, then OMNILYTICS_SECTION__KEY, then flags.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with values would show keys
)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="OMNILYTICS_CONFIG", help="TOML file of settings."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def load(
    config: Path | None,
    assignments: list[str] | None,
    flags: Mapping[str, object] | None = None,
) -> Loaded[ServerSettings]:
    """Return the server's settings of all sources.

    Args:
        config: The settings file.
        assignments: Values of `--set`.
        flags: Values of flags of their own by dotted key; None where they were not given.

    Raises:
        UsageError: An assignment without "=".
        ConfigError: Whatever is wrong with a source.
    """
    from omnilytics.foundation.errors import UsageError
    from omnilytics.foundation.settings import load_settings
    from omnilytics.service.settings import ServerSettings

    values: dict[str, str] = {}
    for assignment in assignments or []:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise UsageError("not an assignment", got=key[:80], want="--set SECTION.KEY=VALUE")
        values[key.strip()] = value.strip()
    values |= {key: str(value) for key, value in (flags or {}).items() if value is not None}
    return load_settings(ServerSettings, file=config, flags=values)


def server_settings(
    config: Path | None,
    assignments: list[str] | None,
    flags: Mapping[str, object] | None = None,
) -> ServerSettings:
    """Return the settings alone; see `load`."""
    return load(config, assignments, flags).settings


@application.command()
def show(
    config: ConfigFile = None,
    settings: Set = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Tell where each value comes from.")
    ] = False,
    json: Json = False,
) -> None:
    """Show every setting; secrets only by their path, URLs without their secret parts."""
    with reported_errors(as_json=json):
        found = load(config, settings).shown()
        if json:
            print_json(
                {
                    each.key: {"value": each.value, "origin": each.origin} if origin else each.value
                    for each in found
                }
            )
            return
        width = max(len(each.key) for each in found)
        for each in found:
            value = "(not set)" if each.value is None else each.value
            place = f"    # {each.origin}" if origin else ""
            typer.echo(f"{each.key:<{width}}  {value}{place}")


@application.command()
def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("omnilytics.toml"),
) -> None:
    """Write a settings file with every setting, its meaning and its default."""
    with reported_errors():
        from omnilytics.foundation.errors import ConfigError
        from omnilytics.service.example import example_settings

        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(example_settings())
        except FileExistsError:
            raise ConfigError(
                "there is a file of that name", got=path, hint="choose another name"
            ) from None
        except OSError as error:
            raise ConfigError("cannot write", got=f"{path}: {error.strerror}") from None
        narrate(f"wrote {path}; set chain.market and the files under [keys]")
