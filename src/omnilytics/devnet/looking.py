"""What a network does now: its processes, its chain, its tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from omnilytics.chain.connection import connect
from omnilytics.chain.reader import MarketReader
from omnilytics.devnet.folder import Network, NetworkFolder, NetworkServer
from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.units import Address, TaskId, show_address

ASK_SECONDS = 5.0
_MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True)
class ProcessState:
    """One process; `problem` is None where all is well."""

    name: str
    pid: int | None
    place: str
    problem: str | None
    log: Path


@dataclass(frozen=True)
class Look:
    """A network as seen now; `head` is None where the chain does not answer."""

    network: Network
    processes: tuple[ProcessState, ...]
    head: int | None
    tasks: tuple[dict[str, Any], ...]

    @property
    def is_well(self) -> bool:
        """Whether everything runs and is ready."""
        return all(process.problem is None for process in self.processes)


def look(path: Path) -> Look:
    """Return what the network in a folder does; raises ConfigError where there is none."""
    folder = NetworkFolder(path.absolute())
    network = folder.read()
    anvil = folder.chain_process()
    head, tasks, problem = _ask_chain(network)
    states = [_state(anvil.name, anvil.pid(), network.url, problem, anvil.log)]
    with asking() as client:
        for number, server in enumerate(network.servers, start=1):
            process = folder.server_process(number)
            problem = readiness(client, server)
            states.append(
                _state(process.name, process.pid(), server.endpoint, problem, process.log)
            )
    return Look(network, tuple(states), head, tasks)


def asking() -> httpx.Client:
    """Return a client for `readiness`; a proxy of the environment is not asked."""
    return httpx.Client(timeout=ASK_SECONDS, trust_env=False)


def readiness(client: httpx.Client, server: NetworkServer) -> str | None:
    """Return why a server is not ready, or None if it is."""
    try:
        checks = client.get(server.operations + "/readyz").json()["checks"]
        failed = [f"{name}: {reason}" for name, reason in checks.items() if reason != "ok"]
    except httpx.HTTPError as error:
        return f"does not answer ({type(error).__name__})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "answers nonsense: another program has its port"
    return "; ".join(failed)[:_MAX_REASON_CHARACTERS] or None


def _state(name: str, pid: int | None, place: str, problem: str | None, log: Path) -> ProcessState:
    return ProcessState(name, pid, place, "not running" if pid is None else problem, log)


def _ask_chain(
    network: Network,
) -> tuple[int | None, tuple[dict[str, Any], ...], str | None]:
    """Return head, tasks, and why the chain is not usable."""
    try:
        chain = connect(network.url, timeout_seconds=ASK_SECONDS, moves=False)
        market = MarketReader(
            chain, Address(bytes.fromhex(network.market[2:])), first_block=network.first_block
        )
        numbers = range(1, market.task_count() + 1)
        tasks = tuple(_task(market, TaskId(number)) for number in numbers)
        return chain.head(), tasks, None
    except OmniLyticsError as error:
        return None, (), str(error)


def _task(market: MarketReader, number: TaskId) -> dict[str, Any]:
    task, state = market.task(number), market.round_state(number)
    return {
        "task": number,
        "model_owner": show_address(task.model_owner),
        "closed": task.closed,
        "round": state.round,
        "phase": state.phase.name.lower(),
        "settled_rounds": task.settled_rounds,
        "rounds": task.terms.rounds,
        "servers": [show_address(member) for member in task.committee],
    }
