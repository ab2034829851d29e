"""Who may submit to a task: the listed owners, if there is a list, with the bond it asks for.

Servers check it when they take a package in, owners before they compute (protocol.md section 7).
A bond that is asked back admits to nothing, and is free only after 14 days: by then a fault of the
rounds it admitted to has been reported.
"""

from __future__ import annotations

from omnilytics.chain.reader import MarketReader
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, show_address
from omnilytics.wire.task_specification import Admission


def check_admitted(market: MarketReader, admission: Admission, owner: Address) -> None:
    """Raise VerificationError unless a task with this admission admits `owner` now."""
    if not admission.admits(owner):
        raise VerificationError("the task does not admit this owner", owner=show_address(owner))
    if admission.min_bond_wei == 0:
        return
    bond = market.bond(owner)
    if bond.covers(admission.min_bond_wei):
        return
    missing = max(1, admission.min_bond_wei - bond.amount_wei)  # anything keeps a leaving bond
    raise VerificationError(
        "the owner's bond was asked back" if bond.free_at else "the owner's bond is too small",
        got=f"{bond.amount_wei} wei",
        want=f"{admission.min_bond_wei} wei",
        hint=f"send {missing} wei to add_bond() of the registry {show_address(market.registry)}",
        owner=show_address(owner),
    )
