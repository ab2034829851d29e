"""Convicting servers that signed two different Words, Seeds or Finals (protocol.md section 8).

The two signatures are all it takes, so it does not matter who saw them or how the round ended. It
is done when the round is over: a transaction in between would only use up its windows.
"""

from __future__ import annotations

import asyncio

from omnilytics.chain.records import FaultKind, challenge_seed
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Hash32, Round
from omnilytics.protocol.words import check_two_words
from omnilytics.roles.faults import Equivocation, two_answers, two_words
from omnilytics.roles.server import board
from omnilytics.roles.server.answering import MAX_WORDS_BYTES
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.server.reporting import (
    FinishedRound,
    at_risk,
    brought,
    has_turn,
    was_slashed,
)
from omnilytics.roles.task_view import TaskView
from omnilytics.transport.client import BoardItem
from omnilytics.wire.messages import Final, Seed
from omnilytics.wire.transcript import Manifest, TwoWords


class Convicting:
    """Looks for servers that answered twice, and has them slashed."""

    def __init__(self, node: ServerNode) -> None:
        self._node = node

    async def pull(self, view: TaskView, round_number: Round) -> bool:
        """Fetch the Seeds and Finals that peers saw; tell whether any was new.

        Servers stop asking for them once they know one of each server, so what a deviator showed
        to some servers only comes together here.
        """
        items = await self._node.pull(view, round_number, (board.SEED, board.FINAL))

        def keep(item: BoardItem) -> bool:
            kind = Seed if item.kind == board.SEED else Final
            return self._node.keep_signed(view, round_number, item.kind, kind, item.body)

        return self._node.keep_all(items, keep)

    async def step(self, view: TaskView, finished: FinishedRound) -> bool:
        """Convict on chain whom it is this server's turn to convict; tell whether it did."""
        node = self._node
        changed = False
        for found in self.equivocations(view, finished.round):
            if not self.is_due(view, finished.round, found.server):
                continue
            now = node.chain.head_timestamp()
            if has_turn(view, finished, now=now, server=node.address, party=found.server):
                changed |= await asyncio.to_thread(self._convict, view, found)
        return changed

    def is_due(self, view: TaskView, round_number: Round, server: Address) -> bool:
        """Tell whether a server that equivocated still has a stake to lose for it."""
        market, kind = self._node.market, FaultKind.TWO_WORDS
        return not was_slashed(market, view, round_number, server, kind) and at_risk(
            market, server, kind
        )

    def equivocations(self, view: TaskView, round_number: Round) -> list[Equivocation]:
        """Return one proof for each server that this server can convict in a round."""
        found: dict[Address, Equivocation] = {}
        for kind in (board.SEED, board.FINAL):
            records = self._node.repository.records(view.task, round_number, (kind,))
            servers = [record.server for record in records]
            for server in {one for one in servers if servers.count(one) > 1}:
                signed = self._node.signed_records(view.task, round_number, kind)
                own = [entry for signer, entry in signed if signer == server]
                member = view.parameters.member(server)
                if (evidence := two_answers(member, own)) is not None:
                    found[member] = evidence
        for evidence in self._two_words(view, round_number):
            found.setdefault(evidence.server, evidence)
        return [found[member] for member in sorted(found)]

    def _convict(self, view: TaskView, found: Equivocation) -> bool:
        return brought(
            lambda: self._node.writer.convict(
                found.server, view.parameters.members, found.messages, found.signatures
            )
        )

    def _two_words(self, view: TaskView, round_number: Round) -> list[Equivocation]:
        """Return the proofs in the two-words records that fit what the chain says of the round."""
        node = self._node
        records = node.repository.records(view.task, round_number, (board.TWO_WORDS,))
        sealed = node.market.round_sealed(view.task, round_number) if records else None
        if sealed is None:
            return []
        manifest = self._manifest(view, round_number, sealed.submissions_root)
        if manifest is None:
            return []
        block = sealed.position.block_number + view.specification.windows.delta_blocks
        seed = challenge_seed(
            node.chain.block_hash(block), view.task, round_number, sealed.submissions_root
        )
        found = []
        for record in records:
            evidence = TwoWords.decode(record.body, max_bytes=MAX_WORDS_BYTES)
            try:
                check_two_words(
                    evidence,
                    manifest=manifest,
                    submissions_root=sealed.submissions_root,
                    seed=seed,
                    parameters=view.parameters,
                    domain=node.market.domain,
                )
            except VerificationError:
                continue  # of a fork that is gone
            found.append(two_words(evidence, manifest, seed, view.parameters))
        return found

    def _manifest(self, view: TaskView, round_number: Round, root: Hash32) -> Manifest | None:
        records = self._node.repository.records(view.task, round_number, (board.MANIFEST,))
        for record in records:
            if record.subject == root:
                return Manifest.decode(record.body, max_bytes=board.MAX_MANIFEST_BYTES)
        return None
