"""Settings that every role has: which market on which chain, and the account that signs.

Secrets are named by path, never given. URLs of nodes may carry an access key, so only their scheme
and host are ever shown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from omnilytics.foundation.amounts import parse_wei
from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.settings import SecretUrl, Section
from omnilytics.foundation.units import Address, Wei


def _address(value: object) -> object:
    if isinstance(value, str):
        if not re.fullmatch("0x[0-9a-fA-F]{40}", value):
            raise ValueError("an address is 0x and 40 hexadecimal digits")
        return bytes.fromhex(value[2:])
    return value


def _fee(value: object) -> object:
    if isinstance(value, str):
        try:
            return parse_wei(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
    return value


def _http_url(url: SecretUrl) -> SecretUrl:
    if not url.get_secret_value().startswith(("http://", "https://")):
        raise ValueError("the node's URL begins with http:// or https://")
    return url


Place = Annotated[Path, AfterValidator(Path.expanduser)]
AddressText = Annotated[Address, BeforeValidator(_address), Field(min_length=20, max_length=20)]
NodeUrl = Annotated[SecretUrl, AfterValidator(_http_url), Field(max_length=2_048)]


class AccountSection(Section):
    """The account that signs and pays."""

    keystore: Place | None = Field(
        default=None, description="Keystore V3 file of the account (omnilytics account new)."
    )
    password_file: Place | None = Field(
        default=None, description="File whose first line is the keystore's password; mode 0600."
    )


class ChainSection(Section):
    """The chain and the market on it."""

    url: NodeUrl = Field(
        default=SecretUrl("http://127.0.0.1:8545"), description="JSON-RPC URL of a node you trust."
    )
    market: AddressText | None = Field(default=None, description="Address of the market contract.")
    chain_id: Annotated[int, Field(ge=1, lt=1 << 63)] | None = Field(
        default=None, description="Refuse a node of any other chain."
    )
    first_block: int = Field(
        default=0,
        ge=0,
        lt=1 << 63,
        description="Block of the market's deployment: events start there.",
    )
    most_fee: Annotated[Wei, BeforeValidator(_fee), Field(ge=1, lt=1 << 96)] = Field(
        default=Wei(500 * 10**9),
        description='Most to offer per gas, replacements included, such as "500 gwei" (default).',
    )
    request_seconds: float = Field(
        default=10.0, ge=0.1, le=120, description="Longest time one request to the node may take."
    )
    poll_seconds: float = Field(
        default=2.0, ge=0.05, le=60, description="How often to ask for the head."
    )
    stale_seconds: float = Field(
        default=180.0, ge=1, le=86_400, description="Not ready once the head is older than this."
    )
