"""Amounts of ether as people write and read them; inside everything is wei."""

from __future__ import annotations

import re

from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Wei

UNITS = {"ether": 18, "eth": 18, "gwei": 9, "wei": 0}
MOST_WEI = 1 << 128
_AMOUNT = re.compile(r"([0-9]{1,39})(?:\.([0-9]{1,18}))? ?(ether|eth|gwei|wei)?")


def parse_wei(text: str) -> Wei:
    """Return an amount such as "0.5 ether", "20gwei" or "1000" (wei).

    Raises:
        UsageError: Not an amount, a part of a wei, or 2^128 wei and more.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise UsageError("not an amount", got=text[:60], want='such as "0.5 ether" or "1000 wei"')
    digits = UNITS[match[3] or "wei"]
    part = (match[2] or "").rstrip("0")
    # In integers: decimal arithmetic would round beyond 28 digits.
    wei = int(match[1]) * 10**digits + int(part.ljust(digits, "0") or "0")
    if len(part) > digits or wei >= MOST_WEI:
        raise UsageError("an amount must be whole wei below 2^128", got=text[:60])
    return Wei(wei)


def show_wei(amount_wei: int) -> str:
    """Return the amount in ether, exactly, without trailing zeros."""
    whole, part = divmod(abs(amount_wei), 10**18)
    sign = "-" if amount_wei < 0 else ""
    digits = f"{part:018d}".rstrip("0")
    return f"{sign}{whole}{'.' + digits if digits else ''} ether"
