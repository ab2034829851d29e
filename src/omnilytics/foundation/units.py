"""Distinct types for what would otherwise all be `int`, `str` or `bytes`."""

from __future__ import annotations

from typing import NewType

TaskId = NewType("TaskId", int)
"""Number of a task in one market contract, from 1."""

Round = NewType("Round", int)
"""Number of a round of a task, from 1."""

Address = NewType("Address", bytes)
"""20 bytes of an Ethereum account or contract."""

Hash32 = NewType("Hash32", bytes)
"""A 32-byte digest."""

Wei = NewType("Wei", int)
"""An amount of ether in its smallest unit."""


def show_address(address: Address) -> str:
    """Return the address as lower-case hex with 0x."""
    return "0x" + address.hex()
