"""Reaching the market that the settings name, and making sure it is still that one."""

from __future__ import annotations

from omnilytics.chain.connection import Chain, connect
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.settings import ChainSection
from omnilytics.foundation.errors import ChainError, ConfigError
from omnilytics.foundation.units import Address


def connect_market(settings: ChainSection) -> tuple[Chain, MarketReader]:
    """Return the chain and the market that the settings name.

    Raises:
        ConfigError: The settings name no market.
        ChainError: The node does not answer, is on another chain, or has no such contract.
    """
    if settings.market is None:
        raise ConfigError(
            "a setting is missing", want="chain.market", hint="the address of the market contract"
        )
    url = settings.url.get_secret_value()
    # The market is shared: no process of it may move a chain on which others count on time.
    chain = connect(url, timeout_seconds=settings.request_seconds, moves=False)
    if settings.chain_id is not None and chain.chain_id != settings.chain_id:
        raise ChainError("the node is on another chain", got=chain.chain_id, want=settings.chain_id)
    market = MarketReader(chain, Address(settings.market), first_block=settings.first_block)
    return chain, market


def verify_market(settings: ChainSection, market: MarketReader) -> None:
    """Raise ChainError unless the node is still on the market's chain with its contracts."""
    chain, again = connect_market(settings)
    try:
        if (chain.chain_id, again.registry) != (market.chain.chain_id, market.registry):
            raise ChainError("the node is on another chain than before", got=chain.chain_id)
    finally:
        chain.close()
