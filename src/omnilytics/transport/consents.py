"""Asking a server to agree to a task: what is sent and what comes back (wire.md, `Consent`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.wire import cbor
from omnilytics.wire.record import Count, Record
from omnilytics.wire.signatures import SIGNATURE_BYTES
from omnilytics.wire.task_specification import MAX_SPECIFICATION_BYTES

CONSENTS_PATH = "/v1/consents"
MAX_CONSENT_BYTES = MAX_SPECIFICATION_BYTES + 64
"""The specification, a time and the names of both."""

NO_TASK, NO_ROUND = TaskId(0), Round(0)
"""What a request about a task that does not exist yet is signed for."""


class ConsentRequest(Record):
    """A model owner asks a server to be in the named committee of a task."""

    specification: Annotated[
        bytes, Field(strict=True, min_length=1, max_length=MAX_SPECIFICATION_BYTES)
    ]
    expires: Count
    """Until when the answer is to hold, in unix seconds."""


def encode_consent(signature: bytes) -> bytes:
    """Return the answer that carries a server's signature of `Consent`."""
    return cbor.encode(signature)


def decode_consent(body: bytes) -> bytes:
    """Return the 65-byte signature in an answer; raises MalformedError. It is not checked."""
    signature = cbor.decode(body, max_bytes=SIGNATURE_BYTES + 8)
    if not (isinstance(signature, bytes) and len(signature) == SIGNATURE_BYTES):
        raise MalformedError("the answer is not a signature", want=f"{SIGNATURE_BYTES} bytes")
    return signature
