"""A small real market for tests: embedded chain, contract, servers, owners, all over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np

from omnilytics.algebra.fixed_point import IntegerVector
from omnilytics.api.application import create_application
from omnilytics.chain.bindings.market import RoundOpened, RoundSettled
from omnilytics.demo.drive import drive_round
from omnilytics.demo.market import DemoMarket, seat_committee, set_up_market
from omnilytics.demo.options import check_options
from omnilytics.demo.specification import calibrate_demo, demo_specification
from omnilytics.foundation.units import Address
from omnilytics.roles.data_owner import Contribution
from omnilytics.roles.model_owner import RecoveredRound
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.task_view import TaskView
from omnilytics.storage.repository import Repository
from omnilytics.wire.task_specification import TaskSpecification


class MarketWorld:
    """A published task and what a test does with it."""

    def __init__(self, market: DemoMarket, view: TaskView, folder: Path) -> None:
        self.market = market
        self.view = view
        self._folder = folder

    def endpoint(self, server: int) -> str:
        return self.view.specification.committee[server - 1].endpoint

    def cut_off(self, server: int) -> None:
        """Make a server unreachable; its own requests still go out."""

        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("connection refused", request=request)

        transport = httpx.MockTransport(refuse)
        self.market.network._clients[self.endpoint(server)] = httpx.AsyncClient(transport=transport)

    def reconnect(self, server: int) -> None:
        application = create_application(self.market.servers[server - 1])
        self.market.network.serve(self.endpoint(server), application)

    def restart(self, server: int) -> None:
        """Stop a server and start it again from its folder alone."""
        node = self.market.servers[server - 1].node
        node.repository.close()
        fresh = ServerNode(
            key=node.key,
            hpke_key=node.hpke_key,
            repository=Repository(
                node.repository.folder,
                chain_id=node.chain.chain_id,
                contract=node.market.address,
                server=node.address,
            ),
            market=node.market,
            writer=node.writer,
            connect=node.connect,
        )
        self.market.servers[server - 1] = type(self.market.servers[server - 1])(fresh)
        self.reconnect(server)

    async def open_and_contribute(
        self, owners: list[int] | None = None
    ) -> tuple[RoundOpened, dict[Address, Contribution]]:
        opened = await self.market.model_owner.open_round()
        chosen = [
            owner
            for index, owner in enumerate(self.market.owners)
            if owners is None or index in owners
        ]
        entries = await asyncio.gather(
            *(owner.contribute(self.view.task, opened.round) for owner in chosen)
        )
        return opened, {owner.address: entry for owner, entry in zip(chosen, entries, strict=True)}

    async def settle(self, opened: RoundOpened) -> RoundSettled | None:
        return await drive_round(self.market, self.view, opened)

    async def recover(self, settled: RoundSettled) -> RecoveredRound:
        return await self.market.model_owner.recover(settled.round)


@asynccontextmanager
async def market_world(
    folder: Path, *, specification: Mapping[str, object] | None = None, **options: object
) -> AsyncIterator[MarketWorld]:
    """Run a market on breast-cancer with few owners, ready for its first round."""
    settings: dict[str, object] = {"dataset": "breast-cancer", "owners": 5, "rounds": 3, **options}
    market = set_up_market(check_options(**settings), folder)  # type: ignore[arg-type]
    try:
        task = demo_specification(market, calibrate_demo(market))
        if specification:
            task = TaskSpecification.model_validate({**task.model_dump(), **specification})
        view = await market.model_owner.publish_task(task)
        seat_committee(market, view)
        yield MarketWorld(market, view, folder)
    finally:
        await market.close()


def expected_sum(
    contributions: dict[Address, Contribution], owners: list[Address]
) -> IntegerVector:
    """Return the sum of these owners' integers."""
    total = np.zeros_like(contributions[owners[0]].vector)
    for owner in owners:
        total += contributions[owner].vector
    return total
