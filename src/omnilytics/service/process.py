"""The process of a server, from its settings to its last line in the log.

Start: settings, log, data folder (locked), ports, keys, chain and contracts, database; then
requests are served and rounds are taken part in. Whatever is wrong at the start ends it with an
error of the tree; whatever goes wrong later is logged, retried, and shown by /readyz.

End, by SIGTERM or SIGINT: no new connections and no new steps; requests and steps under way get
`operations.shutdown_seconds`; then the process ends with 0. A step that is cut off is done again
after the next start: what it did is durable, what it did not is due still. A call whose receipt was
being waited for is in the outbox, and the next process finishes it. A second signal ends at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from omnilytics import __version__
from omnilytics.algebra import kernels
from omnilytics.api.application import create_application
from omnilytics.chain.account_files import open_signing_key
from omnilytics.chain.connection import Chain
from omnilytics.chain.market import connect_market, verify_market
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.logging import get_logger
from omnilytics.foundation.loop_thread import LoopThread
from omnilytics.foundation.units import show_address
from omnilytics.roles.server import Server
from omnilytics.roles.server.node import ServerNode
from omnilytics.service.event_log import EventLog
from omnilytics.service.folder import bind, locked_folder
from omnilytics.service.health import Health
from omnilytics.service.housekeeping import Housekeeping
from omnilytics.service.keys import open_hpke_key
from omnilytics.service.leases import Leases
from omnilytics.service.metered import MeteredRepository
from omnilytics.service.metrics import Metrics
from omnilytics.service.operations import add_health_routes, operations_application
from omnilytics.service.outbox import DatabaseOutbox, keep_finishing
from omnilytics.service.registration import Registration
from omnilytics.service.requests import Observed
from omnilytics.service.rounds import RoundsLoop
from omnilytics.service.serving import Listener
from omnilytics.service.settings import ServerSettings, secret_text
from omnilytics.service.threads import Workers
from omnilytics.service.watch import ChainWatch
from omnilytics.transport.meter import Meter
from omnilytics.transport.peers import SocketPeers

_LOG = get_logger("omnilytics.server")
_LAST_SECONDS = 1.0
"""For closing what is open, after requests and steps had their time."""


@dataclass
class Parts:
    """What a running server is made of."""

    settings: ServerSettings
    node: ServerNode
    chain: Chain
    metrics: Metrics
    watch: ChainWatch
    health: Health
    registration: Registration


def run_server(settings: ServerSettings) -> int:
    """Run a server until it is told to stop; return the exit code.

    Raises:
        OmniLyticsError: It could not start; says why.
    """
    started = time.perf_counter()
    with ExitStack() as stack:
        stack.enter_context(locked_folder(settings.server.data))
        public = bind(settings.server.listen, "server.listen")
        stack.callback(public.close)
        private = None
        if settings.operations.listen is not None:
            private = bind(settings.operations.listen, "operations.listen")
            stack.callback(private.close)
        warming = threading.Thread(target=kernels.warm_up, name="warm-up", daemon=True)
        warming.start()
        parts = assemble(settings)
        stack.callback(parts.node.repository.close)
        stack.callback(parts.node.words.close)
        stack.callback(parts.watch.stop)
        warming.join()
        return asyncio.run(_Process(parts, public, private, started).run())


def assemble(settings: ServerSettings) -> Parts:
    """Open keys, chain and database, and connect them; nothing runs yet but the chain's watch."""
    key = open_signing_key(settings.keys)
    hpke_key = open_hpke_key(settings.keys)
    chain, market = connect_market(settings.chain)
    metrics = Metrics()
    meter = Meter()
    registration = Registration(market, key.address, hpke_key.public, settings.server.endpoint)
    registration.refresh()
    registration.check_key()
    repository = MeteredRepository(
        settings.server.data,
        chain_id=chain.chain_id,
        contract=market.address,
        server=key.address,
        database_url=secret_text(settings.storage.database_url),
        reconcile_when_new=registration.has_past,
        metrics=metrics,
    )
    try:
        repository.check_reconciled()
    except BaseException:
        repository.close()
        raise
    if repository.database.is_sqlite:
        repository.jobs.release_all()  # of a process of before: this one has the folder's lock
    market.keep_events_in(EventLog(repository.database, first_block=settings.chain.first_block))
    outbox = DatabaseOutbox(repository.outbox, key.address)
    sender = Sender(chain, key.secret, outbox=outbox, most_fee_wei=settings.chain.most_fee)
    peers = SocketPeers(meter)
    node = ServerNode(
        key=key,
        hpke_key=hpke_key,
        repository=repository,
        market=market,
        writer=MarketWriter(market, sender),
        connect=peers.connect,
        meter=meter,
        policy=settings.policy.policy(),
        words=settings.words.executor(),
    )
    watch = ChainWatch(
        chain,
        lambda: verify_market(settings.chain, market),
        poll_seconds=settings.chain.poll_seconds,
        on_slow_tick=lambda: _refresh(node, registration, metrics),
    )
    health = Health(
        watch=watch,
        repository=repository,
        registration=registration,
        folder=settings.server.data,
        least_free_bytes=settings.operations.least_free_bytes,
        stale_seconds=settings.chain.stale_seconds,
        is_development=chain.is_development,
        metrics=metrics,
    )
    return Parts(settings, node, chain, metrics, watch, health, registration)


def _refresh(node: ServerNode, registration: Registration, metrics: Metrics) -> None:
    """Look at what changes seldom: the registration and the account."""
    registration.refresh()
    metrics.balance.set(node.chain.balance(node.address))
    metrics.nonce.set(node.chain.next_nonce(node.address))
    metrics.gas_cost.set(node.writer.sender.gas_cost_wei)


class _Process:
    """The running server; see the module docstring."""

    def __init__(
        self,
        parts: Parts,
        public: socket.socket,
        private: socket.socket | None,
        started: float,
    ) -> None:
        self._parts = parts
        self._started = started
        self._stop = asyncio.Event()
        settings = parts.settings
        self._workers = Workers(settings.http.workers, settings.http.waiting)
        node = parts.node
        housekeeping = Housekeeping(
            node.repository, node.market, node.address, settings.retention, parts.metrics
        )
        self._rounds = RoundsLoop(
            node,
            parts.watch,
            settings.rounds,
            parts.metrics,
            Leases(node.repository.jobs, seconds=settings.rounds.lease_seconds),
            housekeeping=housekeeping.run_if_due,
        )
        self._rounds_thread = LoopThread("rounds")
        self._ended = threading.Event()
        self._finishing = threading.Thread(
            target=keep_finishing,
            args=(node.writer.sender, self._ended),
            name="outbox",
            daemon=True,
        )
        application = create_application(
            Server(parts.node), work=self._workers, limits=settings.http.limits()
        )
        add_health_routes(application, parts.health, reasons=False)
        self._public = Listener(
            Observed(
                application,
                parts.metrics,
                body_seconds=settings.http.body_seconds,
                body_bytes=settings.http.body_bytes,
            ),
            public,
            shutdown_seconds=settings.operations.shutdown_seconds,
            keep_alive_seconds=settings.http.keep_alive_seconds,
            connections=settings.http.connections,
            trusted_proxies=settings.http.trusted_proxies,
            limits=settings.http.connection_limits(),
        )
        self._private = None
        if private is not None:
            operations = operations_application(parts.health, parts.metrics)
            self._private = Listener(operations, private, shutdown_seconds=_LAST_SECONDS)

    async def run(self) -> int:
        """Serve until a signal, then end in order; return the exit code."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._on_signal, each)
        await asyncio.to_thread(self._parts.watch.start)
        self._finishing.start()
        following = asyncio.wrap_future(self._rounds_thread.submit(self._rounds.run()))
        public = asyncio.create_task(self._public.listen())
        private = asyncio.create_task(self._private.listen()) if self._private else None
        self._tell_start()
        stopping = asyncio.create_task(self._stop.wait())
        parts: list[asyncio.Future[Any]] = [stopping, following, public]
        ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        code = 0
        if stopping not in ended:
            _LOG.error("a part of the server ended by itself")
            code = 1
        await self._end(following, public, private)
        _LOG.info("stopped", seconds=round(time.perf_counter() - self._started, 1), exit_code=code)
        return code

    def _tell_start(self) -> None:
        node, settings = self._parts.node, self._parts.settings
        _LOG.info(
            "serving",
            version=__version__,
            listen=settings.server.listen,
            operations=settings.operations.listen,
            server=show_address(node.address),
            market=show_address(node.market.address),
            chain=node.chain.chain_id,
            startup_seconds=round(time.perf_counter() - self._started, 3),
        )
        if self._parts.registration.problem:
            hint = "omnilytics server register, or set-profile"
            _LOG.warning("not ready", problem=self._parts.registration.problem, hint=hint)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            _LOG.warning("second signal: ending at once", signal=number.name)
            os._exit(128 + number)
        _LOG.info("stopping", signal=number.name)
        self._stop.set()

    async def _end(
        self,
        following: asyncio.Future[None],
        public: asyncio.Task[None],
        private: asyncio.Task[None] | None,
    ) -> None:
        seconds = self._parts.settings.operations.shutdown_seconds
        last_resort = threading.Timer(seconds + 2 * _LAST_SECONDS, _abandon)
        last_resort.daemon = True
        last_resort.start()
        self._parts.health.stopping = True
        self._ended.set()
        self._public.should_exit = True
        self._rounds_thread.loop.call_soon_threadsafe(self._rounds.stop)
        _, late = await asyncio.wait({following, public}, timeout=seconds)
        if following in late:
            _LOG.warning("cut off a step under way: the next start takes it up")
        for each in late:
            each.cancel()
        if self._private is not None and private is not None:
            self._private.should_exit = True
            await asyncio.wait({private}, timeout=_LAST_SECONDS)
        self._parts.watch.stop()
        self._rounds_thread.stop(timeout_seconds=0.2)
        self._workers.stop(timeout_seconds=0.2)


def _abandon() -> None:
    _LOG.warning("abandoned what was under way: the next start takes it up")
    sys.stderr.flush()
    os._exit(0)
