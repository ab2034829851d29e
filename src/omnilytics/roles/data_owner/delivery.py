"""Getting a submission to the committee: packages, receipts, the certificate (protocol.md 6.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from omnilytics.foundation.errors import OmniLyticsError, PeerError
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Address
from omnilytics.protocol.certificate import check_certificate
from omnilytics.protocol.context import RoundContext
from omnilytics.roles.task_view import Connect, TaskView
from omnilytics.transport.authentication import authenticate
from omnilytics.transport.client import goes_in_parts, held_path, package_path, parts_path
from omnilytics.transport.sealed_files import Sealed
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.messages import Held, Receipt
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.transcript import Certificate, HeldSignature, ReceiptSignature

MAX_CERTIFICATE_BYTES = 64 << 10
LEAST_CALL_SECONDS = 10.0
_Result = TypeVar("_Result")


def call_seconds(seconds_left: float, errors: int) -> float:
    """Return how long one server may hold an owner up.

    Packages go out at once; what is missing is left with one holder after another, of which e may
    deviate; then the certificate goes out. So e + 2 of these times pass at most, and two shares are
    left to put a hidden certificate on chain.

    Args:
        seconds_left: Until the last forced submission.
        errors: e.
    """
    return max(LEAST_CALL_SECONDS, seconds_left / (errors + 4))


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One owner's way to the servers of one round."""

    view: TaskView
    context: RoundContext
    key: SigningKey
    connect: Connect
    now: Callable[[], float]
    randomness: Randomness
    call_seconds: float
    """Longest time that one server may hold the owner up, retries and all parts of a body counted.

    (!) A server that trickles must not cost an owner the round: see `call_seconds`."""

    @property
    def enough(self) -> int:
        """How many servers must hold a certificate to have it sealed: 2e + 1.

        Any n - e that sign a manifest then include an honest one that insists on it.
        """
        return 2 * self.view.parameters.committee.errors + 1

    async def certify(self, sealed: Sequence[Sealed]) -> Certificate:
        """Send every server its package, leave what could not be delivered, get certified.

        Raises:
            VerificationError: Too few servers answered.
        """
        receipts = await asyncio.gather(*(self._send_package(package) for package in sealed))
        missing = [
            package for package, receipt in zip(sealed, receipts, strict=True) if receipt is None
        ]
        held = await asyncio.gather(*(self._leave_package(package) for package in missing))
        header = sealed[0].header
        certificate = Certificate(
            owner=self.key.address,
            commitment=header.commitment,
            submission_signature=header.submission_signature,
            receipts=tuple(receipt for receipt in receipts if receipt is not None),
            held=tuple(entry for entries in held for entry in entries),
        )
        check_certificate(
            certificate,
            parameters=self.view.parameters,
            domain=self.context.domain,
            task=self.context.task,
            round_number=self.context.round,
        )
        return certificate

    async def _send_package(self, sealed: Sealed) -> ReceiptSignature | None:
        header = sealed.header
        member = self.view.specification.committee[header.server - 1]
        try:
            body = sealed.encode()
            path = package_path(self.context.task, self.context.round, self.key.address)
            answer = await self._in_time(
                self.connect(member.endpoint).put_package(
                    self.context.task,
                    self.context.round,
                    self.key.address,
                    body,
                    lambda: self._authenticate(path, body),
                )
            )
            signed = decode_signed(answer)
            want = Receipt(
                task=self.context.task,
                round=self.context.round,
                owner=self.key.address,
                commitment=header.commitment,
            )
            if signed.message != want or signed.signer(self.context.domain) != member.address:
                return None
        except OmniLyticsError:
            return None
        return ReceiptSignature(server=header.server, signature=signed.signature)

    async def _leave_package(self, sealed: Sealed) -> list[HeldSignature]:
        """Leave a package for a server that did not answer with e + 1 others (protocol.md 6.2)."""
        found: list[HeldSignature] = []
        for holder in self.view.parameters.servers:
            if holder == sealed.header.server:
                continue
            entry = await self._hold(sealed, holder)
            if entry is not None:
                found.append(entry)
            if len(found) > self.view.parameters.committee.errors:
                break
        return found

    async def _hold(self, sealed: Sealed, holder: int) -> HeldSignature | None:
        header = sealed.header
        member = self.view.specification.committee[holder - 1]
        want = Held(
            task=self.context.task,
            round=self.context.round,
            owner=self.key.address,
            commitment=header.commitment,
            for_server=self.view.parameters.member(header.server),
            package_hash=sealed.hash(),
        )
        try:
            body = sealed.encode()
            path = held_path(self.context.task, self.context.round, header.server, self.key.address)
            if goes_in_parts(body):
                path = parts_path(path, Address(member.address))
            answer = await self._in_time(
                self.connect(member.endpoint).put_held(
                    self.context.task,
                    self.context.round,
                    header.server,
                    self.key.address,
                    body,
                    lambda: self._authenticate(path, body),
                )
            )
            signed = decode_signed(answer)
            if signed.message != want or signed.signer(self.context.domain) != member.address:
                return None
        except OmniLyticsError:
            return None
        return HeldSignature(
            holder=holder,
            server=header.server,
            package_hash=want.package_hash,
            signature=signed.signature,
        )

    async def publish(self, certificate: Certificate) -> set[int]:
        """Give the certificate to all servers; return those that took it."""
        body = certificate.encode()
        task, number = self.context.task, self.context.round
        taken = await asyncio.gather(
            *(
                succeeds(self._in_time(self.connect(endpoint).post_certificate(task, number, body)))
                for endpoint in self.view.endpoints
            )
        )
        return {server for server, took in enumerate(taken, start=1) if took}

    async def _in_time(self, call: Awaitable[_Result]) -> _Result:
        """Return what a call gives; raises PeerError where it takes too long."""
        try:
            async with asyncio.timeout(self.call_seconds):
                return await call
        except TimeoutError:
            raise PeerError(
                "server takes too long", got=f"more than {self.call_seconds:g} s"
            ) from None

    async def shown_by(self, certificate: Certificate) -> set[int]:
        """Return the servers that show a certificate of this submission on their boards."""
        shown = await asyncio.gather(
            *(self._shows(endpoint, certificate) for endpoint in self.view.endpoints)
        )
        return {server for server, shows in enumerate(shown, start=1) if shows}

    async def _shows(self, endpoint: str, certificate: Certificate) -> bool:
        task, number = self.context.task, self.context.round
        try:
            items = await self._in_time(
                self.connect(endpoint).board("submit", task, number, ("certificate",))
            )
            found = [
                Certificate.decode(item.body, max_bytes=MAX_CERTIFICATE_BYTES) for item in items
            ]
        except OmniLyticsError:
            return False
        wanted = (certificate.owner, certificate.commitment)
        return wanted in {(entry.owner, entry.commitment) for entry in found}

    def _authenticate(self, path: str, body: bytes | memoryview) -> dict[str, str]:
        return authenticate(
            method="PUT",
            path=path,
            body=body,
            task=self.context.task,
            round_number=self.context.round,
            time=int(self.now()),
            key=self.key,
            domain=self.context.domain,
            randomness=self.randomness,
        )


async def succeeds(call: Awaitable[None]) -> bool:
    """Tell whether a call to a server went well."""
    try:
        await call
    except OmniLyticsError:
        return False
    return True
