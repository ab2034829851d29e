"""Real servers on a chain that a test makes up: no blocks, no HTTP, each server its own view.

The servers are the project's; their market is a stub that says whatever the test lets a server's
node of the chain say, and their boards are read directly. So a test can show different servers
different forks, restore a server's folder, or put any record on a liar's board.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from attack_owners import HONEST, Cheat, attack_world, submit
from protocol_world import Case

from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.chain.happenings import Position
from omnilytics.chain.records import Phase, RoundRecord, challenge_seed
from omnilytics.foundation.errors import PeerError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.protocol.settlement import PayoutState, build_transcript
from omnilytics.roles.server import board
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.server.server import Server
from omnilytics.roles.task_view import TaskView
from omnilytics.sharing.committee import Committee
from omnilytics.storage.repository import Repository
from omnilytics.transport.client import BoardItem
from omnilytics.transport.hpke import HpkeKey
from omnilytics.validity.challenge import Challenge
from omnilytics.wire.eip712 import SignedMessage
from omnilytics.wire.envelope import decode_signed, sign_message
from omnilytics.wire.hashing import EMPTY_ROOT
from omnilytics.wire.transcript import ServerWords, Transcript

SEALED_BLOCK = 100
TRUE_BLOCK = Hash32(b"b" * 32)
"""Hash of the challenge's block on the fork that everybody starts on."""


class Bench:
    """A sealed round of a few honest owners and its servers."""

    def __init__(
        self,
        folder: Path,
        committee: Committee,
        seed: int,
        *,
        owners: int = 2,
        cheats: Sequence[Cheat] = (),
    ) -> None:
        self.world = attack_world(committee, seed, components=(6,))
        kinds = [*([HONEST] * owners), *cheats]
        self.submissions = [submit(self.world, cheat) for cheat in kinds]
        self.case = _sealed_under(self.world.seal(*self.submissions), TRUE_BLOCK)
        self.folder = folder
        self.model_owner = self.world.new_key()
        self.view = TaskView(
            task=self.world.context.task,
            model_owner=self.model_owner.address,
            specification=self.world.specification,
            parameters=self.world.parameters,
        )
        self.state = self._state(self.case.sealed.submissions_root)
        self.head = SEALED_BLOCK + 2
        self.blocks = dict.fromkeys(committee.points, TRUE_BLOCK)
        """What each server's node of the chain says the hash of the challenge's block is."""
        self.unreachable: set[int] = set()
        """Servers whose boards nobody can read."""
        self.servers: dict[int, Server] = {}
        for point in committee.points:
            self.start(point)
            self._store_round(point)

    # servers

    def start(self, point: int) -> None:
        """Start a server from its folder."""
        nothing: Any = None
        node = ServerNode(
            key=self.world.keys[point],
            hpke_key=HpkeKey.generate(self.world.randomness),
            repository=Repository(
                self.folder / str(point),
                chain_id=self.world.context.domain.chain_id,
                contract=self.world.context.domain.contract,
                server=self.world.keys[point].address,
            ),
            market=self._market(point),
            writer=nothing,
            connect=cast(Any, self._connect),
        )
        self.servers[point] = Server(node)

    def close(self) -> None:
        """Release all databases."""
        for server in self.servers.values():
            server.node.repository.close()

    def save(self, point: int) -> None:
        """Keep a copy of a server's folder."""
        self.servers[point].node.repository.close()
        shutil.copytree(self.folder / str(point), self.folder / f"{point}-old")
        self.start(point)

    def restore(self, point: int) -> None:
        """Put the copy back: the server forgets what it did since."""
        self.servers[point].node.repository.close()
        shutil.rmtree(self.folder / str(point))
        shutil.copytree(self.folder / f"{point}-old", self.folder / str(point))
        self.start(point)

    # what servers do

    def answer(self, points: Iterable[int], times: int = 3) -> None:
        """Let servers sign their seeds, exchange them, and give words if they may."""

        async def step() -> None:
            for _ in range(times):
                for point in points:
                    await self.servers[point].answering.step(self.view, self.state)

        points = list(points)
        asyncio.run(step())

    def answered(self, point: int) -> set[Hash32]:
        """Return the seeds under which a server gave words."""
        found = set()
        for record in self._records(point, board.WORDS):
            entry = ServerWords.decode(record.body, max_bytes=1 << 20)
            if entry.server == point:
                found.add(entry.seed)
        return found

    def finalise(self, point: int, settled: RoundSettled) -> None:
        """Let a server sign the Final of the settlement that it sees."""
        asyncio.run(self.servers[point].settling.finalise(self.view, settled))

    def post(self, liar: int, kind: str, message: SignedMessage, subject: bytes = b"") -> None:
        """Put a message of a liar on its own board."""
        signed = sign_message(message, self.world.keys[liar], self.world.context.domain)
        node = self.servers[liar].node
        node.publish_record(self.view.task, self.state.round, kind, liar, subject, signed.encode())

    def messages(self, point: int, kind: str) -> list[SignedMessage]:
        """Return the messages of a kind that a server signed itself."""
        records = [record for record in self._records(point, kind) if record.server == point]
        return [decode_signed(record.body).message for record in records]

    # settlements

    def settlement(self, accepted: Iterable[Address] | None = None) -> RoundSettled:
        """Return a settlement over these owners, whose transcript every server has."""
        transcript, _ = build_transcript(
            self.case.sealed, self.case.words(), [], {}, PayoutState({}, EMPTY_ROOT)
        )
        if accepted is not None:
            transcript = transcript.model_copy(update={"accepted": tuple(sorted(accepted))})
        for server in self.servers.values():
            server.node.repository.publish(transcript.encode())
        return self._settled(transcript)

    def _settled(self, transcript: Transcript) -> RoundSettled:
        return RoundSettled(
            position=Position(
                block_number=self.head,
                block_hash=Hash32(bytes(32)),
                transaction_hash=Hash32(bytes(32)),
                log_index=0,
            ),
            task=self.view.task,
            round=self.state.round,
            submissions_root=self.case.sealed.submissions_root,
            seed=self.case.sealed.seed,
            accepted_root=transcript.accepted_root(),
            accepted_count=len(transcript.accepted),
            v_bitmap=transcript.v_bitmap,
            previous_payouts_root=EMPTY_ROOT,
            payouts_root=transcript.payouts_root(),
            transcript_hash=transcript.hash(),
            signers=transcript.v_bitmap,
            words=(),
        )

    def seed(self, block_hash: Hash32) -> Hash32:
        """Return the seed on the fork with this block, over the sealed root."""
        return _seed(self.case, block_hash)

    # inside

    def _records(self, point: int, kind: str) -> list[Any]:
        repository = self.servers[point].node.repository
        return list(repository.records(self.view.task, self.state.round, (kind,)))

    def _store_round(self, point: int) -> None:
        node, (task, number) = self.servers[point].node, (self.view.task, self.state.round)
        manifest = self.case.sealed.manifest
        with node.repository.batch():
            node.publish_record(task, number, board.MANIFEST, 0, manifest.root(), manifest.encode())
            for entry in self.submissions:
                opening = entry.packages[point - 1]
                commitment = opening.header.commitment
                node.repository.add_package(task, number, entry.owner, commitment, opening.encode())

    def _state(self, root: Hash32) -> RoundRecord:
        return RoundRecord(
            task=self.view.task,
            round=self.world.context.round,
            phase=Phase.SEALED,
            opened_block=90,
            submission_deadline=1_000,
            seal_deadline=2_000,
            submissions_root=root,
            count=len(self.submissions),
            sealed_block=SEALED_BLOCK,
            challenge_block=SEALED_BLOCK + 1,
            challenge_final_block=SEALED_BLOCK + 1,
            settlement_deadline_block=SEALED_BLOCK + 100,
        )

    def _market(self, point: int) -> Any:
        context = self.world.context

        def opened(_task: TaskId, _round: Round) -> SimpleNamespace:
            return SimpleNamespace(
                artefact_hash=context.artefact_hash, block_hash=context.block_hash
            )

        chain = SimpleNamespace(
            chain_id=context.domain.chain_id,
            head=lambda: self.head,
            head_timestamp=lambda: 1_500,
            block_timestamp=lambda _block: 900,
            block_hash=lambda _block: self.blocks[point],
        )
        return SimpleNamespace(
            chain=chain,
            address=context.domain.contract,
            domain=context.domain,
            round_opened=opened,
            round_state=lambda _task: self.state,
            settled_rounds=lambda _task: (),
        )

    def _connect(self, endpoint: str) -> _DirectClient:
        members = self.view.specification.committee
        points = [k for k, member in enumerate(members, start=1) if member.endpoint == endpoint]
        return _DirectClient(None if points[0] in self.unreachable else self.servers[points[0]])


class _DirectClient:
    """Reads a server's board and blobs without a network."""

    def __init__(self, server: Server | None) -> None:
        self._reached = server

    @property
    def _server(self) -> Server:
        if self._reached is None:
            raise PeerError("unreachable")
        return self._reached

    async def board(
        self, _phase: str, task: TaskId, round_number: Round, kinds: tuple[str, ...]
    ) -> list[BoardItem]:
        records = self._server.node.repository.records(task, round_number, kinds)
        return [BoardItem(kind=record.kind, body=record.body) for record in records]

    async def blob(self, _phase: str, name: Hash32) -> bytes:
        content = self._server.blob(name)
        if content is None:
            raise PeerError("no such blob")
        return content

    async def get_held(self, *_arguments: object) -> bytes:
        raise PeerError("nothing held")


def _seed(case: Case, block_hash: Hash32) -> Hash32:
    context = case.sealed.context
    return challenge_seed(block_hash, context.task, context.round, case.sealed.submissions_root)


def _sealed_under(case: Case, block_hash: Hash32) -> Case:
    """Return the round with the seed that the block gives."""
    seed = _seed(case, block_hash)
    challenge = Challenge(case.sealed.parameters.statement, seed)
    return Case(case.world, replace(case.sealed, seed=seed, challenge=challenge), case.packages)
