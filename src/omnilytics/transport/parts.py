"""Bodies in parts (wire.md, HTTP): where a part stands in its body, and which part is asked for.

The forms are Content-Range of RFC 9110, section 14.4, with a known end and a known total, and Range
of section 14.2 with one range of a known end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from omnilytics.foundation.errors import MalformedError

CONTENT_RANGE = "Content-Range"
RANGE = "Range"
UPLOAD_OFFSET = "Upload-Offset"
ANSWER_PART_BYTES = 4 << 20
"""Most bytes of an answer that come at a time."""
CONTENT_RANGE_PATTERN = "^bytes [0-9]{1,15}-[0-9]{1,15}/[0-9]{1,15}$"
RANGE_PATTERN = "^bytes=[0-9]{1,15}-[0-9]{1,15}$"
_ASKED_FORM = re.compile(r"bytes=([0-9]{1,15})-([0-9]{1,15})", re.ASCII)
_FORM = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})", re.ASCII)


@dataclass(frozen=True)
class Part:
    """Bytes `first` to `last`, both included, of a body of `total` bytes."""

    first: int
    last: int
    total: int

    @property
    def length(self) -> int:
        """Return how many bytes the part has."""
        return self.last - self.first + 1

    @property
    def is_final(self) -> bool:
        """Tell whether the body ends with this part."""
        return self.last + 1 == self.total

    def __str__(self) -> str:
        return f"bytes {self.first}-{self.last}/{self.total}"


def read_content_range(header: str) -> Part:
    """Return the part that a Content-Range header names.

    Raises:
        MalformedError: Another unit, an open end, or numbers that do not fit one another.
    """
    found = _FORM.fullmatch(header)
    if found is None:
        raise MalformedError(
            "malformed Content-Range", got=ascii(header[:80]), want="bytes FIRST-LAST/TOTAL"
        )
    part = Part(*(int(number) for number in found.groups()))
    if not part.first <= part.last < part.total:
        raise MalformedError(
            "Content-Range does not fit its body", got=str(part), want="FIRST <= LAST < TOTAL"
        )
    return part


def read_range(header: str) -> tuple[int, int]:
    """Return the first byte that a Range header asks for, and how many, at most a part of them.

    Raises:
        MalformedError: Another unit, several ranges, an open end, or an end before the beginning.
    """
    found = _ASKED_FORM.fullmatch(header)
    first, last = (int(number) for number in found.groups()) if found else (1, 0)
    if last < first:
        raise MalformedError(
            "malformed Range", got=ascii(header[:80]), want="bytes=FIRST-LAST, FIRST <= LAST"
        )
    return first, min(last - first + 1, ANSWER_PART_BYTES)
