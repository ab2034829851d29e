"""What all routes share: their parameters, bounded bodies, answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Path, Request, Response

from omnilytics.api.media import CborResponse
from omnilytics.api.problems import NotFoundError, TooLargeError
from omnilytics.foundation.units import Address
from omnilytics.transport.authentication import HEADER

ROUND_PREFIX = "/v1/tasks/{task}/rounds/{round_number}"

TaskPath = Annotated[int, Path(ge=1, lt=1 << 63)]
RoundPath = Annotated[int, Path(ge=1, lt=1 << 31)]
OwnerPath = Annotated[str, Path(pattern="^0x[0-9a-f]{40}$")]
HashPath = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
ServerPath = Annotated[int, Path(ge=1, le=13)]
Authentication = Annotated[
    str | None, Header(alias=HEADER, description="A signed Request, as base64 (wire.md).")
]


async def read_body(request: Request, limit: int) -> bytes:
    """Read a request's body; raises TooLargeError once it exceeds `limit` bytes.

    A declared length above the limit is refused before a byte of the body is read.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


def too_large(limit: int) -> TooLargeError:
    """Return the error for a body of more than `limit` bytes."""
    return TooLargeError("request too large", want=f"<= {limit} bytes")


def content(body: bytes | None) -> Response:
    """Answer with content; raises NotFoundError where there is none."""
    if body is None:
        raise NotFoundError("no such content")
    return CborResponse(body)


def read_address(text: str) -> Address:
    """Return the address in a path."""
    return Address(bytes.fromhex(text[2:]))
