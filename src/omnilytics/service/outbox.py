"""A server's outbox: what its `Sender` must not lose, in the server's database.

`keep_finishing` is the thread that finishes what is left there, of an earlier process or of a step
that gave up waiting, while the server is at work on other things.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from itertools import groupby

from omnilytics.chain.outbox import OutgoingCall
from omnilytics.chain.sender import Sender
from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.foundation.logging import get_logger
from omnilytics.foundation.units import Address
from omnilytics.storage import outbox as table

LOOK_SECONDS = 30.0
"""Time between two looks at what is left."""
_LOG = get_logger("omnilytics.outbox")


class DatabaseOutbox:
    """The unfinished calls of one account (chain.outbox.Outbox), in a database."""

    def __init__(self, outbox: table.Outbox, sender: Address) -> None:
        self._outbox = outbox
        self._sender = sender

    def owned(self) -> AbstractContextManager[object]:
        """Exclude whoever else hands out nonces on this database."""
        return self._outbox.owned()

    def pending(self) -> tuple[OutgoingCall, ...]:
        """Return the calls that are not finished, by nonce."""
        rows = self._outbox.rows(self._sender)
        return tuple(_call(list(group)) for _, group in groupby(rows, lambda row: row.nonce))

    def put(self, call: OutgoingCall) -> None:
        """Keep a call; of one that is there, its new transactions are added."""
        pairs = zip(call.transactions, call.hashes, strict=True)
        self._outbox.add(
            table.OutboxRow(
                sender=self._sender,
                nonce=call.nonce,
                replacement=number,
                hash=transaction_hash,
                raw_transaction=transaction,
                target=call.target,
                data=call.data,
                value_wei=call.value_wei,
                gas=call.gas,
                max_fee_wei=call.max_fee_wei,
                priority_fee_wei=call.priority_fee_wei,
            )
            for number, (transaction, transaction_hash) in enumerate(pairs)
        )

    def finish(self, nonce: int) -> bool:
        """Forget the call with this nonce."""
        return self._outbox.remove(self._sender, nonce)


def _call(rows: list[table.OutboxRow]) -> OutgoingCall:
    latest = rows[-1]
    return OutgoingCall(
        nonce=latest.nonce,
        target=latest.target,
        data=latest.data,
        value_wei=latest.value_wei,
        gas=latest.gas,
        transactions=tuple(row.raw_transaction for row in rows),
        hashes=tuple(row.hash for row in rows),
        max_fee_wei=latest.max_fee_wei,
        priority_fee_wei=latest.priority_fee_wei,
    )


def keep_finishing(sender: Sender, stopping: threading.Event) -> None:
    """Finish what waits in the outbox, now and whenever something is left, until told to stop."""
    while True:
        try:
            for receipt in sender.resume():
                _LOG.info(
                    "finished a call",
                    transaction="0x" + receipt.transaction_hash.hex(),
                    block=receipt.block_number,
                    succeeded=receipt.succeeded,
                )
        except OmniLyticsError:
            _LOG.warning("a call is not finished yet", exc_info=True)
        except Exception:  # the thread must outlive any defect
            _LOG.exception("finishing calls failed")
        if stopping.wait(LOOK_SECONDS):
            return
