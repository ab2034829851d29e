"""Checks of `omnilytics doctor` that concern the market: node, contracts, account, servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import httpx

from omnilytics.chain.account_files import open_signing_key
from omnilytics.chain.bindings.market import CommitteeFixed, TaskClosed
from omnilytics.chain.market import connect_chain, connect_market
from omnilytics.chain.writer import GAS_LIMITS
from omnilytics.cli.account import read_password
from omnilytics.cli.findings import Finding, Noted, State, examine, problem
from omnilytics.cli.plans import NETWORKS
from omnilytics.foundation.amounts import show_wei
from omnilytics.foundation.errors import ChainError, ConfigError, FundsError, PeerError
from omnilytics.foundation.units import Address, TaskId, show_address

if TYPE_CHECKING:
    from omnilytics.chain.connection import Chain
    from omnilytics.chain.reader import MarketReader
    from omnilytics.chain.settings import AccountSection, ChainSection
    from omnilytics.service.settings import ServerSettings

MAX_SKEW_SECONDS = 15
"""Blocks are dated within this of the true time, but on development chains."""
MAX_ENDPOINTS = 64
_ANSWER_SECONDS = 5.0
_ENOUGH_GAS = GAS_LIMITS["create_task"]


class MarketChecks:
    """Checks that build on each other; what rests on a failed one is left out."""

    def __init__(self, chain: ChainSection, keys: AccountSection) -> None:
        self._settings = chain
        self._keys = keys
        self._chain: Chain | None = None
        self._market: MarketReader | None = None
        self._address: Address | None = None

    def common(self) -> Iterator[Finding]:
        """Check what every role needs: node, clock, contracts, account."""
        yield examine("node", self._node, "set chain.url to a node that runs")
        if self._chain is not None:
            yield examine("head", self._head)
            yield examine("clock", self._clock)
            yield examine("market", self._code)
        yield examine("account", self._account, "set keys.keystore and keys.password_file")
        if self._chain is not None and self._address is not None:
            yield examine("funds", self._funds)

    def server(self, settings: ServerSettings) -> Iterator[Finding]:
        """Check the registration of a server and its keys."""
        if self._market is not None and self._address is not None:
            yield examine("registration", lambda: self._registration(settings))

    def owner(self) -> Iterator[Finding]:
        """Check a data owner's bond."""
        if self._market is not None and self._address is not None:
            yield examine("bond", self._bond)

    def endpoints(self, task: TaskId | None, own: Address | None = None) -> Iterator[Finding]:
        """Check the servers of a task, or of all tasks that are not closed.

        Args:
            task: The task.
            own: Only the tasks of this server.
        """
        if self._market is None:
            return
        try:
            members = self._members(self._market, task, own)
        except ChainError as error:
            yield problem("servers", error, "omnilytics task list")
            return
        if not members:
            yield Finding(check="servers", state=State.NOTE, said="no committee to look at")
        for endpoint, address in list(members.items())[:MAX_ENDPOINTS]:
            name = f"server {show_address(address)[:10]}"
            yield examine(name, partial(_answers, endpoint))

    @property
    def address(self) -> Address | None:
        """The account, if it opened."""
        return self._address

    def _node(self) -> str:
        self._chain = connect_chain(self._settings)
        chain_id = self._chain.chain_id
        known = NETWORKS.get(chain_id, "unknown network")
        if self._settings.chain_id is None:
            raise Noted(
                f"chain {chain_id} ({known}), and any other would be taken too",
                f"set chain.chain_id = {chain_id}",
            )
        return f"chain {chain_id} ({known})"

    def _head(self) -> str:
        assert self._chain is not None
        number = self._chain.head()
        age = time.time() - self._chain.block_timestamp(number)
        if age > self._settings.stale_seconds and not self._chain.is_development:
            raise ChainError(
                "the node is behind",
                got=f"block {number}, {age:.0f} seconds old",
                want=f"<= {self._settings.stale_seconds:.0f} seconds",
                hint="wait until the node is in sync, or set chain.url to another",
            )
        return f"block {number:,}, {max(0, age):.0f} seconds old"

    def _clock(self) -> str:
        """A block from the future means that this clock is behind; one cannot tell if it is fast.

        A fast clock makes the head look old: then `head` fails.
        """
        assert self._chain is not None
        ahead = self._chain.head_timestamp() - time.time()
        if ahead <= MAX_SKEW_SECONDS:
            return "not behind the chain's"
        said = f"{ahead:.0f} seconds behind the chain's"
        if self._chain.is_development:
            raise Noted(f"{said}: a development chain's time is moved at will")
        raise ConfigError(f"this machine's clock is {said}", hint="timedatectl set-ntp true")

    def _code(self) -> str:
        _, self._market = connect_market(self._settings)
        shown = show_address(self._market.address)
        return f"{shown}, registry {show_address(self._market.registry)}, this version's code"

    def _account(self) -> str:
        key = open_signing_key(self._keys, ask=lambda: read_password(None))
        self._address = key.address
        return f"{show_address(key.address)} opens"

    def _funds(self) -> str:
        assert self._chain is not None
        assert self._address is not None
        balance_wei = self._chain.balance(self._address)
        least_wei = _ENOUGH_GAS * self._chain.fees_wei()[0]
        if balance_wei < least_wei:
            raise FundsError(
                "too little for the gas of a larger call",
                got=show_wei(balance_wei),
                want=f">= {show_wei(least_wei)}",
                hint=f"send ether to {show_address(self._address)}",
            )
        return f"holds {show_wei(balance_wei)}"

    def _registration(self, settings: ServerSettings) -> str:
        from omnilytics.service.keys import open_hpke_key
        from omnilytics.service.registration import Registration

        assert self._market is not None
        assert self._address is not None
        public = open_hpke_key(settings.keys).public
        found = Registration(self._market, self._address, public, settings.server.endpoint)
        found.refresh()
        if found.record is None:
            raise ChainError(found.problem or "", hint="omnilytics server register")
        if found.problem is not None:
            raise ChainError(
                found.problem, hint="name the right file or URL, or omnilytics server set-profile"
            )
        if found.record.leaving_block:
            raise Noted("registered, but leaving", "omnilytics server withdraw, once it is free")
        stake = show_wei(found.record.stake_wei)
        return f"registered with a stake of {stake}, {found.record.active_tasks} active tasks"

    def _bond(self) -> str:
        assert self._market is not None
        assert self._address is not None
        bond = self._market.bond(self._address)
        if bond.free_at:
            raise Noted(
                f"{show_wei(bond.amount_wei)}, asked back: it admits to no task",
                "omnilytics data withdraw-bond, once it is free",
            )
        if not bond.amount_wei:
            raise Noted("none; tasks may ask for one", "omnilytics data join TASK")
        return show_wei(bond.amount_wei)

    def _members(
        self, market: MarketReader, task: TaskId | None, own: Address | None
    ) -> dict[str, Address]:
        """Return the endpoints of committees, each with its server."""
        if task is not None:
            tasks = [task]
        else:
            events = market.events()
            closed = {event.task for event in events if isinstance(event, TaskClosed)}
            tasks = [
                event.task
                for event in events
                if isinstance(event, CommitteeFixed)
                and event.task not in closed
                and (own is None or own in event.committee)
            ]
        return {
            profile.endpoint: address
            for number in tasks
            for address, profile in zip(
                market.task(number).committee, market.profiles(number), strict=True
            )
        }


def _answers(endpoint: str) -> str:
    """Return that a server answers and has the key that is registered, by its own word."""
    try:
        alive = httpx.get(endpoint + "/healthz", timeout=_ANSWER_SECONDS)
        ready = httpx.get(endpoint + "/readyz", timeout=_ANSWER_SECONDS)
        checks = ready.json()["checks"]
        failed = sorted(name for name, state in checks.items() if state != "ok")
    except httpx.HTTPError as error:
        raise PeerError(
            "the server does not answer",
            got=f"{endpoint}: {type(error).__name__}",
            hint="ask its operator; up to e servers of a task may be down",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PeerError("no server of this kind answers", got=endpoint) from None
    if alive.status_code != 200 or failed:
        raise PeerError(
            "it runs without the registered HPKE key" if "key" in failed else "it is not ready",
            got=f"{endpoint}: {', '.join(failed) or alive.status_code}",
            hint="ask its operator to run omnilytics doctor",
        )
    return f"{endpoint} answers, ready, with the registered HPKE key"
