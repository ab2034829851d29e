"""What all parts of a server share: its keys, its store, the chain and the way to its peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from omnilytics.chain.connection import Chain
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.writer import MarketWriter
from omnilytics.foundation.errors import OmniLyticsError, VerificationError
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.roles.server import board
from omnilytics.roles.task_view import (
    Connect,
    TaskView,
    check_specification,
    fetch_task,
)
from omnilytics.storage.repository import PublicRecord, Repository
from omnilytics.transport.client import BoardItem
from omnilytics.transport.hpke import HpkeKey
from omnilytics.transport.meter import Meter
from omnilytics.wire.eip712 import SignedMessage
from omnilytics.wire.envelope import Signed, decode_signed, sign_message
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.transcript import Certificate


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
            own = self.repository.published(self.market.task(task).terms.spec_hash)
            if own is not None:
                self._views[task] = check_specification(self.market, task, own)
            else:
                self._views[task] = await fetch_task(self.market, task, self.connect)
                self.repository.publish(self._views[task].specification.encode())
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
        record = PublicRecord(
            kind=kind,
            server=server,
            subject=subject,
            body=body,
            received_block=self.chain.head(),
        )
        return self.repository.add_record(task, round_number, record)

    def publish_certificate(
        self, task: TaskId, round_number: Round, certificate: Certificate, *, pulled: bool = False
    ) -> bool:
        """Keep a checked certificate; the first of an owner is enough."""
        kinds = (board.CERTIFICATE, board.PULLED_CERTIFICATE)
        known = self.repository.records(task, round_number, kinds)
        if any(record.subject == certificate.owner for record in known):
            return False
        kind = board.PULLED_CERTIFICATE if pulled else board.CERTIFICATE
        body = certificate.encode()
        return self.publish_record(task, round_number, kind, 0, certificate.owner, body)

    def signed_records(self, task: TaskId, round_number: Round, kind: str) -> dict[int, Signed]:
        """Return each server's first signed message of a kind; all were checked when they came."""
        found: dict[int, Signed] = {}
        for record in self.repository.records(task, round_number, (kind,)):
            found.setdefault(record.server, decode_signed(record.body))
        return found

    def keep_signed(
        self,
        view: TaskView,
        round_number: Round,
        kind: str,
        want: type[SignedMessage],
        body: bytes,
    ) -> bool:
        """Keep a committee member's signed message of this round; raises VerificationError."""
        signed = decode_signed(body)
        message = signed.message
        if not isinstance(message, want) or (message.task, message.round) != (
            view.task,
            round_number,
        ):
            raise VerificationError("not a message of this kind and round", want=want.__name__)
        signer = signed.signer(self.market.domain)
        if signer not in view.parameters.members:
            raise VerificationError("signed by no committee member")
        return self.publish_record(view.task, round_number, kind, view.server_of(signer), b"", body)

    def keep_all(self, items: list[BoardItem], keep: Callable[[BoardItem], bool]) -> bool:
        """Keep each item that passes its check, in one transaction; tell whether any was new.

        A peer's bad record is dropped: it must not stop the others, nor be passed on.
        """
        if not items:
            return False
        changed = False
        with self.repository.batch():
            for item in items:
                try:
                    changed |= keep(item)
                except VerificationError:
                    continue
        return changed

    async def pull(
        self, view: TaskView, round_number: Round, kinds: tuple[str, ...]
    ) -> list[BoardItem]:
        """Return what the peers' boards hold of these kinds and this server does not.

        A peer that does not answer or answers nonsense is passed over: n - e suffice.
        """
        known = {
            (record.kind, record.body)
            for record in self.repository.records(view.task, round_number, kinds)
        }
        found: dict[tuple[str, bytes], BoardItem] = {}
        for endpoint in self.endpoints(view):
            try:
                client = self.connect(endpoint)
                items = await client.board("servers", view.task, round_number, kinds)
            except OmniLyticsError:
                continue
            for item in items:
                if item.kind in kinds and (item.kind, item.body) not in known:
                    found.setdefault((item.kind, item.body), item)
        return list(found.values())
