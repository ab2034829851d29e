"""A market on an embedded chain, and the command line as users of it type it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from market_world import MarketWorld, market_world
from typer.testing import CliRunner, Result

from omnilytics.chain.connection import Chain
from omnilytics.chain.reader import MarketReader
from omnilytics.cli.main import application
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Wei, show_address
from omnilytics.roles.task_view import Connect
from omnilytics.wire.signatures import SigningKey

ETHER = 10**18
PASSWORD = "correct horse battery"  # noqa: S105 - of keys made for one test


@dataclass
class AccountFiles:
    """A keystore with its password file, and a settings file that names both."""

    key: SigningKey
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "client.toml"


class CommandWorld:
    """A chain in this process that commands find behind any URL."""

    def __init__(self, chain: Chain, market: MarketReader | None, folder: Path) -> None:
        self.chain = chain
        self.market = market
        self.folder = folder

    def account(self, name: str, *, ether: int = 10, key: SigningKey | None = None) -> AccountFiles:
        """Make an account with its files; give it ether."""
        key = key or SigningKey.generate(SystemRandomness())
        folder = self.folder / name
        folder.mkdir()
        # As cheap as a keystore can be: the test is not about guessing passwords.
        stored = Account.encrypt(key.secret, PASSWORD, kdf="pbkdf2", iterations=1)
        (folder / "account").write_text(json.dumps(stored))
        (folder / "password").write_text(PASSWORD + "\n")
        lines = ["[chain]", 'url = "http://127.0.0.1:1"']
        if self.market is not None:
            lines.append(f'market = "{show_address(self.market.address)}"')
        lines += ["[keys]", 'keystore = "account"', 'password_file = "password"']
        lines += ["[client]", 'data = "data"']
        account = AccountFiles(key, folder)
        account.config.write_text("\n".join(lines) + "\n")
        if ether:
            self.chain.fund(key.address, Wei(ether * ETHER))
        return account

    def run(self, account: AccountFiles, *arguments: str) -> Result:
        """Run a command with an account's settings."""
        return CliRunner().invoke(application, [*arguments, "--config", str(account.config)])

    def data(self, account: AccountFiles, *arguments: str) -> Any:
        """Run a command with `--json` that succeeds; return what it printed."""
        done = self.run(account, *arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


def fails(done: Result, code: int, *phrases: str) -> None:
    """The command ended with this code, said why and did not crash."""
    assert done.exit_code == code, done.output
    for phrase in phrases:
        assert phrase in done.stderr
    assert "error [" in done.stderr
    assert PASSWORD not in done.output


@contextmanager
def command_world(
    chain: Chain, market: MarketReader | None, folder: Path, connect: Connect | None = None
) -> Iterator[CommandWorld]:
    """Let commands reach a chain, and servers in this process."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[Connect]:
        assert connect is not None
        yield connect

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("OMNILYTICS_", "ETH_"))]:
            patch.delenv(name)
        patch.setattr("omnilytics.chain.market.connect", lambda *_, **__: chain)
        if connect is not None:
            patch.setattr("omnilytics.cli.peers.connected", connected)
        yield CommandWorld(chain, market, folder)


@contextmanager
def settled_world(folder: Path, rounds: int = 1) -> Iterator[tuple[CommandWorld, MarketWorld]]:
    """A market with servers, a task and rounds that owners took part in."""
    with asyncio.Runner() as runner:
        context = market_world(folder / "market")
        world = runner.run(context.__aenter__())
        try:
            for number in range(rounds):  # the cheats of the first round have lost their bonds
                owners = None if number == 0 else [0, 1]
                opened, _sent = runner.run(world.open_and_contribute(owners))
                assert runner.run(world.settle(opened)) is not None
            market = world.market
            with command_world(
                market.chain, market.reader, folder, market.network.connect
            ) as commands:
                yield commands, world
        finally:
            runner.run(context.__aexit__(None, None, None))
