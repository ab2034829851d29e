"""`omnilytics config`: what is set, by whom, and a file to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from omnilytics.cli.options import Json, SettingsOptions, grouped
from omnilytics.cli.output import narrate, print_json, reported_errors
from omnilytics.cli.settings import load

application = typer.Typer(
    help="Settings: a TOML file, then OMNILYTICS_SECTION__KEY, then flags.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with values would show keys
)


@application.command()
@grouped
def show(
    options: SettingsOptions,
    origin: Annotated[
        bool, typer.Option("--origin", help="Tell where each value comes from.")
    ] = False,
    json: Json = False,
) -> None:
    """Show every setting; secrets only by their path, URLs without their secret parts."""
    with reported_errors(as_json=json):
        from omnilytics.service.settings import ServerSettings

        found = load(ServerSettings, options).shown()
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
