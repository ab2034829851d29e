"""The settings of a command: file, environment, `--set`, then flags of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from omnilytics.cli.options import AccountOptions, SettingsOptions, set_flags

if TYPE_CHECKING:
    from omnilytics.client.settings import ClientSettings
    from omnilytics.foundation.settings import Loaded, Settings
    from omnilytics.service.settings import ServerSettings

_Settings = TypeVar("_Settings", bound="Settings")


def load(
    kind: type[_Settings], options: SettingsOptions, flags: Mapping[str, object] | None = None
) -> Loaded[_Settings]:
    """Return the settings of all sources.

    Args:
        kind: Whose settings.
        options: The settings file, the values of `--set`, and the account's files.
        flags: Values of flags of their own by dotted key; None where they were not given.

    Raises:
        UsageError: An assignment without "=", or options that cannot work together.
        ConfigError: Whatever is wrong with a source.
        KeyMaterialError: No account of that name.
    """
    from omnilytics.foundation.errors import UsageError
    from omnilytics.foundation.settings import load_settings

    values: dict[str, str] = {}
    for assignment in options.settings or []:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise UsageError("not an assignment", got=key[:80], want="--set SECTION.KEY=VALUE")
        values[key.strip()] = value.strip()
    if isinstance(options, AccountOptions):
        values |= _account_flags(options)
    return load_settings(kind, file=options.config, flags=values | set_flags(flags or {}))


def server_settings(
    options: SettingsOptions, flags: Mapping[str, object] | None = None
) -> ServerSettings:
    """Return a server's settings; see `load`."""
    from omnilytics.service.settings import ServerSettings

    return load(ServerSettings, options, flags).settings


def client_settings(
    options: SettingsOptions, flags: Mapping[str, object] | None = None
) -> ClientSettings:
    """Return an owner's or a buyer's settings; see `load`."""
    from omnilytics.client.settings import ClientSettings

    return load(ClientSettings, options, flags).settings


def _account_flags(options: AccountOptions) -> dict[str, str]:
    from omnilytics.chain.keystore import default_folder, find_account
    from omnilytics.foundation.errors import UsageError

    if options.account is not None and options.keystore is not None:
        raise UsageError("--account and --keystore both name the account", hint="give one of them")
    keystore = options.keystore
    if options.account is not None:
        keystore = find_account(options.account, options.folder or default_folder())
    return set_flags({"keys.keystore": keystore, "keys.password_file": options.password_file})
