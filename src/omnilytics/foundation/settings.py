"""Settings from a TOML file, the environment and flags, each value with the place it came from.

A later source overrides an earlier one: defaults < file < environment < flags. An unknown key is
refused with the nearest right one, whatever its source. Values that are secret are of the types
`SecretStr` and `SecretUrl`, whose text is shown nowhere.

Not guaranteed: that a secret given in the environment or as a flag stays one, since other users of
the machine may be able to read both; passwords and keys are therefore only ever named by path.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from omnilytics.foundation.errors import ConfigError

PREFIX = "OMNILYTICS_"
CONFIG_VARIABLE = "OMNILYTICS_CONFIG"
NESTED = "__"
MAX_FILE_BYTES = 1 << 20
_NOT_SETTINGS = frozenset({CONFIG_VARIABLE, "OMNILYTICS_DEBUG", "OMNILYTICS_ANVIL"})
_SURELY_MEANT = 0.85
"""How like a setting's name another variable's must be to be taken for a slip of the pen."""


class Settings(BaseSettings):
    """Base of a program's settings; its fields are sections. Made directly it reads no source."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the arguments alone: `load_settings` reads the other sources."""
        return (init_settings,)


_Settings = TypeVar("_Settings", bound=Settings)


class Section(BaseModel):
    """A table of settings; refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class SecretUrl(SecretStr):
    """A URL that may carry a password or an access key: only scheme, host and port are shown."""

    def _display(self) -> str:
        return shown_url(self.get_secret_value())


@dataclass(frozen=True)
class Shown:
    """A value as it may be shown, and where it came from."""

    key: str
    value: object
    origin: str


@dataclass(frozen=True)
class Loaded(Generic[_Settings]):
    """Checked settings and the origin of each value that is not a default."""

    settings: _Settings
    origins: Mapping[str, str]

    def shown(self) -> tuple[Shown, ...]:
        """Return every setting in order; secrets are replaced by what they may show."""
        return tuple(
            Shown(key, _plain(value), self.origins.get(key, "default"))
            for key, value in _values(self.settings)
        )


def shown_url(url: str) -> str:
    """Return scheme, host and port of a URL: its user, path and query may be secret."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(not a URL)"
    return f"{parts.scheme}://{parts.hostname or ''}{port}"


def load_settings(
    kind: type[_Settings], *, file: Path | None = None, flags: Mapping[str, str] | None = None
) -> Loaded[_Settings]:
    """Return the settings of all sources.

    Args:
        kind: A settings class whose fields are `Section`s.
        file: TOML file; OMNILYTICS_CONFIG names it where this is None; none at all is right too.
        flags: Values by dotted key, as text.

    Raises:
        ConfigError: A file that cannot be read, an unknown key, or a value out of bounds.
    """
    file = file or _file_of_environment()
    known = dict(_fields(kind))
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    sources = [
        _from_file(kind, file, known) if file else ({}, {}),
        _from_environment(kind, known),
        _from_flags(flags or {}, known),
    ]
    for values, places in sources:
        for key, value in values.items():
            section, name = key.split(".", 1)
            merged.setdefault(section, {})[name] = value
        origins |= places
    try:
        settings = kind(**merged)
    except ValidationError as error:
        raise _invalid(error, origins) from None
    return Loaded(settings, origins)


_Source = tuple[dict[str, Any], dict[str, str]]
"""Values and their origins, by dotted key."""


def _from_file(kind: type[Settings], file: Path, known: Mapping[str, FieldInfo]) -> _Source:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError("the settings file is too large", got=file, want=MAX_FILE_BYTES)
        tables = TomlConfigSettingsSource(kind, file).toml_data
    except OSError as error:
        raise ConfigError(
            "the settings file cannot be read",
            got=f"{file}: {error.strerror}",
            hint="omnilytics config init FILE writes one",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("the settings file is not TOML", got=f"{file}: {error}") from None
    values: dict[str, Any] = {}
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise _unknown(section, known, str(file))
        for name, value in table.items():
            values[f"{section}.{name}"] = value
    for key, value in values.items():
        if key not in known:
            raise _unknown(key, known, str(file))
        if _is_path(known[key]) and isinstance(value, str):  # as its author sees it
            values[key] = str(file.parent / Path(value).expanduser())
    return values, dict.fromkeys(values, str(file))


def _from_environment(kind: type[Settings], known: Mapping[str, FieldInfo]) -> _Source:
    names = {variable(key): key for key in known}
    sections = {variable(section) for section in kind.model_fields}
    present = [name for name in os.environ if name.startswith(PREFIX) and name not in _NOT_SETTINGS]
    for name in present:
        if name not in names and (
            NESTED in name or name in sections or _nearest(name, names, _SURELY_MEANT)
        ):
            near = _nearest(name, names, 0.5)
            raise ConfigError(
                "unknown setting in the environment",
                got=name,
                hint=f"did you mean {near}?" if near else "omnilytics config show lists them",
            )
    try:
        found = EnvSettingsSource(kind, env_prefix=PREFIX, env_nested_delimiter=NESTED)()
    except SettingsError as error:
        raise ConfigError(f"the environment has a value that is no JSON: {error}") from None
    values, origins = {}, {}
    for name in present:
        if name in names:
            section, key = names[name].split(".", 1)
            values[names[name]] = found[section][key]
            origins[names[name]] = name
    return values, origins


def _from_flags(flags: Mapping[str, str], known: Mapping[str, FieldInfo]) -> _Source:
    values: dict[str, Any] = {}
    for key, text in flags.items():
        if key not in known:
            raise _unknown(key, known, "flag")
        values[key] = _structured(key, text) if text[:1] in ("[", "{") else text
    return values, dict.fromkeys(values, "flag")


def _structured(key: str, text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigError("not JSON", got=text[:80], setting=key) from None


def variable(key: str) -> str:
    """Return the environment variable of a dotted key."""
    return PREFIX + key.upper().replace(".", NESTED)


def _file_of_environment() -> Path | None:
    name = os.environ.get(CONFIG_VARIABLE)
    return Path(name).expanduser() if name else None


def _fields(kind: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    for section, outer in kind.model_fields.items():
        assert isinstance(outer.annotation, type)
        assert issubclass(outer.annotation, Section)
        for name, field in outer.annotation.model_fields.items():
            yield f"{section}.{name}", field


def _values(settings: Settings) -> Iterator[tuple[str, object]]:
    for section in type(settings).model_fields:
        table = getattr(settings, section)
        for name in type(table).model_fields:
            yield f"{section}.{name}", getattr(table, name)


def _is_path(field: FieldInfo) -> bool:
    return any(kind is Path for kind in _kinds(field.annotation))


def _kinds(annotation: object) -> Iterator[object]:
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _plain(value: object) -> object:
    """Return a value as JSON can hold it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value)


def _nearest(name: str, known: Mapping[str, object], cutoff: float) -> str | None:
    return next(iter(get_close_matches(name, known, n=1, cutoff=cutoff)), None)


def _unknown(key: str, known: Mapping[str, FieldInfo], place: str) -> ConfigError:
    near = _nearest(key, known, 0.5) or next(
        (name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]), None
    )
    return ConfigError(
        "unknown setting",
        got=key,
        hint=f"did you mean {near}?" if near else "omnilytics config show lists them",
        origin=place,
    )


def _invalid(error: ValidationError, origins: Mapping[str, str]) -> ConfigError:
    """Return the first problem in words, without the value, which may be secret."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    first = problems[0]
    key = ".".join(str(step) for step in first["loc"])
    origin = next((origins[name] for name in (key, *_parents(key)) if name in origins), "default")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "missing":
        return ConfigError(
            f"a setting is missing{more}",
            want=key,
            hint=f"set it in the settings file, as {variable(key)}, or by a flag",
        )
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{key}: {message}{more}", origin=origin)


def _parents(key: str) -> Iterator[str]:
    while "." in key:
        key = key.rpartition(".")[0]
        yield key
