"""Authentication of HTTP requests by EIP-712 signatures (wire.md, `Request`).

The signature binds method, path, body, time and a nonce; the server refuses a request that is too
old or whose nonce it has seen. The header carries the signed message as base64 CBOR.
"""

from __future__ import annotations

import base64
import binascii

from omnilytics.foundation.errors import MalformedError, VerificationError
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Address, Hash32, Round, TaskId, show_address
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.envelope import MAX_ENVELOPE_BYTES, decode_signed, sign_message
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.messages import Request
from omnilytics.wire.signatures import SigningKey

HEADER = "OmniLytics-Request"
MAX_AGE_SECONDS = 300


def authenticate(
    *,
    method: str,
    path: str,
    body: bytes | memoryview,
    task: TaskId,
    round_number: Round,
    time: int,
    key: SigningKey,
    domain: Domain,
    randomness: Randomness,
) -> dict[str, str]:
    """Return the HTTP header that authenticates a request made at unix `time`."""
    request = Request(
        task=task,
        round=round_number,
        method=method,
        path=path,
        body_hash=content_hash(body),
        time=time,
        nonce=Hash32(randomness.bytes(32)),
    )
    return {HEADER: base64.b64encode(sign_message(request, key, domain).encode()).decode()}


def check_request(
    header: str | None,
    *,
    method: str,
    path: str,
    body: bytes,
    now: int,
    signer: Address,
    domain: Domain,
) -> Request:
    """Return the request signed in `header`; the caller refuses a nonce it has seen.

    Raises:
        VerificationError: Missing, for another request, too old, or signed by another key.
    """
    request = identify(header, now=now, signer=signer, domain=domain)
    check_bound(request, method=method, path=path, body=body)
    return request


def check_bound(request: Request, *, method: str, path: str, body: bytes | memoryview) -> None:
    """Raise VerificationError unless the request was signed for this method, path and body."""
    check_route(request, method=method, path=path)
    if request.body_hash != content_hash(body):
        raise VerificationError("signature is for another request")


def check_route(request: Request, *, method: str, path: str) -> None:
    """Raise VerificationError unless the request was signed for this method and path."""
    if (request.method, request.path) != (method, path):
        raise VerificationError("signature is for another request")


def identify(header: str | None, *, now: int, signer: Address, domain: Domain) -> Request:
    """Return the request in `header` if `signer` signed it recently, whatever it is for.

    So a server knows who sends before it reads a body.

    Raises:
        VerificationError: Missing, too old, or signed by another key.
    """
    request, sender = read_request(header, now=now, domain=domain)
    if sender != signer:
        raise VerificationError("request was signed by another key", want=show_address(signer))
    return request


def read_request(header: str | None, *, now: int, domain: Domain) -> tuple[Request, Address]:
    """Return the recent request in `header` and who signed it, whoever that is.

    Raises:
        VerificationError: Missing, too old, or signed by no key.
    """
    if header is None:
        raise VerificationError("request is not authenticated", want=f"header {HEADER}")
    if len(header) > 2 * MAX_ENVELOPE_BYTES:
        raise MalformedError("authentication header too long")
    try:
        signed = decode_signed(base64.b64decode(header, validate=True))
    except (binascii.Error, ValueError):
        raise MalformedError("authentication header is not base64") from None
    request = signed.message
    if not isinstance(request, Request):
        raise VerificationError("not a Request message", got=type(request).__name__)
    if abs(now - request.time) > MAX_AGE_SECONDS:
        raise VerificationError("request is too old", got=request.time, want=f"about {now}")
    return request, signed.signer(domain)
