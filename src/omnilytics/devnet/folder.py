"""The folder of a network: what lies where, what says that it is one, who may work on it.

`network.json` is written last, when the network is whole: a folder without it was left unfinished.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnilytics.devnet.anvil import STATE_SECONDS
from omnilytics.devnet.processes import BackgroundProcess
from omnilytics.foundation.errors import ConfigError

MAX_SERVERS = 32
MAX_OWNERS = 100
MAX_FILE_BYTES = 1 << 20
_MARKER = "README"
_MARKER_TEXT = f"""\
A network for trying out OmniLytics on one machine, made by `omnilytics devnet up`.

The keys here protect nothing: their passwords lie beside them. They are random, so that nobody can
guess them, and encrypted with light scrypt parameters. Use them on no other chain.

network.json     what there is and where it listens
anvil.json       the chain's state, written every {STATE_SECONDS} seconds and at the end
logs/anvil.log   the chain's log
servers/         a folder each: server.toml, server.log, keys, data
accounts/        a folder each: client.toml, keystore, password
processes/       ids of what runs

`omnilytics devnet down --delete` removes it all.
"""

Text = Annotated[str, Field(max_length=4_096)]
AddressText = Annotated[str, Field(pattern="^0x[0-9a-f]{40}$")]
UrlText = Annotated[str, Field(pattern="^http://127[.]0[.]0[.]1:[0-9]{1,5}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkServer(_Record):
    """A server; `config` is relative to the folder."""

    address: AddressText
    endpoint: UrlText
    operations: UrlText
    config: Text


class NetworkAccount(_Record):
    """A funded account; `config` is relative to the folder."""

    name: Text
    address: AddressText
    config: Text


class Network(_Record):
    """What `network.json` says."""

    url: UrlText
    chain_id: int
    market: AddressText
    first_block: int
    block_seconds: int
    servers: Annotated[tuple[NetworkServer, ...], Field(max_length=MAX_SERVERS)]
    accounts: Annotated[tuple[NetworkAccount, ...], Field(max_length=MAX_OWNERS + 1)]

    @property
    def port(self) -> int:
        """Return the chain's port."""
        return int(self.url.rpartition(":")[2])


@dataclass(frozen=True)
class NetworkFolder:
    """The places in a folder."""

    path: Path

    @property
    def network_file(self) -> Path:
        """Return what says how to reach everything."""
        return self.path / "network.json"

    @property
    def state(self) -> Path:
        """Return where anvil keeps the chain."""
        return self.path / "anvil.json"

    def server(self, number: int) -> Path:
        """Return the folder of server 1, 2, ..."""
        return self.path / "servers" / f"server-{number}"

    def account(self, name: str) -> Path:
        """Return the folder of an account."""
        return self.path / "accounts" / name

    def chain_process(self) -> BackgroundProcess:
        """Return the process of anvil."""
        return self._process("anvil", self.path / "logs" / "anvil.log")

    def server_process(self, number: int) -> BackgroundProcess:
        """Return the process of a server."""
        return self._process(f"server-{number}", self.server(number) / "server.log")

    def server_processes(self) -> list[BackgroundProcess]:
        """Return the processes of all servers that have a folder."""
        numbers = range(1, MAX_SERVERS + 1)
        return [self.server_process(k) for k in numbers if self.server(k).is_dir()]

    def is_network(self) -> bool:
        """Tell whether `make` made this folder."""
        try:
            return (self.path / _MARKER).read_text() == _MARKER_TEXT
        except (OSError, UnicodeDecodeError):
            return False

    def is_finished(self) -> bool:
        """Tell whether the network in it was made to its end."""
        return self.is_network() and self.network_file.exists()

    def make(self) -> None:
        """Make the folder; raises ConfigError where it cannot be, or has other files in it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise ConfigError(
                    "the folder has other files in it", got=self.path, hint="name another: --folder"
                )
            self.path.chmod(0o700)
            (self.path / _MARKER).write_text(_MARKER_TEXT)
            for name in ("logs", "processes", "servers", "accounts"):
                (self.path / name).mkdir()
        except OSError as error:
            raise ConfigError(
                "cannot make the folder", got=f"{self.path}: {error.strerror}"
            ) from None

    def delete(self) -> None:
        """Remove the folder with everything in it; the caller knows that it is a network's."""
        shutil.rmtree(self.path)

    def check(self) -> None:
        """Raise ConfigError unless the folder is a network's."""
        if not self.is_network():
            raise ConfigError(
                "no development network in this folder",
                got=self.path,
                hint="omnilytics devnet up makes one; --folder names another folder",
            )

    def write(self, network: Network) -> None:
        """Say that the network is whole."""
        self.network_file.write_text(network.model_dump_json(indent=2) + "\n")

    def read(self) -> Network:
        """Return what the network is; raises ConfigError where there is none, or half of one."""
        self.check()
        try:
            with self.network_file.open("rb") as file:
                return Network.model_validate_json(file.read(MAX_FILE_BYTES))
        except FileNotFoundError:
            raise ConfigError(
                "the network was left unfinished", got=self.path, hint="omnilytics devnet up"
            ) from None
        except (OSError, ValidationError) as error:
            raise ConfigError(
                "network.json cannot be used",
                got=f"{self.path}: {type(error).__name__}",
                hint="omnilytics devnet down --delete, then up again",
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, which is made; raises ConfigError while another command changes it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(
                "cannot use the folder", got=f"{self.path}: {error.strerror}"
            ) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(
                    "another command is at work on this network", got=self.path, hint="wait for it"
                ) from None
            yield
        finally:
            with suppress(OSError):  # nothing came of it
                self.path.rmdir()
            os.close(descriptor)

    def _process(self, name: str, log: Path) -> BackgroundProcess:
        return BackgroundProcess(name, self.path / "processes" / f"{name}.json", log)


def toml(sections: Mapping[str, Mapping[str, object]]) -> str:
    """Return a settings file; values are text, numbers and truth values."""
    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        lines.append("")
    return "\n".join(lines)
