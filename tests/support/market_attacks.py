"""Parties of a real market that deviate in what they show, to whom and when, for tests of attacks.

Honest parts stay as they are: only what a deviating server puts on its board, or does in its own
step, is replaced. Keys and signatures are the deviator's own.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from market_world import MarketWorld

from omnilytics.chain.bindings.market import RoundOpened, RoundSettled
from omnilytics.chain.records import Phase, RoundRecord
from omnilytics.chain.writer import terms_hash
from omnilytics.demo.market import DemoMarket
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.protocol.settlement import SealedRound
from omnilytics.protocol.words import sign_words
from omnilytics.roles.auditor import AuditedRound, Auditor
from omnilytics.roles.server import Server, StepResult
from omnilytics.roles.server.answering import MAX_WORDS_BYTES, Answering
from omnilytics.roles.server.complaints import (
    answer_cut_off,
    complaint_cut_off,
    hearing_cut_off,
)
from omnilytics.roles.task_view import chain_terms
from omnilytics.storage.repository import PublicRecord
from omnilytics.transport.client import BoardItem
from omnilytics.wire import cbor
from omnilytics.wire.eip712 import Domain, SignedMessage
from omnilytics.wire.messages import Consent
from omnilytics.wire.package import SealedPackage
from omnilytics.wire.signatures import SigningKey, recover_address
from omnilytics.wire.task_specification import TaskSpecification
from omnilytics.wire.transcript import ServerWords

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Order of secp256k1."""

MAX_RESTLESS_SWEEPS = 40

ASKER: ContextVar[int] = ContextVar("asker", default=0)
"""Evaluation point of the server whose step runs now: who asks for a board; 0 outside of steps."""

Change = Callable[[tuple[str, ...], list[BoardItem]], list[BoardItem]]
"""(kinds asked for, what the honest board would show) -> what is shown."""


def name_askers(world: MarketWorld) -> None:
    """Let a deviator know which server asks, as it would by address."""
    for server in world.market.servers:
        _name_asker(server, world.view.server_of(server.node.address))


def _name_asker(server: Server, place: int) -> None:
    plain: Callable[[TaskId], Awaitable[StepResult]] = server.step

    async def step(task: TaskId) -> StepResult:
        token = ASKER.set(place)
        try:
            return await plain(task)
        finally:
            ASKER.reset(token)

    server.step = step  # type: ignore[method-assign]


def show(server: Server, change: Change) -> None:
    """Replace what a server's board shows; what it knows itself stays as it is."""
    plain = server.board

    def board(task: TaskId, round_number: Round, kinds: tuple[str, ...]) -> bytes:
        content = cbor.decode(plain(task, round_number, kinds), max_bytes=1 << 30)
        assert isinstance(content, list)
        items = change(kinds, [BoardItem.from_plain(item) for item in content])
        return cbor.encode([item.model_dump() for item in items])

    server.board = board  # type: ignore[method-assign]


def make_honest(world: MarketWorld) -> None:
    """Let the market's built-in liar, server 5, answer as the others do."""
    world.market.servers[4].answering.__class__ = Answering


def create_with_all_consents(market: DemoMarket, specification: TaskSpecification) -> TaskId:
    """Create a task that the servers sign for whatever they would say to it."""
    terms, members = chain_terms(specification), specification.members
    expires = market.chain.head_timestamp() + 3_600
    consent = Consent(
        model_owner=market.model_owner.key.address,
        terms_hash=terms_hash(terms, members),
        expires=expires,
    )
    keys = {server.node.address: server.node.key for server in market.servers}
    signatures = [keys[member].sign(consent, market.reader.domain) for member in members]
    return market.model_owner.writer.create_task(
        terms, members, expires=expires, consents=signatures
    )


# taking a round forward by hand


async def sweep(world: MarketWorld, servers: list[Server] | None = None) -> None:
    """Let servers take steps until none changes anything."""
    for _ in range(MAX_RESTLESS_SWEEPS):
        changed = False
        for server in servers or world.market.servers:
            changed |= (await server.step(world.view.task)).changed
        if not changed:
            return
    raise AssertionError("the servers never come to rest")


async def reach_block(world: MarketWorld, block: int) -> None:
    """Mine up to a block, with all servers at rest in each."""
    chain = world.market.chain
    await sweep(world)
    while chain.head() < block:
        chain.wait_for_block(chain.head() + 1)
        await sweep(world)


async def reach_sealed(world: MarketWorld, opened: RoundOpened) -> RoundRecord:
    """Take a round to its seal; returns its state."""
    state = state_of(world)
    for moment in (
        opened.submission_deadline,
        complaint_cut_off(world.view, state),
        hearing_cut_off(world.view, state),
        answer_cut_off(world.view, state),
    ):
        world.market.chain.wait_for_time(moment)
        await sweep(world)
    state = state_of(world)
    assert state.phase == Phase.SEALED
    return state


def state_of(world: MarketWorld) -> RoundRecord:
    return world.market.reader.round_state(world.view.task)


def records(world: MarketWorld, server: int, round_number: Round, kind: str) -> list[PublicRecord]:
    """Return the records of a kind that a server keeps."""
    repository = world.market.servers[server - 1].node.repository
    return repository.records(world.view.task, round_number, (kind,))


def rotations(world: MarketWorld) -> int:
    """Return how often the turn has passed on in the present round."""
    late = world.market.chain.head_timestamp() - answer_cut_off(world.view, state_of(world))
    return late // world.view.specification.windows.rotation_seconds


async def audit(world: MarketWorld) -> list[AuditedRound]:
    """Audit all settled rounds."""
    auditor = Auditor(world.market.reader, world.market.network.connect)
    return [await auditor.audit(settled) for settled in settled_rounds(world)]


def settled_rounds(world: MarketWorld) -> tuple[RoundSettled, ...]:
    return world.market.reader.settled_rounds(world.view.task)


# forging


async def sealed_round(world: MarketWorld, server: int) -> SealedRound:
    """Return the sealed round as a server knows it."""
    sealed = await world.market.servers[server - 1].answering.sealed_round(
        world.view, state_of(world)
    )
    assert sealed is not None
    return sealed


def own_words(world: MarketWorld, server: int) -> ServerWords:
    """Return the words that a server published itself."""
    found = [
        ServerWords.decode(record.body, max_bytes=MAX_WORDS_BYTES)
        for record in records(world, server, state_of(world).round, "words")
        if record.server == server
    ]
    return found[0]


async def other_words(world: MarketWorld, server: int, fill: int = 0) -> ServerWords:
    """Return a second set of words of a server, in order but for being a second one."""
    sealed = await sealed_round(world, server)
    node = world.market.servers[server - 1].node
    return sign_words(
        server,
        [Hash32(bytes([fill]) * 32)] * len(sealed.manifest.certificates),
        manifest=sealed.manifest,
        submissions_root=sealed.submissions_root,
        seed=sealed.seed,
        key=node.key,
        domain=node.market.domain,
    )


def another_signature(key: SigningKey, message: SignedMessage, domain: Domain) -> bytes:
    """Return one more valid signature of a message, under a random nonce."""
    digest = message.digest(domain)
    private = ec.derive_private_key(int.from_bytes(key.secret, "big"), ec.SECP256K1())
    r, s = decode_dss_signature(private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    start = r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")
    return next(
        signature
        for signature in (start + b"\x1b", start + b"\x1c")
        if recover_address(digest, signature) == key.address
    )


def rubbish(sealed: SealedPackage) -> SealedPackage:
    """Return a package with the header of `sealed` and chunks that nobody can open."""
    return SealedPackage(
        header=sealed.header, chunks=tuple(os.urandom(len(chunk)) for chunk in sealed.chunks)
    )
