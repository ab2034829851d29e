"""Media types: bodies and answers are of one versioned type, whatever they hold.

A request that says otherwise is refused before its body is read: 415 for what it sends, 406 for
what it would take. One that says nothing means this version.
"""

from __future__ import annotations

from fastapi import Request, Response

from omnilytics.api.problems import MediaTypeError, NotAcceptableError
from omnilytics.transport.client import MEDIA_TYPE

_RANGES = (MEDIA_TYPE, MEDIA_TYPE.split("/", maxsplit=1)[0] + "/*", "*/*")
"""What matches the type in an Accept header, the most exact first: that one decides."""
_WITH_BODY = ("PUT", "POST")


class CborResponse(Response):
    """An answer of the versioned type."""

    media_type = MEDIA_TYPE


async def check_media_types(request: Request) -> None:
    """Raise MediaTypeError or NotAcceptableError unless the request fits this version."""
    content_type = request.headers.get("content-type")
    if request.method in _WITH_BODY and content_type is not None:
        kind = content_type.split(";", maxsplit=1)[0].strip().lower()
        if kind != MEDIA_TYPE:
            raise MediaTypeError("unknown type of body", got=ascii(kind[:80]), want=MEDIA_TYPE)
    accept = request.headers.get("accept", "")
    if accept.strip() and not accepts(accept):
        raise NotAcceptableError(
            "no acceptable type of answer", got=ascii(accept[:80]), want=MEDIA_TYPE
        )


def accepts(header: str) -> bool:
    """Tell whether an Accept header (RFC 9110, section 12.5.1) allows the versioned type."""
    weights: dict[str, float] = {}
    for entry in header.split(","):
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        weights[kind] = _weight(parameters)
    return next((weights[kind] > 0 for kind in _RANGES if kind in weights), False)


def _weight(parameters: list[str]) -> float:
    text = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    try:
        return float(text)
    except ValueError:
        return 0.0
