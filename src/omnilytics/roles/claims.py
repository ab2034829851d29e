"""What the settled rounds of a task credited to a data owner, and the proof that pays it out."""

from __future__ import annotations

from dataclasses import dataclass

from omnilytics.chain.reader import MarketReader
from omnilytics.foundation.units import Address, Hash32, TaskId, Wei
from omnilytics.roles.task_view import Connect, fetch_transcript
from omnilytics.wire.hashing import merkle_proof


@dataclass(frozen=True, kw_only=True)
class Credit:
    """An owner's leaf in the payouts tree of a task's last settled round."""

    task: TaskId
    cumulative_wei: Wei
    claimed_wei: Wei
    proof: tuple[Hash32, ...]

    @property
    def due_wei(self) -> Wei:
        """What claiming pays."""
        return Wei(max(0, self.cumulative_wei - self.claimed_wei))


async def find_credit(
    market: MarketReader, task: TaskId, owner: Address, connect: Connect
) -> Credit | None:
    """Return what an owner was credited in a task; None where it was never accepted.

    Raises:
        PeerError: No server of the task gives the transcript.
        VerificationError: The transcript contradicts the chain.
    """
    settled = market.settled_rounds(task)
    if not settled:
        return None
    endpoints = [profile.endpoint for profile in market.profiles(task)]
    transcript = await fetch_transcript("claim", settled[-1], endpoints, connect)
    owners = [payout.owner for payout in transcript.payouts]
    if owner not in owners:
        return None
    place = owners.index(owner)
    return Credit(
        task=task,
        cumulative_wei=Wei(transcript.payouts[place].cumulative_wei),
        claimed_wei=market.claimed(task, owner),
        proof=tuple(merkle_proof([payout.leaf() for payout in transcript.payouts], place)),
    )
