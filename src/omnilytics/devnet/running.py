"""Keeping a network up: making it, starting what is down, waiting until all is ready, stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from omnilytics.algebra import kernels
from omnilytics.chain.connection import Chain, connect
from omnilytics.chain.reader import MarketReader
from omnilytics.devnet.anvil import anvil_command, require_anvil
from omnilytics.devnet.folder import Network, NetworkFolder
from omnilytics.devnet.founding import Plan, found_network
from omnilytics.devnet.looking import asking, readiness
from omnilytics.devnet.ports import FLAG, HOST, check_free, choose_ports
from omnilytics.devnet.processes import POLL_SECONDS, BackgroundProcess, server_command, stop
from omnilytics.foundation.errors import ChainError, PeerError, ResumableTimeoutError, UsageError
from omnilytics.foundation.units import Address
from omnilytics.service.settings import SHUTDOWN_SECONDS

DEFAULT_SERVERS, DEFAULT_OWNERS, DEFAULT_BLOCK_SECONDS = 5, 8, 1
PATIENCE_SECONDS = 120.0
_STOP_SECONDS = SHUTDOWN_SECONDS + 3.0
_WORDS_OF_LOG = 500

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What the user asks for; None leaves it to the default, or to what is there."""

    servers: int | None = None
    owners: int | None = None
    block_seconds: int | None = None
    port_base: int | None = None


def bring_up(path: Path, wanted: Wanted, tell: Tell) -> Network:
    """Make a network in a folder, or start what is down of the one that is there.

    What a failed or interrupted start left behind is made anew; its logs stay until then.

    Args:
        path: The folder.
        wanted: What to make.
        tell: Takes lines of narration.

    Raises:
        ConfigError: anvil is missing, a port is taken, the folder cannot be used.
        UsageError: The network that is there is another one than wanted.
        ChainError: anvil does not start, or lost the market; says why.
        PeerError: A server does not start; says why.
    """
    folder = NetworkFolder(path.absolute())
    binary = require_anvil()
    with folder.locked():
        if folder.is_finished():
            network = folder.read()
            _check_same(network, wanted)
            _restart(folder, network, binary, tell)
            return network
        if folder.is_network():
            _stop_all(folder, tell)
            folder.delete()
        return _make(folder, binary, wanted, tell)


def take_down(path: Path, *, delete: bool, tell: Tell) -> list[str]:
    """Stop servers, then the chain; return the names of what had to be killed.

    Raises:
        ConfigError: There is no network in the folder.
    """
    folder = NetworkFolder(path.absolute())
    folder.check()
    with folder.locked():
        killed = _stop_all(folder, tell)
        if delete:
            folder.delete()
            tell(f"removed {folder.path}")
    return killed


def _make(folder: NetworkFolder, binary: Path, wanted: Wanted, tell: Tell) -> Network:
    plan = Plan(
        ports=choose_ports(
            wanted.port_base, DEFAULT_SERVERS if wanted.servers is None else wanted.servers
        ),
        owners=DEFAULT_OWNERS if wanted.owners is None else wanted.owners,
        block_seconds=wanted.block_seconds or DEFAULT_BLOCK_SECONDS,
    )
    folder.make()
    try:
        network = _found(folder, binary, plan, tell)
    except BaseException:  # an interrupt too leaves nothing running
        _stop_all(folder, tell)
        raise
    folder.write(network)
    return network


def _found(folder: NetworkFolder, binary: Path, plan: Plan, tell: Tell) -> Network:
    processes: dict[int, BackgroundProcess] = {}

    def start(number: int) -> None:
        processes[number] = _start_server(folder, number)

    url = f"http://{HOST}:{plan.ports.base}"
    tell(f"starting anvil at {url}")
    anvil = _start_anvil(folder, binary, plan.ports.base, plan.block_seconds)
    kernels.warm_up()  # once, and not in every server at the same time, where no cache is
    chain = _connect(anvil, url)
    tell(f"deploying the market, starting {plan.ports.servers} servers")
    network = found_network(folder, chain, plan, start)
    chain.close()
    _wait_ready(network, processes)
    return network


def _restart(folder: NetworkFolder, network: Network, binary: Path, tell: Tell) -> None:
    anvil = folder.chain_process()
    runs = anvil.pid() is not None
    if not runs:
        _check_free(network.url)
        tell(f"starting anvil at {network.url} from its saved state")
        anvil = _start_anvil(folder, binary, network.port, network.block_seconds)
    chain = _connect(anvil, network.url)
    _check_market(chain, network)
    if not runs:
        chain.mine(1)  # the saved head is as old as the state
    chain.close()
    processes: dict[int, BackgroundProcess] = {}
    for number, server in enumerate(network.servers, start=1):
        process = folder.server_process(number)
        if process.pid() is None:
            for url in (server.endpoint, server.operations):
                _check_free(url)
            tell(f"starting {process.name}")
            process = _start_server(folder, number)
            runs = False
        processes[number] = process
    if runs:
        tell("it runs already")
    _wait_ready(network, processes)


def _check_free(url: str) -> None:
    """Raise ConfigError where something listens already: what others know cannot be moved."""
    check_free(int(url.rpartition(":")[2]), f"{FLAG} of a network in another --folder")


def _check_same(network: Network, wanted: Wanted) -> None:
    there = Wanted(
        servers=len(network.servers),
        owners=len(network.accounts) - 1,
        block_seconds=network.block_seconds,
        port_base=network.port,
    )
    for name, got in vars(wanted).items():
        if got not in (None, getattr(there, name)):
            raise UsageError(
                f"the network in this folder has another --{name.replace('_', '-')}",
                got=got,
                want=getattr(there, name),
                hint="omnilytics devnet down --delete, or another --folder",
            )


def _check_market(chain: Chain, network: Network) -> None:
    try:
        MarketReader(chain, Address(bytes.fromhex(network.market[2:])))
    except ChainError as error:
        raise ChainError(
            f"the saved chain does not have the market: {error.message}",
            got=network.market,
            hint="omnilytics devnet down --delete, then up again",
        ) from None


def _start_anvil(
    folder: NetworkFolder, binary: Path, port: int, block_seconds: int
) -> BackgroundProcess:
    process = folder.chain_process()
    process.start(anvil_command(binary, port, folder.state, block_seconds))
    return process


def _start_server(folder: NetworkFolder, number: int) -> BackgroundProcess:
    process = folder.server_process(number)
    process.start(server_command(folder.server(number) / "server.toml"))
    return process


def _connect(anvil: BackgroundProcess, url: str) -> Chain:
    """Return the chain once anvil answers; it runs by itself, since several processes share it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        chain: Chain | None = None
        try:
            chain = connect(url, moves=False)
        except ChainError:
            if time.monotonic() >= deadline:
                raise
        if anvil.pid() is None:  # whoever answers is another one
            raise ChainError("anvil ended", got=_last_words(anvil), want=f"see {anvil.log}")
        if chain is not None:
            return chain
        time.sleep(POLL_SECONDS)


def _wait_ready(network: Network, processes: Mapping[int, BackgroundProcess]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    waiting = dict(processes)
    with asking() as client:
        while waiting:
            for number, process in tuple(waiting.items()):
                problem = readiness(client, network.servers[number - 1])
                if process.pid() is None:
                    name, words = process.name, _last_words(process)
                    raise PeerError(f"{name} ended", got=words, want=f"see {process.log}")
                if problem is None:
                    del waiting[number]
                elif time.monotonic() >= deadline:
                    name = process.name
                    raise ResumableTimeoutError(f"{name} is not ready", got=problem)
            time.sleep(POLL_SECONDS)


def _last_words(process: BackgroundProcess) -> str:
    return process.tail()[-_WORDS_OF_LOG:] or "no word"


def _stop_all(folder: NetworkFolder, tell: Tell) -> list[str]:
    """Stop the servers, then the chain that they use."""
    servers = folder.server_processes()
    anvil = folder.chain_process()
    running = [process.name for process in (*servers, anvil) if process.pid() is not None]
    tell("stopping " + ", ".join(running) if running else "nothing runs")
    return stop(servers, _STOP_SECONDS) + stop([anvil], _STOP_SECONDS)
