"""What a submission is bound to (protocol.md section 5, ctx).

The context names the chain, the contract, the task, the round, the artefact, the block hash
recorded when the round was opened, and the owner: gradients belong to this model, nothing can be
computed ahead, and a copied or replayed submission fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.wire.eip712 import Domain
from omnilytics.wire.hashing import tagged_hash


@dataclass(frozen=True, kw_only=True)
class RoundContext:
    """One open round, as the chain recorded it."""

    domain: Domain
    task: TaskId
    round: Round
    artefact_hash: Hash32
    block_hash: Hash32

    def owner_context(self, owner: Address) -> Hash32:
        """Return ctx for one owner."""
        return tagged_hash(
            "context",
            self.domain.chain_id.to_bytes(32, "big"),
            self.domain.contract,
            self.task.to_bytes(32, "big"),
            self.round.to_bytes(32, "big"),
            self.artefact_hash,
            self.block_hash,
            owner,
        )
