"""What servers see of one message: shares, which say nothing until there are more than t.

Shamir's sharing hides a vector from any t servers by proof; this shows it on one gradient: the best
linear guess of its entries from t shares is as bad as chance, and t + 1 shares give every entry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omnilytics.algebra.field import FieldVector
from omnilytics.algebra.fixed_point import from_field, to_field
from omnilytics.learning.audit.structure import Reals
from omnilytics.learning.audit.subject import Subject, mean_gradient
from omnilytics.learning.public_randomness import PublicRandomness
from omnilytics.sharing.committee import DEFAULT, Committee
from omnilytics.sharing.interpolation import interpolate_vectors_at_zero
from omnilytics.sharing.shamir import SEED_BYTES, share_submission

_FRACTION_BITS = 16
_PARTS = 2
"""Half of the entries fit a guess, the other half test it."""


@dataclass(frozen=True)
class SharesSeen:
    """What so many servers learn of one message.

    Attributes:
        privacy: t.
        entries: Of the message.
        correlation: Of t shares' best linear guess with the entries (0 to 1 in size).
        recovered: Share of entries that t + 1 shares give exactly.
    """

    privacy: int
    entries: int
    correlation: float
    recovered: float


def guess_from_shares(subject: Subject, committee: Committee = DEFAULT) -> SharesSeen:
    """Share one gradient and guess it from t shares and from t + 1."""
    gradients = mean_gradient(subject, subject.weights, subject.data)
    vector = np.concatenate([each.reshape(-1) for each in gradients.values()]).astype(np.float64)
    scaled = vector / (np.linalg.norm(vector) or 1.0) * 2**_FRACTION_BITS
    entries = np.rint(scaled).astype(np.int64)
    randomness = PublicRandomness(subject.seed, 10)
    shares = share_submission(
        to_field(entries),
        np.zeros(1, dtype=np.uint64),
        committee=committee,
        seeds=[randomness.bytes(SEED_BYTES) for _ in range(committee.privacy)],
        randomness=randomness,
    )
    # The last servers' shares travel in full; these together learn no more than any others.
    seen = {
        committee.servers - back: shares[committee.servers - back - 1].elements(0, len(entries))
        for back in range(committee.privacy + 1)
    }
    few = list(seen.values())[: committee.privacy]
    whole = from_field(interpolate_vectors_at_zero(seen))
    return SharesSeen(
        privacy=committee.privacy,
        entries=len(entries),
        correlation=guess_entries(few, entries.astype(np.float64)),
        recovered=float((whole == entries).mean()),
    )


def guess_entries(shares: list[FieldVector], entries: Reals) -> float:
    """Return how the best linear guess from shares correlates with entries it was not fitted to."""
    seen = np.stack([from_field(each).astype(np.float64) for each in shares], axis=1)
    seen = seen / (np.abs(seen).max() or 1.0)
    fitted, tested = slice(0, None, _PARTS), slice(1, None, _PARTS)
    factors = np.linalg.lstsq(seen[fitted], entries[fitted], rcond=None)[0]
    guess = seen[tested] @ factors
    if not (np.ptp(guess) and np.ptp(entries[tested])):
        return 0.0
    return float(np.corrcoef(guess, entries[tested])[0, 1])
