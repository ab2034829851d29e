"""Releasing this server's share of the sum to the model owner (protocol.md section 6.8).

Only the sum of x over the one accepted set that n - e servers signed as final, only to the
authenticated model owner, sealed to the key in the task specification. The sum of a locked set is a
fixed value, so a model owner that lost the answer may ask again and gets the same share.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.protocol.aggregate import sum_blocks
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.server.settling import Settling
from omnilytics.roles.task_view import TaskView, round_context
from omnilytics.storage.files import read_part
from omnilytics.transport.authentication import check_request
from omnilytics.transport.hpke import seal_aggregate
from omnilytics.transport.parts import ANSWER_PART_BYTES, Part
from omnilytics.validity.evaluate import ElementReader
from omnilytics.wire.aggregate import MAX_AGGREGATE_PART_BYTES, AggregatePart
from omnilytics.wire.transcript import Transcript


class Releasing:
    """Serves the model owner."""

    def __init__(self, node: ServerNode, settling: Settling) -> None:
        self._node = node
        self._settling = settling
        self._making = threading.Lock()

    async def aggregate(
        self,
        task: TaskId,
        round_number: Round,
        *,
        path: str,
        header: str | None,
        body: bytes,
        now: int,
    ) -> tuple[Part, bytes]:
        """Return a part of the sealed share of the sum.

        The share is summed and sealed once; every part is of the same bytes.

        Args:
            task: The task.
            round_number: The settled round.
            path: Of the request, which is signed.
            header: The signed request.
            body: An encoded `AggregatePart`; nothing for the first part.
            now: Unix seconds.
        """
        node = self._node
        view = await node.view(task)
        request = check_request(
            header,
            method="POST",
            path=path,
            body=body,
            now=now,
            signer=view.model_owner,
            domain=node.market.domain,
        )
        if not node.repository.use_nonce(request.nonce):
            raise VerificationError("request was already used")
        first = AggregatePart.decode(body, max_bytes=MAX_AGGREGATE_PART_BYTES).first if body else 0
        settled = node.market.round_settled(task, round_number)
        if settled is None:
            raise VerificationError("the round is not settled", task=task, round=round_number)
        self._settling.may_release(view, settled)
        answer = await self._answer(view, settled)
        return await asyncio.to_thread(_read_part, answer, first)

    async def _answer(self, view: TaskView, settled: RoundSettled) -> Path:
        """Return the file of the sealed share of the sum, made if it is not there."""
        answers = self._node.repository.answers
        found = answers.find(view.task, settled.round, settled.accepted_root)
        if found is not None:
            return found
        transcript = await self._settling.outcome(view, settled)
        return await asyncio.to_thread(self._make_answer, view, settled, transcript)

    def _make_answer(self, view: TaskView, settled: RoundSettled, transcript: Transcript) -> Path:
        answers = self._node.repository.answers
        with self._making:  # a repeated request waits for what the first one makes
            found = answers.find(view.task, settled.round, settled.accepted_root)
            if found is not None:
                return found
            pieces = self._sealed(view, settled, transcript)
            return answers.make(view.task, settled.round, settled.accepted_root, pieces)

    def _sealed(
        self, view: TaskView, settled: RoundSettled, transcript: Transcript
    ) -> Iterator[bytes]:
        dimension = view.parameters.statement.dimension
        return seal_aggregate(
            sum_blocks(self.shares(view, settled, transcript), dimension),
            dimension,
            view.specification.model_owner_hpke_key,
            round_context(self._node.market, view.task, settled.round),
            accepted_root=settled.accepted_root,
            server=view.server_of(self._node.address),
        )

    def shares(
        self, view: TaskView, settled: RoundSettled, transcript: Transcript
    ) -> list[ElementReader]:
        """Return this server's shares of the accepted owners, each compared with its hash."""
        commitments = {
            certificate.owner: certificate.commitment
            for certificate in transcript.manifest.certificates
        }
        found: list[ElementReader] = []
        for owner in transcript.accepted:
            package = self._node.repository.stored_package(
                view.task, settled.round, owner, commitments[owner]
            )
            if package is None:
                raise VerificationError("this server holds no share of an accepted owner")
            found.append(package.verify().share(view.parameters.share_elements))
        return found


def _read_part(answer: Path, first: int) -> tuple[Part, bytes]:
    total, content = read_part(answer, first, ANSWER_PART_BYTES)
    if not content:
        raise VerificationError("the answer ends before this part", got=first, want=total)
    return Part(first, first + len(content) - 1, total), content
