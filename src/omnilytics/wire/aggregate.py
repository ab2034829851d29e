"""What a model owner asks a server for: a part of its sealed share of the sum (wire.md)."""

from __future__ import annotations

from typing import Final

from omnilytics.wire.record import Count, Record

MAX_AGGREGATE_PART_BYTES: Final = 32


class AggregatePart(Record):
    """Asks for the part that begins at a byte of the answer."""

    first: Count
