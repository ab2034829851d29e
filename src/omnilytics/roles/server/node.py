"""What all parts of a server share: its keys, its store, the chain and the way to its peers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from omnilytics.chain.connection import Chain
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.errors import OmniLyticsError, VerificationError
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.protocol.certificate import merge_certificates
from omnilytics.protocol.word_jobs import InlineWords, WordExecutor
from omnilytics.roles.server import board
from omnilytics.roles.server.policy import ServerPolicy
from omnilytics.roles.task_view import (
    Connect,
    TaskView,
    check_specification,
    fetch_specification,
)
from omnilytics.storage.repository import PublicRecord, Repository
from omnilytics.transport.client import BoardItem
from omnilytics.transport.hpke import HpkeKey
from omnilytics.transport.meter import Meter
from omnilytics.wire.eip712 import SignedMessage
from omnilytics.wire.envelope import Signed, decode_signed, sign_message
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.transcript import Certificate

_RECEIVED_BLOCK: ContextVar[int | None] = ContextVar("received_block", default=None)
"""The head when the records of a batch came in; None outside of batches."""


@dataclass
class ServerNode:
    """The environment of one server."""

    key: SigningKey
    hpke_key: HpkeKey
    repository: Repository
    market: MarketReader
    writer: MarketWriter
    connect: Connect
    meter: Meter = field(default_factory=Meter)
    policy: ServerPolicy = field(default_factory=ServerPolicy)
    words: WordExecutor = field(default_factory=InlineWords)
    _views: dict[TaskId, TaskView] = field(default_factory=dict)

    @property
    def chain(self) -> Chain:
        """The chain that the market is on."""
        return self.market.chain

    @property
    def address(self) -> Address:
        """The address under which this server is registered."""
        return self.key.address

    async def view(self, task: TaskId) -> TaskView:
        """Return the checked task, from the own store or else from a peer."""
        if task not in self._views:
            record = self.market.task(task)
            if self.address not in record.committee:
                raise VerificationError("this server is not in the task's committee", task=task)
            content = self.repository.published(record.terms.spec_hash)
            if content is None:
                content = await fetch_specification(self.market, task, self.connect)
            self._views[task] = check_specification(self.market, task, content)
            self.repository.publish(content)
        return self._views[task]

    def endpoints(self, view: TaskView) -> list[str]:
        """Return the endpoints of the other members of the committee."""
        members = view.specification.committee
        return [member.endpoint for member in members if member.address != self.address]

    def sign(self, message: SignedMessage) -> Signed:
        """Sign a message for this market."""
        return sign_message(message, self.key, self.market.domain)

    def publish_record(
        self, task: TaskId, round_number: Round, kind: str, server: int, subject: bytes, body: bytes
    ) -> bool:
        """Put a record on the own board; return False where it was there already."""
        received_block = _RECEIVED_BLOCK.get()
        record = PublicRecord(
            kind=kind,
            server=server,
            subject=subject,
            body=body,
            received_block=self.chain.head() if received_block is None else received_block,
        )
        return self.repository.add_record(task, round_number, record)

    def publish_certificate(
        self, task: TaskId, round_number: Round, certificate: Certificate, *, pulled: bool = False
    ) -> bool:
        """Keep a checked certificate of an owner, merged with what is known of its receipts."""
        kind = board.PULLED_CERTIFICATE if pulled else board.CERTIFICATE
        known = self.certificates(task, round_number).get(certificate.owner)
        if known is not None:
            if known.commitment != certificate.commitment:
                return False  # n - e receipts for two commitments take more than e liars
            certificate = merge_certificates(known, certificate)
        own = (
            known
            if pulled
            else self.certificates(task, round_number, (kind,)).get(certificate.owner)
        )
        if own is not None and len(certificate.receipts) == len(own.receipts):
            return False
        body = certificate.encode()
        return self.publish_record(task, round_number, kind, 0, certificate.owner, body)

    def certificates(
        self,
        task: TaskId,
        round_number: Round,
        kinds: tuple[str, ...] = (board.CERTIFICATE, board.PULLED_CERTIFICATE),
    ) -> dict[Address, Certificate]:
        """Return each owner's certificate, the one with the most receipts."""
        found: dict[Address, Certificate] = {}
        for record in self.repository.records(task, round_number, kinds):
            certificate = Certificate.decode(record.body, max_bytes=board.MAX_MANIFEST_BYTES)
            best = found.get(certificate.owner)
            if best is None or len(certificate.receipts) > len(best.receipts):
                found[certificate.owner] = certificate
        return found

    def signed_records(
        self, task: TaskId, round_number: Round, kind: str
    ) -> list[tuple[int, Signed]]:
        """Return (server, signed message) of a kind; all were checked when they came.

        A server that deviates may stand there twice.
        """
        return [
            (record.server, decode_signed(record.body))
            for record in self.repository.records(task, round_number, (kind,))
        ]

    def keep_signed(
        self,
        view: TaskView,
        round_number: Round,
        kind: str,
        want: type[SignedMessage],
        body: bytes,
    ) -> bool:
        """Keep a committee member's signed message of this round; raises VerificationError.

        The same message under another signature is no other one: it takes no room from a second
        message that would convict its signer.
        """
        signed = decode_signed(body)
        message = signed.message
        if not isinstance(message, want) or (message.task, message.round) != (
            view.task,
            round_number,
        ):
            raise VerificationError("not a message of this kind and round", want=want.__name__)
        server = view.server_of(signed.signer(self.market.domain))
        known = [
            entry.message
            for signer, entry in self.signed_records(view.task, round_number, kind)
            if signer == server
        ]
        if message in known:
            return False
        if len(known) >= board.MAX_SIGNED[kind]:
            raise VerificationError("more messages than an honest server sends", server=server)
        return self.publish_record(view.task, round_number, kind, server, b"", body)

    def keep_all(self, items: list[BoardItem], keep: Callable[[BoardItem], bool]) -> bool:
        """Keep each item that passes its check, in one transaction; tell whether any was new.

        A peer's bad record is dropped: it must not stop the others, nor be passed on. The chain is
        asked before: a node that answers late must not keep the database from other threads.
        """
        if not items:
            return False
        changed = False
        token = _RECEIVED_BLOCK.set(self.chain.head())
        try:
            with self.repository.batch():
                for item in items:
                    try:
                        changed |= keep(item)
                    except VerificationError:
                        continue
        finally:
            _RECEIVED_BLOCK.reset(token)
        return changed

    async def pull(
        self,
        view: TaskView,
        round_number: Round,
        kinds: tuple[str, ...],
        *,
        only: int | None = None,
    ) -> list[BoardItem]:
        """Return what the peers' boards hold of these kinds and this server does not.

        A peer that does not answer or answers nonsense is passed over: n - e suffice. Of one peer
        no more new records of a kind are taken at a time than an honest one could have.

        Args:
            view: The task.
            round_number: The round.
            kinds: Kinds of records.
            only: Ask this server alone, instead of all.
        """
        members = view.specification.committee
        endpoints = self.endpoints(view) if only is None else [members[only - 1].endpoint]
        known = {
            (record.kind, record.body)
            for record in self.repository.records(view.task, round_number, kinds)
        }
        boards = await asyncio.gather(
            *(self._board(endpoint, view, round_number, kinds) for endpoint in endpoints)
        )
        found: dict[tuple[str, bytes], BoardItem] = {}
        for items in boards:
            taken: Counter[str] = Counter()
            for item in items:
                key = (item.kind, item.body)
                limit = board.most_new(item.kind, view.parameters)
                if item.kind in kinds and key not in known and taken[item.kind] < limit:
                    taken[item.kind] += 1
                    found.setdefault(key, item)
        return list(found.values())

    async def _board(
        self, endpoint: str, view: TaskView, round_number: Round, kinds: tuple[str, ...]
    ) -> list[BoardItem]:
        try:
            return await self.connect(endpoint).board("servers", view.task, round_number, kinds)
        except OmniLyticsError:
            return []
