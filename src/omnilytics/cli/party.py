"""Whoever a command acts for: its settings, its market and its account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from omnilytics.chain.account_files import open_signing_key
from omnilytics.chain.keystore import list_accounts
from omnilytics.chain.market import connect_market
from omnilytics.cli.account import parse_address, read_password
from omnilytics.cli.options import AccountOptions, Asking, SettingsOptions
from omnilytics.cli.plans import Payer
from omnilytics.cli.settings import client_settings, server_settings
from omnilytics.cli.transactions import transact
from omnilytics.foundation.errors import KeyMaterialError, UsageError
from omnilytics.foundation.units import Address, show_address

if TYPE_CHECKING:
    from omnilytics.chain.reader import MarketReader
    from omnilytics.chain.settings import AccountSection, ChainSection
    from omnilytics.chain.writer import MarketWriter
    from omnilytics.client.settings import ClientSettings
    from omnilytics.service.settings import ServerSettings
    from omnilytics.wire.signatures import SigningKey


class _HasAccount(Protocol):
    @property
    def chain(self) -> ChainSection: ...
    @property
    def keys(self) -> AccountSection: ...


_Settings = TypeVar("_Settings", bound=_HasAccount)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Party(Generic[_Settings]):
    """Somebody with an account on a market."""

    settings: _Settings
    market: MarketReader
    payer: Payer

    @property
    def address(self) -> Address:
        """The account."""
        return self.payer.address

    @property
    def key(self) -> SigningKey:
        """The account's key; raises KeyMaterialError where only its address is known."""
        if self.payer.key is None:
            self.payer.secret()
        assert self.payer.key is not None
        return self.payer.key

    def send(
        self,
        call: Callable[[MarketWriter], _Result],
        *,
        action: str,
        comes_back: str,
        asking: Asking,
    ) -> _Result | None:
        """Show, confirm and send one call; see `cli.transactions.transact`."""
        return transact(
            self.market, self.payer, call, action=action, comes_back=comes_back, asking=asking
        )


def operator(
    options: AccountOptions, asking: Asking, flags: Mapping[str, Any] | None = None
) -> Party[ServerSettings]:
    """Return whoever runs the server of these settings."""
    return _party(server_settings(options, flags), options, asking)


def client(options: AccountOptions, asking: Asking) -> Party[ClientSettings]:
    """Return the data owner or model owner of these settings."""
    return _party(client_settings(options), options, asking)


def market_of(options: SettingsOptions) -> MarketReader:
    """Return the market of somebody's settings; no account is needed."""
    return connect_market(client_settings(options).chain)[1]


def open_payer(keys: AccountSection, options: AccountOptions, asking: Asking) -> Payer:
    """Return the account that pays; where nothing is signed its address is enough.

    Raises:
        ConfigError: The settings name no keystore.
        KeyMaterialError: The key does not open, or is another account's than `--from`.
    """
    if asking.unsigned:
        return Payer(address_of(keys, options))
    key = open_signing_key(keys, ask=lambda: read_password(None))
    if options.sender is not None and parse_address(options.sender) != key.address:
        raise KeyMaterialError(
            "the keystore holds another account than --from names",
            got=show_address(key.address),
            want=options.sender,
        )
    return Payer(key.address, key)


def address_of(keys: AccountSection, options: AccountOptions | None = None) -> Address:
    """Return an account's address: `--from`, what the keystore states, or its key's."""
    if options is not None and options.sender is not None:
        return parse_address(options.sender)
    path = keys.keystore
    if path is not None:
        for account in list_accounts(path.parent):
            if account.path == path and account.address is not None:
                return account.address
    if path is None and options is not None:
        raise UsageError("no account is named", hint="give --from ADDRESS or --account NAME")
    return open_signing_key(keys, ask=lambda: read_password(None)).address


def _party(settings: _Settings, options: AccountOptions, asking: Asking) -> Party[_Settings]:
    market = connect_market(settings.chain)[1]
    return Party(settings, market, open_payer(settings.keys, options, asking))
