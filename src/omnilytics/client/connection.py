"""What an owner or buyer is connected by: its account, the market, the servers, its folder.

Everything asynchronous runs in one event loop, in a thread of its own, so that users call plain
functions. How to wait is a part of the connection: on a shared chain that is a pause before the
next look.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from omnilytics.chain.account_files import open_signing_key
from omnilytics.chain.market import connect_market
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.client.files import FolderLock
from omnilytics.client.settings import ClientSettings
from omnilytics.foundation.errors import ConfigError, ResumableTimeoutError
from omnilytics.foundation.loop_thread import LoopThread
from omnilytics.foundation.randomness import Randomness, SystemRandomness
from omnilytics.foundation.settings import load_settings
from omnilytics.foundation.units import show_address
from omnilytics.roles.task_view import Connect
from omnilytics.transport.meter import Meter
from omnilytics.transport.peers import SocketPeers
from omnilytics.wire.signatures import SigningKey

_Result = TypeVar("_Result")
Pause = Callable[[], Awaitable[None]]
"""Returns when it is worth to look at the chain again."""


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One account on one market."""

    key: SigningKey
    market: MarketReader
    writer: MarketWriter
    connect: Connect
    data: Path
    """Folder of all state, of any market and account."""
    loop: LoopThread
    pause: Pause
    now: Callable[[], float] = time.time
    randomness: Randomness = field(default_factory=SystemRandomness)
    release: Callable[[], None] = _nothing
    """Gives back what only this connection uses."""

    @property
    def folder(self) -> Path:
        """Where this account keeps its state of this market."""
        chain_id, contract = self.market.chain.chain_id, show_address(self.market.address)
        return self.data / f"{chain_id}-{contract}" / show_address(self.key.address)

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what a coroutine gives; an interrupted wait ends it."""
        future = self.loop.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def bounded(self, work: Awaitable[_Result], timeout: float | None, what: str) -> _Result:
        """Return what `work` gives; raises ResumableTimeoutError after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await work
        except TimeoutError:
            raise ResumableTimeoutError(
                f"{what} takes longer than the time given",
                want=f"{timeout} seconds",
                hint="nothing is lost: call rounds() again to go on waiting",
            ) from None


def open_connection(settings: ClientSettings, *, key: SigningKey | None = None) -> Connection:
    """Return the connection that settings describe.

    Args:
        settings: The settings.
        key: The account's key, where it is open already.

    Raises:
        ConfigError: A setting is missing.
        KeyMaterialError: The account does not open.
        ChainError: The node does not answer, is on another chain, or has no such market.
    """
    key = key or open_signing_key(settings.keys)
    chain, market = connect_market(settings.chain)
    loop = LoopThread("omnilytics")
    peers = SocketPeers(Meter())

    def release() -> None:
        loop.submit(peers.close()).result()
        loop.stop()
        chain.close()

    return Connection(
        key=key,
        market=market,
        writer=MarketWriter(
            market, Sender(chain, key.secret, most_fee_wei=settings.chain.most_fee)
        ),
        connect=peers.connect,
        data=settings.client.data,
        loop=loop,
        pause=lambda: asyncio.sleep(settings.chain.poll_seconds),
        release=release,
    )


def client_settings(
    *,
    config: Path | str | None,
    chain: str | None,
    market: str | None,
    keystore: Path | str | None,
    password_file: Path | str | None,
    data: Path | str | None,
) -> ClientSettings:
    """Return the settings of a file, the environment and these arguments, the last first."""
    given = {
        "chain.url": chain,
        "chain.market": market,
        "keys.keystore": keystore,
        "keys.password_file": password_file,
        "client.data": data,
    }
    flags = {key: str(value) for key, value in given.items() if value is not None}
    return load_settings(
        ClientSettings, file=Path(config) if config else None, flags=flags
    ).settings


class Closing:
    """A holder of a connection and of folders, to be used as a context manager."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._locks: list[FolderLock] = []

    @property
    def connection(self) -> Connection:
        """The connection; raises ConfigError once it is closed."""
        if self._connection is None:
            raise ConfigError("it is closed", hint="make a new one")
        return self._connection

    def close(self) -> None:
        """Release connections and folders; a repeat does nothing."""
        for lock in self._locks:
            lock.release()
        if self._connection is not None:
            self._connection.release()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
