"""An owner's packages of an open round and the signed requests that carry them, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from market_world import MarketWorld

from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.roles.data_owner import DataOwner
from omnilytics.roles.task_view import round_context
from omnilytics.transport.authentication import authenticate
from omnilytics.transport.client import held_path, package_path, parts_path
from omnilytics.transport.sealed_files import Sealed
from omnilytics.wire.package import SealedPackage


@dataclass
class Submitting:
    """One owner in one open round."""

    world: MarketWorld
    owner: DataOwner
    round: Round
    sealed: list[SealedPackage]

    @property
    def task(self) -> TaskId:
        return self.world.view.task

    @property
    def address(self) -> Address:
        return self.owner.address

    def path(self, server: int = 1) -> str:
        """Return where server `server` takes its own package, or server 1 another one's."""
        if server == 1:
            return package_path(self.task, self.round, self.address)
        return held_path(self.task, self.round, server, self.address)

    def signed_path(self, path: str) -> str:
        """Return the path that is signed for parts that go to server 1."""
        holder = self.world.market.servers[0].node.address
        return parts_path(path, holder) if "/held/" in path else path

    def body(self, server: int = 1) -> bytes:
        return self.sealed[server - 1].encode()

    def headers(self, path: str, body: bytes, method: str = "PUT") -> dict[str, str]:
        return authenticate(
            method=method,
            path=path,
            body=body,
            task=self.task,
            round_number=self.round,
            time=int(self.owner._now()),
            key=self.owner.key,
            domain=self.world.market.reader.domain,
            randomness=self.owner.randomness,
        )

    async def call(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send a request to server 1."""
        endpoint = self.world.endpoint(1)
        http = self.world.market.network._clients[endpoint]
        return await http.request(method, endpoint + path, content=body, headers=headers)

    async def part(
        self, path: str, body: bytes, first: int, last: int, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send bytes `first` to `last` of a body to server 1."""
        signed = self.headers(self.signed_path(path), body) if headers is None else headers
        place = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
        return await self.call("PUT", path, body[first : last + 1], signed | place)

    async def put(self, path: str, body: bytes) -> httpx.Response:
        """Send a body to server 1 in one request."""
        return await self.call("PUT", path, body, self.headers(path, body))

    async def another(self) -> list[SealedPackage]:
        """Return packages of another commitment of the same owner."""
        view, context = (
            self.world.view,
            round_context(self.world.market.reader, self.task, self.round),
        )
        sent = await self.owner._prepare(view, context)
        return [in_memory(sealed) for sealed in sent.sealed]


async def start_submitting(world: MarketWorld, owner: int = 0) -> Submitting:
    """Open a round and let one owner prepare its packages; nothing is sent."""
    opened = await world.market.model_owner.open_round()
    chosen = world.market.owners[owner]
    context = round_context(world.market.reader, world.view.task, opened.round)
    sent = await chosen._prepare(world.view, context)
    return Submitting(world, chosen, opened.round, [in_memory(each) for each in sent.sealed])


def in_memory(sealed: Sealed) -> SealedPackage:
    """Return a sealed package that no longer needs its file."""
    content = bytes(sealed.encode())
    return SealedPackage.decode(content, max_bytes=len(content))
