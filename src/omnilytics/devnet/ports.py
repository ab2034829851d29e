"""Ports of a network: one for the chain, two for each server, at fixed places above a base."""

from __future__ import annotations

from dataclasses import dataclass

from omnilytics.foundation.errors import ConfigError
from omnilytics.service.folder import bind

HOST = "127.0.0.1"
DEFAULT_BASE = 8600
FLAG = "--port-base"
_STEP = 10
_LAST_PORT = 65_535
_BASES_STEP = 1_000


@dataclass(frozen=True)
class Ports:
    """The chain listens at `base`; server k at base + 10 k, its operations one port above."""

    base: int
    servers: int

    def public(self, server: int) -> int:
        """Return the port of server 1, 2, ..."""
        return self.base + _STEP * server

    def operations(self, server: int) -> int:
        """Return the port of a server's health and metrics."""
        return self.public(server) + 1

    def all(self) -> list[int]:
        """Return every port."""
        numbers = range(1, self.servers + 1)
        return [self.base, *(p for k in numbers for p in (self.public(k), self.operations(k)))]


def choose_ports(base: int | None, servers: int) -> Ports:
    """Return ports that are free now.

    Args:
        base: The chain's port; None takes the default, or the next thousand that is free.
        servers: Number of servers.

    Raises:
        ConfigError: A port is taken, or there is none of that number.
    """
    if base is not None:
        ports = Ports(base, servers)
        _check_free(ports)
        return ports
    for candidate in range(DEFAULT_BASE, _LAST_PORT - _STEP * (servers + 1), _BASES_STEP):
        ports = Ports(candidate, servers)
        try:
            _check_free(ports)
        except ConfigError:
            continue
        return ports
    raise ConfigError("no free ports found", hint=f"choose some with {FLAG}")


def check_free(port: int, setting: str = FLAG) -> None:
    """Raise ConfigError that names the port and its setting where something listens at it."""
    bind(f"{HOST}:{port}", setting).close()


def _check_free(ports: Ports) -> None:
    last = max(ports.all())
    if ports.base < 1 or last > _LAST_PORT:
        raise ConfigError(
            "there are no such ports", got=f"{ports.base} to {last}", want=f"{FLAG} lower"
        )
    for port in ports.all():
        check_free(port)
