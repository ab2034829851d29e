"""Answer once, together: the seed lock and the final lock (protocol.md section 7, (!)).

One server's caution is not enough: after a deep re-organisation of the chain, a lying node or a
restored back-up, two servers that answer under two seeds, or release two sums, would reveal a
secret although each answered once. So each server durably holds one value per round before it signs
it, and acts only on n - e signatures over one value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.wire.messages import Final, Seed

SEED_LOCK = "seed"
FINAL_LOCK = "final"


class LockStore(Protocol):
    """Durable storage of one value per task, round and kind."""

    def lock(self, task: TaskId, round_number: Round, kind: str, value: bytes) -> bytes:
        """Store `value` unless there is one; return the stored value once it is durable."""
        ...


def lock_seed(store: LockStore, message: Seed) -> None:
    """Hold the one Seed this server signs in the round; raises VerificationError for another."""
    _hold(store, message.task, message.round, SEED_LOCK, message.submissions_root + message.seed)


def lock_final(store: LockStore, message: Final) -> None:
    """Hold the one Final this server signs in the round; raises VerificationError for another."""
    _hold(store, message.task, message.round, FINAL_LOCK, message.accepted_root)


def _hold(store: LockStore, task: TaskId, round_number: Round, kind: str, value: bytes) -> None:
    held = store.lock(task, round_number, kind, value)
    if held != value:
        raise VerificationError(
            f"this server already answered under another {kind}; the round must be voided",
            got=value.hex(),
            want=held.hex(),
            task=task,
            round=round_number,
        )


def agreed_value(votes: Iterable[tuple[int, Hash32]], quorum: int) -> Hash32 | None:
    """Return the one value that `quorum` different servers signed, if there is one.

    Args:
        votes: (server, value) of checked signatures; a repeated vote counts once.
        quorum: n - e. Two values reach it only if more than e servers signed twice; then none
            is agreed.
    """
    counts = Counter(value for _, value in set(votes))
    agreed = [value for value, count in counts.items() if count >= quorum]
    return agreed[0] if len(agreed) == 1 else None
