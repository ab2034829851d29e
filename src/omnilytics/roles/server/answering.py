"""Answering the challenge: seed, words, accusations and openings (protocol.md 6.3 to 6.6).

The order matters for privacy: the seed is locked and agreed by n - e servers before any word is
computed (!), and a package is opened only by an accused server whose word was right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from omnilytics.chain.records import RoundRecord, challenge_seed
from omnilytics.foundation.errors import OmniLyticsError, VerificationError
from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.locks import agreed_value, lock_seed
from omnilytics.protocol.package import HeldPackage, compute_word, opening_matches
from omnilytics.protocol.settlement import SealedRound, judge
from omnilytics.protocol.word_jobs import WordRound, round_challenge
from omnilytics.protocol.words import (
    find_two_words,
    sign_words,
)
from omnilytics.roles.server import board
from omnilytics.roles.server.complaints import Complaints
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.server.sealing import Sealing
from omnilytics.roles.task_view import TaskView, fetch_blob, round_context
from omnilytics.storage.packages import StoredPackage
from omnilytics.transport.client import BoardItem
from omnilytics.wire.messages import Seed
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import (
    Certificate,
    OpeningReference,
    ServerWords,
    TwoWords,
)

MAX_WORDS_BYTES = 32 << 20


class Answering:
    """Brings a sealed round to the point where it can be judged."""

    def __init__(self, node: ServerNode, sealing: Sealing, complaints: Complaints) -> None:
        self._node = node
        self._sealing = sealing
        self._complaints = complaints
        self._sealed: SealedRound | None = None

    async def sealed_round(self, view: TaskView, state: RoundRecord) -> SealedRound | None:
        """Return the sealed round with its challenge, once n - e servers agreed on its seed."""
        seed = self._agreed_seed(view, state)
        if seed is None:
            return None
        if self._sealed is not None and self._sealed.seed == seed:
            return self._sealed
        manifest = await self._sealing.fetch_manifest(view, state)
        if manifest is None:
            return None
        challenge = await asyncio.to_thread(round_challenge, view.parameters.statement, seed)
        sealed = SealedRound(
            context=round_context(self._node.market, view.task, state.round),
            parameters=view.parameters,
            manifest=manifest,
            seed=seed,
            challenge=challenge,
        )
        self._sealed = sealed
        return sealed

    async def step(self, view: TaskView, state: RoundRecord) -> bool:
        """Do what can be done now on a sealed round; tell whether anything changed."""
        changed = self._sign_seed(view, state)
        changed |= await self._pull_seeds(view, state)
        sealed = await self.sealed_round(view, state)
        if sealed is None:
            return changed
        changed |= await self._answer(view, state, sealed)
        changed |= await self._pull_words(view, state, sealed)
        if self._node.chain.head() >= state.sealed_block + view.specification.windows.words_blocks:
            changed |= self._open_if_accused(view, state, sealed)
            changed |= await self.pull_openings(view, state, sealed)
        return changed

    # the seed

    def _sign_seed(self, view: TaskView, state: RoundRecord) -> bool:
        node = self._node
        server = view.server_of(node.address)
        signed = node.signed_records(view.task, state.round, board.SEED)
        if server in {signer for signer, _ in signed}:
            return False
        if node.chain.head() < state.challenge_final_block:
            return False
        message = Seed(
            task=view.task,
            round=state.round,
            submissions_root=state.submissions_root,
            seed=challenge_seed(
                node.chain.block_hash(state.challenge_block),
                view.task,
                state.round,
                state.submissions_root,
            ),
        )
        lock_seed(node.repository, message)
        body = node.sign(message).encode()
        return node.publish_record(view.task, state.round, board.SEED, server, b"", body)

    async def _pull_seeds(self, view: TaskView, state: RoundRecord) -> bool:
        known = self._node.signed_records(view.task, state.round, board.SEED)
        if {server for server, _ in known} == set(view.parameters.servers):
            return False
        items = await self._node.pull(view, state.round, (board.SEED,))
        return self._node.keep_all(
            items,
            lambda item: self._node.keep_signed(view, state.round, board.SEED, Seed, item.body),
        )

    def _agreed_seed(self, view: TaskView, state: RoundRecord) -> Hash32 | None:
        """Return the seed that this server and n - e servers signed, or None (!)."""
        node = self._node
        votes = [
            (server, signed.message.seed)
            for server, signed in node.signed_records(view.task, state.round, board.SEED)
            if isinstance(signed.message, Seed)
            and signed.message.submissions_root == state.submissions_root
        ]
        agreed = agreed_value(votes, view.parameters.quorum)
        if agreed is None or (view.server_of(node.address), agreed) not in votes:
            return None
        return agreed

    # words

    async def _answer(self, view: TaskView, state: RoundRecord, sealed: SealedRound) -> bool:
        """Publish this server's words, once it has its package of every sealed owner."""
        node = self._node
        server = view.server_of(node.address)
        if any(entry.server == server for entry in self.all_words(view, state)):
            return False
        if node.chain.head() > state.sealed_block + view.specification.windows.words_blocks:
            return False
        for certificate in sealed.manifest.certificates:
            if not await self._has_package(view, state, certificate):
                return False
        packages = (
            self._package(view, state, certificate) for certificate in sealed.manifest.certificates
        )
        words = await asyncio.to_thread(self.compute_words, sealed, packages)
        entry = sign_words(
            server,
            words,
            manifest=sealed.manifest,
            submissions_root=state.submissions_root,
            seed=sealed.seed,
            key=node.key,
            domain=node.market.domain,
        )
        return self._publish_words(view, state, entry)

    def compute_words(self, sealed: SealedRound, packages: Iterable[HeldPackage]) -> list[Hash32]:
        """Return this server's packed word for each package."""
        work = WordRound(parameters=sealed.parameters, context=sealed.context, seed=sealed.seed)
        return self._node.words.words(work, packages)

    async def _has_package(
        self, view: TaskView, state: RoundRecord, certificate: Certificate
    ) -> bool:
        """Tell whether this server has its package, fetched if it was left elsewhere."""
        place = (view.task, state.round, certificate.owner, certificate.commitment)
        if self._node.repository.has_package(*place):
            return True
        return await self._complaints.fetch(view, state, certificate, complain=False)

    def _package(
        self, view: TaskView, state: RoundRecord, certificate: Certificate
    ) -> StoredPackage:
        """Return a stored package; whoever computes its word compares it with what was stored."""
        place = (view.task, state.round, certificate.owner, certificate.commitment)
        package = self._node.repository.stored_package(*place)
        assert package is not None
        return package

    def _opening(
        self, view: TaskView, state: RoundRecord, certificate: Certificate
    ) -> Opening | None:
        """Return a whole stored package."""
        place = (view.task, state.round, certificate.owner, certificate.commitment)
        content = self._node.repository.package(*place)
        if content is None:
            return None
        return Opening.decode(content, max_bytes=view.parameters.package_bytes)

    async def _pull_words(self, view: TaskView, state: RoundRecord, sealed: SealedRound) -> bool:
        items = await self._node.pull(view, state.round, (board.WORDS, board.TWO_WORDS))
        changed = self._node.keep_all(
            items, lambda item: self._keep_words(view, state, sealed, item)
        )
        for evidence in find_two_words(sealed.manifest, self.all_words(view, state)):
            changed |= self._keep_two_words(view, state, evidence)
        return changed

    def _keep_words(
        self, view: TaskView, state: RoundRecord, sealed: SealedRound, item: BoardItem
    ) -> bool:
        if item.kind == board.TWO_WORDS:
            evidence = TwoWords.decode(item.body, max_bytes=MAX_WORDS_BYTES)
            sealed.check_conviction(evidence)
            return self._keep_two_words(view, state, evidence)
        entry = ServerWords.decode(item.body, max_bytes=MAX_WORDS_BYTES)
        held = [known for known in self.all_words(view, state) if known.server == entry.server]
        if len(held) >= 2:
            return False  # already convicted; more of it proves nothing
        sealed.check_words(entry)
        return self._publish_words(view, state, entry)

    def _publish_words(self, view: TaskView, state: RoundRecord, entry: ServerWords) -> bool:
        return self._node.publish_record(
            view.task, state.round, board.WORDS, entry.server, b"", entry.encode()
        )

    def _keep_two_words(self, view: TaskView, state: RoundRecord, evidence: TwoWords) -> bool:
        convicted = {known.server for known in self.convictions(view, state)}
        if evidence.server in convicted:
            return False
        return self._node.publish_record(
            view.task, state.round, board.TWO_WORDS, evidence.server, b"", evidence.encode()
        )

    def words(self, view: TaskView, state: RoundRecord, *, by_block: int) -> list[ServerWords]:
        """Return one set of words of each server, of those that were here by a block."""
        found: dict[int, ServerWords] = {}
        for entry in self.all_words(view, state, by_block=by_block):
            found.setdefault(entry.server, entry)
        return list(found.values())

    def all_words(
        self, view: TaskView, state: RoundRecord, *, by_block: int | None = None
    ) -> list[ServerWords]:
        """Return all sets of words, two of a server that deviates."""
        return [
            ServerWords.decode(record.body, max_bytes=MAX_WORDS_BYTES)
            for record in self._node.repository.records(view.task, state.round, (board.WORDS,))
            if by_block is None or record.received_block <= by_block
        ]

    def convictions(
        self, view: TaskView, state: RoundRecord, *, by_block: int | None = None
    ) -> list[TwoWords]:
        """Return the evidence against servers that signed two words, here before a block."""
        return [
            TwoWords.decode(record.body, max_bytes=MAX_WORDS_BYTES)
            for record in self._node.repository.records(view.task, state.round, (board.TWO_WORDS,))
            if by_block is None or record.received_block < by_block
        ]

    # openings

    def _open_if_accused(self, view: TaskView, state: RoundRecord, sealed: SealedRound) -> bool:
        """Open the own package of every owner that an honest word accuses this server about.

        A server whose stored package does not give the word it signed admits the fault by opening
        nothing: an opened package lowers the threshold for its owner by one.
        """
        node = self._node
        server = view.server_of(node.address)
        words = self.words(view, state, by_block=node.chain.head())
        own = next((entry for entry in words if entry.server == server), None)
        held = self.openings(view, state)
        if own is None:
            return False
        verdict = judge(sealed, words, self.convictions(view, state), held)
        changed = False
        for owner, accused in verdict.accused:
            if accused != server or (owner, server) in held:
                continue
            place = sealed.manifest.owners.index(owner)
            certificate = sealed.manifest.certificates[place]
            opening = self._opening(view, state, certificate)
            if opening is None:
                continue
            word = compute_word(opening, sealed.parameters, sealed.context, sealed.challenge)
            if word == own.words[place]:
                changed |= self._keep_opening(view, state, opening)
        return changed

    async def pull_openings(self, view: TaskView, state: RoundRecord, sealed: SealedRound) -> bool:
        """Fetch and check the openings that peers show; tell whether any was new."""
        changed = False
        endpoints = self._node.endpoints(view)
        for item in await self._node.pull(view, state.round, (board.OPENING,)):
            try:
                reference = OpeningReference.decode(item.body, max_bytes=4_096)
                if (reference.owner, reference.server) in self.openings(view, state):
                    continue
                opening = await self._fetch_opening(view, sealed, reference, endpoints)
            except OmniLyticsError:
                continue
            changed |= self._keep_opening(view, state, opening)
        return changed

    async def _fetch_opening(
        self,
        view: TaskView,
        sealed: SealedRound,
        reference: OpeningReference,
        endpoints: list[str],
    ) -> Opening:
        content = await fetch_blob("servers", reference.opening_hash, endpoints, self._node.connect)
        opening = Opening.decode(content, max_bytes=view.parameters.package_bytes)
        header = opening.header
        if (header.owner, header.server) != (reference.owner, reference.server):
            raise VerificationError("the opening is of another package than announced")
        certificates = {entry.owner: entry for entry in sealed.manifest.certificates}
        if header.owner not in certificates or not opening_matches(
            opening,
            server=header.server,
            certificate=certificates[header.owner],
            parameters=sealed.parameters,
            context=sealed.context,
        ):
            raise VerificationError("the opening is not of a sealed package")
        return opening

    def _keep_opening(self, view: TaskView, state: RoundRecord, opening: Opening) -> bool:
        name = self._node.repository.publish(opening.encode())
        header = opening.header
        reference = OpeningReference(owner=header.owner, server=header.server, opening_hash=name)
        return self._node.publish_record(
            view.task, state.round, board.OPENING, header.server, header.owner, reference.encode()
        )

    def openings(
        self, view: TaskView, state: RoundRecord, *, by_block: int | None = None
    ) -> dict[tuple[Address, int], Opening]:
        """Return the published openings by owner and server, here before a block."""
        found: dict[tuple[Address, int], Opening] = {}
        for record in self._node.repository.records(view.task, state.round, (board.OPENING,)):
            if by_block is not None and record.received_block >= by_block:
                continue
            reference = OpeningReference.decode(record.body, max_bytes=4_096)
            content = self._node.repository.published(reference.opening_hash)
            assert content is not None
            opening = Opening.decode(content, max_bytes=view.parameters.package_bytes)
            found.setdefault((reference.owner, reference.server), opening)
        return found
