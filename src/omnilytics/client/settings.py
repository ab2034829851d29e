"""The settings of a data owner or model owner: which market, which account, where files lie."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from omnilytics.chain.settings import AccountSection, ChainSection, Place
from omnilytics.foundation.settings import Section, Settings


class ClientSection(Section):
    """Where an owner or buyer keeps its files."""

    data: Place = Field(
        default=Path("~/.local/share/omnilytics/client"),
        description="Folder of what must outlive a run; one account's alone.",
    )


class ClientSettings(Settings):
    """All settings of a data owner or model owner."""

    chain: ChainSection = ChainSection()
    keys: AccountSection = AccountSection()
    client: ClientSection = ClientSection()
