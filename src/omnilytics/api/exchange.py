"""What all routes share: their parameters, bounded bodies, answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Header, Path, Request, Response

from omnilytics.api.media import CborResponse
from omnilytics.api.problems import NotFoundError, TooLargeError
from omnilytics.api.work import Work
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address
from omnilytics.transport.authentication import HEADER
from omnilytics.transport.parts import CONTENT_RANGE, RANGE, RANGE_PATTERN, Part, read_range

ROUND_PREFIX = "/v1/tasks/{task}/rounds/{round_number}"

TaskPath = Annotated[int, Path(ge=1, lt=1 << 63)]
RoundPath = Annotated[int, Path(ge=1, lt=1 << 31)]
OwnerPath = Annotated[str, Path(pattern="^0x[0-9a-f]{40}$")]
HashPath = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
ServerPath = Annotated[int, Path(ge=1, le=13)]
Authentication = Annotated[
    str | None, Header(alias=HEADER, description="A signed Request, as base64 (wire.md).")
]

AskedRange = Annotated[
    str | None,
    Header(
        alias=RANGE,
        description="Asks for a part, of at most 4 MiB: bytes=FIRST-LAST.",
        json_schema_extra={"pattern": RANGE_PATTERN},
    ),
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


async def content_in_parts(
    work: Work,
    asked: str | None,
    whole: Callable[[], bytes | None],
    part: Callable[[int, int], tuple[int, bytes] | None],
) -> Response:
    """Answer with content, or with the part of it that a Range header asks for.

    What is asked for whole and fits is answered 200, as without the header.

    Args:
        work: Where content is read.
        asked: The Range header.
        whole: Returns all of it, or None where there is none.
        part: Returns, from a first byte and a count, how many bytes there are and these.

    Raises:
        NotFoundError: There is no such content.
        MalformedError: The header has another form.
        VerificationError: The content ends before the part.
    """
    if asked is None:
        return content(await work.call(whole))
    first, count = read_range(asked)
    found = await work.call(lambda: part(first, count))
    if found is None:
        raise NotFoundError("no such content")
    total, body = found
    if len(body) == total:
        return CborResponse(body)
    if not body:
        raise VerificationError("the content ends before this part", got=first, want=total)
    place = Part(first, first + len(body) - 1, total)
    return CborResponse(body, status_code=206, headers={CONTENT_RANGE: str(place)})


def read_address(text: str) -> Address:
    """Return the address in a path."""
    return Address(bytes.fromhex(text[2:]))
