"""Releasing this server's share of the sum to the model owner (protocol.md section 6.8).

Only the sum of x over the one accepted set that n - e servers signed as final, only to the
authenticated model owner, sealed to the key in the task specification. The sum of a locked set is a
fixed value, so a model owner that lost the answer may ask again and gets the same share.
"""

from __future__ import annotations

import asyncio

import numpy as np

from omnilytics.algebra import kernels
from omnilytics.algebra.field import FieldVector
from omnilytics.chain.bindings.market import RoundSettled
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.protocol.package import read_share
from omnilytics.roles.server.node import ServerNode
from omnilytics.roles.server.settling import Settling
from omnilytics.roles.task_view import TaskView, round_context
from omnilytics.transport.authentication import check_request
from omnilytics.transport.hpke import seal_aggregate
from omnilytics.wire import cbor
from omnilytics.wire.package import Opening
from omnilytics.wire.transcript import Transcript


class Releasing:
    """Serves the model owner."""

    def __init__(self, node: ServerNode, settling: Settling) -> None:
        self._node = node
        self._settling = settling

    async def aggregate(
        self, task: TaskId, round_number: Round, *, path: str, header: str | None, now: int
    ) -> bytes:
        """Return the sealed share of the sum, as a CBOR list of chunks."""
        node = self._node
        view = await node.view(task)
        request = check_request(
            header,
            method="POST",
            path=path,
            body=b"",
            now=now,
            signer=view.model_owner,
            domain=node.market.domain,
        )
        if not node.repository.use_nonce(request.nonce):
            raise VerificationError("request was already used")
        settled = node.market.round_settled(task, round_number)
        if settled is None:
            raise VerificationError("the round is not settled", task=task, round=round_number)
        self._settling.may_release(view, settled)
        total = await self._sum(view, settled)
        chunks = seal_aggregate(
            total.astype("<u8").tobytes(),
            view.specification.model_owner_hpke_key,
            round_context(node.market, task, round_number),
            accepted_root=settled.accepted_root,
            server=view.server_of(node.address),
        )
        return cbor.encode(list(chunks))

    async def _sum(self, view: TaskView, settled: RoundSettled) -> FieldVector:
        transcript = await self._settling.outcome(view, settled)
        return await asyncio.to_thread(self.sum_shares, view, settled, transcript)

    def sum_shares(
        self, view: TaskView, settled: RoundSettled, transcript: Transcript
    ) -> FieldVector:
        """Return the sum of this server's shares of x over the accepted owners, shape (D,)."""
        dimension = view.parameters.statement.dimension
        total = np.zeros(dimension, dtype=np.uint64)
        commitments = {
            certificate.owner: certificate.commitment
            for certificate in transcript.manifest.certificates
        }
        for owner in transcript.accepted:
            content = self._node.repository.package(
                view.task, settled.round, owner, commitments[owner]
            )
            if content is None:
                raise VerificationError("this server holds no share of an accepted owner")
            opening = Opening.decode(content, max_bytes=view.parameters.package_bytes)
            share = read_share(opening, view.parameters)
            kernels.current().add(total, share.elements(0, dimension), total)
        return total
