"""`omnilytics account`: keys in Foundry's keystore folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnilytics.cli.options import Folder, Json
from omnilytics.cli.output import narrate, print_json, reported_errors

if TYPE_CHECKING:
    from omnilytics.chain.keystore import StoredAccount
    from omnilytics.foundation.units import Address
    from omnilytics.wire.signatures import SigningKey

application = typer.Typer(
    help="Accounts: keys in encrypted files, the ones Foundry's `cast wallet` uses.",
    no_args_is_help=True,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(help="Name of the account: the name of its file.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        envvar="ETH_PASSWORD",
        help="File with the password; default: ask for it.",
    ),
]


@application.command()
def new(
    name: Name, folder: Folder = None, password_file: PasswordFile = None, json: Json = False
) -> None:
    """Make a new key."""
    with reported_errors(as_json=json):
        from omnilytics.foundation.randomness import SystemRandomness
        from omnilytics.wire.signatures import SigningKey

        _save(SigningKey.generate(SystemRandomness()), name, folder, password_file, as_json=json)


@application.command("import")
def import_key(
    name: Name, folder: Folder = None, password_file: PasswordFile = None, json: Json = False
) -> None:
    """Encrypt a private key, read from standard input (64 hexadecimal digits)."""
    with reported_errors(as_json=json):
        from omnilytics.foundation.errors import KeyMaterialError
        from omnilytics.wire.signatures import SigningKey

        text = (
            typer.prompt("Private key", hide_input=True, err=True)
            if sys.stdin.isatty()
            else sys.stdin.readline(100)
        )
        try:
            secret = bytes.fromhex(text.strip().removeprefix("0x"))
        except ValueError:
            raise KeyMaterialError("no private key", want="64 hexadecimal digits") from None
        _save(SigningKey(secret), name, folder, password_file, as_json=json)


@application.command("list")
def list_all(folder: Folder = None, json: Json = False) -> None:
    """List the accounts of a folder."""
    with reported_errors(as_json=json):
        from omnilytics.chain.keystore import default_folder, list_accounts

        place = folder or default_folder()
        accounts = list_accounts(place)
        if json:
            print_json({"folder": str(place), "accounts": [_fields(each) for each in accounts]})
            return
        if not accounts:
            narrate(f"no accounts in {place}; omnilytics account new NAME makes one")
        for account in accounts:
            typer.echo(f"{account.name:<24} {_fields(account)['address'] or 'address not stated'}")


def read_password(password_file: Path | None, *, confirm: bool = False) -> str:
    """Return the first line of the file, or what the user types.

    Raises:
        KeyMaterialError: The file cannot be read, or there is nobody to ask.
    """
    from omnilytics.foundation.errors import KeyMaterialError

    if password_file is not None:
        try:
            with password_file.open(encoding="utf-8") as file:
                return file.readline(4_096).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise KeyMaterialError(
                "the password file cannot be read", got=f"{password_file}: {error}"
            ) from None
    if not sys.stdin.isatty():
        raise KeyMaterialError("nobody to ask for the password", hint="give --password-file FILE")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True)
    return password


def parse_address(text: str) -> Address:
    """Return the address in a text; raises UsageError where it is none."""
    import re

    from omnilytics.foundation.errors import UsageError
    from omnilytics.foundation.units import Address

    if not re.fullmatch("0x[0-9a-fA-F]{40}", text):
        raise UsageError("not an address", got=text[:80], want="0x and 40 hexadecimal digits")
    return Address(bytes.fromhex(text[2:]))


def _save(
    key: SigningKey, name: str, folder: Path | None, password_file: Path | None, *, as_json: bool
) -> None:
    from omnilytics.chain.keystore import default_folder, save_account

    password = read_password(password_file, confirm=True)
    account = save_account(key, name, password, folder or default_folder())
    fields = _fields(account)
    if as_json:
        print_json(fields)
        return
    typer.echo(f"{account.name:<24} {fields['address']}")
    narrate(f"saved in {account.path}; without its password the key is lost: keep both safe")


def _fields(account: StoredAccount) -> dict[str, str | None]:
    from omnilytics.foundation.units import show_address

    address = show_address(account.address) if account.address is not None else None
    return {"name": account.name, "address": address, "path": str(account.path)}
