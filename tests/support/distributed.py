"""A market whose servers are processes on anvil, and the clock that a test alone moves.

Servers, owners and model owner talk over TCP and JSON-RPC only; owners and model owner run in the
test's process. The chain has no interval mining: it moves by the parties' transactions, and
otherwise when the test has seen that every server looked at the chain as it is and has nothing
left to do (`Distributed.rest`). So no outcome depends on how fast a machine is.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from devnet import Anvil
from server_process import COMMAND, RunningServer, ServerFiles, prepare_server

from omnilytics.algebra.fixed_point import IntegerVector
from omnilytics.chain.bindings.market import RoundOpened, RoundSettled
from omnilytics.chain.records import Phase, RoundRecord
from omnilytics.demo.market import DemoMarket, set_up_market
from omnilytics.demo.options import check_options
from omnilytics.demo.specification import calibrate_demo, demo_specification
from omnilytics.foundation.units import Address, Round
from omnilytics.protocol.context import RoundContext
from omnilytics.roles.auditor import Auditor
from omnilytics.roles.data_owner import Contribution, DataOwner
from omnilytics.roles.server import board
from omnilytics.roles.server.complaints import (
    answer_cut_off,
    complaint_cut_off,
    hearing_cut_off,
)
from omnilytics.roles.server.sealing import next_turn
from omnilytics.roles.server.settling import GRACE_BLOCKS, CutOffs
from omnilytics.roles.task_view import TaskView
from omnilytics.transport.client import BoardItem, ServerClient
from omnilytics.wire.package import Opening
from omnilytics.wire.task_specification import TaskSpecification

PATIENCE_SECONDS = 150.0
"""For one condition, on a machine that does much else."""
CALL_SECONDS = 60.0
LOOK_SECONDS = 0.08
"""Between two looks at a condition; a condition that holds is not missed."""
_STEPS = re.compile(r'omnilytics_round_steps_(?:total\{outcome=")?(\w+)(?:"\})? (\d+)')


@dataclass(frozen=True)
class Progress:
    """Steps that one process has taken, by what came of them."""

    process: int
    changed: int = 0
    failed: int = 0
    unchanged: int = 0
    in_progress: int = 0

    def did_nothing(self, earlier: Progress, *, may_fail: bool) -> bool:
        """Tell whether no step did, or failed to do, anything since then."""
        same = (self.process, self.changed) == (earlier.process, earlier.changed)
        return same and (may_fail or self.failed == earlier.failed)

    def looked(self, earlier: Progress) -> bool:
        """Tell whether a step was taken since then that had not begun before."""
        steps = self.unchanged + self.failed - earlier.unchanged - earlier.failed
        return steps > earlier.in_progress


@dataclass
class Distributed:
    """A market whose servers are processes."""

    anvil: Anvil
    market: DemoMarket
    servers: list[RunningServer]
    """By place in the committee: server 1 is the first."""
    http: httpx.AsyncClient
    """The test's own way to servers; the parties have others."""
    auditor: Auditor
    """Judges each round again, from the chain and what servers publish."""
    blinds: list[bytes]
    """What the owners' packages hide."""
    gone: set[int] = field(default_factory=set)
    """Servers that are down, from 1; nobody waits for them."""

    @property
    def view(self) -> TaskView:
        return self.market.model_owner.view

    @property
    def living(self) -> list[int]:
        return [each for each in range(1, len(self.servers) + 1) if each not in self.gone]

    def server(self, number: int) -> RunningServer:
        return self.servers[number - 1]

    def client(self, number: int) -> httpx.AsyncClient:
        """Return the client by which owners and model owner reach a server."""
        return self.market.network._clients[self.server(number).files.endpoint]

    def state(self) -> RoundRecord:
        return self.market.reader.round_state(self.view.task)

    async def publish(self, **changes: object) -> TaskView:
        """Publish the demo's task, with other values of some fields."""
        task = demo_specification(self.market, calibrate_demo(self.market))
        task = TaskSpecification.model_validate({**task.model_dump(), **changes})
        return await self.market.model_owner.publish_task(task)

    # processes

    def restart(self, number: int, command: tuple[str, ...] = COMMAND) -> None:
        """Kill a server, as a power cut would, and start it again from its folder."""
        self.server(number).kill()
        self.servers[number - 1] = RunningServer(self.server(number).files, command)

    def lose(self, number: int) -> None:
        """Kill a server; it is down until it is found again."""
        self.server(number).kill()
        self.gone.add(number)

    def find(self, number: int) -> None:
        """Start a server again that was lost."""
        self.gone.remove(number)
        self.servers[number - 1] = RunningServer(self.server(number).files)

    async def ready(self) -> None:
        """Return once every living server is ready."""
        await self.reach(self._all_ready, "ready")

    async def stop(self) -> None:
        """Stop the living servers in order; each ends with 0."""
        codes = await asyncio.gather(
            *(asyncio.to_thread(self.server(number).stop) for number in self.living)
        )
        assert set(codes) <= {0}, codes

    # the clock

    async def rest(self, *, may_fail: bool = False) -> None:
        """Return once every living server has looked at all there is and has nothing to do.

        Args:
            may_fail: Steps that fail again and again are nothing to wait for.
        """
        earlier: list[Progress | None] = []

        async def still() -> bool:
            nonlocal earlier
            now = await asyncio.gather(*(self._progress(number) for number in self.living))
            pairs = [(a, b) for a, b in zip(earlier, now, strict=False) if a and b]
            if len(pairs) < len(now) or not all(
                after.did_nothing(before, may_fail=may_fail) for before, after in pairs
            ):
                earlier = now
                return False
            return all(after.looked(before) for before, after in pairs)

        await self.reach(still, "at rest")

    def move(self) -> None:
        """Move the chain to what is waited for next."""
        chain, state = self.market.chain, self.state()
        now, head = chain.head_timestamp(), chain.head()
        if state.phase == Phase.OPEN:
            moments = _moments(self.view, state, now)
            chain.wait_for_time(min(moment for moment in moments if moment > now))
        elif blocks := [block for block in _blocks(self.view, state) if block > head]:
            chain.wait_for_block(min(blocks))
        else:  # whoever is to post the settlement, or a fault, may be down: the next one has a turn
            chain.jump(now + self.view.specification.windows.rotation_seconds)

    async def settle(self, opened: RoundOpened) -> RoundSettled:
        """Take a round from its submission deadline to where its sum may be released."""
        self.market.chain.wait_for_time(opened.submission_deadline)
        while True:
            await self.rest()
            if (settled := self.settled(opened.round)) is not None:
                break
            assert self.market.reader.round_voided(opened.task, opened.round) is None
            self.move()
        confirmations = self.view.specification.windows.confirmations
        self.market.chain.wait_for_block(settled.position.block_number + confirmations)
        await self.rest()
        return settled

    def settled(self, number: Round) -> RoundSettled | None:
        return self.market.reader.round_settled(self.view.task, number)

    # what servers show

    async def board(
        self, number: int, round_number: Round, kinds: tuple[str, ...] | None = None
    ) -> list[BoardItem]:
        """Return what a server shows of a round."""
        client = ServerClient(self.server(number).files.endpoint, self.http)
        kinds = kinds or tuple(sorted(board.PUBLIC_KINDS))
        return await client.board("test", self.view.task, round_number, kinds)

    async def reach(self, reached: Callable[[], Awaitable[bool]], wanted: str) -> None:
        """Return once something is so; fails if a server ended by itself, or it takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await reached():
            for number in self.living:
                server = self.server(number)
                assert server.process.poll() is None, f"{number} ended: {server.tail()}"
            assert time.monotonic() < deadline, f"not {wanted} in time: {self._tell()}"
            await asyncio.sleep(LOOK_SECONDS)

    # inside

    async def _all_ready(self) -> bool:
        found = await asyncio.gather(
            *(asyncio.to_thread(self.server(number).ready) for number in self.living)
        )
        return all(each is not None and each["status"] == "ready" for each in found)

    async def _progress(self, number: int) -> Progress | None:
        server = self.server(number)
        try:
            answer = await self.http.get(server.files.operations + "/metrics")
        except httpx.TransportError:
            return None
        found = {outcome: int(count) for outcome, count in _STEPS.findall(answer.text)}
        return Progress(server.process.pid, **found)

    def _tell(self) -> str:
        tails = "\n".join(f"{number}: {self.server(number).tail()}" for number in self.living)
        return f"{self.state()}\n{tails}"


def _moments(view: TaskView, state: RoundRecord, now: int) -> list[int]:
    """Return the times that an open round has, the seal's deadline last."""
    turn = next_turn(view, state, now)
    return [
        state.submission_deadline,
        complaint_cut_off(view, state),
        hearing_cut_off(view, state),
        answer_cut_off(view, state),
        state.seal_deadline if turn is None else turn,
        state.seal_deadline,
    ]


def _blocks(view: TaskView, state: RoundRecord) -> list[int]:
    """Return the blocks that a sealed round has."""
    if state.phase != Phase.SEALED:
        return []
    cut_offs = CutOffs.of(view, state)
    return [
        state.challenge_final_block,
        *astuple(cut_offs),
        cut_offs.openings + GRACE_BLOCKS,
    ]


@dataclass(frozen=True)
class Played:
    """A round that settled."""

    opened: RoundOpened
    settled: RoundSettled
    entries: dict[Address, Contribution]
    total: IntegerVector


async def contribute(
    world: Distributed, opened: RoundOpened, owners: list[DataOwner]
) -> dict[Address, Contribution]:
    """Let owners submit, all at once."""
    entries = await asyncio.gather(
        *(owner.contribute(opened.task, opened.round) for owner in owners)
    )
    return {owner.address: entry for owner, entry in zip(owners, entries, strict=True)}


async def recover(world: Distributed, settled: RoundSettled) -> IntegerVector:
    """Let the model owner fetch the sum and take its step."""
    model_owner = world.market.model_owner
    recovered = await model_owner.recover(settled.round)
    world.market.trainer.step(recovered.gradients)
    return recovered.total


async def play_round(world: Distributed, owners: list[DataOwner]) -> Played:
    """Play a round from its opening to the model owner's step."""
    opened = await world.market.model_owner.open_round()
    entries = await contribute(world, opened, owners)
    settled = await world.settle(opened)
    return Played(opened, settled, entries, await recover(world, settled))


@asynccontextmanager
async def distributed(
    anvil: Anvil,
    folder: Path,
    *,
    servers: int = 5,
    owners: int = 5,
    rounds: int = 4,
    database_url: Callable[[], str] = lambda: "",
    word_workers: int = 1,
) -> AsyncIterator[Distributed]:
    """Run a market with honest owners and servers; what is left of it at the end is killed.

    Args:
        anvil: Its chain.
        folder: Where each server has a folder.
        servers: Size of the committee.
        owners: How many owners.
        rounds: How many rounds can be paid for.
        database_url: Makes a database for a server; SQLite where it gives none.
        word_workers: In how many processes the first server computes words; the others do in one.
    """
    options = check_options(
        dataset="breast-cancer", owners=owners, rounds=rounds, servers=servers, chain_url=anvil.url
    )
    market = set_up_market(options, folder / "demo")
    running: list[RunningServer] = []
    http = httpx.AsyncClient(timeout=CALL_SECONDS)
    auditor = Auditor(market.reader, market.network.connect)
    world = Distributed(anvil, market, running, http, auditor, _watched_blinds(market))
    try:
        for index, each in enumerate(market.servers):
            node = each.node
            files = prepare_server(
                folder / f"server-{index + 1}",
                anvil.url,
                market.reader.address,
                node.key,
                node.hpke_key,
            )
            # Idle servers look now and then; the more there are, the more each look costs.
            files.settings["words"] = {"workers": word_workers if index == 0 else 1}
            _adapt(files, database_url(), recheck_seconds=0.04 * servers)
            node.writer.set_profile(files.endpoint, node.hpke_key.public)
            market.network._clients[files.endpoint] = httpx.AsyncClient(timeout=CALL_SECONDS)
            running.append(RunningServer(files))
        await world.ready()
        yield world
    finally:
        for server in running:
            server.kill()
        await http.aclose()
        await market.close()


def _adapt(files: ServerFiles, database_url: str, *, recheck_seconds: float) -> None:
    files.settings["chain"] |= {"request_seconds": 60, "poll_seconds": 0.05}
    files.settings["rounds"] |= {
        "recheck_seconds": recheck_seconds,
        "lease_seconds": 3,
        "longest_back_off_seconds": 0.5,
    }
    if database_url:
        files.settings["storage"] = {"database_url": database_url}
        files.settings["rounds"]["lease_seconds"] = 3  # so long a killed server's tasks wait
    files.write()


def _watched_blinds(market: DemoMarket) -> list[bytes]:
    """Make all owners honest; return where the blinds of what they share will be."""
    blinds: list[bytes] = []
    for owner in market.owners:
        owner.__class__ = DataOwner
        _watch_blinds(owner, blinds)
    return blinds


def _watch_blinds(owner: Any, blinds: list[bytes]) -> None:
    def watched(view: TaskView, context: RoundContext, vector: IntegerVector) -> list[Opening]:
        openings: list[Opening] = type(owner).build_packages(owner, view, context, vector)
        blinds.extend(opening.blind for opening in openings)
        return openings

    owner.build_packages = watched
