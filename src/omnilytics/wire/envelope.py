"""Signed messages on the way: the kind, the fields and the signature.

The signer is not a field: it is recovered from the signature and must be a party that may sign this
kind of message, which the receiver knows from the chain.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field

from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.units import Address
from omnilytics.wire import messages
from omnilytics.wire.eip712 import Domain, SignedMessage
from omnilytics.wire.record import Name, Record, Signature
from omnilytics.wire.signatures import SigningKey, recover_address

MAX_ENVELOPE_BYTES = 4_096

_KINDS: dict[str, type[SignedMessage]] = {
    kind.__name__: kind
    for kind in (
        messages.Submission,
        messages.Receipt,
        messages.Held,
        messages.Complaint,
        messages.SealVote,
        messages.Seed,
        messages.Word,
        messages.Settlement,
        messages.Final,
        messages.Fault,
        messages.Request,
    )
}


class _Envelope(Record):
    kind: Name
    fields: Annotated[dict[Name, int | bytes | str], Field(max_length=16)]
    signature: Signature


@dataclass(frozen=True)
class Signed:
    """A message with its 65-byte signature."""

    message: SignedMessage
    signature: bytes

    def encode(self) -> bytes:
        """Return the deterministic CBOR of kind, fields and signature."""
        kind = type(self.message).__name__
        fields = asdict(self.message)
        return _Envelope(kind=kind, fields=fields, signature=self.signature).encode()

    def signer(self, domain: Domain) -> Address:
        """Return who signed; raises MalformedError where no key did."""
        return recover_address(self.message.digest(domain), self.signature)


def sign_message(message: SignedMessage, key: SigningKey, domain: Domain) -> Signed:
    """Sign `message` for `domain`."""
    return Signed(message, key.sign(message, domain))


def decode_signed(data: bytes) -> Signed:
    """Return the signed message in `data`; raises MalformedError. The signature is not checked."""
    envelope = _Envelope.decode(data, max_bytes=MAX_ENVELOPE_BYTES)
    kind = _KINDS.get(envelope.kind)
    if kind is None:
        raise MalformedError("unknown message", got=envelope.kind, want=", ".join(_KINDS))
    try:
        message = kind(**envelope.fields)  # type: ignore[arg-type]
    except TypeError:
        raise MalformedError(
            "wrong fields", got=sorted(envelope.fields), kind=envelope.kind
        ) from None
    message.struct_hash()  # refuses values that do not fit their EIP-712 types
    return Signed(message, envelope.signature)
